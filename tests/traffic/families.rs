//! IPv6 and UDP: the table is exact, and packets arrive.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use crate::clock::{PATIENCE, SLACK};
use crate::daemon::{Daemon, FALL, INTERVAL, Policies, TIMEOUT, policy};
use crate::observer::{Lines, services};
use crate::server::Mode;
use crate::site::{CLIENT, Site, VIP1, VIP6};

const HTTP6: &str = "tcp://[2001:db8:1::1]:80";
const DNS: &str = "udp://202.96.128.166:53";

pub(crate) fn udp_and_ipv6() {
    let site = Site::new();
    let inet = policy(
        &[&format!("{{ service: \"{DNS}\", flags: [ops] }}")],
        "name: dns\nforwarding: direct\nweight: 3",
        &site.addresses(),
        80,
    );
    let addresses6: Vec<_> = site.addresses6.iter().map(String::as_str).collect();
    let service6 = format!("\"{HTTP6}\"");
    let inet6 = policy(&[&service6], "name: www6\nforwarding: direct", &addresses6, 80);
    let policies = Policies::new("both.yaml", &format!("{inet}---\n{inet6}"));
    let _daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &table(&site, 0));
    let traffic = site.traffic(&[&format!("[{VIP6}]:80")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let names = |from: usize| (232 + from..=235).map(|number| format!("rs{number}")).collect();
    assert_eq!(datagrams(&site), names(0));

    let failed = site.servers[0].turn(Mode::Hang);
    let limit = INTERVAL * FALL + TIMEOUT;
    let gone = site.table.until_exactly("one out", limit + SLACK, &table(&site, 1));
    println!("  IPv6 and UDP: out after {:?} (at most {limit:?})", gone - failed);
    assert_eq!(datagrams(&site), names(1));
    traffic.carry_on(50);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |it| it.ended >= failed && it.begun <= gone);
}

/// Who answers datagrams.
fn datagrams(site: &Site) -> BTreeSet<String> {
    site.client.within(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let ask = |_| {
            let mut buffer = [0; 64];
            socket.send_to(b"?", (VIP1, 53)).unwrap();
            let (length, _) = socket.recv_from(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        (0..12).map(ask).collect()
    })
}

/// The table without the first so many real servers.
fn table(site: &Site, without: usize) -> Lines {
    let (inet, inet6) = (&site.addresses()[without..], &site.addresses6[without..]);
    let inet: Vec<_> = inet.iter().map(|it| format!("{it}:53 weight 3 direct")).collect();
    let inet6: Vec<_> = inet6.iter().map(|it| format!("[{it}]:80 weight 1 direct")).collect();
    let mut lines = services(&[DNS], "rr ops", &inet);
    lines.extend(services(&[HTTP6], "rr", &inet6));
    lines
}
