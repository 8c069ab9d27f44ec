//! Edits of the policies under load. A good one disturbs nobody but what it removes; a bad one
//! changes nothing and is shown with its place.

use std::collections::BTreeMap;
use std::fs;

use pointsman::control::rates::RatesStatus;

use crate::clock::{PATIENCE, now, until};
use crate::daemon::{Daemon, Policies, metrics, policy, program, total, until_status};
use crate::observer::{direct, holds};
use crate::site::{Site, VIP1, VIP2};

const FIRST: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];
const SECOND: [&str; 1] = ["tcp://221.5.88.88:80"];

pub(crate) fn servers_and_weights() {
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let policies = Policies::new("www.yaml", &www(80, &all[..3]));
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("three in", PATIENCE, &direct(&FIRST, 80, &all[..3]));
    let asked = [&format!("{VIP1}:80")[..], &format!("{VIP1}:443")];
    let traffic = site.traffic(&asked);
    traffic.hears(&["rs232", "rs233", "rs234"]);
    let mut mark = tap.mark();
    let mut wrote = |expected: &[(&'static str, usize)]| {
        let writes = tap.writes_since(mark);
        assert_eq!(writes, BTreeMap::from_iter(expected.iter().copied()));
        mark = tap.mark();
    };

    policies.write("www.yaml", &www(40, &all[..3]));
    site.table.until_exactly("weights edited", PATIENCE, &direct(&FIRST, 40, &all[..3]));
    wrote(&[("set destination", 6)]);

    policies.replace("www.yaml", &www(40, &all));
    site.table.until_exactly("one more", PATIENCE, &direct(&FIRST, 40, &all));
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    wrote(&[("new destination", 2)]);

    // Two services let it go, each when its last connection is gone or the time is up.
    policies.replace("www.yaml", &www(40, &all[1..]));
    site.table.until_exactly("one less", PATIENCE, &direct(&FIRST, 40, &all[1..]));
    traffic.carry_on(100);
    wrote(&[("delete destination", 2), ("set destination", 2)]);

    let second = "forwarding: direct\ndrain: { deadline: 1s }";
    policies.write("more.yaml", &policy(&SECOND, second, &all[1..], 80));
    let mut both = direct(&FIRST, 40, &all[1..]);
    both.extend(direct(&SECOND, 1, &all[1..]));
    site.table.until_exactly("a drop-in more", PATIENCE, &both);
    traffic.turn_to(&[asked[0], asked[1], &format!("{VIP2}:80")]);
    traffic.carry_on(100);
    wrote(&[("new destination", 3), ("new service", 1)]);

    traffic.turn_to(&asked);
    traffic.carry_on(50);
    policies.remove("more.yaml");
    site.table.until_exactly("a drop-in less", PATIENCE, &direct(&FIRST, 40, &all[1..]));
    traffic.carry_on(50);
    wrote(&[("set destination", 3), ("delete service", 1)]);

    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    // Nobody lost their health by an edit.
    let mut turns = daemon.transitions();
    turns.sort();
    assert_eq!(turns, all.iter().map(|address| format!("{address}:80 up")).collect::<Vec<_>>());
}

pub(crate) fn refused() {
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let good = www(80, &all);
    let policies = Policies::new("www.yaml", &good);
    let daemon = Daemon::start(&policies, &[]);
    let full = direct(&FIRST, 80, &all);
    site.table.until_exactly("all in", PATIENCE, &full);
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let (mark, begun) = (tap.mark(), now());

    let file = policies.directory.join("www.yaml").display().to_string();
    let misspelt = good.replace("scheduler:", "schedular:");
    let wrong = good.replace(all[2], "www.example.com");
    let twice = good.replace(all[2], all[1]);
    for (text, place, what) in [
        (misspelt.as_str(), ":4:1", "scheduler"),
        (&wrong, ":11:5", "`www.example.com`"),
        (&twice, ":11:5", "192.168.16.233"),
        ("virtual_services: [\n", "", ""),
        ("", "", ""),
    ] {
        policies.replace("www.yaml", text);
        let problem = is_refused(&format!("{text:?}"));
        assert!(problem.contains(&format!("{file}{place}")), "{place}: {problem}");
        assert!(problem.contains(what), "{what}: {problem}");
        traffic.carry_on(20);
        policies.write("www.yaml", &good);
        is_accepted();
    }

    // The last policy goes, then the directory with it.
    policies.remove("www.yaml");
    is_refused("an empty directory");
    fs::remove_dir(&policies.directory).unwrap();
    let problem = until_status("the loss is seen", |status| {
        let refused = status.policies.refused.as_ref();
        refused.is_some_and(|it| it.problems[0].contains("no such file or directory"))
    });
    assert!(problem.is_degraded());
    traffic.carry_on(20);
    fs::create_dir(&policies.directory).unwrap();
    policies.write("www.yaml", &good);
    is_accepted();

    // The kernel's estimate of what goes on now; answers do not pass the director.
    let busy = |rates: Option<RatesStatus>| {
        rates.is_some_and(|it| it.connections > 0 && it.bytes_in > 40 && it.bytes_out.is_none())
    };
    until_status("the traffic has a rate", |status| {
        let all = status.services.iter().filter(|service| busy(service.rates));
        all.flat_map(|service| &service.destinations).any(|it| busy(it.rates))
    });
    assert_eq!(site.table.states_since(begun), [full]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    // Each request was a connection; the kernel adds them up every two seconds.
    let made = requests.count() as u64;
    let page = until("every connection is counted", PATIENCE, || {
        let page = metrics();
        let families = ["service", "destination"]
            .map(|of| total(&page, &format!("pointsman_{of}_new_connections_total{{"), ""));
        (families == [made, made]).then_some(page)
    });
    assert!(total(&page, "pointsman_service_bytes_total{", "\"in\"") > 40 * made);
    // Answers do not pass the director.
    assert!(!page.contains("direction=\"out\""), "{page}");
    let refusals = daemon.log().into_iter().filter(|it| it.message.starts_with("reload refused"));
    assert!(refusals.clone().count() >= 7);
    assert!(refusals.into_iter().all(|line| line.level == "ERROR"));

    // After all that it still follows.
    policies.write("www.yaml", &www(80, &all[1..]));
    site.table.until("a good edit", PATIENCE, |lines| !holds(lines, all[0]));
}

/// Waits until the last edit is refused; the first problem with it.
fn is_refused(what: &str) -> String {
    let status = until_status(&format!("{what} is refused"), |it| it.policies.refused.is_some());
    let output = program("status").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let problem = status.policies.refused.unwrap().problems.remove(0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("REFUSED"), "{text}");
    assert!(text.contains(problem.lines().next().unwrap()), "{text}");
    problem
}

fn is_accepted() {
    let status = until_status("the good policy is back", |it| it.policies.refused.is_none());
    assert!(!status.is_degraded());
}

fn www(weight: u32, servers: &[&str]) -> String {
    let settings = format!("forwarding: direct\nweight: {weight}\ndrain: {{ deadline: 2s }}");
    policy(&FIRST, &settings, servers, 80)
}
