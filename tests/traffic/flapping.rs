//! A real server that keeps going down and coming up, under load: with damping it is held down
//! although it passes, and while it is held nobody's request fails.

use std::time::Duration;

use crate::clock::PATIENCE;
use crate::daemon::{Daemon, Policies, policy, until_status};
use crate::observer::{direct, holds};
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEY: [&str; 1] = ["tcp://202.96.128.166:80"];
const HOLD: Duration = Duration::from_secs(6);

pub(crate) fn is_held_down() {
    let site = Site::new();
    let all = site.addresses();
    let text = policy(&KEY, "forwarding: direct\nweight: 80", &all, 80)
        + "    damping: { changes: 3, window: 2m, hold: 6s, max_hold: 12s }\n";
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &[]);
    let (full, without) = (direct(&KEY, 80, &all), direct(&KEY, 80, &all[1..]));
    site.table.until_exactly("all in", PATIENCE, &full);
    let victim = &site.servers[0];

    // Down, up, down: the third change is one too many.
    victim.turn(Mode::Unavailable);
    site.table.until_exactly("out", PATIENCE, &without);
    victim.turn(Mode::Serve);
    site.table.until_exactly("in", PATIENCE, &full);
    victim.turn(Mode::Unavailable);
    let held = site.table.until_exactly("out again", PATIENCE, &without);
    victim.turn(Mode::Serve);
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    let shown = until_status("it passes and is held", |status| {
        let check = &status.real_servers[0].checks[0];
        let hold = check.damping.as_ref().and_then(|damping| damping.held_for);
        hold.is_some() && check.streak >= 2
    });
    println!("  {}", shown.services[0].destinations[0].why);
    let back = site.table.until("it is back", HOLD + PATIENCE, |lines| holds(lines, all[0]));
    println!("  held down for {:?} of at least {HOLD:?}", back - held);
    assert!(back - held >= HOLD - Duration::from_secs(1), "{:?}", back - held);
    traffic.hears(&["rs232"]);
    site.assert_none_failed(&traffic.stop(), |_| false);
    // One more failure, and it is held for twice as long.
    victim.turn(Mode::Unavailable);
    site.table.until_exactly("out once more", PATIENCE, &without);
    let shown = until_status("for longer", |status| {
        let damping = status.real_servers[0].checks[0].damping.as_ref();
        damping.is_some_and(|damping| damping.holds == 2)
    });
    let left = shown.real_servers[0].checks[0].damping.as_ref().unwrap().held_for.unwrap();
    assert!(left > HOLD.as_secs_f64(), "{left}");
    drop(daemon);
}
