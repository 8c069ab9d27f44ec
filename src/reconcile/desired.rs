//! What the table should hold, from policies, verdicts and what the table holds now.
//!
//! The observed table is an input because `unknown` holds and because what leaves drains: until a
//! real server has a verdict its destinations stay as they are, and connections decide when one
//! that leaves has left. Pure; time comes in. It does not know in which order changes are safe; that
//! is [`super::plan`].

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ipvs::model::{
    Destination, DestinationConfig, DestinationKey, Service, ServiceConfig, ServiceKey, Table,
};
use crate::policy::model::{
    DeclaredDestination, Policy, PrivateService, VirtualService, default_drain,
};

use super::fitness::{Decision, Fitness, decide};
use super::ownership::Owned;
use super::standing::Standing;
use super::view::HealthView;
pub use super::why::{Drains, Why};
pub use weighing::WeightParts;

mod leaving;
mod overlap;
mod weighing;

/// While something drains, its connections are looked at this often.
const DRAIN_POLL: Duration = Duration::from_secs(1);
/// Never wake sooner than this only because time passes: a wake costs a read of the table.
const SHORTEST_WAKE: Duration = Duration::from_millis(200);

/// Every virtual service as it should be: those that are declared, and ours that leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// By identity.
    pub services: BTreeMap<ServiceKey, DesiredService>,
    /// Ours that no policy declares any more and that are to go, with the reason.
    pub gone: BTreeMap<ServiceKey, Why>,
    /// What the next decision has to know.
    pub standing: Standing,
    /// When to read and decide again although nothing has changed.
    pub wake: Option<Instant>,
}

/// A virtual service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// Name of the policy that declares it; `None`: none does any more.
    pub policy: Option<Arc<str>>,
    /// Its settings.
    pub config: ServiceConfig,
    /// The destinations it should have.
    pub destinations: BTreeMap<DestinationKey, DesiredDestination>,
    /// Declared destinations that it should not have now, and others that go, with the reason.
    pub absent: BTreeMap<DestinationKey, Why>,
    /// Whether it is not to be added yet: without a destination it would only take connections from
    /// another one.
    pub waits: bool,
}

impl DesiredService {
    /// Whether somebody has to say first that it goes.
    pub fn is_guarded(&self) -> bool {
        self.policy.is_none() && self.destinations.values().all(|one| one.why == Why::Guarded)
    }

    /// Whether some real server of this service is declared with a weight and none takes
    /// connections; the sorry server is none of them.
    pub fn is_unserved(&self, declared: &VirtualService) -> bool {
        let takes = |one: &DesiredDestination| one.config.weight > 0 && one.why != Why::Sorry;
        declared.destinations.iter().any(|it| it.config.weight > 0)
            && !self.destinations.values().any(takes)
    }

    /// Whether the sorry server answers.
    pub fn has_sorry(&self) -> bool {
        self.destinations.values().any(|one| one.config.weight > 0 && one.why == Why::Sorry)
    }
}

/// A destination as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDestination {
    /// Its settings.
    pub config: DestinationConfig,
    /// What decided them.
    pub why: Why,
    /// How its weight came about, where it is not simply the configured one. Boxed: few have it.
    pub weight: Option<Box<WeightParts>>,
}

/// When, and how fresh the observed table is.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'t> {
    /// The time.
    pub now: Instant,
    /// Whether the observed table was read just now, so that its connections can be trusted.
    pub fresh: bool,
    /// What the table was believed to hold before that read; a destination that is not in it was
    /// added by somebody else. `None` on the first pass, when nobody knows.
    pub believed: Option<&'t Table>,
    /// Whether what no policy declares stays as it is: too much of it would go.
    pub guarded: bool,
    /// Which virtual services are ours.
    pub owned: &'t Owned,
}

impl<'t> Moment<'t> {
    /// A table read now, by somebody who knows no more of it than what is ours.
    pub fn first(now: Instant, owned: &'t Owned) -> Self {
        Self { now, fresh: true, believed: None, guarded: false, owned }
    }
}

