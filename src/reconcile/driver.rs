//! The loop that holds the table: wakes, reads, plans, applies, reports.
//!
//! It is the only writer of the table. It wakes on a changed health view (which carries policy
//! changes too), on the resync timer, on back-off after a failure and when somebody asks for a
//! fresh report. A verdict is planned against what the table is believed to hold, so that it
//! reaches the kernel without reading ten thousand destinations first; everything else reads the
//! table anew, and any refusal by the kernel leads to a fresh read.
//!
//! Netlink calls block, so the driver has a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::apply::{Applied, Failure, apply, believed};
use super::desired::{Desired, Moment, desired};
use super::names::Names;
use super::ownership::Owned;
use super::plan::{Plan, mark_repairs, plan};
use super::ramp::is_within_ramp;
use super::standing::{Clocks, Recorded, Standing};
use super::view::HealthView;
use crate::events::{Journal, What};
use crate::ipvs::model::{DestinationKey, Service, ServiceKey, Table};
use crate::ipvs::{Ipvs, IpvsError};
use crate::policy::guard::{Destinations, Guard, Removal};
use crate::policy::model::{PolicySet, PrivateService, VirtualService};
use crate::probe::via::Open;
use crate::record::Record;
use crate::tuning::{Tuning, retuned};

/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// As many refused steps as a report names.
const MOST_FAILURES: usize = 100;

/// What the last pass found and did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The table as it was after the last pass that began with a read; `None` until then.
    pub table: Option<Arc<Table>>,
    /// When that read was.
    pub read_at: Option<Instant>,
    /// When the last pass ended, whatever came of it.
    pub passed_at: Option<Instant>,
    /// What should be.
    pub desired: Arc<Desired>,
    /// The plan of the last pass.
    pub plan: Arc<Plan>,
    /// What would go at the start and is held until somebody confirms it.
    pub guarded: Option<Removal>,
    /// Virtual services on record as ours.
    pub owned: Owned,
    /// What the policies call real servers, also those that have left and are still in the table.
    pub names: Names,
    /// Steps of that plan that were not done, with the kernel's reasons; the first hundred.
    pub failures: Vec<String>,
    /// How many steps of that plan were not done.
    pub pending: usize,
    /// Why the last pass could not plan at all, or could not record what is owned.
    pub error: Option<String>,
    /// Since the start.
    pub totals: Totals,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Changes that the kernel executed.
    pub changes: u64,
    /// Those of them that repaired what somebody else had changed.
    pub repairs: u64,
    /// Changes that the kernel refused.
    pub refused: u64,
    /// Passes that could not read the table.
    pub failed_reads: u64,
}

/// Asks for a pass on a fresh read; answered when its report is published.
pub type Refresh = oneshot::Sender<()>;

/// Lets go of what the guard at the start holds; answered with what that is, if anything.
pub type Confirm = oneshot::Sender<Option<Removal>>;

/// Owns the table.
pub struct Driver {
    ipvs: Box<dyn Ipvs>,
    /// `None` for a rehearsal, which records nothing.
    store: Option<Record<Owned>>,
    resync: Duration,
    tuning: Option<watch::Receiver<Tuning>>,
    pause: Duration,
    /// When the table is read next, whatever happens until then. A verdict does not put it off.
    read_due: Instant,
    /// When what the last pass decided will be something else; `None` if it could not decide.
    wake: Option<Instant>,
    last_set: Option<Arc<PolicySet>>,
    guard: Guard,
    confirms: mpsc::Receiver<Confirm>,
    standing: Standing,
    /// `None` for a rehearsal.
    standing_record: Option<Record<Recorded>>,
    /// What the table holds as far as we know: the last read and our changes since.
    believed: Option<Table>,
    /// The last plan met a table other than the one it was made for.
    surprised: bool,
    report: Report,
    journal: Journal,
    /// Tells probes which ways through virtual addresses are open.
    open: Option<watch::Sender<Arc<Open>>>,
}

