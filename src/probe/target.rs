//! What is probed: an address, a check, and how often.
//!
//! Health belongs to (address, check). Two real servers, virtual services or policies that ask
//! the same question of the same address share one target and so one probe.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::health::Hysteresis;
use crate::health::damping::Damping;
use crate::ipvs::model::{Forwarding, Protocol};

pub use super::agent::AgentCheck;
pub use super::dns::DnsCheck;
use super::dns::Transport;
pub use super::exec::ExecCheck;
pub(crate) use super::file::ADDRESS;
pub use super::file::FileCheck;
pub use super::mysql::MysqlCheck;
pub use super::postgresql::PostgresqlCheck;
pub use super::udp::UdpCheck;

/// One thing to probe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Where the probe connects to; the port is 0 for checks that have none.
    pub address: SocketAddr,
    /// What it asks.
    pub check: Arc<Check>,
    /// How often, how long, and how many results make a verdict.
    pub timing: Timing,
}

impl Target {
    /// Where it is, for people.
    pub fn place(&self) -> Place {
        Place(self.address)
    }

    /// Names the question and the address, whatever the timing: equal for two targets exactly when
    /// [`Self::asks_the_same`] holds. Only for comparison with the same build of pointsman.
    pub fn key(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.check.hash(&mut hasher);
        format!("{self} {:016x}", hasher.finish())
    }

    /// Where the probe connects to: the real server, or the virtual address that leads to it.
    pub fn asked_at(&self) -> SocketAddr {
        self.check.via.map_or(self.address, |via| via.vip)
    }

    /// Whether both ask the same question of the same address, whatever their timing.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.address == other.address && self.check == other.check
    }
}

/// Where a target is: its address, with its port where the check has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(SocketAddr);

impl fmt::Display for Place {
    /// `192.0.2.1:80`, `[2001:db8::1]:80`, `192.0.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port() {
            0 => write!(f, "{}", self.0.ip()),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Target {
    /// `http 192.0.2.1:80/alive`, `grpc 192.0.2.1:50051 shop.Cart`, `icmp 192.0.2.1`,
    /// `file 192.0.2.1 /run/192.0.2.1.state`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.check.kind.name();
        write!(f, "{name} {}", self.place())?;
        match &self.check.kind {
            CheckKind::Http(http) | CheckKind::Http2(http) => f.write_str(&http.path),
            CheckKind::Grpc(grpc) if !grpc.service.is_empty() => write!(f, " {}", grpc.service),
            CheckKind::Dns(dns) => write!(f, " {}", dns.name),
            CheckKind::Exec(exec) => write!(f, " {}", exec.program()),
            CheckKind::File(file) => write!(f, " {}", file.path_for(self.address.ip())),
            _ => Ok(()),
        }?;
        match self.check.via {
            Some(via) => write!(f, " via {}", via.vip),
            None => Ok(()),
        }
    }
}

/// When a target is probed and how its results count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timing {
    /// From the start of one probe to the start of the next, at most; jitter only shortens it.
    pub interval: Duration,
    /// The same while a streak is open.
    pub fast_interval: Option<Duration>,
    /// The deadline of a whole attempt.
    pub timeout: Duration,
    /// Rise and fall.
    pub hysteresis: Hysteresis,
    /// When it changes too often, if that matters.
    pub damping: Option<Damping>,
    /// How long advice counts that is not said again, where a policy says so.
    pub expires: Option<Duration>,
}

#[cfg(test)]
impl Target {
    /// One whose first result counts.
    pub(crate) fn once(address: SocketAddr, check: Check) -> Self {
        let once = std::num::NonZeroU32::MIN;
        let timing = Timing {
            interval: Duration::from_secs(5),
            fast_interval: None,
            timeout: Duration::from_secs(2),
            hysteresis: Hysteresis { rise: once, fall: once },
            damping: None,
            expires: None,
        };
        Self { address, check: Arc::new(check), timing }
    }
}

impl Timing {
    /// How long advice counts that is not said again: by default three intervals and a timeout, so
    /// that two answers may be lost.
    pub fn advice_lasts(&self) -> Duration {
        self.expires.unwrap_or_else(|| self.interval.saturating_mul(3) + self.timeout)
    }
}

