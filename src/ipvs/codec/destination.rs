//! Destinations on the wire (`IPVS_DEST_ATTR_*`).

use super::wire::{Request, attributes, malformed, port_of, u16_of, u32_of};
use super::{address_bytes, address_of, family_number, family_of, traffic};
use crate::ipvs::IpvsError;
use crate::ipvs::model::{
    Connections, Destination, DestinationConfig, DestinationKey, Family, Forwarding, Traffic,
    Tunnel, TunnelChecksum,
};

const ADDRESS: u16 = 1;
const PORT: u16 = 2;
const FORWARDING: u16 = 3;
const WEIGHT: u16 = 4;
const UPPER_THRESHOLD: u16 = 5;
const LOWER_THRESHOLD: u16 = 6;
const ACTIVE: u16 = 7;
const INACTIVE: u16 = 8;
const PERSISTENT: u16 = 9;
const STATS: u16 = 10;
const AF: u16 = 11;
const STATS64: u16 = 12;
const TUNNEL_TYPE: u16 = 13;
const TUNNEL_PORT: u16 = 14;
const TUNNEL_FLAGS: u16 = 15;

const MASQ: u32 = 0;
const TUNNEL: u32 = 2;
const DIRECT: u32 = 3;
/// `IP_VS_CONN_F_FWD_MASK`.
const METHODS: u32 = 7;

const IPIP: u8 = 0;
const GUE: u8 = 1;
const GRE: u8 = 2;

const CHECKSUM: u16 = 1;
const REMOTE_CHECKSUM: u16 = 2;

/// Appends what identifies a destination.
pub(super) fn put_key(request: &mut Request<'_>, key: &DestinationKey) {
    request.put_u16(AF, family_number(Family::of(key.address)));
    request.put(ADDRESS, &address_bytes(key.address));
    request.put(PORT, &key.port.to_be_bytes());
}

/// Appends the settings of a destination, all of them: the kernel takes no less.
pub(super) fn put_config(request: &mut Request<'_>, config: &DestinationConfig) {
    request.put_u32(FORWARDING, method(config.forwarding));
    request.put_u32(WEIGHT, config.weight);
    request.put_u32(UPPER_THRESHOLD, config.upper_threshold);
    request.put_u32(LOWER_THRESHOLD, config.lower_threshold);
    let Forwarding::Tunnel(tunnel) = config.forwarding else { return };
    let (kind, port, checksum) = match tunnel {
        Tunnel::Ipip => (IPIP, 0, TunnelChecksum::None),
        Tunnel::Gue { port, checksum } => (GUE, port, checksum),
        Tunnel::Gre { checksum } => (GRE, 0, checksum),
    };
    request.put(TUNNEL_TYPE, &[kind]);
    request.put(TUNNEL_PORT, &port.to_be_bytes());
    request.put_u16(TUNNEL_FLAGS, checksum_bits(checksum));
}

/// Reads the content of a destination nest; `None` if its address is of a kind this crate cannot
/// name. Kernels before 3.18 do not say the family: then it is the service's.
pub(super) fn destination(
    nest: &[u8],
    service: Family,
) -> Result<Option<(DestinationKey, Destination)>, IpvsError> {
    let raw = Raw::read(nest)?;
    let family = match raw.family {
        None | Some(0) => Some(service),
        Some(number) => family_of(number),
    };
    let Some(family) = family else { return Ok(None) };
    let (Some(address), Some(port)) = (raw.address, raw.port) else {
        return Err(malformed("a destination has no address or no port"));
    };
    let key = DestinationKey { address: address_of(family, address)?, port };
    let config = DestinationConfig {
        forwarding: raw.forwarding(),
        weight: raw.weight,
        upper_threshold: raw.upper_threshold,
        lower_threshold: raw.lower_threshold,
    };
    let Raw { connections, traffic, .. } = raw;
    Ok(Some((key, Destination { config, connections, traffic })))
}

/// The attributes as they stand.
#[derive(Default)]
struct Raw<'a> {
    family: Option<u16>,
    address: Option<&'a [u8]>,
    port: Option<u16>,
    method: u32,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    connections: Connections,
    traffic: Traffic,
    tunnel_type: u8,
    tunnel_port: u16,
    tunnel_flags: u16,
}

impl<'a> Raw<'a> {
    fn read(nest: &'a [u8]) -> Result<Self, IpvsError> {
        let mut raw = Self::default();
        for attribute in attributes(nest) {
            let (kind, value) = attribute?;
            match kind {
                ADDRESS => raw.address = Some(value),
                PORT => raw.port = Some(port_of(value)?),
                FORWARDING => raw.method = u32_of(value)?,
                WEIGHT => raw.weight = u32_of(value)?,
                UPPER_THRESHOLD => raw.upper_threshold = u32_of(value)?,
                LOWER_THRESHOLD => raw.lower_threshold = u32_of(value)?,
                ACTIVE => raw.connections.active = u32_of(value)?,
                INACTIVE => raw.connections.inactive = u32_of(value)?,
                PERSISTENT => raw.connections.persistent = u32_of(value)?,
                STATS | STATS64 => traffic::add(&mut raw.traffic, value)?,
                AF => raw.family = Some(u16_of(value)?),
                TUNNEL_TYPE => raw.tunnel_type = value.first().copied().unwrap_or(IPIP),
                TUNNEL_PORT => raw.tunnel_port = port_of(value)?,
                TUNNEL_FLAGS => raw.tunnel_flags = u16_of(value)?,
                _ => {}
            }
        }
        Ok(raw)
    }

    fn forwarding(&self) -> Forwarding {
        match self.method & METHODS {
            MASQ => Forwarding::Masq,
            DIRECT => Forwarding::Direct,
            TUNNEL => self.tunnel().map_or(Forwarding::Other(TUNNEL as u8), Forwarding::Tunnel),
            other => Forwarding::Other(other as u8),
        }
    }

    /// `None` for a kind of tunnel, or a mixture of checksums, that no policy can name.
    fn tunnel(&self) -> Option<Tunnel> {
        let checksum = match self.tunnel_flags {
            0 => TunnelChecksum::None,
            CHECKSUM => TunnelChecksum::Full,
            REMOTE_CHECKSUM => TunnelChecksum::Remote,
            _ => return None,
        };
        match self.tunnel_type {
            IPIP => Some(Tunnel::Ipip),
            GUE => Some(Tunnel::Gue { port: self.tunnel_port, checksum }),
            GRE => Some(Tunnel::Gre { checksum }),
            _ => None,
        }
    }
}

fn method(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Masq => MASQ,
        Forwarding::Tunnel(_) => TUNNEL,
        Forwarding::Direct => DIRECT,
        Forwarding::Other(number) => u32::from(number) & METHODS,
    }
}

fn checksum_bits(checksum: TunnelChecksum) -> u16 {
    match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => CHECKSUM,
        TunnelChecksum::Remote => REMOTE_CHECKSUM,
    }
}
