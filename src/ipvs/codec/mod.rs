//! The words of IPVS as generic netlink bytes, and back.
//!
//! Pure: no socket, no clock. Numbers are those of the kernel's interface headers `linux/ip_vs.h`,
//! `linux/genetlink.h` and `linux/netlink.h`. What is read is normalised, so that what was written
//! compares equal to what the kernel reports. Bytes that make no sense are
//! [`IpvsError::Netlink`], never a panic.

mod config;
mod destination;
mod service;
mod traffic;
mod wire;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use config::{put_get_sync_daemons, put_get_timeouts, sync_daemon, timeouts};
pub use wire::{Body, Head, Replies, Reply, Want, replies, want_acknowledgement};

use super::model::{Change, Destination, DestinationKey, Family, Service, ServiceKey};
use super::{IpvsError, rules};
use wire::{Request, array, attributes, malformed, u16_of};

/// The family that knows the numbers of all others (`GENL_ID_CTRL`).
const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;

const ATTR_SERVICE: u16 = 1;
const ATTR_DEST: u16 = 2;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Appends the question for the number of the family `IPVS`. The kernel loads the module
/// `ip_vs` to answer it, if it can.
pub fn put_get_family(buffer: &mut Vec<u8>, sequence: u32) {
    let head = Head { family: CONTROL, sequence, want: Want::Failure };
    let mut request = Request::new(buffer, head, CTRL_CMD_GETFAMILY);
    request.put_text(CTRL_ATTR_FAMILY_NAME, "IPVS");
    request.finish();
}

/// Appends the question for all virtual services. `head` should want a dump.
pub fn put_get_services(buffer: &mut Vec<u8>, head: Head) {
    Request::new(buffer, head, GET_SERVICE).finish();
}

/// Appends the question for all destinations of a virtual service. `head` should want a dump.
pub fn put_get_destinations(buffer: &mut Vec<u8>, head: Head, key: &ServiceKey) {
    let mut request = Request::new(buffer, head, GET_DEST);
    request.nest(ATTR_SERVICE, |nest| service::put_key(nest, key));
    request.finish();
}

/// Appends the command that makes a change.
///
/// # Errors
/// What cannot be said to the kernel, or what it would garble; the buffer is then untouched.
pub fn put_change(buffer: &mut Vec<u8>, head: Head, change: &Change) -> Result<(), IpvsError> {
    rules::sendable(change)?;
    let mut request = Request::new(buffer, head, command(change));
    request.nest(ATTR_SERVICE, |nest| {
        service::put_key(nest, change.service());
        if let Change::AddService(key, config) | Change::SetService(key, config) = change {
            service::put_config(nest, key.family(), config);
        }
    });
    match change {
        Change::AddService(..) | Change::SetService(..) | Change::DeleteService(_) => {}
        Change::AddDestination(_, key, config) | Change::SetDestination(_, key, config) => request
            .nest(ATTR_DEST, |nest| {
                destination::put_key(nest, key);
                destination::put_config(nest, config);
            }),
        Change::DeleteDestination(_, key) => {
            request.nest(ATTR_DEST, |nest| destination::put_key(nest, key));
        }
    }
    request.finish();
    Ok(())
}

/// Reads the number of a family from the answer to [`put_get_family`].
///
/// # Errors
/// [`IpvsError::Netlink`] if it is not in there.
pub fn family(object: &[u8]) -> Result<u16, IpvsError> {
    u16_of(find(object, CTRL_ATTR_FAMILY_ID, "a family has no number")?)
}

/// Reads one virtual service, without its destinations, from an answer to [`put_get_services`].
///
/// `None` is a service of a kind this crate cannot name, such as another transport protocol.
///
/// # Errors
/// [`IpvsError::Netlink`] if it makes no sense.
pub fn service(object: &[u8]) -> Result<Option<(ServiceKey, Service)>, IpvsError> {
    service::service(find(object, ATTR_SERVICE, "a service is missing")?)
}

/// Reads one destination from an answer to [`put_get_destinations`] about a service of `family`.
///
/// `None` is a destination of a kind this crate cannot name.
///
/// # Errors
/// [`IpvsError::Netlink`] if it makes no sense.
pub fn destination(
    object: &[u8],
    family: Family,
) -> Result<Option<(DestinationKey, Destination)>, IpvsError> {
    destination::destination(find(object, ATTR_DEST, "a destination is missing")?, family)
}

fn find<'a>(object: &'a [u8], kind: u16, or: &str) -> Result<&'a [u8], IpvsError> {
    for attribute in attributes(object) {
        let (found, value) = attribute?;
        if found == kind {
            return Ok(value);
        }
    }
    Err(malformed(or))
}

fn command(change: &Change) -> u8 {
    match change {
        Change::AddService(..) => NEW_SERVICE,
        Change::SetService(..) => SET_SERVICE,
        Change::DeleteService(_) => DEL_SERVICE,
        Change::AddDestination(..) => NEW_DEST,
        Change::SetDestination(..) => SET_DEST,
        Change::DeleteDestination(..) => DEL_DEST,
    }
}

fn family_number(family: Family) -> u16 {
    match family {
        Family::Inet => AF_INET,
        Family::Inet6 => AF_INET6,
    }
}

fn family_of(number: u16) -> Option<Family> {
    match number {
        AF_INET => Some(Family::Inet),
        AF_INET6 => Some(Family::Inet6),
        _ => None,
    }
}

/// Sixteen bytes for either family, as in the kernel's `union nf_inet_addr`.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address_of(family: Family, bytes: &[u8]) -> Result<IpAddr, IpvsError> {
    Ok(match family {
        Family::Inet => Ipv4Addr::from(array::<4>(bytes)?).into(),
        Family::Inet6 => Ipv6Addr::from(array::<16>(bytes)?).into(),
    })
}
