//! The status of a running daemon as a value: what `pointsman status` shows and prints as JSON.
//!
//! Pure: built from a snapshot of the engine, a report of the driver and the state of the
//! policies. Times are RFC 3339 in UTC, durations are in seconds.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::overrides::{self, OverrideStatus};
use crate::health::Health;
use crate::ipvs::model::{Connections, DestinationKey, ServiceKey};
use crate::policy::guard::Removal;
use crate::policy::model::PrivateService;
use crate::probe::outcome::Outcome;
use crate::probe::runner::Snapshot;
use crate::reconcile::driver::Report;
use crate::reconcile::plan::Held;
use crate::reconcile::view::Quorum;
use crate::tuning::Tuning;

use super::advising::{AdviceStatus, AdvisorStatus};
use super::alerting::{AlertsStatus, Undelivered};
use super::certificate::CertificateStatus;
use super::degraded;
use super::holding::{AlarmStatus, DampingStatus};
use super::moment::Moment;
use super::rates::RatesStatus;

/// Everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it only rehearses.
    pub dry_run: bool,
    /// `kernel` or `memory`.
    pub ipvs: String,
    /// When it started.
    pub started: String,
    /// What needs an operator, one line each; empty when all is well.
    pub degraded: Vec<String>,
    /// Set while the blast-radius limit holds the table.
    pub alarm: Option<AlarmStatus>,
    /// The policies in force and the last attempt to load others.
    pub policies: Policies,
    /// The settings file.
    #[serde(default)]
    pub settings: SettingsStatus,
    /// Why the newest content of the alerts file does not count, ready to print.
    #[serde(default)]
    pub alerts_refused: Vec<String>,
    /// Receivers that alerts do not reach.
    #[serde(default)]
    pub alerts_undelivered: Vec<Undelivered>,
    /// The table and the work on it.
    pub table: TableStatus,
    /// Probing as a whole.
    pub probes: Probes,
    /// What operators said, in the order of policies and real servers.
    #[serde(default)]
    pub overrides: Vec<OverrideStatus>,
    /// In the order of policies, then as written; then those that no policy declares any more.
    pub services: Vec<ServiceStatus>,
    /// In the order of policies, then as written.
    pub real_servers: Vec<RealServerStatus>,
    /// What leads probes through virtual addresses.
    #[serde(default)]
    pub private: Vec<PrivateStatus>,
}

/// A virtual service of ours that leads probes to one real server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrivateStatus {
    /// Its identity, a firewall mark.
    pub service: ServiceKey,
    /// A policy that needs it.
    pub policy: String,
    /// Its only destination.
    pub destination: DestinationKey,
    /// The destination's settings, as a plan writes them.
    pub config: String,
    /// Whether the kernel has it.
    pub in_kernel: bool,
}

/// The policies in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Policies {
    /// Where they are read from.
    pub path: String,
    /// Identifies their content.
    pub hash: String,
    /// When they were loaded.
    pub loaded: String,
    /// How many there are.
    pub count: usize,
    /// Reloads that were accepted since the start.
    pub reloads: u64,
    /// Reloads that were refused since the start; the same content again only if it was asked for.
    #[serde(default)]
    pub reloads_refused: u64,
    /// Reloads that were held since the start; likewise. One that is confirmed later is accepted too.
    #[serde(default)]
    pub reloads_held: u64,
    /// The newest content of the path, if it was refused: the policies above stay in force.
    pub refused: Option<Refused>,
    /// The newest content of the path, if it waits for a confirmation; likewise.
    #[serde(default)]
    pub held: Option<HeldReload>,
}

/// The settings file since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsStatus {
    /// Where it is, or would be.
    pub path: String,
    /// Why its newest content does not count, every problem with its place, ready to print.
    pub refused: Vec<String>,
    /// Settings that are others than at the start and count after a restart.
    pub need_restart: Vec<String>,
}

/// A reload that would remove so much that it waits for `pointsman confirm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReload {
    /// Since when.
    pub at: String,
    /// Identifies the policies that wait.
    pub hash: String,
    /// What it would remove.
    pub removal: Removal,
}

/// A reload that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: String,
    /// Every problem, with its place, ready to print.
    pub problems: Vec<String>,
}

