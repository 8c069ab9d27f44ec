//! The plan: the difference between the observed and the desired table as ordered steps.
//!
//! A plan decides everything and does nothing. It is a value that can be printed
//! ([`super::render`], [`super::json`]), compared and executed ([`super::apply`]). Pure.
//!
//! Order: services set up → destinations added and raised → other edits → lowered → removed →
//! services removed. So in every service the number of destinations with weight never dips below
//! the smaller of before and after, wherever execution is cut; the next plan does the rest.

use std::sync::Arc;

use crate::ipvs::model::{
    Change, Destination, DestinationConfig, DestinationKey, Service, ServiceConfig, ServiceKey,
    Table,
};

use super::desired::{Desired, DesiredDestination, DesiredService, Why};
use super::diff::{Side, merge};
use super::ownership::Owned;

/// What to do, what not, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// Destinations that are not changed although they differ from what their policy declares,
    /// or that keep what they have until there is a verdict. By service, then destination.
    pub held: Vec<Held>,
    /// Services of ours that no policy declares and that stay until somebody says that they go.
    pub guarded: Vec<ServiceKey>,
    /// Services in the table that are not ours: neither declared nor owned. Left alone.
    pub foreign: Vec<ServiceKey>,
}

/// One change with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command for the kernel.
    pub change: Change,
    /// What it replaces or deletes; `None` for an addition.
    pub before: Option<Before>,
    /// The policy that declares the service; `None` when none does.
    pub policy: Option<Arc<str>>,
    /// What decided it. For a step on a service itself: [`Why::Up`] when it is declared.
    pub why: Why,
    /// Whether it undoes what somebody else did to the table; see [`mark_repairs`].
    pub repair: bool,
}

/// The state of an object that a step replaces or deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// A virtual service.
    Service {
        /// Its settings.
        config: ServiceConfig,
        /// How many destinations it has; a deletion takes them along.
        destinations: usize,
    },
    /// A destination.
    Destination(DestinationConfig),
}

/// A destination on which nothing is done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its virtual service.
    pub service: ServiceKey,
    /// The destination.
    pub destination: DestinationKey,
    /// The policy that declares the service; `None` when none does.
    pub policy: Option<Arc<str>>,
    /// Its settings in the table, which stay; `None` when it is not in the table.
    pub config: Option<DestinationConfig>,
    /// What holds it: anything but [`Why::Up`].
    pub why: Why,
}

/// The part of the order a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Services added and edited.
    SetUp,
    /// Destinations added and raised.
    Raise,
    /// Destinations edited with their weight unchanged.
    Edit,
    /// Destinations lowered.
    Lower,
    /// Destinations removed.
    Remove,
    /// Services removed.
    TearDown,
}

/// Counts of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Services and destinations to add.
    pub add: usize,
    /// Services and destinations to change in place.
    pub change: usize,
    /// Services and destinations to remove.
    pub remove: usize,
    /// Steps among these that undo what somebody else did.
    pub repairs: usize,
    /// Destinations held because something has no verdict yet, or although they are down.
    pub held: usize,
    /// Destinations that are out, or quiesced, already because they are down.
    pub down: usize,
    /// Destinations that have weight 0 and wait for their connections to end.
    pub draining: usize,
    /// Services left alone because they are not ours.
    pub foreign: usize,
    /// Steps on virtual services for probes, which the other counts leave out.
    pub private: usize,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Counts what is to be done and what is not.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { foreign: self.foreign.len(), ..Summary::default() };
        for step in &self.steps {
            if step.change.service().is_private() {
                summary.private += 1;
                continue;
            }
            summary.repairs += usize::from(step.repair);
            match step.change {
                Change::AddService(..) | Change::AddDestination(..) => summary.add += 1,
                Change::SetService(..) | Change::SetDestination(..) => summary.change += 1,
                Change::DeleteService(..) | Change::DeleteDestination(..) => summary.remove += 1,
            }
        }
        summary.held += self.guarded.len();
        for held in &self.held {
            match held.why {
                Why::Down(_) | Why::Withdrawn { .. } => summary.down += 1,
                Why::Drains(_) => summary.draining += 1,
                _ => summary.held += usize::from(held.why.is_held()),
            }
        }
        summary
    }
}

impl Step {
    /// The part of the order it belongs to.
    pub fn phase(&self) -> Phase {
        match (&self.change, &self.before) {
            (Change::AddService(..) | Change::SetService(..), _) => Phase::SetUp,
            (Change::SetDestination(_, _, after), Some(Before::Destination(before))) => {
                match after.weight.cmp(&before.weight) {
                    std::cmp::Ordering::Greater => Phase::Raise,
                    std::cmp::Ordering::Equal => Phase::Edit,
                    std::cmp::Ordering::Less => Phase::Lower,
                }
            }
            (Change::AddDestination(..) | Change::SetDestination(..), _) => Phase::Raise,
            (Change::DeleteDestination(..), _) => Phase::Remove,
            (Change::DeleteService(..), _) => Phase::TearDown,
        }
    }

    /// The destination it changes; `None` for a step on a service itself.
    pub fn destination(&self) -> Option<&DestinationKey> {
        match &self.change {
            Change::AddDestination(_, key, _)
            | Change::SetDestination(_, key, _)
            | Change::DeleteDestination(_, key) => Some(key),
            Change::AddService(..) | Change::SetService(..) | Change::DeleteService(..) => None,
        }
    }
}

