//! The way through a virtual address: whether it is open, and where a probe of it starts.
//!
//! A connection to the virtual address carries a firewall mark, which a private virtual service in
//! the kernel's table turns to one real server by the policy's own forwarding. Three things are the
//! director's own business, and inconclusive when they are not so: that service must be in the
//! table; the source must be an address of the director's that is not a virtual one (else the real
//! server would answer itself); and under `direct` and `tunnel` the answer comes *from* the virtual
//! address, which the director may hold too, so that Linux takes it for forged unless the interface
//! has `accept_local=1` and, where another interface has the address, no strict `rp_filter`
//! (ip-sysctl.rst). IPv6 has no such check. Only silence is a reason to look: what is answered is
//! let in.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use tokio::sync::watch;
use tokio::time::Instant;

use super::outcome::Reason;
use super::ports::Ports;
use super::progress::Failure;
use super::socket::{Origin, kernel_words};
use super::target::{Target, Via};
use crate::ipvs::model::{Family, ServiceKey};
use crate::ipvs::private;

/// How long what was found out about the director's addresses counts.
const FRESH: Duration = Duration::from_secs(1);

/// What the table has for probes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// The private virtual services that are in it as they should be.
    pub services: BTreeSet<ServiceKey>,
    /// Every virtual address that policies declare.
    pub vips: BTreeSet<IpAddr>,
}

/// The ways through virtual addresses.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// `None` where nothing holds a kernel's table.
    open: Option<watch::Receiver<Arc<Open>>>,
    ports: Ports,
    addresses: Mutex<Option<(Instant, Addresses)>>,
}

/// The director's own addresses, with their interfaces.
type Addresses = Arc<Vec<(String, IpAddr)>>;

impl Ways {
    pub(super) fn new(open: watch::Receiver<Arc<Open>>) -> Self {
        Self { open: Some(open), ..Self::default() }
    }

    /// Where a probe starts, once its way is open; waits for that for at most `patience`.
    pub(super) async fn origin(
        &self,
        via: Via,
        target: &Target,
        patience: Duration,
    ) -> Result<Origin<'_>, Failure> {
        let Some(open) = &self.open else {
            return Err(own(
                "only a daemon that holds the kernel's table can probe through a virtual address",
            ));
        };
        let service = private::key(via.mark, Family::of(via.vip.ip()));
        let mut open = open.clone();
        let is_open = open.wait_for(|open| open.services.contains(&service));
        let open = match tokio::time::timeout(patience, is_open).await {
            Ok(Ok(open)) => Arc::clone(&open),
            _ => return Err(own(format!("the way through {} is not in the table yet", via.vip))),
        };
        let source = match target.check.source {
            Some(source) => source,
            None => find_start(via, target.address.ip(), &open.vips, || self.addresses())?,
        };
        Ok(Origin { source: Some(source), interface: None, led: Some((via.mark, &self.ports)) })
    }

    /// Why an answer cannot have been heard, where that is the director's own doing.
    ///
    /// Only what the director holds itself looks forged to it: a backup without the virtual address
    /// needs nothing.
    pub(super) fn deaf(&self, via: Via, real_server: IpAddr) -> Option<Failure> {
        if !via.answers_past() || via.vip.is_ipv6() {
            return None;
        }
        let addresses = self.addresses().ok()?;
        let holder = interface_of(&addresses, via.vip.ip())?;
        let interface = interface_of(&addresses, route_source(real_server).ok()?)?;
        let read = |path: &str| fs::read_to_string(path).ok();
        lets_in(interface, holder == interface, read).err().map(own)
    }

    /// Asked once a second at most: there may be thousands of them.
    fn addresses(&self) -> Result<Addresses, Failure> {
        let now = Instant::now();
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, addresses)) = &*known
            && now.duration_since(*at) < FRESH
        {
            return Ok(Arc::clone(addresses));
        }
        let all = getifaddrs().map_err(|errno| {
            own(format!("the director's addresses: {}", kernel_words(&errno.into())))
        })?;
        let address = |interface: InterfaceAddress| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            let address = v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
            Some((interface.interface_name, address))
        };
        let addresses = Arc::new(all.filter_map(address).collect());
        *known = Some((now, Arc::clone(&addresses)));
        Ok(addresses)
    }
}

fn interface_of(addresses: &Addresses, address: IpAddr) -> Option<&str> {
    addresses.iter().find(|(_, it)| *it == address).map(|(name, _)| name.as_str())
}

/// Silence means nothing when there was not the whole time to hear something.
pub(super) fn too_late(via: Via, silence: &Failure) -> Failure {
    own(format!("the way through {} came late into the table: {}", via.vip, silence.detail))
}

fn own(words: impl Into<String>) -> Failure {
    Failure::new(Reason::Route, words)
}

