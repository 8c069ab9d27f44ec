//! A policy file that was cut in half, under load: while the daemon runs, and while it does not.
//! Nothing goes until somebody has confirmed it.

use std::collections::BTreeMap;

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, order, policy, program, status, until_status};
use crate::observer::direct;
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEYS: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];

pub(crate) fn cut_in_half() {
    let site = Site::new();
    site.by_hand("--set 900 1 300");
    let tap = site.tap();
    let all = site.addresses();
    let settings = "forwarding: direct\nweight: 80\ndrain: { deadline: 5s }";
    let whole = policy(&KEYS, settings, &all, 80);
    // One of four real servers is left, in a policy that is as valid as the whole one.
    let (first, checks) = (whole.find(&format!("  - {}", all[1])), whole.find("checks:"));
    let cut = &format!("{}{}", &whole[..first.unwrap()], &whole[checks.unwrap()..]);
    let policies = Policies::new("www.yaml", &whole);
    let daemon = Daemon::start(&policies, &[]);
    let full = direct(&KEYS, 80, &all);
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);

    let (mark, begun) = (tap.mark(), now());
    policies.write("www.yaml", cut);
    let held = until_status("the reload is held", |status| status.policies.held.is_some());
    println!("  {}", held.degraded.join("; "));
    let reason = "newer policies held: they would remove 6 of 8 destinations, 3 of 4 of ";
    assert_eq!(held.degraded, [format!("{reason}{}", KEYS[0])]);
    let line = daemon.until_log("it is logged", |line| line.message.starts_with("reload held"));
    assert_eq!(line.level, "ERROR");
    traffic.carry_on(100);
    let asked = program("confirm").output().unwrap();
    assert_eq!(asked.status.code(), Some(2), "nobody at a terminal: {asked:?}");
    let shown = String::from_utf8(asked.stdout).unwrap();
    assert!(shown.contains("this would remove 6 of 8 destinations"), "{shown}");
    assert_eq!(site.table.states_since(begun), std::slice::from_ref(&full));
    assert_eq!(tap.writes_since(mark), BTreeMap::new());

    // Those before it are not only remembered: a verdict counts.
    policies.write("www.yaml", &whole);
    until_status("mended", |status| status.policies.held.is_none() && !status.is_degraded());
    policies.write("www.yaml", cut);
    until_status("held again", |status| status.policies.held.is_some());
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    site.servers[3].turn(Mode::Unavailable);
    site.table.until_exactly("one is down", PATIENCE, &direct(&KEYS, 80, &all[..3]));
    site.servers[3].turn(Mode::Serve);
    site.table.until_exactly("and back", PATIENCE, &full);

    // Confirmed, they leave as others do.
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let told = order(&["confirm", "--yes"]);
    assert!(told.contains("confirmed: "), "{told}");
    site.table.until_exactly("one is left", PATIENCE, &direct(&KEYS, 80, &all[..1]));
    traffic.carry_on(100);
    site.assert_none_failed(&traffic.stop(), |_| false);
    assert!(!status().is_degraded(), "{:?}", status().degraded);

    // The same while nobody looks.
    policies.write("www.yaml", &whole);
    site.table.until_exactly("all in again", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    daemon.kill();
    let begun = now();
    policies.write("www.yaml", cut);
    let daemon = Daemon::start(&policies, &[]);
    let held = until_status("it is held at the start", |status| status.is_degraded());
    println!("  {}", held.degraded.join("; "));
    traffic.carry_on(100);
    assert_eq!(site.table.states_since(begun), [full]);
    let told = order(&["confirm", "--yes"]);
    assert!(told.contains(&format!("{}:80", all[3])), "{told}");
    site.table.until_exactly("one is left", PATIENCE, &direct(&KEYS, 80, &all[..1]));
    traffic.carry_on(100);
    site.assert_none_failed(&traffic.stop(), |_| false);
    assert!(!status().is_degraded(), "{:?}", status().degraded);
    drop(daemon);
}
