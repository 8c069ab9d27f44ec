//! Probes through the virtual address: they see what a probe of the real server's own address does
//! not, and the director's own shortcomings are no failures.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, policy, program, status, until_status};
use crate::observer::{Lines, direct, services};
use crate::server::{Mode, RealServer};
use crate::site::{Site, VIP1, VIP2, VIP6};

const KEY: &str = "tcp://202.96.128.166:80";
const ORDINARY: &str = "tcp://221.5.88.88:80";
const KEY6: &str = "tcp://[2001:db8:1::1]:80";
const DATAGRAMS: &str = "udp://202.96.128.166:54";

/// A policy whose check goes through the virtual address.
pub(crate) fn via(name: &str, keys: &[&str], settings: &str, servers: &[&str]) -> String {
    let text = policy(keys, &format!("name: {name}\n{settings}"), servers, 80);
    let text = text.replacen("    interval:", "    via: vip\n    interval:", 1);
    assert!(text.contains("via: vip"), "{text}");
    text
}

pub(crate) fn lets_in(site: &Site, value: &str) {
    site.director.sysctl("net/ipv4/conf/eth0/accept_local", value);
}

/// Takes the virtual address from a real server's `lo`, or gives it back.
fn hold(site: &Site, index: usize, vip: &str, is_held: bool) {
    let deed = if is_held { "add" } else { "del" };
    site.servers[index].machine().shell(&format!("ip addr {deed} {vip}/32 dev lo"));
}

pub(crate) fn sees_a_missing_address() {
    let site = Site::new();
    let all = site.addresses();
    hold(&site, 3, VIP1, false);
    hold(&site, 3, VIP2, false);
    let settings = "forwarding: direct\nweight: 80";
    let ordinary = policy(&[ORDINARY], &format!("name: ordinary\n{settings}"), &all, 80);
    let text = via("www", &[KEY], settings, &all);
    let policies = Policies::new("www.yaml", &format!("{ordinary}---\n{text}"));

    // Without `accept_local` nothing is known of anybody, and it is said why.
    let daemon = Daemon::start(&policies, &[]);
    let whole = direct(&[ORDINARY], 80, &all);
    let lines = |in_www: &[&str]| {
        let mut lines = whole.clone();
        lines.extend(direct(&[KEY], 80, in_www));
        lines
    };
    site.table.until_exactly("an ordinary probe sees nothing", PATIENCE, &lines(&[]));
    let told = until_status("it is said what to do", |status| {
        status.services[1]
            .destinations
            .iter()
            .all(|it| it.why.contains("run `sysctl -w net.ipv4.conf.eth0.accept_local=1`"))
    });
    println!("  {}", told.services[1].destinations[0].why);

    // A strict rp_filter is in the way of an address on another interface, and only of that.
    site.director.shell(&format!("ip addr del {VIP1}/32 dev eth0 && ip addr add {VIP1}/32 dev lo"));
    site.director.sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    lets_in(&site, "1");
    until_status("and about rp_filter", |status| {
        status.services[1].destinations[0].why.contains("net.ipv4.conf.eth0.rp_filter=2")
    });
    assert_eq!(site.table.lines(), lines(&[]));
    site.director.shell(&format!("ip addr del {VIP1}/32 dev lo && ip addr add {VIP1}/32 dev eth0"));

    // The one without the virtual address is out, although its own address answers.
    site.table.until_exactly("three are in", PATIENCE, &lines(&all[..3]));
    until_status("the fourth is down", |status| {
        status.services[1].destinations[3].health == pointsman::health::Health::Down
    });
    let status_now = status();
    let why = &status_now.services[1].destinations[3].why;
    println!("  {why}");
    assert!(why.starts_with("through 202.96.128.166:80: not connected"), "{why}");
    assert!(status_now.degraded.iter().any(|it| it.contains("real servers down")));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    hold(&site, 3, VIP1, true);
    hold(&site, 3, VIP2, true);
    site.table.until_exactly("all four", PATIENCE, &lines(&all));
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);

    // One that stands there dead is seen as by any probe.
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    println!("  {} requests, 0 failed", requests.0.len());
    site.servers[0].turn(Mode::Hang);
    let mut dead = direct(&[ORDINARY, KEY], 80, &all[1..]);
    site.table.until_exactly("one is dead", PATIENCE, &dead);
    site.servers[0].turn(Mode::Serve);
    site.table.until_exactly("and back", PATIENCE, &lines(&all));
    dead.clear();

    // What is found wanting later holds what there is.
    lets_in(&site, "0");
    until_status("it is noticed", |status| {
        status.real_servers.iter().any(|server| {
            let last = server.checks[0].last.as_ref();
            last.is_some_and(|last| last.detail.contains("accept_local"))
        })
    });
    assert_eq!(site.table.lines(), lines(&all));
    lets_in(&site, "1");

    // It is hidden unless asked for.
    let text = |args: &[&str]| {
        let output = program("status").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!text(&[]).contains("fwmark"), "{}", text(&[]));
    let all_of_it = text(&["--all"]);
    assert_eq!(all_of_it.matches("fwmark://1886").count(), 4, "{all_of_it}");

    // A restart finds everything as it was.
    let tap = site.tap();
    daemon.kill();
    let (mark, begun) = (tap.mark(), now());
    let daemon = Daemon::start(&policies, &[]);
    until_status("all have a verdict", |status| {
        let up = |it: &pointsman::control::status::RealServerStatus| {
            it.health == pointsman::health::Health::Up
        };
        status.real_servers.iter().all(up) && status.probes.started > 16
    });
    assert_eq!(site.table.states_since(begun), [lines(&all)]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());

    // And without the check, its ways go.
    policies.replace(
        "www.yaml",
        &format!("{ordinary}---\n{}", policy(&[KEY], &format!("name: www\n{settings}"), &all, 80)),
    );
    until_status("reloaded", |status| status.policies.reloads == 1);
    site.table.until_private("no way is left", 0);
    drop(daemon);
}

