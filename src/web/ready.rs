//! Whether the daemon, or one virtual service, is ready for traffic. Pure.
//!
//! For who decides where traffic goes: a load balancer before the directors, or VRRP between
//! them. So only what really takes connections counts: a real server that is in the table because
//! of a health floor or the blast-radius limit although its checks fail is none, because the
//! other director may well reach it.

use std::fmt;

use crate::control::explain::floor;
use crate::health::{Health, OutcomeKind};
use crate::ipvs::model::ServiceKey;
use crate::policy::model::{Policy, VirtualService};
use crate::probe::runner::Snapshot;
use crate::probe::slot::Slot;
use crate::reconcile::driver::Report;

/// What is missing until the daemon has done its first work; empty: nothing.
pub fn missing(snapshot: &Snapshot, report: &Report) -> Vec<String> {
    let mut missing = Vec::new();
    let targets = snapshot.policies.targets.iter().zip(&snapshot.slots);
    // There is no verdict on an agent.
    let checks = targets.filter(|(target, _)| !target.check.kind.is_advisor());
    let undecided = checks.clone().filter(|(_, slot)| is_undecided(slot)).count();
    if undecided > 0 {
        missing.push(format!("{undecided} of {} checks have no verdict yet", checks.count()));
    }
    if let Some(error) = &report.error {
        missing.push(error.clone());
    } else if report.table.is_none() {
        missing.push("the table has not been read yet".to_owned());
    }
    match report.pending {
        0 => {}
        1 => missing.push("1 change is not in the table".to_owned()),
        many => missing.push(format!("{many} changes are not in the table")),
    }
    missing
}

/// Who cannot be asked at all will not have a verdict soon.
fn is_undecided(slot: &Slot) -> bool {
    let unasked = slot.last.as_ref().is_some_and(|it| it.outcome.kind == OutcomeKind::Inconclusive);
    slot.state.health == Health::Unknown && !unasked
}

/// How many real servers of a virtual service take connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The virtual service.
    pub service: ServiceKey,
    /// So many take connections: a weight in the table and not down. The sorry server does not
    /// count.
    pub taking: usize,
    /// So many are declared.
    pub of: usize,
    /// So many must: what the health floor asks for, one at least.
    pub needed: usize,
}

impl Readiness {
    /// Whether enough of them do.
    pub fn is_ready(&self) -> bool {
        self.taking >= self.needed
    }

    /// Of one virtual service of a policy.
    pub fn of(
        policy: &Policy,
        service: &VirtualService,
        snapshot: &Snapshot,
        report: &Report,
    ) -> Self {
        let kernel = report.table.as_ref().and_then(|table| table.get(&service.key));
        let weight =
            |key| kernel.and_then(|it| it.destinations.get(key)).map(|it| it.config.weight);
        let pairs = service.destinations.iter().zip(&policy.real_servers);
        let taking = pairs.filter(|(declared, server)| {
            weight(&declared.key).is_some_and(|weight| weight > 0)
                && snapshot.view.real_server(server).health != Health::Down
        });
        let declared = policy.health_floor.as_ref();
        let needed = declared.map_or(1, |it| floor(it, policy, snapshot, report).needed).max(1);
        Self {
            service: service.key,
            taking: taking.count(),
            of: service.destinations.len(),
            needed,
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, taking, of, needed } = self;
        write!(f, "{service}: {taking} of {of} real servers take connections, {needed} needed")
    }
}

/// The virtual services meant: one by its identity, or all of a policy by its name.
pub fn find(name: &str, snapshot: &Snapshot, report: &Report) -> Vec<Readiness> {
    let key: Option<ServiceKey> = name.parse().ok();
    let policies = &snapshot.policies.policies;
    let pairs = policies.iter().flat_map(|it| it.services.iter().map(move |one| (it, one)));
    pairs
        .filter(|(policy, service)| key.map_or(policy.name == name, |key| service.key == key))
        .map(|(policy, service)| Readiness::of(policy, service, snapshot, report))
        .collect()
}
