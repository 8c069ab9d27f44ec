//! Opens the probe's socket, for TCP, UDP or ICMP, and tells the director's own trouble from the
//! real server's.
//!
//! What fails before a packet leaves (no descriptor, no source port, no route, no such address or
//! interface, not allowed) is the director's and inconclusive; what the network answers is the
//! real server's. Error numbers are those of ip(7), tcp(7) and connect(2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto};
use rustix::thread::CapabilitySet;
use tokio::net::{TcpStream, UdpSocket};

use super::outcome::Reason;
use super::ports::Ports;
use super::progress::Failure;
use crate::privileges;

/// How often a source port is drawn again when the one drawn is taken for this real server.
const PORT_DRAWS: usize = 8;

/// Where a probe comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin<'a> {
    /// Its local address.
    pub(super) source: Option<IpAddr>,
    /// Its interface.
    pub(super) interface: Option<&'a str>,
    /// The firewall mark of its packets, and which ports led another way.
    pub(super) led: Option<(u32, &'a Ports)>,
}

/// Connects to `address`.
///
/// Dropping the future closes the socket.
pub(super) async fn connect(
    address: SocketAddr,
    origin: &Origin<'_>,
) -> Result<TcpStream, Failure> {
    let socket = start(Kind::Stream, address, origin)?;
    let stream = TcpStream::from_std(std::net::TcpStream::from(socket))
        .map_err(|error| own_trouble("registering a socket", &error))?;
    stream.writable().await.map_err(|error| own_trouble("waiting for a socket", &error))?;
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(error)) | Err(error) => Err(answered(address, &error)),
    }
}

/// A UDP socket that hears `address` alone, and what the network says of datagrams sent to it.
pub(super) fn datagram(address: SocketAddr, origin: &Origin<'_>) -> Result<UdpSocket, Failure> {
    let socket = start(Kind::Datagram, address, origin)?;
    hear_errors(&socket, address)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
        .map_err(|error| own_trouble("registering a socket", &error))
}

/// A socket for ICMP echo with `address` alone, and whether it is a raw one.
///
/// A datagram one needs a group in `net.ipv4.ping_group_range`, a raw one `CAP_NET_RAW`: whichever
/// is to be had (icmp(7), raw(7)).
pub(super) fn echo(address: IpAddr, origin: &Origin<'_>) -> Result<(UdpSocket, bool), Failure> {
    let address = SocketAddr::new(address, 0);
    let (socket, raw) = match start(Kind::Echo, address, origin) {
        Ok(socket) => (socket, false),
        Err(failure) if failure.reason == Reason::Denied => {
            (start(Kind::RawEcho, address, origin)?, true)
        }
        Err(failure) => return Err(failure),
    };
    hear_errors(&socket, address)?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))
        .map_err(|error| own_trouble("registering a socket", &error))?;
    Ok((socket, raw))
}

/// Has the kernel report every ICMP error, host unreachable among them, which it else keeps from
/// sockets for datagrams as passing (`IP_RECVERR`, ip(7)).
fn hear_errors(socket: &OwnedFd, address: SocketAddr) -> Result<(), Failure> {
    use nix::sys::socket::{setsockopt, sockopt};
    let set = match address {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
    set.map_err(|errno| own_trouble("preparing a socket", &errno.into()))
}

/// The sockets that probes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Datagram,
    Echo,
    RawEcho,
}

/// Opens a non-blocking socket and sets its connection off.
fn start(kind: Kind, address: SocketAddr, origin: &Origin<'_>) -> Result<OwnedFd, Failure> {
    for _ in 0..PORT_DRAWS {
        let socket = open(kind, address)?;
        if let Some(interface) = origin.interface {
            bind_interface(&socket, interface)?;
        }
        if let Some(source) = origin.source {
            bind_source(kind, &socket, source)?;
        }
        if let Some((mark, ports)) = origin.led {
            set_mark(&socket, mark)?;
            if !ports.take(address, port_of(&socket)?, mark) {
                continue;
            }
        }
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => return Ok(socket),
            Err(Errno::ADDRNOTAVAIL) if origin.source.is_some() => {}
            Err(errno) => return Err(not_sent(address, errno)),
        }
    }
    Err(not_sent(address, Errno::ADDRNOTAVAIL))
}

