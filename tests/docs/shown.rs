//! Every command of `pointsman` that a document shows does what is said of it there, and every
//! output is what comes out of the command above it.

use std::collections::BTreeSet;
use std::fs;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::lines::{OPERATIONS, QUICK_START, README, Runner, SAFETY};
use crate::lines::{all_run, blocks, documents, read, root};
use crate::scene::{Scene, line_above};

/// An output: the document that shows it, its name there, and what came out.
type Output = (&'static str, &'static str, String);

#[test]
fn readme_and_safety() {
    let readme = read(README);
    let [policy] = &blocks(&readme, "yaml")[..] else { panic!("one policy is shown") };
    let hosts = [232, 233, 234, 235];
    let scene = Scene::new(policy, "www.yaml", ("127.168.16.", "192.168.16."), &hosts);
    let check = scene.run("pointsman check").exit(0).stdout;
    assert_eq!(check, "ok: 1 policy, 0 lints\n");
    let doctor = scene.run("sudo pointsman doctor").exit(3).stdout;
    assert!(doctor.contains("error     221.5.88.88 [virtual-address]\n"), "{doctor}");
    let plan = scene.run("sudo pointsman plan").exit(0).stdout;
    assert!(plan.contains("\n20 to add, 0 to change, 0 to remove\n"), "{plan}");

    let daemon = Daemon::start_with(&scene.scratch, |run| _ = run.args(["--blast-limit", "1"]));
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
    let status = scene.shown(README, "status").exit(3).stdout;

    let edited = scene
        .policy
        .replace(" 127.168.16.234,", "")
        .replace("[127.168.16.232,", "[{ address: 127.168.16.232, weight: 40 },");
    scene.edit("edited", &edited);
    let plan = scene.shown(README, "plan").exit(0).stdout;
    let mistaken = scene.policy.replace("weight:", "wieght:").replace("timeout: 2s", "timeout: 2");
    scene.edit("edited", &mistaken);
    let check = scene.shown(README, "check").exit(2).stderr;

    let only = Regex::new("real_servers: .*").unwrap();
    scene.scratch.write("www.yaml", &only.replace(&scene.policy, "real_servers: [127.168.16.233]"));
    daemon.wait("a reload that is held", |status| !status["policies"]["held"].is_null());
    let held = scene.scratch.status(&[]).exit(3).stdout;
    let held: String = held.lines().skip(2).take(4).map(|line| format!("{line}\n")).collect();
    let confirm = scene.shown(SAFETY, "confirm").exit(0).stdout;
    daemon.wait("what was confirmed", |status| status["policies"]["reloads"] == 1);
    release(&scene, &daemon);
    compare(
        &scene,
        &[README, SAFETY],
        &[
            (README, "plan", plan),
            (README, "check", check),
            (README, "status", status),
            (README, "log", log),
            (SAFETY, "held", held),
            (SAFETY, "confirm", confirm),
        ],
    );
    all_run(Runner::Readme, &scene.ran.borrow());
}

/// Two of four fall silent, which is more than the limit of one, until somebody says that it is so.
fn release(scene: &Scene, daemon: &Daemon<'_>) {
    scene.backends[3].answer(200);
    scene.scratch.write("www.yaml", &scene.policy);
    daemon.wait_up(4);
    let before = in_table(&daemon.wait("all in", |status| in_table(status) == 16));
    scene.backends[2..].iter().for_each(crate::backend::Backend::hang);
    let alarm = daemon.wait("a limit that holds two", |status| status["alarm"]["held"] == 2);
    assert_eq!(in_table(&alarm), before, "{alarm:#}");
    let released = scene.run("sudo pointsman release").exit(0).stdout;
    assert_eq!(released, "released: 2 of 4 check targets count as down now\n");
    daemon.wait("two without the two", |status| in_table(status) == 8);
}

/// Destinations of all services that have a weight in the table.
fn in_table(status: &Value) -> usize {
    let services = status["services"].as_array().unwrap().iter();
    let rows = services.flat_map(|it| it["destinations"].as_array().unwrap());
    rows.filter(|row| row["weight_kernel"].as_u64() > Some(0)).count()
}

