//! Every output that a document shows is what comes out.

use std::collections::BTreeSet;
use std::fs;

use regex::{Captures, Regex};

use crate::daemon::Daemon;
use crate::scene::Scene;
use crate::scratch::{finish, pointsman};
use crate::{README, blocks, read, root};

const QUICK_START: &str = "docs/QUICKSTART.md";
const SAFETY: &str = "docs/SAFETY.md";
const OPERATIONS: &str = "docs/OPERATIONS.md";

/// An output: the document that shows it, its name there, and what came out.
type Output = (&'static str, &'static str, String);

#[test]
fn readme_and_the_guard() {
    let readme = read(README);
    let [policy] = &blocks(&readme, "yaml")[..] else { panic!("one policy is shown") };
    let hosts = [232, 233, 234, 235];
    let scene = Scene::new(policy, "www.yaml", ("127.168.16.", "192.168.16."), &hosts);
    let daemon = Daemon::start(&scene.scratch);
    daemon.wait_up(4);
    // Four services and sixteen destinations.
    daemon.wait("a full table", |status| status["table"]["changes"] == 20);
    daemon.wait_logged(" + ", 20);
    let quiet = daemon.log().len();
    scene.backends[3].hang();
    daemon.wait_up(3);
    let removals = format!("{}:443: weight 80 direct; down", scene.backends[3].address.ip());
    daemon.wait_logged(&removals, 2);
    let log = daemon.log()[quiet..].to_owned();
    let status = scene.scratch.status(&[]).exit(3).stdout;

    let edited = scene
        .policy
        .replace(" 127.168.16.234,", "")
        .replace("[127.168.16.232,", "[{ address: 127.168.16.232, weight: 40 },");
    let plan = scene.plan_of("edited", &edited);
    let mistaken = scene.policy.replace("weight:", "wieght:").replace("timeout: 2s", "timeout: 2");
    let check = scene.complaints("edited", &mistaken);

    let only = Regex::new("real_servers: .*").unwrap();
    scene.scratch.write("www.yaml", &only.replace(&scene.policy, "real_servers: [127.168.16.233]"));
    daemon.wait("a reload that is held", |status| !status["policies"]["held"].is_null());
    let held = scene.scratch.status(&[]).exit(3).stdout;
    let held: String = held.lines().skip(2).take(4).map(|line| format!("{line}\n")).collect();
    let confirm = scene.scratch.order(&["confirm", "--yes"]).exit(0).stdout;
    compare(
        &scene,
        &[
            (README, "plan", plan),
            (README, "check", check),
            (README, "status", status),
            (README, "log", log),
            (SAFETY, "held", held),
            (SAFETY, "confirm", confirm),
        ],
    );
}

#[test]
fn quick_start_and_runbook() {
    let quick_start = read(QUICK_START);
    let [policy] = &blocks(&quick_start, "yaml")[..] else { panic!("one policy is shown") };
    let golden = root().join("tests/golden/doctor/quick-start");
    assert_eq!(fs::read_to_string(golden.join("policy.yaml")).unwrap(), *policy);
    let scene = Scene::new(policy, "shop.yaml", ("127.168.7.", "192.168.7."), &[11, 12]);
    let mut check = pointsman(&["check"]);
    check.arg(scene.scratch.policies());
    let check = finish(check).exit(0).stdout;
    let plan = scene.scratch.plan(&[]).exit(0).stdout;
    let daemon = Daemon::start(&scene.scratch);
    daemon.wait_up(2);
    daemon.wait("a full table", |status| status["table"]["changes"] == 3);
    let status = scene.scratch.status(&[]).exit(0).stdout;

    let drain = ["drain", "shop", "127.168.7.11", "--for", "2h", "--reason", "new disk"];
    let drain = scene.scratch.order(&drain).exit(0).stdout;
    let overrides = scene.scratch.order(&["overrides"]).exit(0).stdout;
    scene.scratch.order(&["enable", "shop", "127.168.7.11"]).exit(0);
    daemon.wait("both in", |status| {
        let rows = status["services"][0]["destinations"].as_array().unwrap();
        rows.iter().all(|row| row["weight_kernel"] == 100)
    });

    scene.backends[1].hang();
    daemon.wait_up(1);
    let removal = format!("{}:80: weight 100 masq; down", scene.backends[1].address.ip());
    daemon.wait_log(&removal);
    let explain = scene.scratch.order(&["explain", "shop", "127.168.7.12"]).exit(0).stdout;
    let mut events = pointsman(&["events", "--since", "1h", "--ipvs", "memory"]);
    events.arg("--state-dir").arg(scene.scratch.state());
    let events = finish(events).exit(0).stdout;
    let about = events.lines().filter(|line| line.contains("127.168.7.12"));
    let events: String = about.map(|line| format!("{line}\n")).collect();
    compare(
        &scene,
        &[
            (QUICK_START, "check", check),
            (QUICK_START, "doctor", doctor(&fs::read_to_string(golden.join("text")).unwrap())),
            (QUICK_START, "plan", plan),
            (QUICK_START, "status", status),
            (QUICK_START, "explain", explain.clone()),
            (OPERATIONS, "explain", explain),
            (OPERATIONS, "events", events),
            (OPERATIONS, "drain", drain),
            (OPERATIONS, "overrides", overrides),
        ],
    );
}

