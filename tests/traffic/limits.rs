//! Never worse than doing nothing: the health floor and the sorry server, under load.

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, policy, until_status};
use crate::observer::{Lines, direct, holds};
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEY: [&str; 1] = ["tcp://202.96.128.166:80"];

/// A check that is wrong about everybody takes no more than half of them out, and nobody notices.
pub(crate) fn floor_keeps() {
    let site = Site::new();
    let all = site.addresses();
    let settings = "forwarding: direct\non_down: quiesce\nhealth_floor: { min_up: 50% }";
    let good = policy(&KEY, settings, &all, 80);
    let policies = Policies::new("www.yaml", &good);
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &direct(&KEY, 1, &all));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    // The page has moved; the real servers are well.
    policies.replace("www.yaml", &good.replace("host: www", "expect: { status: 404 }, host: www"));
    let shown = until_status("the floor holds", |status| {
        let of_table = status.services[0].destinations.iter();
        let rows = of_table.filter(|row| row.weight_kernel == Some(1));
        status.degraded.iter().any(|line| line.contains("health floor")) && rows.count() == 2
    });
    println!("  {}", shown.degraded.join("; "));
    traffic.carry_on(100);
    let kept = site.table.lines();
    let taking = kept.iter().filter(|line| line.ends_with("weight 1 direct"));
    assert_eq!(taking.count(), 2, "two of four: {kept:?}");
    policies.replace("www.yaml", &good);
    site.table.until_exactly("all in again", PATIENCE, &direct(&KEY, 1, &all));
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    site.assert_none_failed(&traffic.stop(), |_| false);
    drop(daemon);
}

/// The floor withdraws what is left, the sorry server answers meanwhile, and both ways nobody is
/// refused.
pub(crate) fn sorry_answers() {
    let site = Site::new();
    let all = site.addresses();
    let (servers, sorry) = (&all[..3], all[3]);
    let settings = format!(
        "forwarding: direct\nweight: 80\non_down: quiesce\ndrain: {{ deadline: 2s }}\n\
         health_floor: {{ min_up: 2, at_floor: withdraw, return_at: 3 }}\n\
         sorry_server: {{ address: {sorry}, weight: 1, checks: [{{ tcp: {{ port: 80 }} }}] }}"
    );
    let policies = Policies::new("www.yaml", &policy(&KEY, &settings, servers, 80));
    let daemon = Daemon::start(&policies, &[]);
    let full = direct(&KEY, 80, servers);
    site.table.until_exactly("three in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    // Slow is down for a probe, and no failure for a user who is patient.
    site.servers[0].turn(Mode::Slow);
    let quiesced = |lines: &Lines, address: &str| {
        lines.contains(&format!("{} {address}:80 weight 0 direct", KEY[0]))
    };
    site.table.until("one is down", PATIENCE, |lines| quiesced(lines, all[0]));
    assert!(!holds(&site.table.lines(), sorry), "two are left");
    let begun = now();
    site.servers[1].turn(Mode::Slow);
    site.table.until("all are withdrawn", PATIENCE, |lines| {
        servers.iter().all(|address| quiesced(lines, address))
            && lines.contains(&format!("{} {sorry}:80 weight 1 direct", KEY[0]))
    });
    traffic.hears(&["rs235"]);
    let shown = until_status("status says so", |status| status.degraded.len() >= 3);
    println!("  {}", shown.degraded.join("; "));
    // One recovers: two of three, and they come back when all three are up.
    site.servers[0].turn(Mode::Serve);
    until_status("two are up", |status| status.count(pointsman::health::Health::Up) == 2);
    traffic.carry_on(50);
    assert!(servers.iter().all(|address| quiesced(&site.table.lines(), address)));
    site.servers[1].turn(Mode::Serve);
    site.table.until_exactly("all back, and the sorry server is gone", PATIENCE, &full);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    for lines in site.table.states_since(begun) {
        let serves = |line: &String| line.contains(" direct") && !line.contains("weight 0");
        assert!(lines.iter().any(serves), "nobody was there: {lines:?}");
    }
    site.assert_none_failed(&traffic.stop(), |_| false);
    drop(daemon);
}