#[test]
fn quick_start_and_operations() {
    let quick_start = read(QUICK_START);
    let [policy] = &blocks(&quick_start, "yaml")[..] else { panic!("one policy is shown") };
    let golden = root().join("tests/golden/doctor/quick-start");
    assert_eq!(fs::read_to_string(golden.join("policy.yaml")).unwrap(), *policy);
    let scene = Scene::new(policy, "shop.yaml", ("127.168.7.", "192.168.7."), &[11, 12]);
    let check = scene.shown(QUICK_START, "check").exit(0).stdout;
    // What it shows is another machine's, which the golden file describes; what it is about is the same.
    let found = scene.shown(QUICK_START, "doctor").exit(3).stdout;
    let absent = "error     192.0.2.80 [virtual-address]\nis        not on this machine\n";
    assert!(found.contains(absent), "{found}");
    let plan = scene.shown(QUICK_START, "plan").exit(0).stdout;
    let daemon = Daemon::start(&scene.scratch);
    daemon.wait_up(2);
    daemon.wait("a full table", |status| status["table"]["changes"] == 3);
    let status = scene.shown(QUICK_START, "status").exit(0).stdout;

    let drain = scene.shown(OPERATIONS, "drain").exit(0).stdout;
    let overrides = scene.shown(OPERATIONS, "overrides").exit(0).stdout;
    scene.scratch.order(&["enable", "shop", "127.168.7.11"]).exit(0);
    daemon.wait("both in", |status| {
        let rows = status["services"][0]["destinations"].as_array().unwrap();
        rows.iter().all(|row| row["weight_kernel"] == 100)
    });

    scene.backends[1].hang();
    daemon.wait_up(1);
    let removal = format!("{}:80: weight 100 masq; down", scene.backends[1].address.ip());
    daemon.wait_log(&removal);
    let explain = scene.shown(QUICK_START, "explain").exit(0).stdout;
    // A moment later it would have one more probe to show.
    assert_eq!(line_above(OPERATIONS, "explain"), line_above(QUICK_START, "explain"));
    let events = scene.shown(OPERATIONS, "events").exit(0).stdout;
    compare(
        &scene,
        &[QUICK_START, OPERATIONS],
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
    drop(daemon);
    log_elsewhere(&scene);
    all_run(Runner::QuickStart, &scene.ran.borrow());
}

/// The daemon logs where, and as what, it is told to.
fn log_elsewhere(scene: &Scene) {
    let to_file = "pointsman run --log-file /var/log/pointsman/pointsman.log --log-max-size 10MiB --log-keep 5";
    fs::create_dir(scene.logs()).unwrap();
    let (code, log) = Daemon::of(&scene.scratch, scene.shell(to_file)).stop();
    assert_eq!((code, &*log), (Some(0), ""));
    let log = fs::read_to_string(scene.logs().join("pointsman.log")).unwrap();
    assert!(log.contains(" INFO started ") && log.contains(" INFO stopped"), "{log}");

    let as_json = "pointsman run --log-format json";
    let (code, log) = Daemon::of(&scene.scratch, scene.shell(as_json)).stop();
    assert_eq!(code, Some(0), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(lines.map(|it| it["level"].clone()).any(|level| level == "INFO"), "{log}");
}

/// What `doctor` says without `--all`, by a golden file that is what it says with it.
fn doctor(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.starts_with("ok "));
    kept.collect::<Vec<_>>().join("\n").replace("\n\n\n", "\n\n") + "\n"
}

/// No output is shown that nobody compares: the documents that show any are those above.
#[test]
fn every_output_is_compared() {
    for (document, text) in documents() {
        let names = outputs(&text);
        assert_eq!(names.len(), blocks(&text, "text").len(), "{document}: one has no name");
        let compared = [README, SAFETY, QUICK_START, OPERATIONS].contains(&document.as_str());
        assert!(compared || names.is_empty(), "{document}: {names:?}");
    }
}

/// The names of the outputs that a document shows.
fn outputs(text: &str) -> BTreeSet<String> {
    let marker = Regex::new("(?m)^<!-- shown: (.*) -->\n```text$").unwrap();
    marker.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// All that these documents show.
fn compare(scene: &Scene, documents: &[&str], all: &[Output]) {
    for document in documents {
        let of = all.iter().filter(|(of, _, _)| of == document);
        let compared: BTreeSet<String> = of.map(|(_, name, _)| (*name).to_owned()).collect();
        assert_eq!(outputs(&read(document)), compared, "{document}");
    }
    let mut wrong = Vec::new();
    for (document, name, actual) in all {
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
        (r"\b(in|connected|answer|ended|for|read|up|down) +\d+(\.\d+)? ?(us|ms|s)\b", "$1 D"),
        (r"\b\d+s ago", "D ago"),
        (r"(1h 59m|2h) left", "D left"),
        (r"\d+ started, \d+ in flight", "N started"),
        (r"\b[0-9a-f]{16}\b", "HASH"),
        (r"by \w+\b", "by USER"),
        (" +", " "),
        // How many had passed before is as long as it took to get there.
        (r"(\n before it D ago: pass[^\n]*)+", "$1"),
    ] {
        text = Regex::new(volatile).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}