/// What `doctor` says without `--all`, by a golden file that is what it says with it.
fn doctor(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.starts_with("ok "));
    kept.collect::<Vec<_>>().join("\n").replace("\n\n\n", "\n\n") + "\n"
}

/// No output is shown that nobody compares.
#[test]
fn every_output_has_its_command() {
    let known = include_str!("shown.rs");
    let marker = Regex::new("(?m)^<!-- shown: (.*) -->\n```text$").unwrap();
    let mut count = 0;
    for (document, text) in crate::documents() {
        let constant = match document.as_str() {
            README => "README",
            QUICK_START => "QUICK_START",
            SAFETY => "SAFETY",
            OPERATIONS => "OPERATIONS",
            _ => "",
        };
        for found in marker.captures_iter(&text) {
            let entry = format!("({constant}, \"{}\", ", &found[1]);
            assert!(known.contains(&entry), "{document}: {}", &found[1]);
            count += 1;
        }
    }
    assert_eq!(
        known.matches("            (QUICK_START, \"").count()
            + known.matches("            (OPERATIONS, \"").count()
            + known.matches("            (SAFETY, \"").count()
            + known.matches("            (README, \"").count(),
        count
    );
}

fn compare(scene: &Scene, outputs: &[Output]) {
    let mut wrong = Vec::new();
    for (document, name, actual) in outputs {
        let actual = scene.as_shown(actual);
        let block = format!("(?s)(<!-- shown: {name} -->\n```text\n)(.*?)(```\n)");
        let block = Regex::new(&block).unwrap();
        let text = read(document);
        let found = block.captures(&text).unwrap_or_else(|| panic!("{document}: no {name}"));
        let expected = found[2].to_owned();
        if is_same(name, &expected, &actual) {
            continue;
        }
        wrong.push(format!("--- {document}, {name}:\n{expected}--- actual:\n{actual}"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let put = |found: &Captures<'_>| format!("{}{actual}{}", &found[1], &found[3]);
            fs::write(root().join(document), block.replace(&text, put).as_ref()).unwrap();
        }
    }
    let accepted = wrong.is_empty() || std::env::var_os("UPDATE_GOLDEN").is_some();
    assert!(accepted, "UPDATE_GOLDEN=1 accepts these\n{}", wrong.join("\n"));
}

/// Events come from several tasks, so those of one moment are in any order.
fn is_same(name: &str, expected: &str, actual: &str) -> bool {
    let (expected, actual) = (steady(expected), steady(actual));
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    expected == actual || (name == "events" && sorted(&expected) == sorted(&actual))
}

/// What is the same on every run: without times, process ids, counts of probes and columns.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (volatile, mask) in [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"pid \d+", "pid N"),
        (r"\b\d+(\.\d+)? ?(us|ms|s)\b", "D"),
        (r"(1h 59m|2h) left", "D left"),
        (r"\d+ started, \d+ in flight", "N started"),
        (r"\b[0-9a-f]{16}\b", "HASH"),
        (r"by \w+\b", "by USER"),
        (" +", " "),
    ] {
        text = Regex::new(volatile).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}
