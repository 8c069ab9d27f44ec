//! Looks at this machine, and changes nothing on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use rustix::fs::Access;

use super::facts::{
    BadPolicies, Daemon, DirectoryState, Facts, Interface, IpvsFacts, Modules, Seen, StateDirectory,
};
use super::files::Root;
use super::{arp, clock};
use crate::ipvs::netlink::Netlink;
use crate::ipvs::{Ipvs, IpvsError, table_lock};
use crate::policy::load::files;

/// File systems in memory, by the numbers of statfs(2).
const VOLATILE: [(u64, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlayfs, of a container")];

/// Any port will do.
const DISCARD: u16 = 9;

/// What a look needs to be told.
#[derive(Debug)]
pub struct Question<'a> {
    /// The network namespace this thread is in, by its name.
    pub netns: Option<String>,
    /// Set if there are no policies.
    pub bad_policies: Option<BadPolicies>,
    /// Virtual addresses of the policies.
    pub addresses: Vec<IpAddr>,
    /// Where the policies are.
    pub policies: &'a Path,
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
        clock: clock::look(),
        sysctls,
        interfaces,
        default_route: root.default_route(),
        routed_here: [].into(),
        also_answered: [].into(),
        daemon: question.daemon,
        process,
        processes: root.processes(),
        table_holder: table_lock::holder_of_the_table(),
        keepalived_balances: root.keepalived_balances(),
        for_root_only: for_root_only(question.policies),
        state: state(question.state_dir),
    };
    facts.also_answered = arp::others(&facts, &question.addresses);
    let routed = |address: &IpAddr| {
        facts.holder(*address).is_none_or(|it| !it.up) && is_routed_here(&facts, *address)
    };
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

/// The way to an address of this machine begins at that address. Where it need not (IPv6), a socket
/// can be bound to it, unless a sysctl lets sockets be bound to anything. Nothing is sent.
fn is_routed_here(facts: &Facts, address: IpAddr) -> bool {
    let (any, version): (IpAddr, _) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), "ipv4"),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), "ipv6"),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, DISCARD))?;
        socket.local_addr()
    });
    let binds_anything = facts.number(&format!("net.{version}.ip_nonlocal_bind")).unwrap_or(0) != 0;
    source.is_ok_and(|source| source.ip() == address)
        || !binds_anything && UdpSocket::bind((address, 0)).is_ok()
}

/// What the daemon reads beside its policies.
const OTHER_FILES: [&str; 2] = ["/etc/pointsman/pointsman.yaml", "/etc/pointsman/alerts.yaml"];

/// Root's own files for the daemon that nobody else can read.
fn for_root_only(policies: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    // What is wrong with them is told elsewhere.
    let listed = files(policies, &mut Vec::new()).into_iter();
    let all = listed.chain(OTHER_FILES.map(Into::into));
    let is_closed = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|it| it.uid() == 0 && it.mode() & 0o004 == 0)
    };
    all.filter(is_closed).map(|path| path.display().to_string()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_itself() {
        let state = tempfile::tempdir().unwrap();
        let question = Question {
            netns: None,
            bad_policies: None,
            // All of 127.0.0.0/8 is local by a route; nobody has an address for documentation.
            addresses: ["127.0.0.77", "203.0.113.77"].map(|it| it.parse().unwrap()).to_vec(),
            policies: Path::new("/nonexistent"),
            state_dir: state.path(),
            daemon: Daemon::Absent("there is none".to_owned()),
        };
        let facts = look(&Root::new("/"), question);
        assert!(!facts.release.is_empty());
        assert_eq!(facts.holder("127.0.0.1".parse().unwrap()).unwrap().name, "lo");
        assert_eq!(facts.routed_here, ["127.0.0.77".parse().unwrap()].into());
        let DirectoryState::Directory { writable, .. } = facts.state.state else { panic!() };
        assert!(writable && facts.process.is_none());
    }
}
