//! What leaves: destinations and whole virtual services that no policy declares any more drain.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ipvs::model::{
    Destination, DestinationConfig, DestinationKey, Service, ServiceKey, Table,
};
use crate::policy::model::default_drain;

use super::overlap::{Way, way};
use super::{DRAIN_POLL, DesiredDestination, DesiredService, Drains, Pass, Settled, Settling, Why};
use crate::reconcile::diff::{Side, merge};

/// The virtual services by identity, and those that go, with the reason.
pub(super) type Services = (BTreeMap<ServiceKey, DesiredService>, BTreeMap<ServiceKey, Why>);

impl Pass<'_> {
    /// Lets a destination go: why it still has its row, with weight 0, or why it has none any more.
    pub(super) fn leave(
        &mut self,
        id: (ServiceKey, DestinationKey),
        drain: Duration,
        found: &Destination,
        cause: Why,
    ) -> Result<Why, Why> {
        if drain.is_zero() {
            return Err(cause);
        }
        let since = self.before.draining.get(&id).copied().unwrap_or(self.moment.now);
        // Until it is seen to be gone: should the removal be refused, it is not begun anew.
        self.next.draining.insert(id, since);
        let connections = found.connections.active.saturating_add(found.connections.inactive);
        let left = drain.saturating_sub(self.elapsed(since));
        if found.config.weight == 0 && self.moment.fresh && connections == 0 {
            return Err(Why::Drained { cause: Box::new(cause), cut: 0 });
        }
        if left.is_zero() {
            return Err(Why::Drained { cause: Box::new(cause), cut: connections });
        }
        self.wake_at(self.moment.now + left.min(DRAIN_POLL));
        Ok(Why::Drains(Box::new(Drains { cause, connections, left })))
    }

    /// Lets one go that no policy declares, at once if somebody else put it there.
    fn let_go(
        &mut self,
        id: (ServiceKey, DestinationKey),
        drain: Duration,
        found: &Destination,
    ) -> Result<DesiredDestination, Why> {
        if self.is_intruder(id.0, id.1) {
            return Err(Why::Undeclared);
        }
        let why = self.leave(id, drain, found, Why::Undeclared)?;
        let config = DestinationConfig { weight: 0, ..found.config };
        Ok(DesiredDestination { config, why, weight: None })
    }

    /// Adds what the table has and no policy declares: as it is, one that takes connections for
    /// each declared one that waits for its verdict outside the table. The others leave.
    pub(super) fn finish(&mut self, settling: Settling<'_>) -> Settled {
        let Settling { service, observed, present, mut absent, matched, .. } = settling;
        let mut present: BTreeMap<_, _> = present.into_iter().collect();
        let Some(observed) = observed else { return (present, absent) };
        if matched == observed.destinations.len() {
            return (present, absent);
        }
        let sorry = service.sorry.map(|sorry| sorry.key);
        let mut leftovers: Vec<(DestinationKey, Destination)> =
            merge(&observed.destinations, &present)
                .filter_map(|side| match side {
                    Side::Left(key, found) if !absent.contains_key(key) && sorry != Some(*key) => {
                        Some((*key, *found))
                    }
                    _ => None,
                })
                .collect();
        leftovers.sort_by_key(|(_, found)| found.config.weight == 0);
        let waiting = absent.values().filter(|why| why.may_come()).count();
        for (index, (key, found)) in leftovers.into_iter().enumerate() {
            let config = found.config;
            let id = (service.key, key);
            let as_it_is = |why| Ok(DesiredDestination { config, why, weight: None });
            let left = if self.moment.guarded && !self.before.draining.contains_key(&id) {
                as_it_is(Why::Guarded)
            } else if index < waiting && config.weight > 0 {
                as_it_is(Why::Undeclared)
            } else {
                self.let_go(id, service.drain_of_one(), &found)
            };
            match left {
                Ok(one) => _ = present.insert(key, one),
                Err(why) => _ = absent.insert(key, why),
            }
        }
        (present, absent)
    }

    /// Adds those of our services that no policy declares any more and that stay for now, and says of
    /// the others why they go.
    pub(super) fn undeclared(
        &mut self,
        mut declared: BTreeMap<ServiceKey, DesiredService>,
        observed: &Table,
    ) -> Services {
        let mut leaving = Vec::new();
        for (key, found) in observed {
            let is_ours = self.moment.owned.contains(key) && !key.is_private();
            if !is_ours || declared.contains_key(key) {
                continue;
            }
            let known = self.before.drains.get(key).copied();
            self.next.drains.extend(known.map(|drain| (*key, drain)));
            let left = match way(key, found, &declared) {
                _ if self.moment.guarded && !self.has_begun(key, found) => {
                    Ok(as_it_is(found, &Why::Guarded))
                }
                Way::Awaited => Ok(as_it_is(found, &Why::Undeclared)),
                Way::Blocks => self.leave_service(key, found, Duration::ZERO),
                Way::Clear => {
                    let drain = known.unwrap_or_else(|| default_drain(key, &found.config));
                    self.leave_service(key, found, drain)
                }
            };
            leaving.push((*key, left));
        }
        let mut gone = BTreeMap::new();
        for (key, left) in leaving {
            match left {
                Ok(service) => _ = declared.insert(key, service),
                Err(why) => _ = gone.insert(key, why),
            }
        }
        (declared, gone)
    }

    /// As it is while something in it still drains, or why it goes.
    fn leave_service(
        &mut self,
        key: &ServiceKey,
        found: &Service,
        drain: Duration,
    ) -> Result<DesiredService, Why> {
        let (mut destinations, mut absent) = (BTreeMap::new(), BTreeMap::new());
        let (mut has_drained, mut cut) = (false, 0u32);
        for (at, one) in &found.destinations {
            match self.let_go((*key, *at), drain, one) {
                Ok(one) => _ = destinations.insert(*at, one),
                Err(why) => {
                    if let Why::Drained { cut: more, .. } = &why {
                        has_drained = true;
                        cut = cut.saturating_add(*more);
                    }
                    absent.insert(*at, why);
                }
            }
        }
        if !destinations.is_empty() {
            let config = found.config.clone();
            return Ok(DesiredService { policy: None, config, destinations, absent, waits: false });
        }
        Err(match has_drained {
            true => Why::Drained { cause: Box::new(Why::Undeclared), cut },
            false => Why::Undeclared,
        })
    }

    fn has_begun(&self, key: &ServiceKey, found: &Service) -> bool {
        found.destinations.keys().any(|at| self.before.draining.contains_key(&(*key, *at)))
    }

    /// Whether somebody else put this destination into the table.
    fn is_intruder(&self, service: ServiceKey, key: DestinationKey) -> bool {
        let believed = self.moment.believed.and_then(|table| table.get(&service));
        believed.is_some_and(|service| !service.destinations.contains_key(&key))
    }
}

fn as_it_is(found: &Service, why: &Why) -> DesiredService {
    let still = |(key, one): (&DestinationKey, &Destination)| {
        (*key, DesiredDestination { config: one.config, why: why.clone(), weight: None })
    };
    DesiredService {
        policy: None,
        config: found.config.clone(),
        destinations: found.destinations.iter().map(still).collect(),
        absent: BTreeMap::new(),
        waits: false,
    }
}
