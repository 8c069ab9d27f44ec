//! The site of the shell script: a client, a director and four real servers on one wire.
//!
//! The real servers hold the virtual addresses on `lo` and answer clients directly, as `direct`
//! needs it; what they send from their own address goes by the director, as `masq` needs it.

use std::collections::BTreeMap;

use crate::client::{Requests, Traffic};
use crate::common::netns::{Machine, Wire};
use crate::observer::Observer;
use crate::server::RealServer;
use crate::tap::Tap;

pub(crate) const VIP1: &str = "202.96.128.166";
pub(crate) const VIP2: &str = "221.5.88.88";
pub(crate) const VIP6: &str = "2001:db8:1::1";
pub(crate) const CLIENT: &str = "172.16.0.2";
pub(crate) const CLIENT6: &str = "2001:db8:2::2";
pub(crate) const DIRECTOR: &str = "director";

/// Everything but the daemon.
pub(crate) struct Site {
    pub(crate) client: Machine,
    pub(crate) director: Machine,
    pub(crate) servers: Vec<RealServer>,
    /// The same machines by their IPv6 addresses.
    pub(crate) addresses6: Vec<String>,
    pub(crate) table: Observer,
}

impl Site {
    pub(crate) fn new() -> Self {
        let wire = Wire::new();
        // In a network of its own, so that it asks, and under `masq` is answered, by way of the
        // director.
        let client = wire.machine("client", &[&format!("{CLIENT}/24"), &format!("{CLIENT6}/64")]);
        client.route_by("172.16.0.1".parse().unwrap());
        client.route_by("2001:db8:2::1".parse().unwrap());
        let director = wire.machine(
            DIRECTOR,
            &["192.168.16.1/24", "172.16.0.1/24", "2001:db8::1/64", "2001:db8:2::1/64"],
        );
        director.forward();
        for vip in [VIP1, VIP2, VIP6] {
            director.hold(vip.parse().unwrap());
        }
        let numbers = 232..=235;
        let servers = numbers.clone().map(|number| real_server(&wire, number)).collect();
        let addresses6 = numbers.map(|number| format!("2001:db8::{number}")).collect();
        let table = Observer::start(&director);
        Self { client, director, servers, addresses6, table }
    }

    /// Users who ask these.
    pub(crate) fn traffic(&self, targets: &[&str]) -> Traffic {
        Traffic::start(&self.client, targets)
    }

    pub(crate) fn tap(&self) -> Tap {
        Tap::on(&self.director)
    }

    /// What an operator does by hand.
    pub(crate) fn by_hand(&self, ipvsadm: &str) {
        self.director.shell(&format!("ipvsadm {ipvsadm}"));
    }

    /// Addresses of the real servers.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.servers.iter().map(|server| server.address.as_str()).collect()
    }

    /// Fails if a request failed that `excuse` does not excuse.
    pub(crate) fn assert_none_failed(
        &self,
        requests: &Requests,
        excuse: impl Fn(&crate::client::Request) -> bool,
    ) {
        let meant: Vec<_> = requests.failed().filter(|request| !excuse(request)).collect();
        let met = |source| {
            let servers = self.servers.iter().filter(|server| server.has_met(source));
            servers.map(|server| server.name().to_owned()).collect::<Vec<_>>()
        };
        let who: BTreeMap<_, _> = meant.iter().map(|it| (it.source, met(it.source))).collect();
        assert!(meant.is_empty(), "{} failed: {meant:#?}; accepted by {who:#?}", meant.len());
    }
}

fn real_server(wire: &Wire, number: u8) -> RealServer {
    let address = format!("192.168.16.{number}");
    let addresses = [format!("{address}/24"), format!("2001:db8::{number}/64")];
    let machine = wire.machine(&format!("rs{number}"), &addresses.each_ref().map(String::as_str));
    machine.route_by("192.168.16.1".parse().unwrap());
    machine.route_by("2001:db8::1".parse().unwrap());
    for (vip, clients) in
        [(VIP1, "172.16.0.0/24"), (VIP2, "172.16.0.0/24"), (VIP6, "2001:db8:2::/64")]
    {
        machine.hold_quietly(vip.parse().unwrap());
        machine.answer_directly(vip.parse().unwrap(), clients);
    }
    RealServer::start(&machine, &address)
}