/// What a probe asks and from where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// The protocol and its question.
    pub kind: CheckKind,
    /// The local address of the probe's socket.
    pub source: Option<IpAddr>,
    /// The interface the probe's socket is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// What announces the connection before the protocol, where a real server asks for it.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The way to the real server, where that is not its own address.
    pub via: Option<Via>,
}

/// The way through a virtual address: a connection to it, with a firewall mark that a private
/// virtual service turns to the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// The virtual address and port.
    pub vip: SocketAddr,
    /// The mark.
    pub mark: u32,
    /// How the real server is reached.
    pub forwarding: Forwarding,
}

impl Via {
    /// Whether answers come past IPVS, from the virtual address.
    pub fn answers_past(&self) -> bool {
        matches!(self.forwarding, Forwarding::Direct | Forwarding::Tunnel(_))
    }
}

impl Check {
    /// A check from wherever the system's routes lead.
    pub fn new(kind: CheckKind) -> Self {
        Self { kind, source: None, interface: None, proxy_protocol: None, via: None }
    }
}

/// The versions of the PROXY protocol that can go before a check over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyProtocol {
    /// The line of text, with the connection's own addresses.
    V1,
    /// The binary header, with the `LOCAL` command.
    V2,
}

/// The protocols that can be probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckKind {
    /// HTTP/1.1, over TLS when `tls` is set.
    Http(HttpCheck),
    /// A TCP connection, and optionally a short exchange on it.
    Tcp(TcpCheck),
    /// A datagram, and optionally an answer to it.
    Udp(UdpCheck),
    /// A question to a name server.
    Dns(DnsCheck),
    /// An ICMP echo request.
    Icmp,
    /// `PING` to a Redis server.
    Redis,
    /// The greeting of a MySQL or MariaDB server, and a login without a password.
    Mysql(MysqlCheck),
    /// The beginning of a session with a PostgreSQL server.
    Postgresql(PostgresqlCheck),
    /// A TLS handshake.
    Tls(TlsCheck),
    /// HTTP/2, over TLS when `tls` is set.
    Http2(HttpCheck),
    /// The gRPC health service, over TLS when `tls` is set.
    Grpc(GrpcCheck),
    /// A mail server's greeting.
    Smtp(SmtpCheck),
    /// An agent, which says what share of the traffic it wants.
    Agent(AgentCheck),
    /// A program on the director.
    Exec(ExecCheck),
    /// A file on the director.
    File(FileCheck),
}

impl CheckKind {
    /// The word in a policy, such as `http`, `https` or `tcp`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(HttpCheck { tls: None, .. }) => "http",
            Self::Http(HttpCheck { tls: Some(_), .. }) => "https",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Dns(_) => "dns",
            Self::Icmp => "icmp",
            Self::Redis => "redis",
            Self::Mysql(_) => "mysql",
            Self::Postgresql(_) => "postgresql",
            Self::Tls(_) => "tls",
            Self::Http2(_) => "http2",
            Self::Grpc(_) => "grpc",
            Self::Smtp(_) => "smtp",
            Self::Agent(_) => "agent",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
        }
    }

    /// The TLS that begins with the connection, if any.
    pub fn tls(&self) -> Option<&TlsCheck> {
        match self {
            Self::Http(http) | Self::Http2(http) => http.tls.as_ref(),
            Self::Grpc(grpc) => grpc.tls.as_ref(),
            Self::Tls(tls) => Some(tls),
            _ => None,
        }
    }

    /// Whether one TCP connection carries the check, so that a PROXY header can go before it.
    pub fn is_over_tcp(&self) -> bool {
        !matches!(self, Self::Udp(_) | Self::Dns(_) | Self::Icmp) && !self.is_local()
    }

    /// What a virtual service must take for the check to go through it; `None` where none can.
    pub fn transport(&self) -> Option<Protocol> {
        match self {
            Self::Udp(_) => Some(Protocol::Udp),
            Self::Dns(dns) if dns.transport == Transport::Udp => Some(Protocol::Udp),
            Self::Dns(_) => Some(Protocol::Tcp),
            kind => kind.is_over_tcp().then_some(Protocol::Tcp),
        }
    }

    /// Whether a port is asked, and not the machine.
    pub fn has_port(&self) -> bool {
        !matches!(self, Self::Icmp) && !self.is_local()
    }

    /// Whether it is asked on the director itself, without a socket of ours.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::File(_))
    }

    /// Whether it only advises: it has no verdict.
    pub fn is_advisor(&self) -> bool {
        matches!(self, Self::Agent(_))
    }

    /// Whether its answers advise.
    pub fn advises(&self) -> bool {
        match self {
            Self::Http(http) | Self::Http2(http) => http.weight_from.is_some(),
            Self::Exec(exec) => exec.weight_from_status,
            Self::Agent(_) | Self::File(_) => true,
            _ => false,
        }
    }
}