impl Driver {
    /// A driver of this table. `store` keeps the record of what is owned, `owned` is what it held
    /// at the start; a rehearsal has no store.
    pub fn new(
        ipvs: Box<dyn Ipvs>,
        store: Option<Record<Owned>>,
        owned: Owned,
        resync: Duration,
    ) -> Self {
        let report = Report { owned, ..Report::default() };
        Self {
            ipvs,
            store,
            resync,
            tuning: None,
            pause: FIRST_PAUSE,
            read_due: now(),
            wake: None,
            last_set: None,
            guard: Guard::Off,
            confirms: mpsc::channel(1).1,
            standing: Standing::default(),
            standing_record: None,
            believed: None,
            surprised: false,
            report,
            journal: Journal::default(),
            open: None,
        }
    }

    /// Follows the resync time in this.
    #[must_use]
    pub fn tuned_by(self, tuning: watch::Receiver<Tuning>) -> Self {
        Self { tuning: Some(tuning), ..self }
    }

    /// Tells what it does.
    #[must_use]
    pub fn telling(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Goes on where the last run was; `record` keeps what there is to know of it from now on.
    #[must_use]
    pub fn remembering(self, recorded: Recorded, record: Option<Record<Recorded>>) -> Self {
        Self { standing: Standing::of(recorded, clocks()), standing_record: record, ..self }
    }

    /// Does not let go of more than this share at the start unless somebody confirms it.
    #[must_use]
    pub fn guarded(self, guard: Guard, confirms: mpsc::Receiver<Confirm>) -> Self {
        Self { guard, confirms, ..self }
    }

    /// Says which ways through virtual addresses are open.
    #[must_use]
    pub fn opening(self, open: Option<watch::Sender<Arc<Open>>>) -> Self {
        Self { open, ..self }
    }

    /// Reconciles until the sender of views is gone. The table stays as it is then.
    pub async fn run(
        mut self,
        mut views: watch::Receiver<Arc<HealthView>>,
        mut refreshes: mpsc::Receiver<Refresh>,
        reports: watch::Sender<Arc<Report>>,
    ) {
        let mut waiting: Vec<Refresh> = Vec::new();
        let mut fresh = true;
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            self.pass(&view, fresh);
            reports.send_replace(Arc::new(self.report.clone()));
            for refresh in waiting.drain(..) {
                // Whoever asked may have hung up.
                let _ = refresh.send(());
            }
            // All arms are cancel-safe: a watch change, a queue receive and a sleep.
            fresh = tokio::select! {
                alive = views.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    false
                }
                Some(refresh) = refreshes.recv() => {
                    waiting.push(refresh);
                    true
                }
                Some(confirm) = self.confirms.recv() => {
                    self.guard = Guard::Off;
                    // Whoever asked may have hung up.
                    let _ = confirm.send(self.report.guarded.take());
                    true
                }
                tuning = retuned(&mut self.tuning) => {
                    self.resync = tuning.resync;
                    true
                }
                () = tokio::time::sleep_until(self.read_due.into()) => true,
            };
        }
    }

    /// One pass, with a read of the table where it is asked for or needed.
    fn pass(&mut self, view: &HealthView, fresh: bool) {
        let same_policies =
            self.last_set.as_ref().is_some_and(|last| Arc::ptr_eq(last, &view.policies));
        if !same_policies {
            self.report.names = Names::after(&self.report.names, &view.policies);
        }
        let trusted = same_policies && !self.surprised && self.report.failures.is_empty();
        let fresh = fresh || !trusted || self.believed.is_none();
        let settled = self.reconcile(view, fresh);
        self.schedule(fresh, settled);
        self.report.passed_at = Some(now());
    }

    /// Says when to read next: after the resync time, sooner while something is not as desired. A
    /// pass without a read never puts it off, so that no stream of verdicts can hide drift.
    fn schedule(&mut self, fresh: bool, settled: bool) {
        let pause = if settled { self.resync } else { self.pause.min(self.resync) };
        let due = now() + pause;
        let due = if fresh { due } else { self.read_due.min(due) };
        self.read_due = self.wake.take().map_or(due, |wake| wake.min(due));
        self.pause = if settled { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
    }

    /// Plans and applies; true when the table is as desired.
    fn reconcile(&mut self, view: &HealthView, fresh: bool) -> bool {
        let (mut table, before) = match self.observe(fresh) {
            Ok(tables) => tables,
            Err(error) => {
                self.note_error(format!("cannot read the IPVS table: {error}"));
                return false;
            }
        };
        let desired = self.decide(view, &table, before.as_ref(), fresh);
        self.wake = desired.wake;
        let standing = std::mem::replace(&mut self.standing, desired.standing.clone());
        let mut plan = plan(&table, &desired, &self.report.owned);
        if let Some(before) = before {
            mark_repairs(&mut plan, &before);
        }
        // The old one goes after the write: freeing ten thousand entries takes its time.
        let old = std::mem::replace(&mut self.report.desired, Arc::new(desired));
        match self.execute(plan, &mut table) {
            Err(error) => self.note_error(error),
            // A verdict that got through does not mean that the table can be read again.
            Ok(()) if fresh => self.report.error = None,
            Ok(()) => {}
        }
        drop(old);
        if !standing.is_like(&self.standing) {
            self.record_standing();
        }
        if fresh {
            self.report.table = Some(Arc::new(table.clone()));
        }
        self.tell_open(&table, &view.policies);
        self.believed = Some(table);
        self.last_set = Some(Arc::clone(&view.policies));
        !self.surprised && self.report.failures.is_empty() && self.report.error.is_none()
    }

    /// Which private virtual services the table has as they should be.
    fn tell_open(&self, table: &Table, policies: &PolicySet) {
        let Some(open) = &self.open else { return };
        let is_there = |private: &&PrivateService| {
            let PrivateService { key, config, destination, .. } = private;
            table.get(key).is_some_and(|service| {
                let found = service.destinations.get(&destination.key);
                service.config == *config
                    && service.destinations.len() == 1
                    && found.is_some_and(|found| found.config == destination.config)
            })
        };
        let services = policies.private.iter().filter(is_there).map(|private| private.key);
        let keys = policies.policies.iter().flat_map(|policy| &policy.services);
        let vip = |service: &VirtualService| match service.key {
            ServiceKey::Address { address, .. } => Some(address),
            ServiceKey::Fwmark { .. } => None,
        };
        let now = match policies.private.is_empty() {
            true => Open::default(),
            false => Open { services: services.collect(), vips: keys.filter_map(vip).collect() },
        };
        open.send_if_modified(|before| {
            let is_other = **before != now;
            if is_other {
                *before = Arc::new(now);
            }
            is_other
        });
    }

    /// What should be, with what no policy declares held where too much of it would go.
    fn decide(
        &mut self,
        view: &HealthView,
        table: &Table,
        believed: Option<&Table>,
        fresh: bool,
    ) -> Desired {
        let moment = Moment { fresh, believed, ..Moment::first(now(), &self.report.owned) };
        let wanted = desired(view, table, &self.standing, moment);
        if self.guard == Guard::Off {
            return wanted;
        }
        let removal = Removal::from(&self.ours(table), &view.policies);
        if !self.guard.holds(&removal) {
            // What is asked is asked at the start; a reload has a guard of its own.
            (self.guard, self.report.guarded) = (Guard::Off, None);
            return wanted;
        }
        if self.report.guarded.is_none() {
            error!(
                "start held: it would remove {removal}, which no policy declares any more; they \
                 stay as they are; `pointsman confirm` shows the plan and lets them go"
            );
        }
        self.report.guarded = Some(removal);
        desired(view, table, &self.standing, Moment { guarded: true, ..moment })
    }

    /// What the table has of what is on record as ours, but for what drained before: that is on its
    /// way already. What is declared for the first time is adopted, and no loss.
    fn ours(&self, table: &Table) -> Destinations {
        let stays = |service: &ServiceKey, key: &DestinationKey| {
            !self.standing.draining.contains_key(&(*service, *key))
        };
        let of = |(key, service): (&ServiceKey, &Service)| {
            let keys = service.destinations.keys().filter(|one| stays(key, one));
            (*key, keys.copied().collect())
        };
        let is_ours = |(key, _): &(&ServiceKey, &Service)| {
            self.report.owned.contains(key) && !key.is_private()
        };
        table.iter().filter(is_ours).map(of).collect()
    }

    /// The table to plan against, and after a read also what it was believed to be before.
    fn observe(&mut self, fresh: bool) -> Result<(Table, Option<Table>), IpvsError> {
        if let Some(believed) = self.believed.take_if(|_| !fresh) {
            return Ok((believed, None));
        }
        let table = self.ipvs.table().inspect_err(|_| self.report.totals.failed_reads += 1)?;
        self.report.read_at = Some(now());
        Ok((table, self.believed.take()))
    }

    /// Records, applies and accounts for a plan; the table follows what was done. An error is the
    /// record's.
    fn execute(&mut self, plan: Plan, table: &mut Table) -> Result<(), String> {
        let claimed = self.record(self.report.owned.claim(&self.report.desired));
        let applied = apply(self.ipvs.as_mut(), &plan);
        believed(table, &plan, &applied);
        let settled = self.report.owned.settle(&self.report.desired, table);
        let recorded = claimed.and_then(|()| self.record(settled));
        self.surprised = applied.surprises > 0;
        self.account(&plan, &applied);
        self.tell_done(&plan, &applied);
        self.report.plan = Arc::new(plan);
        self.report.names.forget_gone(table);
        recorded
    }

    /// The record is kept in memory even if the disk refuses it.
    fn record(&mut self, owned: Owned) -> Result<(), String> {
        self.report.owned = owned;
        let Some(store) = &mut self.store else { return Ok(()) };
        store.save(&self.report.owned).map(drop).map_err(|error| chain(&error))
    }

    /// What is lost with it is a deadline: trouble is logged and no more.
    fn record_standing(&mut self) {
        let Some(record) = &mut self.standing_record else { return };
        if let Err(error) = record.save(&self.standing.record(clocks())) {
            warn!("{}", chain(&error));
        }
    }

    fn account(&mut self, plan: &Plan, applied: &Applied) {
        let (totals, names) = (&mut self.report.totals, &self.report.names);
        totals.changes += applied.done as u64;
        totals.repairs += applied.repaired as u64;
        totals.refused += applied.undone.len() as u64;
        self.report.pending = applied.undone.len();
        let text = |failure: &Failure| {
            let more = match failure.consequences {
                0 => String::new(),
                number => format!(" (and so not done: {number} more of this service)"),
            };
            format!("{}: {}{more}", plan.steps[failure.step].line(names), failure.error)
        };
        let failures = applied.failures.iter().take(MOST_FAILURES).map(text).collect();
        let known = std::mem::replace(&mut self.report.failures, failures);
        // Ten thousand refusals for one reason are one line, and the same ones again are none.
        if known != self.report.failures {
            for (error, steps) in applied.causes() {
                let example = applied.failures.iter().find(|it| it.error == *error);
                let step = example.map(|it| plan.steps[it.step].line(names)).unwrap_or_default();
                error!(steps, reason = %error, "refused: {step}");
                self.journal.tell(What::Refused {
                    change: step,
                    changes: steps,
                    reason: error.to_string(),
                });
            }
        }
    }

    /// One line and one event per change that was made, in the words of the plan. Of a ramp its
    /// beginning and its end.
    fn tell_done(&self, plan: &Plan, applied: &Applied) {
        let names = &self.report.names;
        let mut undone = applied.undone.iter().peekable();
        for (index, step) in plan.steps.iter().enumerate() {
            if undone.next_if_eq(&&index).is_some() {
                continue;
            }
            let change = step.line(names);
            let name = names.of_step(step).map(str::to_owned);
            let service = step.change.service().to_string();
            let destination = step.destination().map(|destination| destination.to_string());
            if step.repair {
                warn!(service, destination, "drift repaired: {change}");
                self.journal.tell(What::Repair { service, destination, name, change });
            } else if step.change.service().is_private()
                || is_within_ramp(step, &self.report.desired)
            {
                debug!(service, destination, "{change}");
            } else {
                info!(service, destination, "{change}");
                self.journal.tell(What::Change { service, destination, name, change });
            }
        }
    }

    /// Remembers why there is no progress, and logs it once.
    fn note_error(&mut self, error: String) {
        if self.report.error.as_ref() != Some(&error) {
            error!("{error}");
        }
        self.report.error = Some(error);
    }
}

/// Lets this thread go before those that probe where processors are scarce: what a verdict has to
/// change must not wait behind the next thousand probes. Without the privilege nothing changes.
pub fn go_first() {
    const NICE: i32 = -10;
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The clock of the runtime, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock, for the record")]
fn clocks() -> Clocks {
    Clocks { now: now(), wall: SystemTime::now() }
}
