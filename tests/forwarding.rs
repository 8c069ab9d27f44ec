//! Real packets through the kernel's table: each forwarding method carries a client's request to
//! a real server, in a guest with a namespace for each machine. What is in the table is written
//! and read by this crate alone.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::netns::{Machine, Wire};
use common::uml::in_guest;
use pointsman::ipvs::Ipvs;
use pointsman::ipvs::model::{
    Change, DestinationConfig, DestinationKey, Forwarding, Scheduler, ServiceConfig, ServiceFlags,
    ServiceKey, Tunnel,
};
use pointsman::ipvs::netlink::Netlink;

const DEADLINE: Duration = Duration::from_secs(60);

/// How long a request may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn every_method_reaches_the_real_servers() {
    in_guest("every_method_reaches_the_real_servers", DEADLINE, || {
        let site = Site::new();
        let vip4: IpAddr = "192.0.2.1".parse().unwrap();
        let vip6: IpAddr = "2001:db8:1::1".parse().unwrap();
        let ipip = Forwarding::Tunnel(Tunnel::Ipip);
        for (vip, forwarding, inside) in [
            (vip4, Forwarding::Direct, ["10.0.0.11:80", "10.0.0.12:80"]),
            (vip4, Forwarding::Masq, ["10.0.0.11:8080", "10.0.0.12:8080"]),
            (vip4, ipip, ["10.0.0.11:80", "10.0.0.12:80"]),
            (vip6, Forwarding::Direct, ["[2001:db8::11]:80", "[2001:db8::12]:80"]),
            (vip6, Forwarding::Masq, ["[2001:db8::11]:8080", "[2001:db8::12]:8080"]),
        ] {
            println!("{vip} {forwarding}");
            site.carries(vip, forwarding, inside.map(|server| server.parse().unwrap()));
        }
    });
}

/// A client, a director and two real servers that answer with their names.
struct Site {
    client: Machine,
    director: Machine,
}

impl Site {
    fn new() -> Self {
        let wire = Wire::new();
        // The client is in a network of its own, so that answers under `masq` must pass the
        // director, and asks by way of it.
        let client = wire.machine("client", &["172.16.0.2/24", "2001:db8:2::2/64"]);
        let director = wire.machine(
            "director",
            &["10.0.0.1/24", "172.16.0.1/24", "2001:db8::1/64", "2001:db8:2::1/64"],
        );
        client.route_by("172.16.0.1".parse().unwrap());
        client.route_by("2001:db8:2::1".parse().unwrap());
        director.forward();
        for vip in ["192.0.2.1", "2001:db8:1::1"] {
            director.hold(vip.parse().unwrap());
        }
        for number in [11, 12] {
            real_server(&wire, number);
        }
        Self { client, director }
    }

    /// Sets the table to one service with two destinations, asks until both have answered, and
    /// lets one go.
    fn carries(&self, vip: IpAddr, forwarding: Forwarding, servers: [DestinationKey; 2]) {
        let mut kernel = self.director.within(|| Netlink::open().unwrap());
        let key = ServiceKey::Address {
            protocol: pointsman::ipvs::model::Protocol::Tcp,
            address: vip,
            port: 80,
        };
        let config = ServiceConfig {
            scheduler: Scheduler("rr".to_owned()),
            flags: ServiceFlags::default(),
            persistence: None,
        };
        let weight = |weight| DestinationConfig {
            forwarding,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let mut changes = vec![Change::AddService(key, config)];
        changes.extend(servers.map(|server| Change::AddDestination(key, server, weight(1))));
        assert!(kernel.execute(&changes).iter().all(Result::is_ok));
        let vip = SocketAddr::new(vip, 80);
        let answers = self.ask(vip, 6);
        assert_eq!(answers, BTreeSet::from(["rs11".to_owned(), "rs12".to_owned()]));

        let quiesce = [Change::SetDestination(key, servers[0], weight(0))];
        assert_eq!(kernel.execute(&quiesce), [Ok(())]);
        assert_eq!(self.ask(vip, 6), BTreeSet::from(["rs12".to_owned()]));
        assert_eq!(kernel.execute(&[Change::DeleteService(key)]), [Ok(())]);
    }

    /// Who answers the client.
    fn ask(&self, vip: SocketAddr, times: usize) -> BTreeSet<String> {
        self.client.within(|| {
            (0..times)
                .map(|_| {
                    let mut stream = TcpStream::connect_timeout(&vip, PATIENCE).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut name = String::new();
                    stream.read_to_string(&mut name).unwrap();
                    name
                })
                .collect()
        })
    }
}

fn real_server(wire: &Wire, number: u8) {
    let name = format!("rs{number}");
    let addresses = [format!("10.0.0.{number}/24"), format!("2001:db8::{number}/64")];
    let machine = wire.machine(&name, &addresses.each_ref().map(String::as_str));
    machine.route_by("10.0.0.1".parse().unwrap());
    machine.route_by("2001:db8::1".parse().unwrap());
    for (vip, clients) in [("192.0.2.1", "172.16.0.0/24"), ("2001:db8:1::1", "2001:db8:2::/64")] {
        machine.hold_quietly(vip.parse().unwrap());
        machine.answer_directly(vip.parse().unwrap(), clients);
    }
    machine.unpack_ipip();
    for port in [80, 8080] {
        let listener = machine.within(|| TcpListener::bind(("::", port)).unwrap());
        let name = name.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(name.as_bytes());
            }
        });
    }
}
