//! The words of Linux Virtual Server as types: what a virtual service and a destination are.
//!
//! Pure data, ordered, comparable. Every object is a key (its identity in the kernel) plus a
//! config (what an edit in place may change). Their spelling is in [`super::text`], their bytes
//! on the wire in [`super::codec`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport protocol of a virtual service (`IPPROTO_*` numbers on the wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol, 6.
    Tcp,
    /// User Datagram Protocol, 17.
    Udp,
    /// Stream Control Transmission Protocol, 132.
    Sctp,
}

/// Address family of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

/// What identifies a virtual service in the kernel.
///
/// Written `tcp://192.0.2.1:80`, `udp://[2001:db8::1]:53`, `fwmark://7` (IPv4) or
/// `fwmark://7/inet6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// A protocol, an address and a port; port 0 means every port and needs persistence.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port, 0 for all.
        port: u16,
    },
    /// A firewall mark; mark 7 for IPv4 and mark 7 for IPv6 are two services.
    Fwmark {
        /// The mark, never 0.
        mark: u32,
        /// The family whose packets it takes.
        family: Family,
    },
}

impl ServiceKey {
    /// The family of the packets this service takes.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }
}

/// Which virtual service has which settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// How connections are spread.
    pub scheduler: Scheduler,
    /// Flags of the scheduler and one-packet scheduling.
    pub flags: ServiceFlags,
    /// Whether and how clients stick to a real server.
    pub persistence: Option<Persistence>,
}

impl ServiceConfig {
    /// Whether clients of a real server with weight 0 are refused rather than sent elsewhere: its
    /// scheduler maps clients to real servers by a hash (`ip_vs_dh`; `ip_vs_sh` and `ip_vs_mh`
    /// without their fallback flag).
    pub fn refuses_weight_0(&self) -> bool {
        match self.scheduler.0.as_str() {
            "dh" => true,
            "sh" | "mh" => !self.flags.fallback,
            _ => false,
        }
    }
}

/// Settings that are single bits in the kernel's `flags`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFlags {
    /// `IP_VS_SVC_F_ONEPACKET`: every UDP datagram is scheduled on its own.
    pub one_packet: bool,
    /// `IP_VS_SVC_F_SCHED1`: `sh-fallback` or `mh-fallback`.
    pub fallback: bool,
    /// `IP_VS_SVC_F_SCHED2`: `sh-port` or `mh-port`.
    pub port: bool,
    /// `IP_VS_SVC_F_SCHED3`: no scheduler of today's kernels uses it; kept so that it reads back.
    pub sched3: bool,
}

/// Client stickiness of a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds a template lives after the last connection, 1 or more.
    pub timeout: u32,
    /// Prefix length of the clients that stick together: 0-32 for IPv4, 1-128 for IPv6.
    pub prefix: u8,
    /// Persistence engine, only `sip` exists.
    pub engine: Option<String>,
}

/// A scheduler by its kernel name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scheduler(pub String);

impl Scheduler {
    /// Every scheduler of mainline Linux up to 6.12, by module name `ip_vs_NAME`.
    pub const KNOWN: [&'static str; 14] = [
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
        "twos",
    ];

    /// Whether mainline Linux has a scheduler of this name.
    pub fn is_known(&self) -> bool {
        Self::KNOWN.contains(&self.0.as_str())
    }

    /// Whether `fallback` and `port` mean something to this scheduler.
    pub fn has_flags(&self) -> bool {
        matches!(self.0.as_str(), "sh" | "mh")
    }
}

/// What identifies a destination inside its virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    /// Address of the real server.
    pub address: IpAddr,
    /// Port on the real server; 0 under a service of port 0 or a fwmark.
    pub port: u16,
}

/// What an edit in place may change on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationConfig {
    /// How packets get to the real server.
    pub forwarding: Forwarding,
    /// Share of new connections, 0 to 2^31-1; 0 quiesces.
    pub weight: u32,
    /// No new connections above this many; 0 is no limit.
    pub upper_threshold: u32,
    /// New connections again below this many; 0 lets the kernel use 3/4 of the upper one.
    pub lower_threshold: u32,
}