/// Says what the table should hold.
///
/// Rules, for a declared destination: up → as declared, on a ramp where there is one; down →
/// absent or weight 0, as the policy's `on_down` says, unless the health floor keeps it; unknown →
/// present only if observed, with weight 0 if observed so. A verdict on record from a run that died
/// counts as unknown where the observed table shows another one. While one that may have a word in
/// its weight has had no turn yet, it is as observed, unless its service has no destinations at all.
///
/// An observed destination that nobody declares leaves, but of these as many stay as there are
/// declared ones that are new to the table and have no verdict yet: a swap of real servers goes
/// one by one. What leaves has weight 0 until its connections are gone or the policy's drain
/// deadline has passed. So has every destination of a service of ours that nobody declares, unless
/// that would take connections from a declared one; and no service comes or goes before another one
/// takes its connections. The sorry server is in while no real server takes connections.
pub fn desired(
    view: &HealthView,
    observed: &Table,
    standing: &Standing,
    moment: Moment<'_>,
) -> Desired {
    let next = Standing { doubted: Some(BTreeSet::new()), ..Standing::default() };
    let mut pass = Pass { moment, before: standing, next, wake: None };
    let mut services = Vec::new();
    for policy in &view.policies.policies {
        pass.policy(view, policy, observed, &mut services);
    }
    services.extend(view.policies.private.iter().map(private));
    let (mut services, gone) = pass.undeclared(services.into_iter().collect(), observed);
    pass.await_first_destinations(&mut services, observed);
    Desired { services, gone, standing: pass.next, wake: pass.wake }
}

/// What leads a probe through a virtual address is there whatever comes of the probe.
fn private(service: &PrivateService) -> (ServiceKey, DesiredService) {
    let PrivateService { policy, key, config, destination } = service;
    let why = Why::Private;
    let one = DesiredDestination { config: destination.config, why, weight: None };
    let destinations = [(destination.key, one)].into();
    let (policy, config, absent) = (Some(Arc::clone(policy)), config.clone(), BTreeMap::new());
    (*key, DesiredService { policy, config, destinations, absent, waits: false })
}

/// One decision over everything: what it reads, and what it leaves.
struct Pass<'a> {
    moment: Moment<'a>,
    before: &'a Standing,
    next: Standing,
    wake: Option<Instant>,
}

/// The destinations of a service while they are decided.
struct Settling<'a> {
    service: &'a VirtualService,
    observed: Option<&'a Service>,
    /// The observed destinations that follow the one found last. Policies mostly list real servers
    /// in the order of their addresses, and a step is cheaper than a search among ten thousand.
    ahead: Option<Range<'a, DestinationKey, Destination>>,
    present: Vec<(DestinationKey, DesiredDestination)>,
    absent: BTreeMap<DestinationKey, Why>,
    /// How many of the declared ones the table has.
    matched: usize,
}

impl Settling<'_> {
    fn found(&mut self, key: &DestinationKey) -> Option<Destination> {
        let next = self.ahead.as_mut().and_then(Iterator::next);
        if let Some((_, found)) = next.filter(|(ahead, _)| *ahead == key) {
            return Some(*found);
        }
        let mut from = self.observed?.destinations.range(key..);
        let first = from.clone().next().filter(|(first, _)| *first == key);
        if first.is_some() {
            from.next();
        }
        self.ahead = Some(from);
        first.map(|(_, found)| *found)
    }

    /// Whether the table shows that a run that died knew better than its record: it takes connections
    /// to one that is down on record, or none to one that is up.
    fn contradicts(
        &self,
        declared: &DeclaredDestination,
        decision: &Decision,
        found: Option<Destination>,
    ) -> bool {
        let declared = declared.config.weight;
        let is_to_take = decision.advised.map_or(declared, |advised| advised.of(declared)) > 0;
        let takes = found.is_some_and(|found| found.config.weight > 0);
        decision.unconfirmed
            && decision.overridden.is_none()
            && self.observed.is_some()
            && match decision.fitness {
                Fitness::Fit => is_to_take && !takes,
                Fitness::Out | Fitness::Quiesced => takes,
                Fitness::Undecided | Fitness::Leaves => false,
            }
    }

    /// Whether weight 0, where somebody asks for it, would turn clients away whom others could serve.
    fn refuses_weight_0(&self) -> bool {
        self.service.config.refuses_weight_0()
    }

    /// Puts it in with the weight that it was given, for this reason; or takes it out where that
    /// weight is an asked-for 0 that the kernel would refuse its clients for.
    fn put_weighed(
        &mut self,
        declared: &DeclaredDestination,
        weighed: DesiredDestination,
        why: Why,
    ) {
        let is_asked_for = weighed.config.weight == 0 && declared.config.weight > 0;
        if is_asked_for && self.refuses_weight_0() {
            self.absent.insert(declared.key, weighed.why);
        } else {
            self.present.push((declared.key, DesiredDestination { why, ..weighed }));
        }
    }

    /// Whether it stays as found until its first turn to say what it wants. One that is kept in
    /// although it is down is needed at once, and so is who would be the first.
    fn awaits(&self, decision: &Decision, found: Option<&Destination>) -> bool {
        let is_filled = self.observed.is_some_and(|service| !service.destinations.is_empty());
        decision.unadvised
            && match decision.why {
                Why::Kept(_) => found.is_some_and(|found| found.config.weight > 0),
                _ => found.is_some() || is_filled,
            }
    }

    fn put(&mut self, key: DestinationKey, config: DestinationConfig, why: Why) {
        self.present.push((key, DesiredDestination { config, why, weight: None }));
    }
}

