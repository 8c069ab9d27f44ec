//! Real servers and the destinations they become in each virtual service.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::ipvs::model::{
    DestinationConfig, DestinationKey, Family, Forwarding, Tunnel, TunnelChecksum,
};
use crate::policy::decode::Field;
use crate::policy::file::PolicyFile;
use crate::policy::file::server::{
    Method, RealServerEntry, ServerSettings, TunnelEntry, TunnelKind,
};
use crate::policy::model::{DeclaredDestination, VirtualService};
use crate::policy::source::{Place, Report};

use super::service::Service;
use super::sorry::Sorry;
use super::{effective, safety};

/// A real server whose settings are decided.
#[derive(Debug)]
pub(super) struct Server<'f> {
    pub(super) entry: &'f RealServerEntry,
    pub(super) place: Place,
    pub(super) config: DestinationConfig,
}

impl Server<'_> {
    /// As people call it.
    pub(super) fn name(&self) -> String {
        self.entry.name.get().map_or_else(|| self.identity(), |name| name.value.clone())
    }

    /// The address, with the port where one was written.
    pub(super) fn identity(&self) -> String {
        match self.entry.port.get() {
            Some(port) => SocketAddr::new(self.address(), port.value).to_string(),
            None => self.address().to_string(),
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.entry.address.value
    }
}

/// The destinations of each service, in the order of real servers; `None` for those in doubt.
pub(super) type Destinations = Vec<Vec<Option<DeclaredDestination>>>;

/// The real servers of a policy, without those that are wrong.
pub(super) fn resolve<'f>(file: &'f PolicyFile, report: &mut Report<'_>) -> Vec<Server<'f>> {
    let entries = file.real_servers.get().map_or(&[][..], |entries| &entries.value);
    entries.iter().filter_map(|entry| one(&entry.value, entry.place, file, report)).collect()
}

/// Refuses a name that two real servers of a policy have, the sorry server among them.
pub(super) fn names_are_unique(file: &PolicyFile, report: &mut Report<'_>) {
    let entries = file.real_servers.get().map_or(&[][..], |entries| &entries.value);
    let sorry = file.safety.sorry_server.get().map(|sorry| &sorry.value.server);
    let mut taken: HashMap<&str, Place> = HashMap::new();
    for name in entries.iter().map(|entry| &entry.value).chain(sorry).filter_map(|it| it.name.get())
    {
        if let Some(first) = taken.get(name.value.as_str()) {
            let help = format!("it is that of the one in line {}", first.line);
            let message = format!("real server name `{}` is taken", name.value);
            report.error(name.place, message, help);
        }
        taken.entry(&name.value).or_insert(name.place);
    }
}

/// One real server, unless it is wrong.
pub(super) fn one<'f>(
    entry: &'f RealServerEntry,
    place: Place,
    file: &PolicyFile,
    report: &mut Report<'_>,
) -> Option<Server<'f>> {
    let config = config(&entry.settings, &file.server_settings, report)?;
    let bad = entry.name.is_bad()
        || entry.port.is_bad()
        || entry.check_port.is_bad()
        || entry.check_address.is_bad();
    (!bad).then_some(Server { entry, place, config })
}

/// Refuses a `tunnel:` of the policy that no real server uses.
pub(super) fn tunnel_is_used(file: &PolicyFile, report: &mut Report<'_>) {
    let shared = &file.server_settings;
    let Some(tunnel) = shared.tunnel.get() else { return };
    let tunnels =
        |field: &Field<Method>| field.get().is_some_and(|method| method.value == Method::Tunnel);
    let entries = file.real_servers.get().map_or(&[][..], |entries| &entries.value);
    let any = entries.iter().any(|entry| tunnels(&entry.value.settings.forwarding));
    if !any && !tunnels(&shared.forwarding) {
        report.error(
            tunnel.place,
            "tunnel settings, but no real server is forwarded by tunnel",
            "add `forwarding: tunnel`, or leave `tunnel` out",
        );
    }
}