/// The forwarding method of a destination (`IP_VS_CONN_F_FWD_MASK` on the wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// Network address translation.
    Masq,
    /// Direct routing: only the link-layer address changes.
    Direct,
    /// Encapsulation.
    Tunnel(Tunnel),
    /// A method that no policy can name (`local node` 1, `bypass` 4), as read from the kernel.
    Other(u8),
}

/// Encapsulation of a tunnelled destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the encapsulation on the real server, never 0.
        port: u16,
        /// Checksum of the encapsulation.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Checksum of the encapsulation; `Remote` is for GUE alone.
        checksum: TunnelChecksum,
    },
}

/// `IP_VS_TUNNEL_ENCAP_FLAG_*`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// No checksum.
    #[default]
    None,
    /// A full checksum.
    Full,
    /// Remote checksum offload, GUE only.
    Remote,
}

/// Connections the kernel counts on a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Established ones.
    pub active: u32,
    /// All others that are still in the connection table.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

/// Traffic that the kernel has counted on an object since it was added.
///
/// What real servers answer is counted only where it passes the director: never with direct
/// routing or tunnels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// New connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// How fast it comes now; `None` where nobody measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
}

/// Traffic by the second, as the kernel's estimator smooths it every two seconds (`ip_vs_est.c`); 0
/// while `net.ipv4.vs.run_estimation` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// New connections.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

impl Traffic {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// A destination as read from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its settings.
    pub config: DestinationConfig,
    /// Its load; never part of a comparison of settings.
    pub connections: Connections,
    /// What it has served; likewise.
    #[serde(default, skip_serializing_if = "Traffic::is_zero")]
    pub traffic: Traffic,
}

impl Destination {
    /// One without load.
    pub fn new(config: DestinationConfig) -> Self {
        Self { config, connections: Connections::default(), traffic: Traffic::default() }
    }

    /// Whether answers come back through the director, where the kernel counts them.
    pub fn passes_back(&self) -> bool {
        self.config.forwarding == Forwarding::Masq
    }
}

/// A virtual service as read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its settings.
    pub config: ServiceConfig,
    /// Its destinations.
    pub destinations: BTreeMap<DestinationKey, Destination>,
    /// What it has served, also by destinations that are gone.
    #[serde(default, skip_serializing_if = "Traffic::is_zero")]
    pub traffic: Traffic,
}

impl Service {
    /// One without destinations.
    pub fn new(config: ServiceConfig) -> Self {
        Self { config, destinations: BTreeMap::new(), traffic: Traffic::default() }
    }

    /// Whether answers of any destination come back through the director.
    pub fn passes_back(&self) -> bool {
        self.destinations.values().any(Destination::passes_back)
    }
}

/// The whole IPVS table of one network namespace.
pub type Table = BTreeMap<ServiceKey, Service>;

/// One edit of the table: exactly one command of the kernel's.
///
/// `Set…` is a full replacement of the config, as in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add a virtual service without destinations.
    AddService(ServiceKey, ServiceConfig),
    /// Replace the settings of a virtual service; destinations survive.
    SetService(ServiceKey, ServiceConfig),
    /// Delete a virtual service with its destinations.
    DeleteService(ServiceKey),
    /// Add a destination.
    AddDestination(ServiceKey, DestinationKey, DestinationConfig),
    /// Replace the settings of a destination; connections survive.
    SetDestination(ServiceKey, DestinationKey, DestinationConfig),
    /// Delete a destination.
    DeleteDestination(ServiceKey, DestinationKey),
}

impl Change {
    /// The virtual service this change belongs to.
    pub fn service(&self) -> &ServiceKey {
        match self {
            Self::AddService(key, _)
            | Self::SetService(key, _)
            | Self::DeleteService(key)
            | Self::AddDestination(key, ..)
            | Self::SetDestination(key, ..)
            | Self::DeleteDestination(key, _) => key,
        }
    }
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Inet } else { Self::Inet6 }
    }
}

/// How long the kernel remembers connections, in seconds (`ipvsadm --set`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Established TCP connections without a packet.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// A thread that sends connections to other directors, or takes theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// Whether it sends.
    pub master: bool,
    /// Its interface.
    pub interface: String,
    /// Only directors of the same number listen to each other.
    pub sync_id: u32,
}
