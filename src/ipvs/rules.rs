//! What the kernel refuses, and why, in words.
//!
//! The kernel answers with a bare error number. This file owns the text: it knows the rules that
//! stand behind the numbers, and those where the kernel takes nonsense without a word. Pure; the
//! netlink socket and the memory table both use it, so that they agree.

use std::net::IpAddr;

use rustix::io::Errno;

use super::IpvsError;
use super::model::{
    Change, DestinationConfig, DestinationKey, Family, Forwarding, Persistence, Scheduler,
    ServiceConfig, ServiceKey, Tunnel,
};

/// Longest persistence timeout in seconds: 31 days, the limit of ipvsadm(8). The kernel has none
/// and lets the product with its tick rate overflow.
pub const MAX_PERSISTENCE_TIMEOUT: u32 = 31 * 24 * 60 * 60;

/// Longest name of a scheduler or persistence engine in bytes (`IP_VS_SCHEDNAME_MAXLEN` less the
/// final zero).
const MAX_NAME: usize = 15;

/// Refuses what cannot be said to the kernel, or what it would take and garble.
///
/// # Errors
/// [`IpvsError::NoModuleFor`] for a name no kernel can have, [`IpvsError::Invalid`] otherwise.
pub fn sendable(change: &Change) -> Result<(), IpvsError> {
    match change {
        Change::AddService(key, config) | Change::SetService(key, config) => {
            service_sendable(key, config)
        }
        _ => Ok(()),
    }
}

fn service_sendable(key: &ServiceKey, config: &ServiceConfig) -> Result<(), IpvsError> {
    if matches!(key, ServiceKey::Fwmark { mark: 0, .. }) {
        return Err(IpvsError::Invalid("a firewall mark is 1 or more".to_owned()));
    }
    if !is_name(&config.scheduler.0) {
        return Err(no_scheduler(&config.scheduler));
    }
    let Some(Persistence { timeout, prefix, engine }) = &config.persistence else { return Ok(()) };
    if let Some(engine) = engine
        && !is_name(engine)
    {
        return Err(no_engine(engine));
    }
    if !(1..=MAX_PERSISTENCE_TIMEOUT).contains(timeout) {
        return Err(IpvsError::Invalid(format!(
            "a persistence timeout is 1 to {MAX_PERSISTENCE_TIMEOUT} seconds, not {timeout}"
        )));
    }
    let (least, most) = match key.family() {
        Family::Inet => (0, 32),
        Family::Inet6 => (1, 128),
    };
    if !(least..=most).contains(prefix) {
        return Err(IpvsError::Invalid(format!(
            "a persistence prefix of this family is {least} to {most}, not {prefix}"
        )));
    }
    Ok(())
}

/// Whether the kernel could hold it: 1 to 15 bytes, none of them zero.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0')
}

/// What an error number means as the answer to this change.
pub(super) fn explain(change: &Change, number: i32) -> IpvsError {
    let is = |errno: Errno| errno.raw_os_error() == number;
    if is(Errno::PERM) {
        IpvsError::Denied
    } else if is(Errno::SRCH) {
        IpvsError::NoSuchService
    } else if is(Errno::NOENT) {
        no_entry(change)
    } else if is(Errno::EXIST) {
        IpvsError::Exists
    } else if is(Errno::RANGE) {
        IpvsError::OutOfRange
    } else if is(Errno::INVAL) {
        IpvsError::Invalid(why_invalid(change))
    } else if is(Errno::AFNOSUPPORT) {
        IpvsError::Invalid("its IPVS has no IPv6 (CONFIG_IP_VS_IPV6)".to_owned())
    } else {
        IpvsError::Netlink(std::io::Error::from_raw_os_error(number).to_string())
    }
}

/// `ENOENT` is a missing destination, a missing module, or a netlink family that went away with
/// its module; the command tells which.
fn no_entry(change: &Change) -> IpvsError {
    match change {
        Change::AddService(_, config) | Change::SetService(_, config) => no_module(config),
        Change::SetDestination(..) | Change::DeleteDestination(..) => IpvsError::NoSuchDestination,
        Change::AddDestination(..) | Change::DeleteService(_) => IpvsError::NoModule,
    }
}

/// Which of the two modules a service asks for is missing, as far as their names tell.
fn no_module(config: &ServiceConfig) -> IpvsError {
    let scheduler = &config.scheduler;
    let engine = config.persistence.as_ref().and_then(|p| p.engine.as_deref());
    match engine {
        // The kernel looks for the scheduler first; `none` is always there.
        Some(engine) if scheduler.0 == "none" || scheduler.is_known() && engine != "sip" => {
            no_engine(engine)
        }
        Some(engine) if scheduler.is_known() => IpvsError::NoModuleFor {
            what: "scheduler or persistence engine",
            name: format!("{scheduler}` or `{engine}"),
            module: format!("-a ip_vs_{scheduler} ip_vs_pe_{engine}"),
        },
        _ => no_scheduler(scheduler),
    }
}

/// The scheduler is not available.
pub(super) fn no_scheduler(scheduler: &Scheduler) -> IpvsError {
    IpvsError::NoModuleFor {
        what: "scheduler",
        name: scheduler.0.clone(),
        module: format!("ip_vs_{scheduler}"),
    }
}

/// The persistence engine is not available.
pub(super) fn no_engine(engine: &str) -> IpvsError {
    IpvsError::NoModuleFor {
        what: "persistence engine",
        name: engine.to_owned(),
        module: format!("ip_vs_pe_{engine}"),
    }
}

/// What is wrong with a change that the kernel answers with `EINVAL`.
fn why_invalid(change: &Change) -> String {
    let reason = match change {
        Change::AddDestination(service, key, config) => {
            mixed_families(service, key, config).or(no_tunnel_port(config)).or(not_unicast(key))
        }
        Change::SetDestination(service, key, config) => {
            mixed_families(service, key, config).or(no_tunnel_port(config))
        }
        _ => None,
    };
    reason.unwrap_or_else(|| "invalid argument, and the kernel does not say which".to_owned())
}

/// Forwarding between address families needs a tunnel.
pub(super) fn mixed_families(
    service: &ServiceKey,
    key: &DestinationKey,
    config: &DestinationConfig,
) -> Option<String> {
    let mixed = service.family() != Family::of(key.address);
    let tunnel = matches!(config.forwarding, Forwarding::Tunnel(_) | Forwarding::Other(2));
    (mixed && !tunnel).then(|| {
        format!("{key} is not of the address family of {service}: only `tunnel` can cross families")
    })
}

/// GUE needs a port to send to.
pub(super) fn no_tunnel_port(config: &DestinationConfig) -> Option<String> {
    matches!(config.forwarding, Forwarding::Tunnel(Tunnel::Gue { port: 0, .. }))
        .then(|| "a gue tunnel needs a port from 1 to 65535".to_owned())
}

/// A real server has one machine's address. The kernel also refuses the broadcast addresses of
/// its own networks, which nobody else can know.
pub(super) fn not_unicast(key: &DestinationKey) -> Option<String> {
    let unicast = match key.address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()),
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    };
    (!unicast).then(|| format!("{} is not the unicast address of one real server", key.address))
}
