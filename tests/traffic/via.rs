//! Probes through the virtual address: they see what a probe of the real server's own address does
//! not, and the director's own shortcomings are no failures.

use std::collections::BTreeMap;

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, policy, program, status, until_status};
use crate::observer::{Lines, direct, services};
use crate::server::Mode;
use crate::site::{Site, VIP1, VIP2, VIP6};

const KEY: &str = "tcp://202.96.128.166:80";
const ORDINARY: &str = "tcp://221.5.88.88:80";
const KEY6: &str = "tcp://[2001:db8:1::1]:80";

/// A policy whose check goes through the virtual address.
fn via(name: &str, keys: &[&str], settings: &str, servers: &[&str]) -> String {
    let text = policy(keys, &format!("name: {name}\n{settings}"), servers, 80);
    let text = text.replacen("    interval:", "    via: vip\n    interval:", 1);
    assert!(text.contains("via: vip"), "{text}");
    text
}

fn lets_in(site: &Site, value: &str) {
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
    lets_in(&site, "1");
    site.director.sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    until_status("and about rp_filter", |status| {
        status.services[1].destinations[0].why.contains("net.ipv4.conf.eth0.rp_filter=0")
    });
    site.director.sysctl("net/ipv4/conf/eth0/rp_filter", "0");

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
