//! `kill -9` and a new start, under load: not one write to the table, not one failed request, and
//! what happened meanwhile is not missed.

use std::collections::BTreeMap;

use pointsman::health::Health;

use crate::clock::{PATIENCE, SLACK, now};
use crate::daemon::{Daemon, FALL, INTERVAL, Policies, TIMEOUT, policy, status, until_status};
use crate::observer::{direct, holds};
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEYS: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];
const ROUNDS: usize = 3;

pub(crate) fn kill_and_restart() {
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let text = policy(&KEYS, "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let start = || Daemon::start(&policies, &["--resync", "500ms"]);
    let mut daemon = start();
    site.table.until_exactly("all in", PATIENCE, &direct(&KEYS, 80, &all));
    // One is down the whole time, and is not to get in by a restart.
    site.servers[3].turn(Mode::Unavailable);
    site.table.until_exactly("one out", PATIENCE, &direct(&KEYS, 80, &all[..3]));

    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    let (mark, begun) = (tap.mark(), now());
    for _ in 0..ROUNDS {
        daemon.kill();
        traffic.carry_on(50);
        daemon = start();
        until_status("a verdict on everyone", |status| {
            status.real_servers.iter().all(|server| server.health != Health::Unknown)
        });
        traffic.carry_on(100);
        let status = status();
        let counts = (status.table.changes, status.table.drift_repaired, status.table.refused);
        assert_eq!(counts, (0, 0, 0));
        assert_eq!(daemon.changes(), [""; 0]);
    }
    assert_eq!(daemon.stop().code(), Some(0));
    traffic.carry_on(50);
    assert_eq!(site.table.states_since(begun), [direct(&KEYS, 80, &all[..3])]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());
    site.assert_none_failed(&traffic.stop(), |_| false);

    // Who dies while nobody looks is out as soon after the start as after any other failure.
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    let failed = site.servers[0].turn(Mode::Hang);
    let started = now();
    let _daemon = start();
    let limit = INTERVAL * FALL + TIMEOUT + SLACK;
    let gone = site.table.until_exactly("the dead is out", limit, &direct(&KEYS, 80, &all[1..3]));
    println!("  died unseen: out {:?} after the start", gone - started);
    traffic.carry_on(50);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |it| it.ended >= failed && it.begun <= gone);
    assert!(!holds(&site.table.lines(), all[3]));
}
