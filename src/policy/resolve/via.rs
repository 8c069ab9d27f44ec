//! Checks that go through a virtual address: which ones, to which port, and the way of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::ipvs::model::{
    DestinationConfig, Family, Protocol, Scheduler, ServiceConfig, ServiceFlags, ServiceKey,
};
use crate::ipvs::private;
use crate::policy::file::check::CheckEntry;
use crate::policy::model::{DeclaredDestination, PrivateService};
use crate::policy::source::{At, Place, Report};
use crate::probe::target::{Check, CheckKind, Target, UdpCheck, Via};

use super::service::Service;

/// A target, and the way to it where that is not its own address.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) target: Target,
    pub(super) way: Option<Way>,
}

/// The way through a virtual address to one real server.
#[derive(Debug, Clone)]
pub(super) struct Way {
    vip: SocketAddr,
    destination: DeclaredDestination,
}

impl Way {
    pub(super) fn new(vip: SocketAddr, declared: &DeclaredDestination) -> Self {
        let DestinationConfig { forwarding, .. } = declared.config;
        // What is probed is the way, not the share of the traffic.
        let config =
            DestinationConfig { forwarding, weight: 1, upper_threshold: 0, lower_threshold: 0 };
        Self { vip, destination: DeclaredDestination { key: declared.key, config } }
    }

    /// What makes it this way and no other.
    fn text(&self) -> String {
        format!("{} {} {}", self.vip, self.destination.key, self.destination.config)
    }
}

/// Whether a check goes through the virtual addresses; `None` when it cannot and that was reported.
pub(super) fn is_via(
    entry: &CheckEntry,
    kind: Option<&CheckKind>,
    report: &mut Report<'_>,
) -> Option<bool> {
    let Some(At { place, .. }) = entry.via.get() else {
        return (!entry.via.is_bad()).then_some(false);
    };
    if let Some(kind) = kind.filter(|kind| kind.transport().is_none()) {
        let message = format!("a check by `{}` cannot go through a virtual address", kind.name());
        report.error(*place, message, "use a check of a port, or leave `via` out");
        return None;
    }
    if let Some(CheckKind::Udp(UdpCheck { expect: None, .. })) = kind {
        let message = "`udp` without `expect` cannot go through a virtual address";
        let help = "add `expect`: silence passes without it, and silence proves no way";
        report.error(*place, message, help);
        return None;
    }
    if let Some(interface) = entry.interface.get() {
        let help = "leave it out: IPVS chooses the interface";
        report.error(interface.place, "`interface` beside `via: vip`", help);
        return None;
    }
    Some(true)
}

/// The virtual addresses and ports that a check goes through, with the indices of their services:
/// those of its protocol, and of these only the ones on the check's port where it says one.
pub(super) fn vips(
    (entry, kind): (&CheckEntry, &CheckKind),
    place: Place,
    services: &[Service],
    report: &mut Report<'_>,
) -> Vec<(usize, SocketAddr)> {
    let asked = entry.port.get().map(|port| port.value);
    let transport = kind.transport();
    let vip = |service: &Service| match service.key.value {
        ServiceKey::Address { protocol, address, port } if transport == Some(protocol) => {
            match (port, asked) {
                (0, port) => port.map(|port| SocketAddr::new(address, port)),
                (port, None) => Some(SocketAddr::new(address, port)),
                (port, Some(asked)) => (port == asked).then(|| SocketAddr::new(address, port)),
            }
        }
        _ => None,
    };
    let found: Vec<_> = services
        .iter()
        .enumerate()
        .filter_map(|(index, service)| Some((index, vip(service)?)))
        .collect();
    let place = entry.via.get().map_or(place, |via| via.place);
    if found.is_empty() && !services.is_empty() {
        let over = match transport {
            Some(Protocol::Udp) => "UDP",
            _ => "TCP",
        };
        let message = match asked {
            Some(port) => format!("no virtual service over {over} has port {port} to go through"),
            None => format!("no virtual service over {over} has a port to go through"),
        };
        let help = format!(
            "`via: vip` needs one such as `{}://192.0.2.1:80`; the check's `port` is that of the \
             virtual service",
            over.to_lowercase()
        );
        report.error(place, message, help);
    }
    if let Some(source) = entry.source.get()
        && let Some((_, vip)) = found.iter().find(|(_, vip)| vip.ip() == source.value)
    {
        let message = format!("the source `{}` is the virtual address itself", vip.ip());
        report.error(source.place, message, "use another address of the director");
    }
    found
}

/// Gives every way its mark: the private virtual services, and the checks that use them.
pub(super) fn mark(probes: Vec<&mut Probe>, policies: Vec<Arc<str>>) -> Vec<PrivateService> {
    let texts: BTreeSet<String> =
        probes.iter().filter_map(|probe| probe.way.as_ref().map(Way::text)).collect();
    let marks = private::marks(&texts);
    let mut services = BTreeMap::new();
    for (probe, policy) in probes.into_iter().zip(policies) {
        let Some(way) = &probe.way else { continue };
        let Some(mark) = marks.get(way.text().as_str()).copied() else { continue };
        let forwarding = way.destination.config.forwarding;
        let via = Some(Via { vip: way.vip, mark, forwarding });
        probe.target.check = Arc::new(Check { via, ..Check::clone(&probe.target.check) });
        let family = Family::of(way.vip.ip());
        let service = PrivateService {
            policy,
            key: private::key(mark, family),
            config: ServiceConfig {
                scheduler: Scheduler("rr".to_owned()),
                flags: ServiceFlags::default(),
                persistence: None,
            },
            destination: way.destination,
        };
        services.entry(service.key).or_insert(service);
    }
    services.into_values().collect()
}
