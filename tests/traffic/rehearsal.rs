//! `run --dry-run` writes nothing and says what `run` then does, word for word; `plan` says the
//! same. The table they find is one that has been through much.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pointsman::health::Health;
use serde_json::Value;

use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Line, Policies, plan, policy, state, status, until_status};
use crate::observer::direct;
use crate::server::Mode;
use crate::site::{DIRECTOR, Site};

const HTTP: &str = "tcp://202.96.128.166:80";
const HTTPS: &str = "tcp://202.96.128.166:443";
const OTHER: &str = "tcp://221.5.88.88:80";

pub(crate) fn says_what_run_does() {
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let settings = "forwarding: direct\nweight: 80";
    let policies = Policies::new("www.yaml", &policy(&[HTTP, OTHER], settings, &all[..3], 80));
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("three in", PATIENCE, &direct(&[HTTP, OTHER], 80, &all[..3]));
    assert_eq!(daemon.stop().code(), Some(0));
    // `plan` asks by itself, so the others begin with no verdict either.
    fs::remove_file(Path::new(&state()).join(format!("health@{DIRECTOR}.json"))).unwrap();
    // Meanwhile a service leaves, one is new, a real server is new, one dies, and others edit.
    policies.replace("www.yaml", &policy(&[HTTP, HTTPS], settings, &all, 80));
    site.servers[1].turn(Mode::Unavailable);
    for deed in [
        "-E -t 202.96.128.166:80 -s wlc",
        "-e -t 202.96.128.166:80 -r 192.168.16.232:80 -g -w 5",
        "-e -t 202.96.128.166:80 -r 192.168.16.234:80 -m -w 80",
        "-a -t 202.96.128.166:80 -r 192.168.16.99:80 -g -w 1",
        "-A -t 203.0.113.9:99 -s sh -p 333",
    ] {
        site.by_hand(deed);
    }
    let before = site.table.lines();
    let (mark, begun) = (tap.mark(), now());

    let planned = changes_of_plan(&policies, 3);
    let rehearsal = Daemon::start(&policies, &["--dry-run"]);
    settled();
    assert!(status().dry_run);
    let has_left = |line: &Line| line.message.starts_with(&format!("- {OTHER}: "));
    rehearsal.until_log("what leaves has left", has_left);
    let rehearsed = rehearsal.changes();
    assert_eq!(rehearsal.stop().code(), Some(0));
    assert_eq!(site.table.states_since(begun), [before]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());

    let daemon = Daemon::start(&policies, &[]);
    settled();
    let mut ready = direct(&[HTTP, HTTPS], 80, &[all[0], all[2], all[3]]);
    ready.insert("tcp://203.0.113.9:99 sh persistent 333s/32".to_owned());
    site.table.until_exactly("as the policy says", PATIENCE, &ready);
    daemon.until_log("what leaves has left", has_left);
    let done = daemon.changes();
    println!("  {} changes, rehearsed and done:\n    {}", done.len(), done.join("\n    "));
    // A daemon may edit before it has a verdict or after, `plan` has one: the reasons may differ.
    let deed = |change: &String| change.split_once("; ").map(|(deed, _)| deed.to_owned());
    let deeds = |changes: &[String]| sorted(&changes.iter().filter_map(deed).collect::<Vec<_>>());
    assert_eq!(deeds(&rehearsed), deeds(&done));
    // A plan is of now: it ends where waiting for connections begins.
    let (waited, at_once): (Vec<_>, Vec<_>) =
        done.into_iter().partition(|change| change.ends_with("; drained"));
    assert_eq!(waited.len(), 2, "{waited:?}");
    assert_eq!(deeds(&planned), deeds(&at_once));
    assert_eq!(changes_of_plan(&policies, 0), [""; 0]);
}

/// Waits until everything has a verdict and the table has been read after it.
fn settled() {
    until_status("a verdict on everyone", |status| {
        status.real_servers.iter().all(|server| server.health != Health::Unknown)
    });
    until_status("nothing pending", |status| status.table.pending.is_empty());
}

fn changes_of_plan(policies: &Policies, code: i32) -> Vec<String> {
    let output = plan(policies, &["--output", "json", "--detailed-exitcode"]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let changes = plan["changes"].as_array().unwrap();
    changes.iter().map(|change| change["text"].as_str().unwrap().to_owned()).collect()
}

fn sorted(changes: &[String]) -> Vec<String> {
    let mut changes = changes.to_vec();
    changes.sort();
    changes
}