fn config(
    own: &ServerSettings,
    shared: &ServerSettings,
    report: &mut Report<'_>,
) -> Option<DestinationConfig> {
    let forwarding = forwarding(own, shared, report);
    let thresholds = thresholds(own, shared, report);
    let weight = effective(&own.weight, &shared.weight)?.map_or(1, |weight| weight.value);
    let (upper_threshold, lower_threshold) = thresholds?;
    Some(DestinationConfig { forwarding: forwarding?, weight, upper_threshold, lower_threshold })
}

fn forwarding(
    own: &ServerSettings,
    shared: &ServerSettings,
    report: &mut Report<'_>,
) -> Option<Forwarding> {
    let method = effective(&own.forwarding, &shared.forwarding)?
        .map_or(Method::Direct, |method| method.value);
    if let (Some(tunnel), false) = (own.tunnel.get(), method == Method::Tunnel) {
        report.error(
            tunnel.place,
            "tunnel settings for a real server that is not forwarded by tunnel",
            "add `forwarding: tunnel`, or leave `tunnel` out",
        );
    }
    match method {
        Method::Masq => Some(Forwarding::Masq),
        Method::Direct => Some(Forwarding::Direct),
        Method::Tunnel => match effective(&own.tunnel, &shared.tunnel)? {
            None => Some(Forwarding::Tunnel(Tunnel::Ipip)),
            Some(entry) => tunnel(&entry.value, entry.place, report).map(Forwarding::Tunnel),
        },
    }
}

fn tunnel(entry: &TunnelEntry, at: Place, report: &mut Report<'_>) -> Option<Tunnel> {
    let kind = entry.kind.unwrap_or(TunnelKind::Ipip);
    let checksum = entry.checksum.unwrap_or(TunnelChecksum::None);
    let checksum_place = entry.checksum.get().map_or(at, |checksum| checksum.place);
    if let (Some(port), false) = (entry.port.get(), kind == TunnelKind::Gue) {
        report.error(
            port.place,
            "a port for a tunnel that has none",
            "only `kind: gue` has a port",
        );
    }
    match (kind, checksum) {
        (TunnelKind::Ipip, TunnelChecksum::None) => Some(Tunnel::Ipip),
        (TunnelKind::Ipip, _) => {
            let help = "use `kind: gue` or `kind: gre`, or leave `checksum` out";
            report.error(checksum_place, "an ipip tunnel has no checksum", help);
            None
        }
        (TunnelKind::Gre, TunnelChecksum::Remote) => {
            let help = "write `none` or `full`, or use `kind: gue`";
            report.error(checksum_place, "checksum `remote` is for gue alone", help);
            None
        }
        (TunnelKind::Gre, checksum) => Some(Tunnel::Gre { checksum }),
        (TunnelKind::Gue, checksum) => match entry.port.get() {
            Some(port) => Some(Tunnel::Gue { port: port.value, checksum }),
            None => {
                let help = "add the port the real server decapsulates on, such as `port: 6080`";
                report.error(at, "a gue tunnel without a port", help);
                None
            }
        },
    }
}

/// The kernel answers ERANGE when the lower threshold is above the upper one, also when the upper
/// one is 0, which means no limit.
fn thresholds(
    own: &ServerSettings,
    shared: &ServerSettings,
    report: &mut Report<'_>,
) -> Option<(u32, u32)> {
    let upper = effective(&own.upper_threshold, &shared.upper_threshold)?;
    let lower = effective(&own.lower_threshold, &shared.lower_threshold)?;
    let upper_value = upper.map_or(0, |upper| upper.value);
    if let Some(lower) = lower.filter(|lower| lower.value > upper_value) {
        // The place that is nearer to the mistake: what the real server says itself.
        let own_upper = own.upper_threshold.get().filter(|_| own.lower_threshold.is_absent());
        let place = own_upper.map_or(lower.place, |upper| upper.place);
        let (message, help) = match upper_value {
            0 => (
                format!("lower threshold {} without an upper one", lower.value),
                "add `upper_threshold`, or leave `lower_threshold` out".to_owned(),
            ),
            upper => (
                format!("lower threshold {} is above the upper one, {upper}", lower.value),
                format!("write at most {upper}, or leave it out for three quarters of that"),
            ),
        };
        report.error(place, message, help);
        return None;
    }
    Some((upper_value, lower.map_or(0, |lower| lower.value)))
}

