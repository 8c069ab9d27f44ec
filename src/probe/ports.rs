//! Which way the probes from a source port went.
//!
//! For some minutes IPVS sends what comes from the same port to the same virtual address where it
//! sent it before, whatever its firewall mark is now. A port that has led to one real server must
//! not be used for another meanwhile, or the probe would meet the wrong one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// IPVS forgets a connection two minutes after its end, datagrams after five
/// (ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
const REMEMBERED: Duration = Duration::from_secs(310);

/// By virtual address and source port: the mark, and when.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<HashMap<(SocketAddr, u16), (u32, Instant)>>);

impl Ports {
    /// Whether what carries this mark to a virtual address may come from this port; if so, it does.
    pub(super) fn take(&self, vip: SocketAddr, port: u16, mark: u32) -> bool {
        let now = Instant::now();
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < REMEMBERED;
        if used.len() == used.capacity() {
            // Before it grows, which is seldom enough to look through all of it.
            used.retain(|_, (_, at)| is_fresh(at));
        }
        let leads_elsewhere = |(of, at): &(u32, Instant)| *of != mark && is_fresh(at);
        if used.get(&(vip, port)).is_some_and(leads_elsewhere) {
            return false;
        }
        used.insert((vip, port), (mark, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_leads_one_way_until_that_is_forgotten() {
        let ports = Ports::default();
        let (one, other) = ("192.0.2.1:80".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        assert!(ports.take(one, 40_000, 1));
        assert!(ports.take(one, 40_000, 1));
        assert!(ports.take(other, 40_000, 2));
        assert!(!ports.take(one, 40_000, 2));
        tokio::time::advance(REMEMBERED).await;
        assert!(ports.take(one, 40_000, 2));
        assert!(!ports.take(one, 40_000, 1));
    }
}