/// Plans the way from the observed to the desired table.
///
/// A service that no policy declares is removed if it is owned, else it is foreign. One linear
/// pass over both tables; the same input gives the same plan.
pub fn plan(observed: &Table, desired: &Desired, owned: &Owned) -> Plan {
    let mut planner = Planner::default();
    for side in merge(observed, &desired.services) {
        match side {
            // Nobody else uses these marks.
            Side::Left(key, found) if key.is_private() => {
                planner.remove_service(key, found, Why::Undeclared);
            }
            Side::Left(key, found) if owned.contains(key) => {
                let why = desired.gone.get(key).cloned().unwrap_or(Why::Undeclared);
                planner.remove_service(key, found, why);
            }
            Side::Left(key, _) => planner.foreign.push(*key),
            Side::Right(key, wanted) if wanted.waits => planner.hold_absent(key, wanted, |_| true),
            Side::Right(key, wanted) => planner.add_service(key, wanted),
            Side::Both(key, _, wanted) if wanted.is_guarded() => planner.guarded.push(*key),
            Side::Both(key, found, wanted) => planner.change_service(key, found, wanted),
        }
    }
    let steps = planner.phases.into_iter().flatten().collect();
    Plan { steps, held: planner.held, guarded: planner.guarded, foreign: planner.foreign }
}

/// Marks the steps that only undo what somebody else did: those that the `believed` table, the
/// one our last apply left, would not need.
pub fn mark_repairs(plan: &mut Plan, believed: &Table) {
    for step in &mut plan.steps {
        step.repair = satisfies(believed, &step.change);
    }
}

fn satisfies(table: &Table, change: &Change) -> bool {
    let Some(service) = table.get(change.service()) else { return false };
    match change {
        Change::AddService(_, config) | Change::SetService(_, config) => service.config == *config,
        Change::DeleteService(_) => false,
        Change::AddDestination(_, key, config) | Change::SetDestination(_, key, config) => {
            service.destinations.get(key).is_some_and(|found| found.config == *config)
        }
        Change::DeleteDestination(_, key) => !service.destinations.contains_key(key),
    }
}

/// Collects steps by phase, which puts them in order without a sort.
#[derive(Default)]
struct Planner {
    phases: [Vec<Step>; 6],
    held: Vec<Held>,
    guarded: Vec<ServiceKey>,
    foreign: Vec<ServiceKey>,
}

impl Planner {
    fn step(
        &mut self,
        change: Change,
        before: Option<Before>,
        policy: Option<&Arc<str>>,
        why: Why,
    ) {
        let step = Step { change, before, policy: policy.cloned(), why, repair: false };
        self.phases[step.phase() as usize].push(step);
    }

    fn remove_service(&mut self, key: &ServiceKey, found: &Service, why: Why) {
        let change = Change::DeleteService(*key);
        self.step(change, Some(before(found)), None, why);
    }

    fn add_service(&mut self, key: &ServiceKey, wanted: &DesiredService) {
        let change = Change::AddService(*key, wanted.config.clone());
        self.step(change, None, wanted.policy.as_ref(), Why::Up);
        for (destination, desired) in &wanted.destinations {
            self.add_destination(key, destination, wanted, desired);
        }
        self.hold_absent(key, wanted, |_| true);
    }

    fn change_service(&mut self, key: &ServiceKey, found: &Service, wanted: &DesiredService) {
        if found.config != wanted.config {
            let change = Change::SetService(*key, wanted.config.clone());
            self.step(change, Some(before(found)), wanted.policy.as_ref(), Why::Up);
        }
        for side in merge(&found.destinations, &wanted.destinations) {
            match side {
                Side::Left(destination, found) => {
                    let why = wanted.absent.get(destination).cloned().unwrap_or(Why::Undeclared);
                    let change = Change::DeleteDestination(*key, *destination);
                    let before = Before::Destination(found.config);
                    self.step(change, Some(before), wanted.policy.as_ref(), why);
                }
                Side::Right(destination, desired) => {
                    self.add_destination(key, destination, wanted, desired);
                }
                Side::Both(destination, found, desired) => {
                    self.change_destination((key, destination), found, wanted, desired);
                }
            }
        }
        self.hold_absent(key, wanted, |destination| !found.destinations.contains_key(destination));
    }

    fn add_destination(
        &mut self,
        service: &ServiceKey,
        key: &DestinationKey,
        wanted: &DesiredService,
        desired: &DesiredDestination,
    ) {
        let change = Change::AddDestination(*service, *key, desired.config);
        self.step(change, None, wanted.policy.as_ref(), desired.why.clone());
    }

    fn change_destination(
        &mut self,
        (service, key): (&ServiceKey, &DestinationKey),
        found: &Destination,
        wanted: &DesiredService,
        desired: &DesiredDestination,
    ) {
        if found.config != desired.config {
            let change = Change::SetDestination(*service, *key, desired.config);
            let before = Before::Destination(found.config);
            self.step(change, Some(before), wanted.policy.as_ref(), desired.why.clone());
        } else if !matches!(desired.why, Why::Up | Why::Private) {
            self.hold(*service, *key, wanted, Some(found.config), &desired.why);
        }
    }

    /// Reports the declared destinations that stay out.
    fn hold_absent(
        &mut self,
        service: &ServiceKey,
        wanted: &DesiredService,
        is_out: impl Fn(&DestinationKey) -> bool,
    ) {
        for (key, why) in wanted.absent.iter().filter(|(key, _)| is_out(key)) {
            self.hold(*service, *key, wanted, None, why);
        }
        let first = self.held.partition_point(|held| held.service < *service);
        self.held[first..].sort_by_key(|held| held.destination);
    }

    fn hold(
        &mut self,
        service: ServiceKey,
        destination: DestinationKey,
        wanted: &DesiredService,
        config: Option<DestinationConfig>,
        why: &Why,
    ) {
        let policy = wanted.policy.clone();
        self.held.push(Held { service, destination, policy, config, why: why.clone() });
    }
}

fn before(service: &Service) -> Before {
    let destinations = service.destinations.len();
    Before::Service { config: service.config.clone(), destinations }
}