impl Pass<'_> {
    fn policy(
        &mut self,
        view: &HealthView,
        policy: &Policy,
        observed: &Table,
        services: &mut Vec<(ServiceKey, DesiredService)>,
    ) {
        let takes = |index: usize| {
            policy.services.iter().any(|service| {
                let declared = service.destinations.get(index);
                let declared = declared.filter(|declared| declared.config.weight > 0);
                let found = declared.and_then(|declared| {
                    observed.get(&service.key)?.destinations.get(&declared.key)
                });
                found.is_some_and(|found| found.config.weight > 0)
            })
        };
        let was_withdrawn = self.before.withdrawn.contains(&policy.name);
        let decisions = decide(view, policy, was_withdrawn, takes);
        if decisions.withdrawn {
            self.next.withdrawn.insert(policy.name.clone());
        }
        let sorry = policy.sorry_server.as_ref().map(|server| view.real_server(server));
        let name: Arc<str> = Arc::from(policy.name.as_str());
        for service in &policy.services {
            if service.drain != default_drain(&service.key, &service.config) {
                self.next.drains.insert(service.key, service.drain);
            }
            let mut settling = Settling {
                service,
                observed: observed.get(&service.key),
                ahead: None,
                present: Vec::with_capacity(service.destinations.len()),
                absent: BTreeMap::new(),
                matched: 0,
            };
            for (declared, decision) in service.destinations.iter().zip(&decisions.servers) {
                self.settle(&mut settling, declared, decision);
            }
            let sorry = sorry.as_ref().zip(service.sorry.as_ref());
            let mut desired = self.finish(settling);
            if let Some((verdict, declared)) = sorry {
                self.apologize(
                    service,
                    observed.get(&service.key),
                    &mut desired,
                    declared,
                    verdict,
                );
            }
            let (destinations, absent) = desired;
            let (policy, config) = (Some(Arc::clone(&name)), service.config.clone());
            let waits = false;
            let desired = DesiredService { policy, config, destinations, absent, waits };
            services.push((service.key, desired));
        }
    }

    /// Decides on one declared destination.
    fn settle(
        &mut self,
        settling: &mut Settling<'_>,
        declared: &DeclaredDestination,
        decision: &Decision,
    ) {
        let key = declared.key;
        let found = settling.found(&key);
        settling.matched += usize::from(found.is_some());
        let is_doubted = settling.contradicts(declared, decision, found)
            && self.doubts((settling.service.key, key));
        let doubted = is_doubted.then(|| decision.until_confirmed());
        let decision = doubted.as_ref().unwrap_or(decision);
        let quiesced = DestinationConfig { weight: 0, ..declared.config };
        let rises_since = self.rises_since(settling.service, declared, decision, found.as_ref());
        match &decision.fitness {
            Fitness::Fit if !settling.awaits(decision, found.as_ref()) => {
                let ramp = (rises_since, settling.service.slow_start);
                let weighed = self.weigh(declared, decision, ramp, found.as_ref());
                let why = weighed.why.clone();
                settling.put_weighed(declared, weighed, why);
            }
            Fitness::Fit | Fitness::Undecided => {
                let why = match &decision.why {
                    Why::Up => Why::Unadvised,
                    why => why.clone(),
                };
                match found {
                    None => _ = settling.absent.insert(key, why),
                    Some(found) if found.config.weight == 0 || decision.unadvised => {
                        let weight = found.config.weight;
                        settling.put(key, DestinationConfig { weight, ..declared.config }, why);
                    }
                    Some(found) => {
                        let ramp = (rises_since, settling.service.slow_start);
                        let weighed = self.weigh(declared, decision, ramp, Some(&found));
                        settling.put_weighed(declared, weighed, why);
                    }
                }
            }
            Fitness::Quiesced
                if settling.refuses_weight_0() && matches!(decision.why, Why::Advised(_)) =>
            {
                settling.absent.insert(key, decision.why.clone());
            }
            Fitness::Quiesced => settling.put(key, quiesced, decision.why.clone()),
            Fitness::Out => {
                settling.absent.insert(key, decision.why.clone());
            }
            Fitness::Leaves => {
                let left = match found {
                    Some(found) => {
                        let (id, drain) =
                            ((settling.service.key, key), settling.service.drain_of_one());
                        self.leave(id, drain, &found, decision.why.clone())
                    }
                    None => Err(decision.why.clone()),
                };
                match left {
                    Ok(why) => settling.put(key, quiesced, why),
                    Err(why) => {
                        settling.absent.insert(key, why);
                    }
                }
            }
        }
    }

    /// Whether what the table shows is the word of the last run: it has contradicted since the first
    /// pass of this one.
    fn doubts(&mut self, id: (ServiceKey, DestinationKey)) -> bool {
        let doubts = self.before.doubted.as_ref().is_none_or(|doubted| doubted.contains(&id));
        self.next.doubted.get_or_insert_default().extend(doubts.then_some(id));
        doubts
    }

    /// Puts the sorry server in while nobody else takes connections, and lets it go afterwards.
    /// While some real server has no verdict yet and nobody took connections before, it is left as
    /// it is.
    fn apologize(
        &mut self,
        service: &VirtualService,
        observed: Option<&Service>,
        (present, absent): &mut Settled,
        declared: &DeclaredDestination,
        verdict: &super::view::Verdict,
    ) {
        let found = observed.and_then(|service| service.destinations.get(&declared.key));
        let taken = present.values().any(|one| one.config.weight > 0);
        let served = observed.is_some_and(|service| {
            let mut others = service.destinations.iter().filter(|(key, _)| **key != declared.key);
            others.any(|(_, found)| found.config.weight > 0)
        });
        let undecided = !served && absent.values().any(Why::is_undecided);
        let (config, why) = match (taken, verdict.effective(), found) {
            (true, _, None) => return,
            (true, _, Some(found)) => {
                let id = (service.key, declared.key);
                match self.leave(id, service.drain_of_one(), found, Why::SorryNoMore) {
                    Ok(why) => (Some(DestinationConfig { weight: 0, ..declared.config }), why),
                    Err(why) => (None, why),
                }
            }
            (false, Health::Down, _) => (None, Why::Down(verdict.reason.clone())),
            (false, Health::Up, _) if !undecided => (Some(declared.config), Why::Sorry),
            (false, Health::Up | Health::Unknown, found) => {
                (found.map(|found| found.config), Why::Unknown)
            }
        };
        match config {
            Some(config) => {
                present.insert(declared.key, DesiredDestination { config, why, weight: None });
            }
            None => {
                absent.insert(declared.key, why);
            }
        }
    }

    fn elapsed(&self, since: Instant) -> Duration {
        self.moment.now.saturating_duration_since(since)
    }

    fn wake_at(&mut self, at: Instant) {
        let at = at.max(self.moment.now + SHORTEST_WAKE);
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

type Settled = (BTreeMap<DestinationKey, DesiredDestination>, BTreeMap<DestinationKey, Why>);
