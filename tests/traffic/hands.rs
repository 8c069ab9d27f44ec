//! Others at the same table: what they do to our services is repaired within a resync and counted;
//! services that are theirs are theirs, however odd; a service of ours that left the policies while
//! nobody ran is removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::clock::{PATIENCE, SLACK, now, until};
use crate::daemon::{Daemon, Policies, metrics, policy, status};
use crate::observer::{Lines, direct};
use crate::site::{Site, VIP1};

const HTTP: &str = "tcp://202.96.128.166:80";
const HTTPS: &str = "tcp://202.96.128.166:443";
const RESYNC: Duration = Duration::from_secs(1);
const ALERTS: &str = "/tmp/alerts.yaml";
const TOLD: &str = "/tmp/told";

/// What an operator might have there besides, by `ipvsadm`.
const FOREIGN: [&str; 6] = [
    "-A -t 203.0.113.9:99 -s sh -b sh-port -p 333 -M 255.255.255.0",
    "-a -t 203.0.113.9:99 -r 192.168.16.232:99 -i -w 7 -x 100 -y 50",
    "-A -f 77 -s lblc",
    "-A -u 202.96.128.166:53 -s rr -o",
    "-a -u 202.96.128.166:53 -r 192.168.16.233:5353 -m -w 0",
    "-A -t 202.96.128.166:0 -s mh -b mh-fallback -p 60",
];

/// What is done by hand and how many repairs it takes.
const DEEDS: [(&str, u64); 9] = [
    ("-d -t 202.96.128.166:80 -r 192.168.16.232:80", 1),
    ("-e -t 202.96.128.166:80 -r 192.168.16.233:80 -g -w 5", 1),
    ("-e -t 202.96.128.166:443 -r 192.168.16.234:443 -g -w 0", 1),
    ("-e -t 202.96.128.166:80 -r 192.168.16.235:80 -g -w 80 -x 9", 1),
    ("-e -t 202.96.128.166:80 -r 192.168.16.235:80 -m -w 80", 1),
    ("-E -t 202.96.128.166:80 -s lc -p 99", 1),
    ("-a -t 202.96.128.166:80 -r 192.168.16.77:80 -g -w 1", 1),
    ("-D -t 202.96.128.166:443", 5),
    ("-D -t 202.96.128.166:80", 5),
];

pub(crate) fn drift_is_repaired() {
    let site = Site::new();
    for deed in FOREIGN {
        site.by_hand(deed);
    }
    let foreign = site.table.lines();
    assert_eq!(foreign.len(), FOREIGN.len());
    let all = site.addresses();
    let settings = "forwarding: direct\nweight: 80\ndrain: { deadline: 1s }";
    let text = policy(&[HTTP, HTTPS], settings, &all, 80);
    let policies = Policies::new("www.yaml", &text);
    fs::write(TOLD, "").unwrap();
    fs::set_permissions(TOLD, fs::Permissions::from_mode(0o666)).unwrap();
    let alerts = format!(
        "receivers:\n  - {{ name: admin, wait: 0s, interval: 0s, command: [/bin/sh, -c, 'cat >> {TOLD}'] }}\n\
         routes:\n  - {{ kinds: [drift], policies: [www], to: [admin] }}\n"
    );
    fs::write(ALERTS, alerts).unwrap();
    let daemon = Daemon::start(&policies, &["--resync", "1s", "--alerts", ALERTS]);
    let ours = direct(&[HTTP, HTTPS], 80, &all);
    let everything: Lines = ours.union(&foreign).cloned().collect();
    site.table.until_exactly("all in", PATIENCE, &everything);

    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    let mut damages: Vec<(Instant, Instant)> = Vec::new();
    let mut repairs = 0;
    let mut suffer = |deed: &str, cost: u64, whole: &Lines| {
        traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
        let done = now();
        site.by_hand(deed);
        let repaired = site.table.until_exactly(deed, RESYNC + SLACK, whole);
        println!("  ipvsadm {deed}: repaired after {:?}", repaired - done);
        damages.push((done, repaired));
        repairs += cost;
        assert_eq!(status().table.drift_repaired, repairs, "{deed}");
    };
    for (deed, cost) in DEEDS {
        suffer(deed, cost, &everything);
    }
    assert!(site.table.states_since(now()).iter().all(|state| foreign.is_subset(state)));
    // This takes the foreign ones too, which nobody but their owner can bring back.
    suffer("-C", 10, &ours);
    for deed in FOREIGN {
        site.by_hand(deed);
    }

    // Who is told of drift hears of each, and of nothing else.
    let told = || fs::read_to_string(TOLD).unwrap();
    for (change, at) in [
        ("+", "tcp://202.96.128.166:80 192.168.16.232:80: "),
        ("~", "tcp://202.96.128.166:443 192.168.16.234:443: weight 0 → 80"),
        ("-", "tcp://202.96.128.166:80 192.168.16.77:80: "),
        ("+", "tcp://202.96.128.166:443: "),
    ] {
        let line = format!("somebody else changed the table; repaired: {change} {at}");
        until(&line, PATIENCE, || told().contains(&line).then_some(()));
    }
    assert!(!told().contains(" is down"), "{}", told());

    let log = daemon.log();
    let logged = log.iter().filter(|line| line.message.starts_with("drift repaired: "));
    assert_eq!(logged.clone().count() as u64, repairs);
    assert!(logged.into_iter().all(|line| line.level == "WARN"));
    assert_eq!(status().table.foreign.len(), 4);
    let page = metrics();
    for (family, number) in [("table_repairs_total", repairs), ("table_foreign_services", 4)] {
        let line = format!("\npointsman_{family} {number}\n");
        assert!(page.contains(&line), "no `{line}` in {page}");
    }

    // A service leaves the policies while nobody runs.
    assert_eq!(daemon.stop().code(), Some(0));
    policies.replace("www.yaml", &policy(&[HTTP], settings, &all, 80));
    traffic.turn_to(&[&format!("{VIP1}:80")]);
    traffic.carry_on(50);
    let daemon = Daemon::start(&policies, &[]);
    let left: Lines = everything.iter().filter(|line| !line.starts_with(HTTPS)).cloned().collect();
    site.table.until_exactly("the service that left is gone", PATIENCE, &left);
    traffic.carry_on(50);
    let changes = daemon.changes();
    let (lowered, removed) = changes.split_at(4);
    let is_lowered =
        |line: &String| line.starts_with(&format!("~ {HTTPS} ")) && line.contains("→ 0;");
    assert!(lowered.iter().all(is_lowered), "{lowered:#?}");
    let gone =
        format!("- {HTTPS}: rr, with its 4 destinations; no policy declares it; drain deadline");
    assert!(removed.len() == 1 && removed[0].starts_with(&gone), "{removed:#?}");
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |it| {
        damages.iter().any(|(done, repaired)| it.ended >= *done && it.begun <= *repaired)
    });
}
