//! Looks at this machine, and changes nothing on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use rustix::fs::Access;

use super::facts::{
    BadPolicies, Daemon, DirectoryState, Facts, Interface, IpvsFacts, Modules, Seen, StateDirectory,
};
use super::files::Root;
use crate::ipvs::netlink::Netlink;
use crate::ipvs::{Ipvs, IpvsError};

/// File systems in memory, by the numbers of statfs(2).
const VOLATILE: [(u64, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlayfs, of a container")];

/// What a look needs to be told.
#[derive(Debug)]
pub struct Question<'a> {
    /// The network namespace this thread is in, by its name.
    pub netns: Option<String>,
    /// Set if there are no policies.
    pub bad_policies: Option<BadPolicies>,
    /// Virtual addresses of the policies.
    pub addresses: Vec<IpAddr>,
    /// The state directory.
    pub state_dir: &'a Path,
    /// Who answered on the socket.
    pub daemon: Daemon,
}

/// Looks at everything, in the network namespace of the calling thread. Blocks.
pub fn look(root: &Root, question: Question<'_>) -> Facts {
    let modules = root.modules();
    let sysctls = root.sysctls();
    let interfaces = interfaces();
    let process = match question.daemon {
        Daemon::Running { pid, .. } => root.process(pid),
        Daemon::Absent(_) | Daemon::Silent(_) => None,
    };
    let mut facts = Facts {
        netns: question.netns,
        bad_policies: question.bad_policies,
        release: root.release(),
        ipvs: ipvs(&modules),
        modules,
        sysctls,
        interfaces,
        default_route: root.default_route(),
        routed_here: [].into(),
        daemon: question.daemon,
        process,
        processes: root.processes(),
        state: state(question.state_dir),
    };
    let routed =
        |address: &IpAddr| facts.holder(*address).is_none() && is_routed_here(&facts, *address);
    facts.routed_here = question.addresses.into_iter().filter(routed).collect();
    facts
}

/// Only where IPVS is loaded already: to ask for it would load it.
fn ipvs(modules: &Modules) -> Seen<IpvsFacts> {
    if !modules.present.contains("ip_vs") {
        return Err("ip_vs is not loaded".to_owned());
    }
    let read = || {
        let mut netlink = Netlink::open()?;
        let (table, timeouts) = (netlink.table()?, netlink.timeouts()?);
        Ok(IpvsFacts { table, timeouts, sync: netlink.sync_daemons()? })
    };
    read().map_err(|error| match error {
        IpvsError::Denied => "it needs CAP_NET_ADMIN; run doctor as root".to_owned(),
        error => error.to_string(),
    })
}

fn interfaces() -> Seen<Vec<Interface>> {
    let all = getifaddrs().map_err(|errno| format!("interfaces cannot be listed: {errno}"))?;
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for one in all {
        let name = one.interface_name.clone();
        let interface = interfaces.entry(name.clone()).or_default();
        interface.name = name;
        interface.up |= one.flags.contains(InterfaceFlags::IFF_UP);
        interface.addresses.extend(address(&one));
    }
    Ok(interfaces.into_values().collect())
}

fn address(of: &InterfaceAddress) -> Option<(IpAddr, u8)> {
    let address = ip(of.address.as_ref()?)?;
    let prefix = match of.netmask.as_ref().and_then(ip)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    Some((address, u8::try_from(prefix).unwrap_or(u8::MAX)))
}

fn ip(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| it.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| it.ip().into()))
}

/// A socket can be bound to what a local route covers, and to anything if a sysctl says so.
fn is_routed_here(facts: &Facts, address: IpAddr) -> bool {
    let version = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let any = facts.number(&format!("net.{version}.ip_nonlocal_bind"));
    any.unwrap_or(0) == 0 && UdpSocket::bind((address, 0)).is_ok()
}

fn state(path: &Path) -> StateDirectory {
    let state = match std::fs::metadata(path) {
        Err(_) => DirectoryState::Missing,
        Ok(metadata) if !metadata.is_dir() => DirectoryState::NotADirectory,
        Ok(_) => DirectoryState::Directory {
            writable: rustix::fs::access(path, Access::WRITE_OK).is_ok(),
            volatile: volatile(path),
        },
    };
    StateDirectory { path: path.display().to_string(), state }
}

fn volatile(path: &Path) -> Option<String> {
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    // Its width differs between architectures; these numbers have 32 bits.
    let kind = u64::try_from(kind).unwrap_or(kind as u64) & 0xffff_ffff;
    let found = VOLATILE.into_iter().find(|(number, _)| *number == kind);
    found.map(|(_, name)| format!("on {name}"))
}