/// One HTTP request and what its response must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpCheck {
    /// TLS below it, for `https`.
    pub tls: Option<TlsCheck>,
    /// Request method, `GET` by default.
    pub method: String,
    /// Path and query, begins with `/`.
    pub path: String,
    /// The Host header; the address and port of the target when not set.
    pub host: Option<String>,
    /// Extra request headers, in the order given.
    pub headers: Vec<(String, String)>,
    /// Inclusive ranges of healthy status codes.
    pub status: Vec<(u16, u16)>,
    /// What the body must match, all of it.
    pub body: Vec<TextMatch>,
    /// What response headers must match: (lower-case name, match).
    pub response_headers: Vec<(String, TextMatch)>,
    /// Where the answer says which weight the real server wants.
    pub weight_from: Option<WeightFrom>,
}

/// Where an HTTP answer says which weight the real server wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightFrom {
    /// In the response header of this lower-case name.
    Header(String),
    /// In the first line of the body.
    Body,
}

/// One call of the gRPC health service (`grpc.health.v1.Health/Check`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcCheck {
    /// TLS below it.
    pub tls: Option<TlsCheck>,
    /// The `:authority` of the call; the address and port of the target when not set.
    pub host: Option<String>,
    /// Whose health is asked for; empty for the server as a whole.
    pub service: String,
}

/// A dialogue with a mail server, up to its answer to `EHLO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmtpCheck {
    /// The name given with `EHLO`; the address of the probe's socket when not set.
    pub ehlo: Option<String>,
    /// The TLS that `STARTTLS` asks for, after which `EHLO` is said again.
    pub starttls: Option<TlsCheck>,
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsCheck {
    /// SNI and the name the certificate must carry; Host, then the address, when not set.
    pub server_name: Option<String>,
    /// Whom to trust.
    pub verify: Verify,
    /// Fail when the certificate expires within this many days.
    pub min_days: Option<u32>,
}

/// Whom a TLS probe trusts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verify {
    /// The system's certificate authorities.
    System,
    /// The authorities of this PEM file.
    CaFile {
        /// Where it was read from, for messages.
        path: PathBuf,
        /// Its content at the time the policy was loaded.
        pem: Arc<[u8]>,
    },
    /// Nobody is asked: any certificate passes.
    Nobody,
}

/// What to say on a TCP connection and what to hear.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpCheck {
    /// Bytes to send once connected.
    pub send: Vec<u8>,
    /// What must appear in the first bytes of the answer.
    pub expect: Option<TextMatch>,
}

/// A condition on text or bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextMatch {
    /// These bytes appear somewhere.
    Contains(String),
    /// This regular expression matches somewhere.
    Regex(Pattern),
}

impl TextMatch {
    /// Whether the condition holds.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Contains(text) => {
                text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes())
            }
            Self::Regex(pattern) => pattern.0.is_match(bytes),
        }
    }
}

/// A regular expression that compares by its source.
#[derive(Debug, Clone)]
pub struct Pattern(regex::bytes::Regex);

impl Pattern {
    /// Compiles a regular expression of the `regex` crate's syntax.
    ///
    /// # Errors
    /// The crate's explanation of what is wrong with it.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        regex::bytes::Regex::new(source).map(Self)
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source().hash(state);
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.source().cmp(other.source())
    }
}