/// The table and the work on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TableStatus {
    /// Seconds since it was last read.
    pub read_ago: Option<f64>,
    /// Changes executed since the start.
    pub changes: u64,
    /// Those that repaired what others had changed.
    pub drift_repaired: u64,
    /// Changes refused since the start.
    pub refused: u64,
    /// What is wanted and not done, with the kernel's reason.
    pub pending: Vec<String>,
    /// What is held until there is a verdict, and why.
    pub held: Vec<String>,
    /// Why the table cannot be read, or what is owned cannot be recorded.
    pub error: Option<String>,
    /// Virtual services that no policy declares; they are left alone.
    pub foreign: Vec<ServiceKey>,
}

/// Probing as a whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Probes {
    /// Distinct targets.
    pub targets: usize,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Started so far.
    pub started: u64,
    /// Bounds in milliseconds, each with the number of them that started later than the bound
    /// before and at most so late; the last bound is open (`null`).
    pub lateness: Vec<(Option<u64>, u64)>,
}

/// One virtual service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its identity.
    pub service: ServiceKey,
    /// The policy that declares it; `None`: none does any more, and it drains or is held.
    pub policy: Option<String>,
    /// Its declared settings, as a plan writes them.
    pub config: String,
    /// Whether the kernel has it.
    pub in_kernel: bool,
    /// Its traffic by the second, where the table measures it: the kernel's does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesStatus>,
    /// Declared ones first, then what else the kernel has.
    pub destinations: Vec<DestinationStatus>,
}

/// One destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its identity.
    pub destination: DestinationKey,
    /// The real server's name in the policy; `None` if the policy does not declare it.
    pub real_server: Option<String>,
    /// The verdict on the real server.
    pub health: Health,
    /// Seconds since the verdict.
    pub since: Option<f64>,
    /// The weight it should have now; `None`: it should not be there.
    pub weight_wanted: Option<u32>,
    /// The weight in the kernel; `None`: it is not there.
    pub weight_kernel: Option<u32>,
    /// Connections at the last read.
    pub connections: Connections,
    /// Its traffic by the second, where the table measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesStatus>,
    /// Last outcome, or why it is as it is.
    pub why: String,
    /// Seconds until it is removed at the latest; set while it drains.
    #[serde(default)]
    pub drain_left: Option<f64>,
    /// How the weight wanted came about, where it is not simply the declared one.
    #[serde(default)]
    pub weight: Option<WeightStatus>,
}

impl ServiceStatus {
    /// `policy www`, or that it is in none.
    pub fn origin(&self) -> String {
        match &self.policy {
            Some(policy) => format!("policy {policy}"),
            None => "in no policy any more".to_owned(),
        }
    }
}

impl DestinationStatus {
    /// `10.0.0.1:80 (web-1)`, or the destination alone where it is called by its address.
    pub fn label(&self) -> String {
        let is_address =
            |name: &str| name.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok();
        match self.real_server.as_deref().filter(|name| !is_address(name)) {
            Some(name) => format!("{} ({name})", self.destination),
            None => self.destination.to_string(),
        }
    }
}

/// How a weight came about: configured × ramp × advised, unless an operator said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightStatus {
    /// As the policy says.
    pub configured: u32,
    /// The share that slow start gives it now, in percent.
    pub ramp_percent: Option<u32>,
    /// What the real server asks for: `75%`, or a weight.
    pub advised: Option<String>,
    /// What an operator said.
    pub overridden: Option<u32>,
}

/// One real server of a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RealServerStatus {
    /// The policy.
    pub policy: String,
    /// Its name in it.
    pub real_server: String,
    /// Its address, with the port where one was written.
    #[serde(default)]
    pub address: String,
    /// All checks together.
    pub health: Health,
    /// How many pass and must; `None` where all must.
    #[serde(default)]
    pub quorum: Option<Quorum>,
    /// One by one.
    pub checks: Vec<CheckStatus>,
    /// Its agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisors: Vec<AdvisorStatus>,
}

/// One target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckStatus {
    /// What is asked, such as `http 192.0.2.1:80/alive`.
    pub check: String,
    /// The verdict.
    pub health: Health,
    /// Since when.
    pub since: String,
    /// The same in seconds.
    pub since_seconds: f64,
    /// Results in a row against the verdict.
    pub streak: u32,
    /// How many of them would change it.
    pub needed: u32,
    /// Seconds since the last attempt ended.
    pub last_ago: Option<f64>,
    /// What came of it.
    pub last: Option<Outcome>,
    /// What it counts as while the blast-radius limit holds it back.
    pub held: Option<Health>,
    /// While it is held although the limit is over: as many failures in a row more take it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parole: Option<u32>,
    /// Where its changes are damped and there were some.
    pub damping: Option<DampingStatus>,
    /// What its answers advise, where it is listened to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<AdviceStatus>,
    /// The certificate that was shown last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When it started.
    pub started: SystemTime,
    /// The same on the clock that never jumps.
    pub since: Instant,
    /// Whether it only rehearses.
    pub dry_run: bool,
    /// `kernel` or `memory`.
    pub ipvs: String,
    /// What becomes of the settings file.
    pub settings: watch::Receiver<SettingsStatus>,
    /// What keeps alerts from being told.
    pub alerts: watch::Receiver<AlertsStatus>,
    /// What can be set anew while it runs.
    pub tuning: watch::Receiver<Tuning>,
}

