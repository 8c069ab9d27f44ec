//! Services, destinations and real servers of a status, at one moment of the daemon.
//!
//! Pure: from a snapshot of the engine and a report of the driver.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use super::advising::{AdviceStatus, AdvisorStatus};
use super::certificate::CertificateStatus;
use super::holding::DampingStatus;
use super::rates::RatesStatus;
use super::status::{
    CheckStatus, DestinationStatus, RealServerStatus, ServiceStatus, WeightStatus, rfc3339,
    seconds, short,
};
use crate::health::{Health, OutcomeKind};
use crate::ipvs::model::{DestinationKey, ServiceKey, Table};
use crate::policy::model::{Policy, RealServer, TargetId, VirtualService};
use crate::probe::outcome::{Outcome, Reason};
use crate::probe::runner::Snapshot;
use crate::probe::slot::Slot;
use crate::reconcile::desired::{WeightParts, Why};
use crate::reconcile::driver::Report;
use crate::reconcile::view::HealthView;

/// What the parts of a status are made from.
pub(super) struct Moment<'a> {
    snapshot: &'a Snapshot,
    report: &'a Report,
    view: &'a HealthView,
    wall: SystemTime,
}

impl<'a> Moment<'a> {
    /// The moment of a snapshot.
    pub(super) fn new(snapshot: &'a Snapshot, report: &'a Report, wall: SystemTime) -> Self {
        Self { snapshot, report, view: &snapshot.view, wall }
    }
}

