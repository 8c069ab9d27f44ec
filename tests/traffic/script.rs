//! The shell script's scenario: two virtual addresses, two ports each, direct routing, one check
//! per real server that decides its place in all four services. The policy is the example that
//! people are to drop in, with shorter times.

use std::time::Duration;

use crate::clock::{PATIENCE, SLACK, now};
use crate::daemon::{Daemon, Policies, status};
use crate::observer::{Lines, services};
use crate::server::{ALIVE, Mode};
use crate::site::Site;

const SERVICES: [&str; 4] = [
    "tcp://202.96.128.166:80",
    "tcp://202.96.128.166:443",
    "tcp://221.5.88.88:80",
    "tcp://221.5.88.88:443",
];
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(800);

pub(crate) fn one_check_decides_four_services() {
    let site = Site::new();
    let policies = Policies::new("www.yaml", &example());
    let started = now();
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &table(&[232, 233, 234, 235]));
    assert!(!status().is_degraded());

    let traffic = site.traffic(&SERVICES.map(|service| &service["tcp://".len()..]));
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let victim = &site.servers[1];
    let failed = victim.turn(Mode::Hang);
    let out = table(&[232, 234, 235]);
    let gone = site.table.until_exactly("one out", INTERVAL + TIMEOUT + SLACK, &out);
    println!("  hang, fall 1: out of four services after {:?}", gone - failed);
    traffic.carry_on(100);
    victim.turn(Mode::Serve);
    // Its share is wlc's to say, which still counts the connections that hung.
    site.table.until_exactly("all in again", PATIENCE, &table(&[232, 233, 234, 235]));
    traffic.carry_on(100);

    let requests = traffic.stop();
    site.assert_none_failed(&requests, |it| it.ended >= failed && it.begun <= gone);
    // One probe a round, however many services there are.
    let healthy = &site.servers[0];
    let probes = healthy.probes_since(started);
    let rounds = (now() - started).div_duration_f64(INTERVAL.mul_f64(0.9));
    assert!(probes.len() as f64 <= rounds + 2.0, "{} probes in {rounds} rounds", probes.len());
    for probe in &probes {
        assert!(probe.head.starts_with(&format!("GET {ALIVE} HTTP/1.1\r\n")), "{}", probe.head);
        assert!(probe.head.to_lowercase().contains("\r\nhost: www.xxx.cn\r\n"), "{}", probe.head);
    }
    let turns: Vec<_> =
        daemon.transitions().into_iter().filter(|turn| turn.contains("233")).collect();
    let turn = |to| format!("{}:80 {to}", victim.address);
    assert_eq!(turns, [turn("up"), turn("down"), turn("up")]);
}

fn example() -> String {
    let mut text = include_str!("../../policies/www.yaml").to_owned();
    for (from, to) in [("interval: 5s", "interval: 1s"), ("timeout: 2s", "timeout: 800ms")] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

/// The table with these real servers.
fn table(numbers: &[u8]) -> Lines {
    let mut lines = Lines::new();
    for service in SERVICES {
        let port = service.rsplit_once(':').unwrap().1;
        let destination = |number: &u8| {
            let weight = if *number == 235 { 40 } else { 80 };
            format!("192.168.16.{number}:{port} weight {weight} direct")
        };
        let destinations: Vec<_> = numbers.iter().map(destination).collect();
        lines.extend(services(&[service], "wlc", &destinations));
    }
    lines
}
