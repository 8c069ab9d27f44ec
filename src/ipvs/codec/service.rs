//! Virtual services on the wire (`IPVS_SVC_ATTR_*`).

use std::net::IpAddr;

use super::wire::{Request, array, attributes, malformed, port_of, text_of, u16_of, u32_of};
use super::{AF_INET, AF_INET6, address_bytes, address_of, family_number, family_of, traffic};
use crate::ipvs::IpvsError;
use crate::ipvs::model::{
    Family, Persistence, Protocol, Scheduler, Service, ServiceConfig, ServiceFlags, ServiceKey,
    Traffic,
};

const AF: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDRESS: u16 = 3;
const PORT: u16 = 4;
const FWMARK: u16 = 5;
const SCHEDULER: u16 = 6;
const FLAGS: u16 = 7;
const TIMEOUT: u16 = 8;
const NETMASK: u16 = 9;
const STATS: u16 = 10;
const ENGINE: u16 = 11;
const STATS64: u16 = 12;

const PERSISTENT: u32 = 0x01;
const ONE_PACKET: u32 = 0x04;
const SCHED1: u32 = 0x08;
const SCHED2: u32 = 0x10;
const SCHED3: u32 = 0x20;

/// Appends what identifies a service.
pub(super) fn put_key(request: &mut Request<'_>, key: &ServiceKey) {
    request.put_u16(AF, family_number(key.family()));
    match key {
        ServiceKey::Address { protocol, address, port } => {
            request.put_u16(PROTOCOL, protocol_number(*protocol));
            request.put(ADDRESS, &address_bytes(*address));
            request.put(PORT, &port.to_be_bytes());
        }
        ServiceKey::Fwmark { mark, .. } => request.put_u32(FWMARK, *mark),
    }
}

/// Appends the settings of a service, all of them: the kernel takes no less.
pub(super) fn put_config(request: &mut Request<'_>, family: Family, config: &ServiceConfig) {
    request.put_text(SCHEDULER, &config.scheduler.0);
    let mut flags = [0; 8];
    flags[..4].copy_from_slice(&flag_bits(config).to_ne_bytes());
    // The mask: every flag is meant.
    flags[4..].copy_from_slice(&u32::MAX.to_ne_bytes());
    request.put(FLAGS, &flags);
    let (timeout, prefix) = match &config.persistence {
        Some(persistence) => (persistence.timeout, persistence.prefix),
        None => (0, whole_address(family)),
    };
    request.put_u32(TIMEOUT, timeout);
    request.put(NETMASK, &netmask(family, prefix));
    if let Some(engine) = config.persistence.as_ref().and_then(|p| p.engine.as_ref()) {
        request.put_text(ENGINE, engine);
    }
}

/// Reads the content of a service nest; `None` if it is of a kind this crate cannot name.
pub(super) fn service(nest: &[u8]) -> Result<Option<(ServiceKey, Service)>, IpvsError> {
    let raw = Raw::read(nest)?;
    let family = match raw.family {
        Some(number) => family_of(number),
        None => return Err(malformed("a service has no address family")),
    };
    let Some(family) = family else { return Ok(None) };
    let Some(key) = raw.key(family)? else { return Ok(None) };
    let traffic = raw.traffic;
    Ok(Some((key, Service { traffic, ..Service::new(raw.config(family)?) })))
}

/// The attributes as they stand.
#[derive(Default)]
struct Raw {
    family: Option<u16>,
    protocol: Option<u16>,
    address: Option<IpAddr>,
    port: Option<u16>,
    mark: Option<u32>,
    scheduler: Option<String>,
    engine: Option<String>,
    flags: u32,
    timeout: u32,
    netmask: [u8; 4],
    traffic: Traffic,
}

impl Raw {
    fn read(nest: &[u8]) -> Result<Self, IpvsError> {
        let mut raw = Self::default();
        let mut address: &[u8] = &[];
        for attribute in attributes(nest) {
            let (kind, value) = attribute?;
            match kind {
                AF => raw.family = Some(u16_of(value)?),
                PROTOCOL => raw.protocol = Some(u16_of(value)?),
                ADDRESS => address = value,
                PORT => raw.port = Some(port_of(value)?),
                FWMARK => raw.mark = Some(u32_of(value)?),
                SCHEDULER => raw.scheduler = Some(text_of(value)),
                ENGINE => raw.engine = Some(text_of(value)),
                FLAGS => raw.flags = u32_of(value)?,
                TIMEOUT => raw.timeout = u32_of(value)?,
                NETMASK => raw.netmask = array(value)?,
                STATS | STATS64 => traffic::add(&mut raw.traffic, value)?,
                _ => {}
            }
        }
        // The family decides how to read the address, wherever it stands.
        if !address.is_empty() {
            raw.address = match raw.family {
                Some(AF_INET) => Some(address_of(Family::Inet, address)?),
                Some(AF_INET6) => Some(address_of(Family::Inet6, address)?),
                _ => None,
            };
        }
        Ok(raw)
    }

    fn key(&self, family: Family) -> Result<Option<ServiceKey>, IpvsError> {
        if let Some(mark) = self.mark {
            return Ok(Some(ServiceKey::Fwmark { mark, family }));
        }
        match (self.protocol, self.address, self.port) {
            (Some(protocol), Some(address), Some(port)) => Ok(protocol_of(protocol)
                .map(|protocol| ServiceKey::Address { protocol, address, port })),
            _ => Err(malformed("a service has neither mark nor protocol, address and port")),
        }
    }

    /// Drops what the kernel reports without meaning: the bit "hashed" (0x2), and the timeout and
    /// netmask of a service that is not persistent.
    fn config(self, family: Family) -> Result<ServiceConfig, IpvsError> {
        let scheduler = self.scheduler.ok_or_else(|| malformed("a service has no scheduler"))?;
        let set = |bit| self.flags & bit != 0;
        let persistence = set(PERSISTENT).then(|| Persistence {
            timeout: self.timeout,
            prefix: prefix(family, self.netmask),
            engine: self.engine,
        });
        let flags = ServiceFlags {
            one_packet: set(ONE_PACKET),
            fallback: set(SCHED1),
            port: set(SCHED2),
            sched3: set(SCHED3),
        };
        Ok(ServiceConfig { scheduler: Scheduler(scheduler), flags, persistence })
    }
}

fn flag_bits(config: &ServiceConfig) -> u32 {
    let flags = config.flags;
    [
        (config.persistence.is_some(), PERSISTENT),
        (flags.one_packet, ONE_PACKET),
        (flags.fallback, SCHED1),
        (flags.port, SCHED2),
        (flags.sched3, SCHED3),
    ]
    .into_iter()
    .filter_map(|(set, bit)| set.then_some(bit))
    .sum()
}

/// The prefix that makes every client its own: what the kernel wants without persistence.
fn whole_address(family: Family) -> u8 {
    match family {
        Family::Inet => 32,
        Family::Inet6 => 128,
    }
}

/// Mask bytes for IPv4, a prefix length in native order for IPv6.
fn netmask(family: Family, prefix: u8) -> [u8; 4] {
    match family {
        Family::Inet => {
            let host_bits = 32u32.saturating_sub(prefix.into());
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be_bytes()
        }
        Family::Inet6 => u32::from(prefix).to_ne_bytes(),
    }
}

fn prefix(family: Family, netmask: [u8; 4]) -> u8 {
    match family {
        Family::Inet => u32::from_be_bytes(netmask).leading_ones() as u8,
        Family::Inet6 => u32::from_ne_bytes(netmask).try_into().unwrap_or(u8::MAX),
    }
}

fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol_of(number: u16) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}