impl Moment<'_> {
    pub(super) fn service(&self, policy: &Policy, service: &VirtualService) -> ServiceStatus {
        let empty = Table::new();
        let table = self.report.table.as_deref().unwrap_or(&empty);
        let in_kernel = table.get(&service.key);
        let mut destinations: Vec<DestinationStatus> = service
            .destinations
            .iter()
            .zip(&policy.real_servers)
            .map(|(declared, real_server)| {
                self.destination(service.key, declared.key, Some(real_server))
            })
            .collect();
        if let (Some(sorry), Some(server)) = (&service.sorry, &policy.sorry_server) {
            destinations.push(self.destination(service.key, sorry.key, Some(server)));
        }
        let declared: BTreeSet<DestinationKey> =
            service.destinations.iter().chain(&service.sorry).map(|it| it.key).collect();
        let others = in_kernel.into_iter().flat_map(|it| it.destinations.keys());
        for key in others.filter(|key| !declared.contains(key)) {
            destinations.push(self.destination(service.key, *key, None));
        }
        ServiceStatus {
            service: service.key,
            policy: Some(policy.name.clone()),
            config: service.config.to_string(),
            in_kernel: in_kernel.is_some(),
            rates: in_kernel.and_then(RatesStatus::of_service),
            destinations,
        }
    }

    /// Ours that no policy declares any more and that are still there.
    pub(super) fn leaving(&self) -> impl Iterator<Item = ServiceStatus> {
        let services = self.report.desired.services.iter();
        services.filter(|(_, wanted)| wanted.policy.is_none()).map(|(key, wanted)| {
            let destinations = wanted.destinations.keys();
            let in_kernel = self.report.table.as_ref().and_then(|table| table.get(key));
            ServiceStatus {
                service: *key,
                policy: None,
                config: wanted.config.to_string(),
                in_kernel: in_kernel.is_some(),
                rates: in_kernel.and_then(RatesStatus::of_service),
                destinations: destinations.map(|at| self.destination(*key, *at, None)).collect(),
            }
        })
    }

    pub(super) fn destination(
        &self,
        service: ServiceKey,
        destination: DestinationKey,
        real_server: Option<&RealServer>,
    ) -> DestinationStatus {
        let wanted = self.report.desired.services.get(&service);
        let absent = wanted.map(|it| &it.absent);
        let wanted = wanted.and_then(|it| it.destinations.get(&destination));
        let kernel = self.report.table.as_ref().and_then(|table| table.get(&service));
        let kernel = kernel.and_then(|it| it.destinations.get(&destination));
        let why = wanted.map(|it| &it.why).or_else(|| absent.and_then(|it| it.get(&destination)));
        let verdict = real_server.map(|it| self.view.real_server(it)).unwrap_or_default();
        DestinationStatus {
            destination,
            real_server: real_server.map(|it| it.name.clone()),
            health: verdict.health,
            since: verdict.since.map(|since| self.ago(since)),
            weight_wanted: wanted.map(|it| it.config.weight),
            weight_kernel: kernel.map(|it| it.config.weight),
            connections: kernel.map(|it| it.connections).unwrap_or_default(),
            rates: kernel.and_then(RatesStatus::of_destination),
            why: match wanted {
                Some(it) if it.why == Why::Undeclared => it.why.of_one_that_stays(),
                _ => self.destination_why(why, real_server),
            },
            drain_left: match why {
                Some(Why::Drains(drains)) => Some(seconds(drains.left)),
                _ => None,
            },
            weight: wanted.and_then(|it| it.weight.as_deref()).map(weight),
        }
    }

    /// What decides beyond the verdict, then what the probes say.
    fn destination_why(&self, why: Option<&Why>, real_server: Option<&RealServer>) -> String {
        let judged_down =
            real_server.is_some_and(|it| self.view.real_server(it).effective() == Health::Down);
        let special = why.filter(|why| match why {
            Why::Up | Why::Unknown | Why::Undeclared => false,
            // Else it says so itself, and its checks do not.
            Why::Down(_) => real_server.is_some() && !judged_down,
            _ => true,
        });
        match (special, real_server) {
            // How long yet is a matter of this moment, and no plan's.
            (Some(why @ Why::HeldBack(reason)), Some(server)) => {
                let hold = self.view.real_server(server).hold();
                hold.map_or(why.to_string(), |it| format!("{it}; {}", Why::Down(reason.clone())))
            }
            (Some(why @ (Why::Kept(_) | Why::HeldBack(_))), _) => why.to_string(),
            (Some(why), Some(server)) => format!("{why}; {}", self.why(server)),
            (Some(why), None) => why.to_string(),
            (None, Some(server)) => self.why(server),
            (None, None) => "not declared by the policy".to_owned(),
        }
    }

    /// The last outcome of the target that decides, with its streak if one is open; before it how
    /// many pass, where not all must.
    fn why(&self, real_server: &RealServer) -> String {
        let health = self.view.real_server(real_server).health;
        let agree =
            real_server.targets.iter().filter(|id| self.view.verdict(**id).health == health);
        let first = |id: &&TargetId| (health == Health::Down).then(|| self.slot(**id).state.since);
        let Some(id) = agree.min_by_key(first).copied() else {
            return "no checks: always up".to_owned();
        };
        let (slot, target) = (self.slot(id), self.snapshot.policies.target(id));
        let mut why = match &slot.last {
            None => match (&slot.verdict().reason, health) {
                (Some(reason), _) => format!("{reason} (before the restart)"),
                (None, Health::Unknown) => "not probed yet".to_owned(),
                (None, health) => format!("{health} before the restart"),
            },
            Some(last) => told(&last.outcome),
        };
        if slot.state.streak > 0 {
            let needed = slot.state.needed(target.timing.hysteresis);
            let kind = if health == Health::Down { "passes" } else { "failures" };
            why = format!("{why} ({} of {needed} {kind})", slot.state.streak.min(needed));
        }
        if let Some(damping) = DampingStatus::of(slot, self.snapshot.now) {
            why += &damping.to_string();
        }
        match self.view.quorum(real_server) {
            Some(quorum) => format!("{quorum}; {why}"),
            None => why,
        }
    }

    pub(super) fn real_server(
        &self,
        policy: &Policy,
        real_server: &RealServer,
    ) -> RealServerStatus {
        RealServerStatus {
            policy: policy.name.clone(),
            real_server: real_server.name.clone(),
            address: real_server.identity.clone(),
            health: self.view.real_server(real_server).health,
            quorum: self.view.quorum(real_server),
            checks: real_server.targets.iter().map(|id| self.check(*id)).collect(),
            advisors: real_server.advisors.iter().map(|id| self.advisor(*id)).collect(),
        }
    }

    fn advisor(&self, id: TargetId) -> AdvisorStatus {
        let slot = self.slot(id);
        AdvisorStatus {
            advisor: self.snapshot.policies.target(id).to_string(),
            last_ago: slot.last.as_ref().map(|last| self.ago(last.at)),
            last: slot.last.as_ref().map(|last| last.outcome.clone()),
            advice: AdviceStatus::of(slot.advising.as_deref(), self.snapshot.now),
        }
    }

    fn check(&self, id: TargetId) -> CheckStatus {
        let (slot, target) = (self.slot(id), self.snapshot.policies.target(id));
        let since_seconds = self.ago(slot.state.since);
        let since = self.wall.checked_sub(Duration::from_secs_f64(since_seconds));
        CheckStatus {
            check: target.to_string(),
            health: slot.state.health,
            since: rfc3339(since.unwrap_or(SystemTime::UNIX_EPOCH)),
            since_seconds,
            streak: slot.state.streak,
            needed: slot.state.needed(target.timing.hysteresis),
            last_ago: slot.last.as_ref().map(|last| self.ago(last.at)),
            last: slot.last.as_ref().map(|last| last.outcome.clone()),
            held: self.view.verdict(id).held,
            parole: self.view.verdict(id).parole,
            damping: DampingStatus::of(slot, self.snapshot.now),
            advice: AdviceStatus::of(slot.advising.as_deref(), self.snapshot.now),
            certificate: slot.certificate_ends.map(|ends| CertificateStatus::new(ends, self.wall)),
        }
    }

    fn slot(&self, id: TargetId) -> &Slot {
        &self.snapshot.slots[id.0 as usize]
    }

    fn ago(&self, moment: Instant) -> f64 {
        seconds(self.snapshot.now.saturating_duration_since(moment))
    }
}

/// An outcome with its latency. A timeout has said how long it took.
fn told(outcome: &Outcome) -> String {
    use Reason::{BodyTimeout, ConnectTimeout, HeadTimeout, TlsTimeout};
    let took = short(outcome.phases.ended);
    match (outcome.kind, outcome.reason) {
        (OutcomeKind::Pass, _) => format!("{} in {took}", outcome.detail),
        (_, ConnectTimeout | TlsTimeout | HeadTimeout | BodyTimeout) => outcome.detail.clone(),
        _ => format!("{}, after {took}", outcome.detail),
    }
}

pub(super) fn weight(parts: &WeightParts) -> WeightStatus {
    WeightStatus {
        configured: parts.configured,
        ramp_percent: parts.ramp_percent,
        advised: parts.advised.map(|advised| advised.to_string()),
        overridden: parts.overridden,
    }
}
