//! Virtual services: scheduler, flags, persistence and what they demand of each other.

use crate::ipvs::model::{
    Family, Persistence, Protocol, Scheduler, ServiceConfig, ServiceFlags, ServiceKey,
};
use crate::policy::decode::Field;
use crate::policy::file::PolicyFile;
use crate::policy::file::service::{
    Flag, Netmask, PersistenceEntry, ServiceEntry, ServiceSettings,
};
use crate::policy::source::{At, Place, Report};

use super::effective;

/// A virtual service whose settings are decided.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) key: At<ServiceKey>,
    pub(super) config: ServiceConfig,
    /// The port its real servers listen on, where the entry says one.
    pub(super) port: Option<At<u16>>,
}

impl Service {
    /// The port in its key; 0 for a firewall mark.
    pub(super) fn own_port(&self) -> u16 {
        match self.key.value {
            ServiceKey::Address { port, .. } => port,
            ServiceKey::Fwmark { .. } => 0,
        }
    }
}

/// The services of a policy, without those that are wrong.
pub(super) fn resolve(file: &PolicyFile, report: &mut Report<'_>) -> Vec<Service> {
    let entries = file.services.get().map_or(&[][..], |entries| &entries.value);
    let shared = &file.service_settings;
    entries.iter().filter_map(|entry| service(&entry.value, shared, report)).collect()
}

fn service(
    entry: &ServiceEntry,
    shared: &ServiceSettings,
    report: &mut Report<'_>,
) -> Option<Service> {
    let key = &entry.key;
    let own = &entry.settings;
    let scheduler = effective(&own.scheduler, &shared.scheduler).map(|scheduler| {
        scheduler.map_or(Scheduler("wlc".to_owned()), |scheduler| scheduler.value.clone())
    });
    let flags = flags(key.value, scheduler.as_ref(), own, shared, report);
    let persistence = effective(&own.persistence, &shared.persistence)
        .and_then(|written| persistence(key.value, written, report));
    let needs_persistence = matches!(key.value, ServiceKey::Address { port: 0, .. });
    if needs_persistence && persistence == Some(None) {
        let message = format!("`{}` takes every port, which needs persistence", key.value);
        report.error(key.place, message, "add `persistence: 5m`, or write a port");
    }
    let port = match &entry.port {
        Field::Bad => return None,
        port => port.get().cloned(),
    };
    let config = ServiceConfig { scheduler: scheduler?, flags: flags?, persistence: persistence? };
    Some(Service { key: key.clone(), config, port })
}

fn flags(
    key: ServiceKey,
    scheduler: Option<&Scheduler>,
    own: &ServiceSettings,
    shared: &ServiceSettings,
    report: &mut Report<'_>,
) -> Option<ServiceFlags> {
    let mut flags = ServiceFlags::default();
    let inherited = own.flags.is_absent();
    for flag in effective(&own.flags, &shared.flags)?.iter().flat_map(|flags| &flags.value) {
        match (&flag.value, scheduler) {
            (Flag::Port(of), Some(scheduler)) if *of == scheduler.0 => flags.port = true,
            (Flag::Fallback(of), Some(scheduler)) if *of == scheduler.0 => flags.fallback = true,
            (Flag::Port(_) | Flag::Fallback(_), None) => {}
            (Flag::Port(of) | Flag::Fallback(of), Some(scheduler)) => {
                let help = match inherited && !own.scheduler.is_absent() {
                    true => format!("give `{key}` flags of its own, such as `flags: []`"),
                    false => format!("write `scheduler: {of}`, or leave the flag out"),
                };
                let message =
                    format!("this flag is for scheduler `{of}`, but `{key}` has `{scheduler}`");
                report.error(flag.place, message, help);
            }
            (Flag::OnePacket, _) => {
                if takes_no_udp(key) {
                    let message = format!("`ops` is for UDP, which `{key}` is not");
                    report.error(flag.place, message, "leave the flag out for this service");
                }
                flags.one_packet = true;
            }
        }
    }
    Some(flags)
}

/// The kernel schedules datagrams singly, and looks into SIP, only under UDP; behind a firewall
/// mark there may be UDP.
fn takes_no_udp(key: ServiceKey) -> bool {
    matches!(key, ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Sctp, .. })
}

fn persistence(
    key: ServiceKey,
    written: Option<&At<PersistenceEntry>>,
    report: &mut Report<'_>,
) -> Option<Option<Persistence>> {
    let Some(At { value: PersistenceEntry::Some { timeout, netmask, engine }, place }) = written
    else {
        return Some(None);
    };
    if engine.is_some() && takes_no_udp(key) {
        let message = format!("engine `sip` is for UDP, which `{key}` is not");
        report.error(*place, message, "leave `engine` out for this service");
    }
    let prefix = match netmask.get() {
        None => most(key.family()),
        Some(netmask) => prefix(key, netmask.value, netmask.place, report)?,
    };
    let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    Some(Some(Persistence { timeout, prefix, engine: engine.clone() }))
}

fn most(family: Family) -> u8 {
    match family {
        Family::Inet => 32,
        Family::Inet6 => 128,
    }
}

fn prefix(key: ServiceKey, netmask: Netmask, at: Place, report: &mut Report<'_>) -> Option<u8> {
    let family = key.family();
    let (message, help) = match (netmask, family) {
        (Netmask::Dotted(prefix), Family::Inet) => return Some(prefix),
        (Netmask::Dotted(_), Family::Inet6) => (
            format!("a dotted netmask for `{key}`, which is IPv6"),
            "write a prefix length, such as `64`, in an entry of its own".to_owned(),
        ),
        (Netmask::Prefix(0), Family::Inet6) => {
            (format!("prefix length 0 for `{key}`"), "IPv6 needs 1 to 128".to_owned())
        }
        (Netmask::Prefix(prefix), _) if prefix <= most(family) => return Some(prefix),
        (Netmask::Prefix(prefix), _) => (
            format!("prefix length {prefix} for `{key}`, which is IPv4"),
            "IPv4 has 0 to 32".to_owned(),
        ),
    };
    report.error(at, message, help);
    None
}