impl Status {
    /// Puts together what the tasks know, at the moment of the snapshot.
    pub fn build(
        facts: &Facts,
        snapshot: &Snapshot,
        report: &Report,
        policies: Policies,
        wall: SystemTime,
    ) -> Self {
        let moment = Moment::new(snapshot, report, wall);
        let set = &snapshot.policies;
        let alerts = facts.alerts.borrow().clone();
        let mut status = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            dry_run: facts.dry_run,
            ipvs: facts.ipvs.clone(),
            started: rfc3339(facts.started),
            degraded: Vec::new(),
            alarm: AlarmStatus::of(snapshot),
            policies,
            settings: facts.settings.borrow().clone(),
            alerts_refused: alerts.refused,
            alerts_undelivered: alerts.undelivered,
            table: table(report, snapshot.now),
            probes: probes(snapshot),
            overrides: overrides::list(&snapshot.overrides, set, wall),
            services: set
                .policies
                .iter()
                .flat_map(|policy| policy.services.iter().map(|it| moment.service(policy, it)))
                .chain(moment.leaving())
                .collect(),
            real_servers: set
                .policies
                .iter()
                .flat_map(|policy| {
                    policy.real_servers.iter().map(|it| moment.real_server(policy, it))
                })
                .collect(),
            private: set.private.iter().map(|it| private(report, it)).collect(),
        };
        status.degraded = degraded::of(&status, snapshot, report);
        status
    }

    /// Whether something needs an operator: a real server is down or cannot be probed, a reload was
    /// refused or is held, an override applies to nothing, the table is not as wanted.
    pub fn is_degraded(&self) -> bool {
        !self.degraded.is_empty()
    }

    /// How many real servers have this verdict.
    pub fn count(&self, health: Health) -> usize {
        self.real_servers.iter().filter(|server| server.health == health).count()
    }
}

/// A wall-clock time as text. By a clock that nobody has set, what began before the boot began before
/// 1970, for which there is no text.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

fn table(report: &Report, now: Instant) -> TableStatus {
    TableStatus {
        read_ago: report.read_at.map(|at| seconds(now.saturating_duration_since(at))),
        changes: report.totals.changes,
        drift_repaired: report.totals.repairs,
        refused: report.totals.refused,
        pending: report.failures.clone(),
        held: report.plan.held.iter().filter(|it| it.why.is_held()).map(held).collect(),
        error: report.error.clone(),
        foreign: report.plan.foreign.clone(),
    }
}

fn private(report: &Report, private: &PrivateService) -> PrivateStatus {
    let (service, destination) = (private.key, private.destination.key);
    let table = report.table.as_deref();
    let found = table.and_then(|table| table.get(&service)?.destinations.get(&destination));
    PrivateStatus {
        service,
        policy: private.policy.to_string(),
        destination,
        config: private.destination.config.to_string(),
        in_kernel: found.is_some(),
    }
}

fn held(held: &Held) -> String {
    format!("{} {}: {}; {}", held.service, held.destination, held.what(), held.reason())
}

fn probes(snapshot: &Snapshot) -> Probes {
    let lateness = &snapshot.lateness;
    let bounds = lateness.bounds.iter().copied().map(Some).chain([None]);
    Probes {
        targets: snapshot.slots.len(),
        in_flight: snapshot.in_flight,
        started: lateness.total(),
        lateness: bounds.zip(lateness.counts.iter().copied()).collect(),
    }
}

/// Rounded to milliseconds, which is what a person or a program can use.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `3ms`, `1.2s`: enough for a line of status.
pub fn short(duration: Duration) -> String {
    match duration.as_millis() {
        0 => format!("{}us", duration.as_micros()),
        millis @ 1..1000 => format!("{millis}ms"),
        millis => format!("{:.1}s", millis as f64 / 1000.0),
    }
}