pub(crate) fn goes_as_users_do() {
    let site = Site::new();
    lets_in(&site, "1");
    for server in &site.servers {
        server.machine().unpack_ipip();
    }
    let all = site.addresses();
    let addresses6: Vec<_> = site.addresses6.iter().map(String::as_str).collect();
    let key6 = format!("\"{KEY6}\"");
    let masq = via("masq", &[ORDINARY], "forwarding: masq", &all);
    let tunnel = via("tunnel", &[KEY], "forwarding: tunnel", &all);
    let inet6 = via("six", &[&key6], "forwarding: direct", &addresses6);
    hold(&site, 3, VIP1, false);
    site.servers[3].machine().shell(&format!("ip -6 addr del {VIP6}/128 dev lo"));
    let policies = Policies::new("all.yaml", &format!("{masq}---\n{tunnel}---\n{inet6}"));
    let _daemon = Daemon::start(&policies, &[]);
    let lines = |number: usize| -> Lines {
        let of = |text: &str| {
            all.iter().map(|it| format!("{it}:80 weight 1 {text}")).collect::<Vec<_>>()
        };
        let mut lines = services(&[ORDINARY], "rr", &of("masq"));
        lines.extend(services(&[KEY], "rr", &of("tunnel ipip")[..number]));
        let six = addresses6[..number].iter().map(|it| format!("[{it}]:80 weight 1 direct"));
        lines.extend(services(&[KEY6], "rr", &six.collect::<Vec<_>>()));
        lines
    };
    site.table.until_exactly("the fourth has no virtual address", PATIENCE, &lines(3));
    let traffic =
        site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP2}:80"), &format!("[{VIP6}]:80")]);
    hold(&site, 3, VIP1, true);
    site.servers[3].machine().shell(&format!("ip -6 addr add {VIP6}/128 dev lo nodad"));
    site.table.until_exactly("all of them", PATIENCE, &lines(4));
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    println!("  {} requests, 0 failed", requests.0.len());
}

/// IPVS remembers from which port it led where. A probe that got the port of another one would
/// meet the other's real server: one that is out of order would take down those that are well.
pub(crate) fn never_takes_another_ones_way() {
    const ROUNDS: u64 = 25;
    let site = Site::new();
    lets_in(&site, "1");
    hold(&site, 3, VIP1, false);
    site.director.sysctl("net/ipv4/ip_local_port_range", "40000 40127");
    let all = site.addresses();
    let policies = Policies::new("www.yaml", &via("www", &[KEY], "forwarding: direct", &all));
    let daemon = Daemon::start(&policies, &[]);
    until_status("ports have come round", |status| status.probes.started > 4 * ROUNDS);
    let mut turns = daemon.transitions();
    turns.sort();
    let turned = |(address, to): (&&str, &str)| format!("{address}:80 {to}");
    let expected: Vec<_> = all.iter().zip(["up", "up", "up", "down"]).map(turned).collect();
    assert_eq!(turns, expected);
}

/// A director that does not have the virtual address itself, as a backup, lets every answer in;
/// datagrams go through it too, and `source` is taken as written.
pub(crate) fn asks_as_a_backup() {
    let site = Site::new();
    let all = site.addresses();
    site.director.shell(&format!("ip addr del {VIP1}/32 dev eth0"));
    site.director.shell("ip route add default dev eth0");
    site.servers.iter().for_each(answer_datagrams);
    hold(&site, 3, VIP1, false);
    let www = via("www", &[KEY], "forwarding: direct", &all)
        .replace("    via: vip", "    via: vip\n    source: 192.168.16.1");
    let names = policy(&[DATAGRAMS], "name: names\nforwarding: direct", &all, 80);
    let (head, check) = names.split_once("- http").unwrap();
    let timing = check.split_once('\n').unwrap().1;
    let names = format!("{head}- udp: {{ send: hello, expect: rs }}\n    via: vip\n{timing}");
    let policies = Policies::new("all.yaml", &format!("{www}---\n{names}"));
    let _daemon = Daemon::start(&policies, &[]);
    let mut lines = direct(&[KEY, DATAGRAMS], 1, &all[..3]);
    site.table.until_exactly("the fourth has no virtual address", PATIENCE, &lines);
    until_status("the fourth is down", |status| status.count(pointsman::health::Health::Down) == 2);
    hold(&site, 3, VIP1, true);
    lines.extend(direct(&[KEY, DATAGRAMS], 1, &all[3..]));
    site.table.until_exactly("all of them", PATIENCE, &lines);
}

/// From the address they were sent to, which a server of several addresses must see to.
fn answer_datagrams(server: &RealServer) {
    let socket = server.machine().within(|| UdpSocket::bind((VIP1, 54)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(b"rs", peer);
        }
    });
}
