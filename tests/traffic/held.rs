//! A director that is ill itself: its own cable to everybody is pulled, and every real server looks
//! dead. The table is held, so that all is well the moment the cable is back.

use std::time::Duration;

use pointsman::health::Health;

use crate::client::Request;
use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, answer, policy, program, status, until_status};
use crate::observer::direct;
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEYS: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];
const ALL: [&str; 4] = ["rs232", "rs233", "rs234", "rs235"];

pub(crate) fn own_cable_pulled() {
    pull_cable(&["--blast-limit", "2"]);
}

/// The limit as it is by default, which of so few takes all of them.
pub(crate) fn own_cable_of_a_small_farm() {
    pull_cable(&[]);
}

fn pull_cable(args: &[&str]) {
    let site = Site::new();
    let all = site.addresses();
    let full = direct(&KEYS, 80, &all);
    let text = policy(&KEYS, "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, args);
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&ALL);

    let pulled = now();
    site.director.plug(false);
    let alarm = daemon.until_log("the alarm", |line| line.level == "ERROR");
    assert!(alarm.message.starts_with("BLAST-RADIUS LIMIT"), "{alarm:?}");
    until_status("everybody is down, and in", |status| {
        status.real_servers.iter().all(|server| server.health == Health::Down)
            && status.alarm.as_ref().is_some_and(|alarm| alarm.held == all.len())
    });
    site.table.until_exactly("held", PATIENCE, &full);
    // It lasts for many rounds of probes.
    let held = now();
    traffic.carry_on(500);
    let told = status().degraded.join("\n");
    assert!(told.contains("`pointsman release`"), "{told}");

    let plugged = now();
    site.director.plug(true);
    traffic.hears(&ALL);
    until_status("the alarm is over", |status| {
        status.alarm.is_none() && status.real_servers.iter().all(|it| it.health == Health::Up)
    });
    traffic.carry_on(100);
    assert_eq!(site.table.states_since(held), [full], "not one change since it was held");
    let requests = traffic.stop();
    let after = |name: &str| {
        let by = |it: &&Request| it.begun >= plugged && it.answer.as_deref() == Ok(name);
        requests.0.iter().find(by).unwrap().ended
    };
    // Until then neighbours may still be asked for their hardware addresses, once a second.
    let flows = ALL.map(after).into_iter().max().unwrap();
    println!(
        "  cable out for {:?}; all answer {:?} after the plug",
        plugged - pulled,
        flows - plugged
    );
    site.assert_none_failed(&requests, |it| it.ended >= pulled && it.begun < flows);
}

/// The same when the failures are real, and an operator says so.
pub(crate) fn released() {
    let site = Site::new();
    let all = site.addresses();
    let full = direct(&KEYS, 80, &all);
    let text = policy(&KEYS, "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &["--blast-limit", "1"]);
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&ALL);
    let failed = now();
    for server in &site.servers[..2] {
        server.turn(Mode::Unavailable);
    }
    daemon.until_log("the alarm", |line| line.message.starts_with("BLAST-RADIUS LIMIT"));
    site.table.until_exactly("held", PATIENCE, &full);
    let said = now();
    let output = answer(&mut program("release"));
    let gone = site.table.until_exactly("out", PATIENCE, &direct(&KEYS, 80, &all[2..]));
    println!("  released: out {:?} after it was said", gone - said);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told, "released: 2 of 4 check targets count as down now\n");
    traffic.carry_on(100);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |it| it.ended >= failed && it.begun <= gone);
    assert!(requests.0.iter().any(|it| it.begun > gone + Duration::from_millis(100)));
}

/// `kill -9` and a new start with one real server known to be down: it is known from the first
/// moment, not found out anew, and nobody notices. Then the same with an empty table, as after a
/// boot: those that were up are in without a probe, and the one that was down is not.
pub(crate) fn known_down() {
    let site = Site::new();
    let all = site.addresses();
    let text = policy(&KEYS, "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let rest = direct(&KEYS, 80, &all[..3]);
    let mut daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &direct(&KEYS, 80, &all));
    site.servers[3].turn(Mode::Unavailable);
    site.table.until_exactly("one out", PATIENCE, &rest);
    let down = daemon.until_log("down", |line| line.field("to") == "down").message;
    assert_eq!(down, "transition");
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&ALL[..3]);
    traffic.carry_on(200);
    let begun = now();
    for round in 0..3 {
        daemon.kill();
        traffic.carry_on(50);
        daemon = Daemon::start(&policies, &[]);
        let status = until_status("an answer", |_| true);
        let known = |server: usize| &status.real_servers[server];
        assert!((0..3).all(|server| known(server).health == Health::Up), "{round}: {status:#?}");
        assert_eq!(known(3).health, Health::Down, "{round}: {status:#?}");
        traffic.carry_on(100);
        assert_eq!(daemon.transitions(), [""; 0], "it was found out anew");
        assert_eq!(daemon.changes(), [""; 0]);
    }
    assert_eq!(site.table.states_since(begun), std::slice::from_ref(&rest));
    site.assert_none_failed(&traffic.stop(), |_| false);

    daemon.kill();
    site.by_hand("-C");
    // Nobody answers a probe in time.
    for server in &site.servers {
        server.turn(Mode::Slow);
    }
    let started = now();
    let daemon = Daemon::start(&policies, &[]);
    let filled = site.table.until_exactly("filled", PATIENCE, &rest);
    println!("  after a boot: filled {:?} after the start", filled - started);
    let probed = site.servers.iter().flat_map(|server| server.probes_since(started)).count();
    assert_eq!(probed, 0, "filled by what was known");
    drop(daemon);
}