/// The director's own address on the way to a real server.
fn find_start(
    via: Via,
    real_server: IpAddr,
    vips: &BTreeSet<IpAddr>,
    addresses: impl FnOnce() -> Result<Addresses, Failure>,
) -> Result<IpAddr, Failure> {
    let of_route = route_source(real_server).map_err(|error| {
        let words = kernel_words(&error);
        own(format!("the director has no route to {real_server} ({words})"))
    })?;
    let is_usable = |address: &IpAddr| {
        Family::of(*address) == Family::of(via.vip.ip()) && !vips.contains(address)
    };
    if is_usable(&of_route) {
        return Ok(of_route);
    }
    let all = addresses()?;
    let interface = interface_of(&all, of_route).unwrap_or("the director");
    let mut on_interface = all.iter().filter(|(name, _)| name == interface).map(|it| it.1);
    let is_link_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    on_interface.find(|address| is_usable(address) && !is_link_local(address)).ok_or_else(|| {
        let family = if via.vip.is_ipv4() { "IPv4" } else { "IPv6" };
        own(format!(
            "{interface} has no {family} address but virtual ones; a probe through {} needs one to \
             start from: add one, or write `source`",
            via.vip.ip()
        ))
    })
}

/// What the kernel would send from: a connected datagram socket is a route lookup.
fn route_source(to: IpAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether an interface lets in what comes from an address that the director holds itself, on that
/// interface or on another one (`fib_validate_source`).
fn lets_in(
    interface: &str,
    holds_it: bool,
    read: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let value = |of: &str, name: &str| {
        let text = read(&format!("/proc/sys/net/ipv4/conf/{of}/{name}"));
        text.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0)
    };
    let both = |name: &str| value("all", name).max(value(interface, name));
    // Either of them is enough.
    if both("accept_local") == 0 {
        return Err(format!(
            "the answer comes from the virtual address, which Linux drops on {interface}: run \
             `sysctl -w net.ipv4.conf.{interface}.accept_local=1`"
        ));
    }
    // The larger of both counts, and a loose one (2) is enough.
    if both("rp_filter") == 1 && !holds_it {
        return Err(format!(
            "the answer comes from the virtual address, which {interface} does not have, so that \
             its strict rp_filter drops it: run `sysctl -w net.ipv4.conf.{interface}.rp_filter=2`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::ipvs::model::Forwarding;
    use crate::probe::target::{Check, CheckKind, TcpCheck};

    #[test]
    fn what_the_kernel_lets_in_by_table() {
        for (holds_it, accept_all, accept, filter_all, filter, expected) in [
            (false, 0, 0, 0, 0, Err("conf.eth1.accept_local=1")),
            (true, 0, 0, 0, 0, Err("conf.eth1.accept_local=1")),
            (false, 0, 1, 0, 0, Ok(())),
            (false, 1, 0, 0, 0, Ok(())),
            (false, 0, 1, 1, 0, Err("conf.eth1.rp_filter=2")),
            (false, 0, 1, 0, 1, Err("conf.eth1.rp_filter=2")),
            (true, 0, 1, 1, 1, Ok(())),
            (false, 0, 1, 1, 2, Ok(())),
            (false, 0, 1, 2, 0, Ok(())),
        ] {
            let read = |path: &str| {
                let value = match path.strip_prefix("/proc/sys/net/ipv4/conf/").unwrap() {
                    "all/accept_local" => accept_all,
                    "eth1/accept_local" => accept,
                    "all/rp_filter" => filter_all,
                    "eth1/rp_filter" => filter,
                    other => panic!("{other}"),
                };
                Some(format!("{value}\n"))
            };
            let found = lets_in("eth1", holds_it, read);
            match (&found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(words), Err(piece)) => assert!(words.contains(piece), "{words}"),
                _ => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_in_the_table_is_waited_for() {
        let vip = "127.0.0.9:80".parse().unwrap();
        let via = Via { vip, mark: 0x706d_0001, forwarding: Forwarding::Masq };
        let there = "127.0.0.1:80".parse().unwrap();
        let kind = CheckKind::Tcp(TcpCheck::default());
        let target = Target::once(there, Check { via: Some(via), ..Check::new(kind) });
        let patience = Duration::from_secs(1);
        let failure = Ways::default().origin(via, &target, patience).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Route);
        let (sender, open) = watch::channel(Arc::<Open>::default());
        let ways = Ways::new(open);
        let failure = ways.origin(via, &target, patience).await.unwrap_err();
        assert!(failure.detail.contains("not in the table yet"), "{failure:?}");
        let opening = async {
            tokio::time::sleep(patience / 2).await;
            let services = [private::key(via.mark, Family::Inet)].into();
            sender.send_replace(Arc::new(Open { services, vips: BTreeSet::new() }));
        };
        let (origin, ()) = tokio::join!(ways.origin(via, &target, patience), opening);
        assert_eq!(origin.unwrap().source, Some(there.ip()));
    }
}
