//! Virtual services that would do for the same connections. The kernel looks them up in an order: a
//! mark goes before addresses, and a port before all ports (`ip_vs_service_find`). So one that comes
//! or goes may take connections from another, and waits until that costs nobody anything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ipvs::model::{Service, ServiceKey, Table};

use super::{DesiredService, Pass, Why};

impl DesiredService {
    fn takes(&self) -> bool {
        self.destinations.values().any(|one| one.config.weight > 0)
    }

    /// Whether it takes no connections and a probe may change that.
    fn is_to_come(&self) -> bool {
        !self.takes() && self.absent.values().any(Why::may_come)
    }

    /// Whether a real server with this address is declared.
    fn declares(&self, server: IpAddr) -> bool {
        let present = self.destinations.iter().map(|(key, one)| (key, &one.why));
        let mut all = present.chain(&self.absent);
        all.any(|(key, why)| key.address == server && !why.cause().is_undeclared())
    }
}

/// What becomes of a service that leaves, as far as others are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It keeps nobody from anything.
    Clear,
    /// It is all there is until a declared one has its first destination.
    Awaited,
    /// While it drains it would refuse connections that a declared one takes.
    Blocks,
}

/// How a service that leaves stands to those that are declared.
pub(super) fn way(
    key: &ServiceKey,
    found: &Service,
    declared: &BTreeMap<ServiceKey, DesiredService>,
) -> Way {
    // Of the packets behind a mark nobody knows the addresses; who serves them is a hint.
    let is_related = |(other, wanted): &(&ServiceKey, &DesiredService)| match (key, other) {
        (ServiceKey::Fwmark { .. }, _) | (_, ServiceKey::Fwmark { .. }) => {
            found.destinations.keys().any(|at| wanted.declares(at.address))
        }
        _ => true,
    };
    let overlapping = || {
        let overlaps =
            |(other, _): &(&ServiceKey, _)| goes_before(key, other) || goes_before(other, key);
        declared.iter().filter(overlaps).filter(is_related)
    };
    if takes(found) && overlapping().any(|(_, wanted)| wanted.is_to_come()) {
        Way::Awaited
    } else if overlapping().any(|(other, _)| goes_before(key, other)) {
        Way::Blocks
    } else {
        Way::Clear
    }
}

impl Pass<'_> {
    /// Marks the new services that would only take connections from another one that serves them.
    pub(super) fn await_first_destinations(
        &self,
        services: &mut BTreeMap<ServiceKey, DesiredService>,
        observed: &Table,
    ) {
        let to_come = |(key, wanted): &(&ServiceKey, &DesiredService)| {
            wanted.is_to_come() && !observed.contains_key(*key)
        };
        let to_come: Vec<ServiceKey> =
            services.iter().filter(to_come).map(|(key, _)| *key).collect();
        for key in to_come {
            let is_foreign = |other: &ServiceKey| {
                !services.contains_key(other) && !self.moment.owned.contains(other)
            };
            let foreign = observed.iter().filter(|(other, _)| is_foreign(other));
            let is_served = foreign
                .map(|(other, found)| (other, takes(found)))
                .chain(services.iter().map(|(other, wanted)| (other, wanted.takes())))
                .any(|(other, takes)| takes && goes_before(&key, other));
            if let Some(wanted) = services.get_mut(&key) {
                wanted.waits = is_served;
            }
        }
    }
}

fn takes(found: &Service) -> bool {
    found.destinations.values().any(|one| one.config.weight > 0)
}

/// Whether new connections that one service would do for may be looked up in this one first.
fn goes_before(key: &ServiceKey, other: &ServiceKey) -> bool {
    match (key, other) {
        (ServiceKey::Fwmark { family, .. }, ServiceKey::Address { .. }) => {
            *family == other.family() && !key.is_private()
        }
        (
            ServiceKey::Address { protocol, address, port },
            ServiceKey::Address { protocol: other, address: at, port: 0 },
        ) => *port != 0 && (protocol, address) == (other, at),
        _ => false,
    }
}