fn open(kind: Kind, address: SocketAddr) -> Result<OwnedFd, Failure> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (of_type, protocol) = match kind {
        Kind::Stream => (SocketType::STREAM, None),
        Kind::Datagram => (SocketType::DGRAM, None),
        Kind::Echo => (SocketType::DGRAM, Some(icmp(address))),
        Kind::RawEcho => (SocketType::RAW, Some(icmp(address))),
    };
    let open = || rustix::net::socket_with(family, of_type, flags, protocol);
    let opened = match kind {
        Kind::RawEcho => privileges::with(CapabilitySet::NET_RAW, open),
        Kind::Stream | Kind::Datagram | Kind::Echo => open(),
    };
    opened.map_err(|errno| match errno {
        Errno::AFNOSUPPORT => Failure::new(
            Reason::Route,
            format!("the director's kernel has no support for the family of {}", address.ip()),
        ),
        Errno::PERM | Errno::ACCESS if kind == Kind::RawEcho => Failure::new(
            Reason::Denied,
            "the director may not use ICMP; restart pointsman if no policy had an `icmp` check when it started, \
             else give it CAP_NET_RAW or a group in net.ipv4.ping_group_range",
        ),
        _ => own_trouble("opening a socket", &errno.into()),
    })
}

fn icmp(address: SocketAddr) -> Protocol {
    if address.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 }
}

fn bind_interface(socket: &OwnedFd, interface: &str) -> Result<(), Failure> {
    socket2::SockRef::from(socket).bind_device(Some(interface.as_bytes())).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => {
                Failure::new(Reason::Route, format!("the director has no interface `{interface}`"))
            }
            _ => own_trouble(&format!("binding a socket to interface `{interface}`"), &error),
        }
    })
}

/// Marks what the socket sends (`SO_MARK`, socket(7)).
fn set_mark(socket: &OwnedFd, mark: u32) -> Result<(), Failure> {
    let set = || socket2::SockRef::from(socket).set_mark(mark);
    privileges::with(CapabilitySet::NET_ADMIN, set).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::PERM) => Failure::new(
                Reason::Denied,
                "the director may not mark packets; give it CAP_NET_ADMIN",
            ),
            _ => own_trouble("marking a socket", &error),
        }
    })
}

/// The port that a socket is bound to.
fn port_of(socket: &OwnedFd) -> Result<u16, Failure> {
    let bound = socket2::SockRef::from(socket).local_addr();
    let bound = bound.map_err(|error| own_trouble("asking for a source port", &error))?;
    Ok(bound.as_socket().map_or(0, |bound| bound.port()))
}

/// Binds the address and leaves the port to the kernel.
///
/// `SO_REUSEADDR` lets probes of different real servers share a source port; without it a bound
/// source runs out of ports after some 28,000 connections of the last minute, whoever they went to.
/// Datagrams leave no port behind, and with it two probes could get each other's.
fn bind_source(kind: Kind, socket: &OwnedFd, source: IpAddr) -> Result<(), Failure> {
    let bound = rustix::net::sockopt::set_socket_reuseaddr(socket, kind == Kind::Stream)
        .and_then(|()| rustix::net::bind(socket, &SocketAddr::new(source, 0)));
    bound.map_err(|errno| match errno {
        Errno::ADDRNOTAVAIL => Failure::new(
            Reason::Route,
            format!("the director does not have the source address {source}"),
        ),
        Errno::ADDRINUSE => no_port(),
        Errno::INVAL | Errno::AFNOSUPPORT => Failure::new(
            Reason::Route,
            format!("the source address {source} is of another family than the real server"),
        ),
        _ => own_trouble(&format!("binding a socket to {source}"), &errno.into()),
    })
}

/// `connect` itself refused: nothing was asked of anybody.
pub(super) fn not_sent(address: SocketAddr, errno: Errno) -> Failure {
    match errno {
        // A datagram socket that finds no port says `AGAIN`.
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN => no_port(),
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NODEV => Failure::new(
            Reason::Route,
            format!(
                "the director has no route to {} ({})",
                address.ip(),
                kernel_words(&errno.into())
            ),
        ),
        Errno::INVAL => Failure::new(
            Reason::Route,
            format!(
                "the director cannot connect to {address} from there (a link-local address needs an interface, a loopback source stays on loopback)"
            ),
        ),
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::TIMEDOUT => answered(address, &errno.into()),
        _ => own_trouble(&format!("connecting to {address}"), &errno.into()),
    }
}

