//! The way through a virtual address: whether it is open, and where a probe of it starts.
//!
//! A connection to the virtual address carries a firewall mark, which a private virtual service in
//! the kernel's table turns to one real server by the policy's own forwarding. Three things are the
//! director's own business, and inconclusive when they are not so: that service must be in the
//! table; the source must be an address of the director's that is not a virtual one (else the real
//! server would answer itself); and under `direct` and `tunnel` the answer comes *from* the virtual
//! address, which the director holds too, so that Linux takes it for forged unless the interface
//! has `accept_local=1` and its `rp_filter` is not strict (ip-sysctl.rst). IPv6 has no such check.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use tokio::sync::watch;
use tokio::time::Instant;

use super::outcome::Reason;
use super::progress::Failure;
use super::target::Via;
use crate::ipvs::model::{Family, ServiceKey};
use crate::ipvs::private;

/// How long what was found out about the way to a real server counts.
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
    /// By real server, and whether it answers past IPVS.
    starts: Mutex<HashMap<(IpAddr, bool), Start>>,
}

/// What was found out, and when.
type Start = (Instant, Result<IpAddr, Failure>);

impl Ways {
    pub(super) fn new(open: watch::Receiver<Arc<Open>>) -> Self {
        Self { open: Some(open), starts: Mutex::default() }
    }

    /// The address to start from, once the way is open; waits for that for at most `patience`.
    pub(super) async fn start(
        &self,
        via: Via,
        real_server: IpAddr,
        patience: Duration,
    ) -> Result<IpAddr, Failure> {
        let Some(open) = &self.open else {
            return Err(own(
                "only a daemon that holds the kernel's table can probe through a virtual address",
            ));
        };
        let service = private::key(via.mark, Family::of(via.vip.ip()));
        let mut open = open.clone();
        let is_open = open.wait_for(|open| open.services.contains(&service));
        let vips = match tokio::time::timeout(patience, is_open).await {
            Ok(Ok(open)) => Arc::clone(&open),
            _ => return Err(own(format!("the way through {} is not in the table yet", via.vip))),
        };
        let key = (real_server, via.answers_past);
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, start)) = starts.get(&key)
            && now.duration_since(*at) < FRESH
        {
            return start.clone();
        }
        starts.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
        let start = find_start(via, real_server, &vips.vips);
        starts.insert(key, (now, start.clone()));
        start
    }
}

fn own(words: impl Into<String>) -> Failure {
    Failure::new(Reason::Route, words)
}

/// The director's own address on the way to a real server.
fn find_start(via: Via, real_server: IpAddr, vips: &BTreeSet<IpAddr>) -> Result<IpAddr, Failure> {
    let no_route = |error| {
        let words = super::socket::kernel_words(&error);
        own(format!("the director has no route to {real_server} ({words})"))
    };
    let of_route = route_source(real_server).map_err(no_route)?;
    let all: Vec<(String, IpAddr)> = getifaddrs()
        .map_err(|errno| no_route(errno.into()))?
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            let address = v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
            Some((interface.interface_name, address))
        })
        .collect();
    let interface = all.iter().find(|(_, address)| *address == of_route);
    let interface = interface.map_or("all", |(name, _)| name.as_str());
    if via.answers_past && via.vip.is_ipv4() {
        lets_in(interface, |path| fs::read_to_string(path).ok()).map_err(own)?;
    }
    let is_usable = |address: &IpAddr| {
        Family::of(*address) == Family::of(via.vip.ip()) && !vips.contains(address)
    };
    if is_usable(&of_route) {
        return Ok(of_route);
    }
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

/// Whether an interface lets in what comes from an address that the director holds itself.
fn lets_in(interface: &str, read: impl Fn(&str) -> Option<String>) -> Result<(), String> {
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
    // The larger of both counts.
    if both("rp_filter") == 1 {
        let of = if value(interface, "rp_filter") == 1 { interface } else { "all" };
        return Err(format!(
            "the answer comes from the virtual address, which a strict rp_filter drops: run \
             `sysctl -w net.ipv4.conf.{of}.rp_filter=0`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lets_in_by_table() {
        for (accept_all, accept, filter_all, filter, expected) in [
            (0, 0, 0, 0, Err("conf.eth1.accept_local=1")),
            (0, 1, 0, 0, Ok(())),
            (1, 0, 0, 0, Ok(())),
            (0, 1, 1, 0, Err("conf.all.rp_filter=0")),
            (0, 1, 0, 1, Err("conf.eth1.rp_filter=0")),
            (0, 1, 1, 2, Ok(())),
            (0, 1, 2, 0, Ok(())),
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
            let found = lets_in("eth1", read);
            match (&found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(words), Err(piece)) => assert!(words.contains(piece), "{words}"),
                _ => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_in_the_table_is_waited_for() {
        let via =
            Via { vip: "127.0.0.9:80".parse().unwrap(), mark: 0x706d_0001, answers_past: false };
        let there = "127.0.0.1".parse().unwrap();
        let patience = Duration::from_secs(1);
        let failure = Ways::default().start(via, there, patience).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Route);
        let (sender, open) = watch::channel(Arc::<Open>::default());
        let ways = Ways::new(open);
        let failure = ways.start(via, there, patience).await.unwrap_err();
        assert!(failure.detail.contains("not in the table yet"), "{failure:?}");
        let opening = async {
            tokio::time::sleep(patience / 2).await;
            let services = [private::key(via.mark, Family::Inet)].into();
            sender.send_replace(Arc::new(Open { services, vips: BTreeSet::new() }));
        };
        let (start, ()) = tokio::join!(ways.start(via, there, patience), opening);
        assert_eq!(start, Ok(there));
    }
}
