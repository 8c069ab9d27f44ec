//! `virtual_services` and the settings that a policy and one of its services share.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::ipvs::model::{Scheduler, ServiceKey};
use crate::policy::decode::{self, Field, Fields, Misspelt};
use crate::policy::node::{Node, Value};
use crate::policy::source::{At, Report};

/// The longest persistence, the same as ipvsadm(8)'s.
const MAX_PERSISTENCE: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// An entry of `virtual_services`.
#[derive(Debug)]
pub(crate) struct ServiceEntry {
    pub(crate) key: At<ServiceKey>,
    pub(crate) port: Field<u16>,
    pub(crate) settings: ServiceSettings,
}

/// What a policy says for all its services, and an entry for its own.
#[derive(Debug)]
pub(crate) struct ServiceSettings {
    pub(crate) scheduler: Field<Scheduler>,
    pub(crate) flags: Field<Vec<At<Flag>>>,
    pub(crate) persistence: Field<PersistenceEntry>,
}

/// A flag of ipvsadm(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `sh-port`, `mh-port`: with the scheduler's name.
    Port(&'static str),
    /// `sh-fallback`, `mh-fallback`: with the scheduler's name.
    Fallback(&'static str),
    /// `ops`.
    OnePacket,
}

/// Client stickiness as written.
#[derive(Debug, Clone)]
pub(crate) enum PersistenceEntry {
    /// `none`: what the policy says does not hold for this service.
    None,
    /// A duration or a mapping.
    Some { timeout: Duration, netmask: Field<Netmask>, engine: Option<String> },
}

/// Which clients stick together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Netmask {
    /// `255.255.255.0`, as its prefix length; IPv4 only.
    Dotted(u8),
    /// A prefix length.
    Prefix(u8),
}

impl ServiceEntry {
    pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let value = service_key(node, report)?;
            let settings = ServiceSettings {
                scheduler: Field::Absent,
                flags: Field::Absent,
                persistence: Field::Absent,
            };
            let key = At { value, place: node.place };
            return Some(Self { key, port: Field::Absent, settings });
        }
        let mut fields = Fields::of(node, "a virtual service", report)?;
        let mut key = fields.field("service", report, service_key);
        let mut port = fields.field("port", report, decode::port);
        let mut settings = ServiceSettings::read(&mut fields, report);
        let elsewhere: &[(&[&str], &str)] = &[(
            &["weight", "forwarding", "real_servers", "checks", "on_down", "tunnel"],
            "in the policy itself",
        )];
        let misspelt = fields.finish(elsewhere, report);
        misspelt.spoil("service", &mut key);
        misspelt.spoil("port", &mut port);
        settings.spoil(&misspelt);
        if key.is_absent() {
            let help = "write `service: tcp://192.0.2.1:80`";
            report.error(node.place, "a virtual service without `service`", help);
        }
        let key = key.get()?.clone();
        Some(Self { key, port, settings })
    }
}

impl ServiceSettings {
    pub(crate) fn read(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Self {
        Self {
            scheduler: fields.field("scheduler", report, scheduler),
            flags: fields.field("flags", report, flags),
            persistence: fields.field("persistence", report, persistence),
        }
    }

    /// Lets nobody take a misspelt setting for a missing one.
    pub(super) fn spoil(&mut self, misspelt: &Misspelt<'_>) {
        misspelt.spoil("scheduler", &mut self.scheduler);
        misspelt.spoil("flags", &mut self.flags);
        misspelt.spoil("persistence", &mut self.persistence);
    }
}

fn service_key(node: &Node, report: &mut Report<'_>) -> Option<ServiceKey> {
    let written = decode::text(node, report)?;
    match written.parse() {
        Ok(ServiceKey::Address { protocol, address, port }) => {
            let address = decode::unicast(address, node.place, report)?;
            Some(ServiceKey::Address { protocol, address, port })
        }
        Ok(key) => Some(key),
        Err(error) => {
            report.error(node.place, error.what, error.help);
            None
        }
    }
}

fn scheduler(node: &Node, report: &mut Report<'_>) -> Option<Scheduler> {
    let known = Scheduler::KNOWN.map(|name| (name, Scheduler(name.to_owned())));
    decode::word(node, &known, report)
}

fn flags(node: &Node, report: &mut Report<'_>) -> Option<Vec<At<Flag>>> {
    let words = [
        ("sh-port", Flag::Port("sh")),
        ("sh-fallback", Flag::Fallback("sh")),
        ("mh-port", Flag::Port("mh")),
        ("mh-fallback", Flag::Fallback("mh")),
        ("ops", Flag::OnePacket),
    ];
    let mut flags: Vec<At<Flag>> = Vec::new();
    let mut good = true;
    for node in decode::list(node, "flags", report)? {
        match decode::word(node, &words, report) {
            None => good = false,
            Some(value) if flags.iter().any(|flag| flag.value == value) => {
                report.error(node.place, "the same flag twice", "keep one of them");
            }
            Some(value) => flags.push(At { value, place: node.place }),
        }
    }
    good.then_some(flags)
}

fn persistence(node: &Node, report: &mut Report<'_>) -> Option<PersistenceEntry> {
    match &node.value {
        Value::Plain(text) if text == "none" => Some(PersistenceEntry::None),
        Value::Map(_) => {
            let mut fields = Fields::of(node, "persistence", report)?;
            let timeout = fields.field("timeout", report, sticky_time);
            let netmask = fields.field("netmask", report, netmask);
            let engine = fields.field("engine", report, |node, report| {
                decode::word(node, &[("sip", "sip".to_owned())], report)
            });
            fields.finish(&[], report);
            if timeout.is_bad() || netmask.is_bad() || engine.is_bad() {
                return None;
            }
            let timeout = timeout.unwrap_or(Duration::from_secs(300));
            let engine = engine.get().map(|engine| engine.value.clone());
            Some(PersistenceEntry::Some { timeout, netmask, engine })
        }
        _ => {
            let timeout = sticky_time(node, report)?;
            Some(PersistenceEntry::Some { timeout, netmask: Field::Absent, engine: None })
        }
    }
}

fn sticky_time(node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    let timeout = decode::duration(node, Duration::from_secs(1)..=MAX_PERSISTENCE, report)?;
    if timeout.subsec_nanos() != 0 {
        report.error(node.place, "the kernel counts persistence in whole seconds", "");
        return None;
    }
    Some(timeout)
}

fn netmask(node: &Node, report: &mut Report<'_>) -> Option<Netmask> {
    let written = match &node.value {
        Value::Plain(text) | Value::Text(text) => text.as_str(),
        _ => "",
    };
    if let Ok(mask) = written.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        let prefix = bits.leading_ones();
        if bits.checked_shl(prefix).unwrap_or(0) != 0 {
            let message = format!("`{mask}` is not a netmask: its ones are not all in front");
            report.error(node.place, message, "write it as `255.255.255.0` or `24`");
            return None;
        }
        return u8::try_from(prefix).ok().map(Netmask::Dotted);
    }
    if written.contains(['.', '/']) {
        let message = format!("`{}` is not a netmask", decode::cut(written));
        report.error(node.place, message, "write it as `255.255.255.0` or `24`");
        return None;
    }
    let prefix = decode::number(node, 0..=128, report)?;
    u8::try_from(prefix).ok().map(Netmask::Prefix)
}
