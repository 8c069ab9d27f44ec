//! What operators say of a real server, under load: carried out without a failed request, over
//! `kill -9` and a new start, and taken back the same way.

use std::time::Duration;

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, order, policy, until_status};
use crate::observer::{Lines, direct, holds};
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEYS: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];
/// How long one that is to end by itself lasts.
const SHORT: Duration = Duration::from_secs(5);

pub(crate) fn by_an_operator() {
    let site = Site::new();
    // The director sees only one half of a connection under direct routing, and remembers a
    // closed one for two minutes unless told otherwise.
    site.by_hand("--set 900 1 300");
    let all = site.addresses();
    let settings = "forwarding: direct\nweight: 80\ndrain: { deadline: 20s }";
    let policies = Policies::new("www.yaml", &policy(&KEYS, settings, &all, 80));
    let daemon = Daemon::start(&policies, &["--resync", "500ms"]);
    let full = direct(&KEYS, 80, &all);
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);

    // Out gently, over a death of the daemon, and back.
    let begun = now();
    let told = order(&["drain", "www", all[0], "--reason", "disk swap"]);
    assert!(told.contains("in 2 virtual services; it is removed when its connections are gone"));
    let without = direct(&KEYS, 80, &all[1..]);
    site.table.until_exactly("drained", PATIENCE, &without);
    for lines in site.table.states_since(begun) {
        let rest = all[1..].iter().all(|address| weighs(&lines, address, 80));
        assert!(rest, "the others were touched: {lines:#?}");
    }
    let shown = until_status("it is shown", |status| status.overrides.len() == 1);
    println!("  {}", shown.overrides[0].line());
    assert!(shown.degraded.is_empty(), "{:?}", shown.degraded);
    daemon.kill();
    traffic.carry_on(50);
    let begun = now();
    let daemon = Daemon::start(&policies, &["--resync", "500ms"]);
    until_status("verdicts", |status| status.count(pointsman::health::Health::Up) == 4);
    traffic.carry_on(100);
    assert_eq!(
        site.table.states_since(begun),
        std::slice::from_ref(&without),
        "a restart forgot it"
    );
    order(&["enable", "www", all[0]]);
    site.table.until_exactly("back", PATIENCE, &full);
    traffic.hears(&["rs232"]);

    // Another weight, nothing at all, and the weight again when its time is up.
    order(&["weight", "www", all[1], "8"]);
    site.table.until("less", PATIENCE, |lines| weighs(lines, all[1], 8));
    traffic.carry_on(100);
    order(&["weight", "www", all[1], "0", "--for", "5s"]);
    let quiesced = site.table.until("nothing new", PATIENCE, |lines| weighs(lines, all[1], 0));
    let over = site.table.until_exactly("over", SHORT + PATIENCE, &full);
    println!("  an override of {SHORT:?} was over {:?} after it began", over - quiesced);
    traffic.hears(&["rs233"]);
    daemon.until_log("its end is logged", |line| line.message.starts_with("override ended"));

    // A weight is not a verdict: who is down stays out.
    order(&["weight", "www", all[2], "200"]);
    site.table.until("more", PATIENCE, |lines| weighs(lines, all[2], 200));
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    site.servers[2].turn(Mode::Unavailable);
    site.table.until("down is down", PATIENCE, |lines| !holds(lines, all[2]));
    site.servers[2].turn(Mode::Serve);
    site.table.until("and up is up", PATIENCE, |lines| weighs(lines, all[2], 200));
    order(&["enable", "www", all[2]]);
    site.table.until_exactly("as declared", PATIENCE, &full);

    // Out at once: only who was being served there just then may notice.
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs235"]);
    let begun = now();
    order(&["disable", "www", all[3]]);
    let gone = site.table.until_exactly("out", PATIENCE, &direct(&KEYS, 80, &all[..3]));
    traffic.carry_on(100);
    order(&["enable", "www", all[3]]);
    site.table.until_exactly("in again", PATIENCE, &full);
    traffic.hears(&["rs235"]);
    site.assert_none_failed(&traffic.stop(), |it| it.begun <= gone && it.ended >= begun);
}

fn weighs(lines: &Lines, address: &str, weight: u32) -> bool {
    KEYS.iter().all(|key| {
        let port = key.rsplit_once(':').unwrap().1;
        lines.contains(&format!("{key} {address}:{port} weight {weight} direct"))
    })
}
