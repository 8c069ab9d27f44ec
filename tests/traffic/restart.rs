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
    // A verdict is on record within about a second. Who is killed before that has told it to the
    // table alone.
    daemon.kill();
    daemon = start();

    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    let (mark, begun) = (tap.mark(), now());
    for round in 0..=ROUNDS {
        if round > 0 {
            daemon.kill();
            traffic.carry_on(50);
            daemon = start();
        }
        until_status("a verdict on everyone that is right", |status| {
            let health = status.real_servers.iter().map(|server| server.health);
            health.eq([Health::Up, Health::Up, Health::Up, Health::Down])
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

    // The same for one that has just come back.
    let mut daemon = start();
    site.servers[3].turn(Mode::Serve);
    site.table.until_exactly("all in again", PATIENCE, &direct(&KEYS, 80, &all));
    daemon.kill();
    let (mark, begun) = (tap.mark(), now());
    daemon = start();
    until_status("all up", |status| {
        status.real_servers.iter().all(|server| server.health == Health::Up)
    });
    assert_eq!(site.table.states_since(begun), [direct(&KEYS, 80, &all)]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());
    site.servers[3].turn(Mode::Unavailable);
    site.table.until_exactly("one out", PATIENCE, &direct(&KEYS, 80, &all[..3]));
    assert_eq!(daemon.stop().code(), Some(0));

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

/// A file is lost while nobody runs: the next start does not remove what it declared, users do not
/// notice, and it goes when somebody says that it is meant.
pub(crate) fn half_of_the_policies_lost() {
    const OTHER: [&str; 1] = ["tcp://221.5.88.88:80"];
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let settings = "forwarding: direct\ndrain: { deadline: 1s }";
    let policies = Policies::new("www.yaml", &policy(&KEYS, settings, &all, 80));
    policies.write("more.yaml", &policy(&OTHER, "forwarding: direct", &all, 80));
    let daemon = Daemon::start(&policies, &[]);
    let mut full = direct(&KEYS, 1, &all);
    full.extend(direct(&OTHER, 1, &all));
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    assert_eq!(daemon.stop().code(), Some(0));
    policies.remove("www.yaml");
    let mark = tap.mark();

    let daemon = Daemon::start(&policies, &["--resync", "500ms"]);
    let held = until_status("the start is held", |status| {
        status.degraded.iter().any(|line| line.starts_with("start held: "))
    });
    println!("  {}", held.degraded.join("; "));
    traffic.carry_on(200);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());
    let errors = daemon.log().into_iter().filter(|line| line.message.starts_with("start held: "));
    assert_eq!(errors.count(), 1);

    // What is declared is looked after all the same.
    site.servers[3].turn(Mode::Unavailable);
    let gone = format!("{} {}:80 weight 1 direct", OTHER[0], all[3]);
    site.table.until("the dead is out", PATIENCE, |lines| !lines.contains(&gone));
    site.servers[3].turn(Mode::Serve);
    site.table.until_exactly("all in again", PATIENCE, &full);
    let requests = traffic.stop();
    // Nobody probes what no policy declares.
    site.assert_none_failed(&requests, |it| it.answer.as_ref().is_err_and(|it| it.contains("503")));

    let confirmed = crate::daemon::program("confirm").arg("--yes").output().unwrap();
    assert!(confirmed.status.success(), "{confirmed:?}");
    println!("  {}", String::from_utf8_lossy(&confirmed.stdout).lines().last().unwrap());
    site.table.until_exactly("they are gone", PATIENCE, &direct(&OTHER, 1, &all));
    drop(daemon);
}