/// The network answered, or nobody did for longer than the kernel waits.
pub(super) fn answered(address: SocketAddr, error: &io::Error) -> Failure {
    let (reason, what) = match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => (Reason::Refused, format!("port {} is closed", address.port())),
        // Closed by the other side in the moment it was made, it reads as a broken pipe (tcp_reset).
        Some(Errno::CONNRESET | Errno::PIPE) => {
            (Reason::Reset, "the connection was reset as soon as it was made".to_owned())
        }
        Some(Errno::TIMEDOUT) => {
            (Reason::ConnectTimeout, "the kernel gave up connecting".to_owned())
        }
        Some(Errno::NOMEM | Errno::NOBUFS | Errno::PERM) => {
            return own_trouble(&format!("connecting to {address}"), error);
        }
        // ARP, a router, or a firewall on the way (icmp6-adm-prohibited reads as EACCES).
        _ => (Reason::Unreachable, format!("no way to {}", address.ip())),
    };
    Failure::new(reason, format!("{what} ({})", kernel_words(error)))
}

fn no_port() -> Failure {
    Failure::new(
        Reason::Resources,
        "the director has no source port left; widen net.ipv4.ip_local_port_range",
    )
}

/// Trouble of the director itself, sorted into those it can have.
fn own_trouble(doing: &str, error: &io::Error) -> Failure {
    let (reason, hint) = match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            (Reason::Resources, "; raise the limit of open files (LimitNOFILE=, ulimit -n)")
        }
        Some(Errno::NFILE) => (Reason::Resources, "; raise fs.file-max"),
        Some(Errno::PERM | Errno::ACCESS) => {
            (Reason::Denied, "; a firewall rule or a missing capability on the director")
        }
        _ => (Reason::Resources, ""),
    };
    Failure::new(reason, format!("{doing}: {}{hint}", kernel_words(error)))
}

/// The kernel's words in lower case, without the number that `io::Error` adds.
pub(super) fn kernel_words(error: &io::Error) -> String {
    let full = error.to_string();
    let words = full.split(" (os error").next().unwrap_or(&full);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> SocketAddr {
        "192.0.2.1:80".parse().unwrap()
    }

    #[test]
    fn what_never_left_is_the_directors_own() {
        for (errno, reason, piece) in [
            (Errno::ADDRNOTAVAIL, Reason::Resources, "no source port left"),
            (Errno::NETUNREACH, Reason::Route, "no route to 192.0.2.1 (network is unreachable)"),
            (Errno::HOSTUNREACH, Reason::Route, "no route to 192.0.2.1"),
            (Errno::INVAL, Reason::Route, "cannot connect to 192.0.2.1:80 from there"),
            (Errno::ACCESS, Reason::Denied, "permission denied; a firewall rule"),
            (Errno::PERM, Reason::Denied, "operation not permitted; a firewall rule"),
            (Errno::NOBUFS, Reason::Resources, "no buffer space available"),
            (Errno::NOMEM, Reason::Resources, "cannot allocate memory"),
            (Errno::CONNREFUSED, Reason::Refused, "port 80 is closed (connection refused)"),
        ] {
            let failure = not_sent(there(), errno);
            assert_eq!(failure.reason, reason, "{errno}: {failure:?}");
            assert!(failure.detail.contains(piece), "{errno}: {failure:?}");
        }
        for (errno, reason) in [
            (Errno::MFILE, Reason::Resources),
            (Errno::NFILE, Reason::Resources),
            (Errno::NOBUFS, Reason::Resources),
            (Errno::PERM, Reason::Denied),
        ] {
            assert_eq!(own_trouble("opening a socket", &errno.into()).reason, reason, "{errno}");
        }
    }

    #[test]
    fn what_the_network_answers_is_the_real_servers() {
        for (errno, reason) in [
            (Errno::CONNREFUSED, Reason::Refused),
            (Errno::CONNRESET, Reason::Reset),
            (Errno::PIPE, Reason::Reset),
            (Errno::TIMEDOUT, Reason::ConnectTimeout),
            (Errno::HOSTUNREACH, Reason::Unreachable),
            (Errno::NETUNREACH, Reason::Unreachable),
            (Errno::ACCESS, Reason::Unreachable),
            (Errno::NOMEM, Reason::Resources),
        ] {
            let failure = answered(there(), &errno.into());
            assert_eq!(failure.reason, reason, "{errno}: {failure:?}");
        }
    }
}
