//! What is known of a machine, as a value. What could not be seen says why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ipvs::model::{SyncDaemon, Table, Timeouts};

/// Something seen, or why it cannot be seen.
pub type Seen<T> = Result<T, String>;

/// A machine, in one network namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The network namespace, if it was named.
    pub netns: Option<String>,
    /// Set if there are no policies to judge by.
    pub bad_policies: Option<BadPolicies>,
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub release: String,
    /// The kernel's modules.
    pub modules: Modules,
    /// The kernel's clock.
    pub clock: Seen<Clock>,
    /// Values of `/proc/sys` by the names that sysctl(8) gives them.
    pub sysctls: BTreeMap<String, String>,
    /// Network interfaces; or why they are not known.
    pub interfaces: Seen<Vec<Interface>>,
    /// The interface of the default route for IPv4.
    pub default_route: Option<String>,
    /// Virtual addresses of the policies that a route makes this machine's own, although no
    /// interface that is up has them.
    pub routed_here: BTreeSet<IpAddr>,
    /// Who else answers ARP for virtual addresses that this machine holds.
    #[serde(default)]
    pub also_answered: BTreeMap<IpAddr, Seen<Vec<String>>>,
    /// The table, and what belongs to it.
    pub ipvs: Seen<IpvsFacts>,
    /// The daemon on the socket.
    pub daemon: Daemon,
    /// The daemon's process, if it runs and can be seen.
    pub process: Option<Process>,
    /// All other processes in this network namespace, or in one that cannot be seen.
    pub processes: Vec<OtherProcess>,
    /// The process that holds the name by which one daemon keeps others from the table.
    #[serde(default)]
    pub table_holder: Option<u32>,
    /// Whether keepalived's configuration has virtual servers; `None` where that cannot be seen.
    #[serde(default)]
    pub keepalived_balances: Option<bool>,
    /// Root's files for the daemon that a user of its own cannot read.
    #[serde(default)]
    pub for_root_only: Vec<String>,
    /// The state directory.
    pub state: StateDirectory,
}

/// Policies that cannot be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BadPolicies {
    /// Where they are.
    pub path: String,
    /// How many problems they have.
    pub problems: usize,
}

/// What adjtimex(2) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Whether the kernel counts it as not synchronised (`STA_UNSYNC`, `TIME_ERROR`).
    pub unsynchronised: bool,
    /// How many microseconds it may be off; 16 seconds, the most, where nobody knows.
    pub max_error_micros: u64,
}

/// Kernel modules, by names with underscores.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Modules {
    /// In the kernel now, loaded or built in.
    pub present: BTreeSet<String>,
    /// Those of IPVS that can be loaded.
    pub loadable: Seen<BTreeSet<String>>,
    /// Whether modules can be loaded at all (`kernel.modules_disabled`).
    pub locked: bool,
}

/// A network interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// What netlink says of IPVS.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct IpvsFacts {
    /// The table.
    pub table: Table,
    /// How long connections are remembered.
    pub timeouts: Timeouts,
    /// Connection synchronisation.
    pub sync: Vec<SyncDaemon>,
}

/// Who answers on the socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Daemon {
    /// Nobody, and why.
    Absent(String),
    /// Somebody who does not tell, and why.
    Silent(String),
    /// A daemon.
    Running {
        /// Its process id.
        pid: u32,
        /// Whether it only rehearses.
        dry_run: bool,
        /// `kernel` or `memory`.
        ipvs: String,
        /// What it says needs an operator.
        degraded: Vec<String>,
        /// Changes by others that it undid.
        #[serde(default)]
        repairs: u64,
    },
}

/// What a process may do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its effective user.
    #[serde(default)]
    pub user: u32,
    /// Capabilities that it holds, a bit each.
    pub capabilities: u64,
    /// Its groups.
    pub groups: BTreeSet<u32>,
    /// The hard limit of open files.
    pub open_files: Option<u64>,
}

/// Another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OtherProcess {
    /// Its id.
    pub pid: u32,
    /// Its name, at most 15 letters of it.
    pub name: String,
}

/// The state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateDirectory {
    /// Its path.
    pub path: String,
    /// What is there.
    pub state: DirectoryState,
}

/// What is in the place of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryState {
    /// Nothing; the daemon makes it.
    Missing,
    /// A directory.
    Directory {
        /// Whether this process may write there.
        writable: bool,
        /// Whether what is there is gone after a boot, and why.
        volatile: Option<String>,
    },
    /// Something else.
    NotADirectory,
}

impl Facts {
    /// A value of `/proc/sys`.
    pub fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls.get(name).map(String::as_str)
    }

    /// The same as a number; the first one where there are several.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.sysctl(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Whether the kernel is older than this version.
    pub fn kernel_before(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.release.split(|it: char| !it.is_ascii_digit());
        let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
        matches!((next(), next()), (Some(a), Some(b)) if (a, b) < (major, minor))
    }

    /// A command for this network namespace.
    pub fn here(&self, command: &str) -> String {
        match &self.netns {
            None => command.to_owned(),
            Some(name) => format!("ip netns exec {name} {command}"),
        }
    }

    /// The command that sets a value of `/proc/sys`.
    pub fn set(&self, name: &str, value: impl std::fmt::Display) -> String {
        self.here(&format!("sysctl -w {name}={value}"))
    }

    /// Interfaces other than `lo`; none where they are not known.
    pub fn wires(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().flatten().filter(|it| it.name != "lo")
    }

    /// The interface that holds this address.
    pub fn holder(&self, address: IpAddr) -> Option<&Interface> {
        let holds = |it: &&Interface| it.addresses.iter().any(|(own, _)| *own == address);
        self.interfaces.iter().flatten().find(holds)
    }

    /// The interface on whose network an address is.
    pub fn way_to(&self, address: IpAddr) -> Option<&Interface> {
        let mut wires = self.wires();
        wires.find(|it| it.addresses.iter().any(|(own, length)| shares(*own, address, *length)))
    }

    /// Whether packets to this address are for this machine.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.holder(address).is_some_and(|it| it.up) || self.routed_here.contains(&address)
    }

    /// Whether a process of one of these names runs; the first of them.
    pub fn running<'a>(&'a self, names: &[&str]) -> Option<&'a OtherProcess> {
        self.processes.iter().find(|it| names.contains(&it.name.as_str()))
    }
}

/// Whether two addresses share so many leading bits.
fn shares(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let (difference, bits) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => ((one.to_bits() ^ other.to_bits()).into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    let rest = u32::from(length.min(bits)).abs_diff(bits.into());
    u128::checked_shr(difference, rest).unwrap_or(0) == 0
}