/// What each real server is in each service.
pub(super) fn destinations(
    services: &[Service],
    servers: &[Server<'_>],
    report: &mut Report<'_>,
) -> Destinations {
    // One report of a kind for a real server: the second service would say the same.
    let mut complained: HashMap<(usize, &str), ()> = HashMap::new();
    services
        .iter()
        .map(|service| {
            let mut seen: HashMap<DestinationKey, Place> = HashMap::new();
            let pairs = servers.iter().enumerate();
            pairs
                .map(|(index, server)| {
                    let key =
                        DestinationKey { address: server.address(), port: port(service, server) };
                    let first = seen.get(&key).copied();
                    seen.entry(key).or_insert(server.place);
                    match judge(service, server, key, first) {
                        None => Some(DeclaredDestination { key, config: server.config }),
                        Some(Complaint { kind, place, message, help }) => {
                            if complained.insert((index, kind), ()).is_none() {
                                report.error(place, message, help);
                            }
                            None
                        }
                    }
                })
                .collect()
        })
        .collect()
}

/// Port of the real server: its own, that of the service entry, that of the service.
fn port(service: &Service, server: &Server<'_>) -> u16 {
    let own = server.entry.port.get().map(|port| port.value);
    let entry = service.port.as_ref().map(|port| port.value);
    own.or(entry).unwrap_or(service.own_port())
}

struct Complaint {
    kind: &'static str,
    place: Place,
    message: String,
    help: String,
}

fn judge(
    service: &Service,
    server: &Server<'_>,
    key: DestinationKey,
    first: Option<Place>,
) -> Option<Complaint> {
    let name = &service.key.value;
    let forwarding = server.config.forwarding;
    let is_tunnel = matches!(forwarding, Forwarding::Tunnel(_));
    if let Some(first) = first {
        return Some(Complaint {
            kind: "duplicate",
            place: server.place,
            message: format!("`{key}` is in `{name}` already"),
            help: format!("it is the real server in line {}: remove one of them", first.line),
        });
    }
    if Family::of(key.address) != name.family() && !is_tunnel {
        return Some(Complaint {
            kind: "family",
            place: server.entry.address.place,
            message: format!("`{}` is of another address family than `{name}`", key.address),
            help: "only `forwarding: tunnel` crosses families: use it, or write a policy for each family".to_owned(),
        });
    }
    if forwarding != Forwarding::Masq && key.port != service.own_port() {
        let place = server.entry.port.get().or(service.port.as_ref()).map(|port| port.place);
        let method = if is_tunnel { "tunnel" } else { "direct" };
        return Some(Complaint {
            kind: "port",
            place: place.unwrap_or(server.place),
            message: format!("`{method}` leaves the port as it is: `{name}` cannot reach `{key}`"),
            help: "leave the port out, or use `forwarding: masq`; a port to probe is `check_port`"
                .to_owned(),
        });
    }
    None
}

/// Services with their destinations, without those that are wrong.
pub(super) fn virtual_services(
    file: &PolicyFile,
    services: Vec<Service>,
    destinations: &Destinations,
    sorry: &Sorry,
    report: &mut Report<'_>,
) -> Vec<VirtualService> {
    let mut complete = |(index, service): (usize, Service)| VirtualService {
        key: service.key.value,
        destinations: destinations[index].iter().copied().flatten().collect(),
        sorry: sorry.destinations.get(index).copied().flatten(),
        drain: safety::drain(file, &service),
        slow_start: safety::slow_start(file, &service, report),
        config: service.config,
    };
    services.into_iter().enumerate().map(&mut complete).collect()
}
