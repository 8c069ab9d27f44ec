//! `pointsman plan`.

use std::fs;

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, finish, pointsman, policy};

#[test]
fn without_a_daemon_health_is_assumed_or_probed() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let [one, two] = [backends[0].address, backends[1].address];

    let up = scratch.plan(&["--assume", "up"]).exit(0);
    assert!(up.stdout.contains(&format!("{VIP}  policy www\n")), "{}", up.stdout);
    assert!(up.stdout.contains("3 to add, 0 to change, 0 to remove\n"), "{}", up.stdout);
    assert!(up.stdout.contains("health: every real server assumed up (--assume)\n"));
    assert!(up.stdout.ends_with("table: an empty one in memory (--ipvs memory)\n"));

    let unknown = scratch.plan(&["--assume", "unknown"]).exit(0);
    assert!(unknown.stdout.contains("not added"), "{}", unknown.stdout);
    assert!(unknown.stdout.contains("1 to add, 0 to change, 0 to remove; 2 held"));

    assert_eq!(backends[0].requests(), 0, "an assumption needs no probe");
    backends[1].answer(503);
    let probed = scratch.plan(&[]).exit(0);
    assert!(probed.stdout.contains(&format!("+ {one}  weight 80 masq")), "{}", probed.stdout);
    assert!(probed.stdout.contains(&format!("! {two}  stays out")), "{}", probed.stdout);
    assert!(probed.stdout.contains("down: status 503, expected 200-399"), "{}", probed.stdout);
    let footer =
        "health: from one round of probes just now (2 check targets; no daemon is running)";
    assert!(probed.stdout.contains(footer), "{}", probed.stdout);
    assert_eq!(backends[0].requests(), 1);
    assert!(!scratch.state().exists(), "a plan writes nothing");
}

#[test]
fn a_real_server_with_a_name_is_shown_with_it() {
    let scratch = Scratch::new();
    let policy = "
virtual_services: [tcp://192.0.2.1:80]
forwarding: masq
real_servers: [{ name: web-1, address: 10.0.0.1, port: 8080 }, 10.0.0.2]
sorry_server: { name: sorry, address: 10.0.0.9 }
checks: []
";
    scratch.write("www.yaml", policy);
    let plan = scratch.plan(&["--assume", "up"]).exit(0).stdout;
    assert!(plan.contains("  + 10.0.0.1:8080 (web-1)  weight 1 masq"), "{plan}");
    assert!(plan.contains("  + 10.0.0.2:80            weight 1 masq"), "{plan}");

    let plan = scratch.plan(&["--assume", "up", "--output", "json"]).exit(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let [service, named, unnamed] = &plan["changes"].as_array().unwrap()[..] else {
        panic!("{plan:#}")
    };
    assert_eq!(named["name"], "web-1");
    let text = "+ tcp://192.0.2.1:80 10.0.0.1:8080 (web-1): weight 1 masq; up";
    assert_eq!(named["text"], text);
    for unnamed in [service, unnamed] {
        assert!(!unnamed.as_object().unwrap().contains_key("name"), "{unnamed:#}");
    }
    // What nothing is done about has its name too.
    scratch.write("www.yaml", &policy.replace("checks: []", "checks: [{ tcp: }]"));
    let plan = scratch.plan(&["--assume", "unknown", "--output", "json"]).exit(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["held"][0]["name"], "web-1", "{plan:#}");
    assert_eq!(plan["held"][1].get("name"), None, "{plan:#}");
}

#[test]
fn with_a_daemon_its_health_and_its_table_are_used() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let plan = scratch.plan(&["--detailed-exitcode"]).exit(0);
    let expected = format!(
        "nothing to do\nhealth: from the running daemon (pid {0})\n\
         table: in the memory of the running daemon (pid {0})\n",
        daemon.pid()
    );
    assert_eq!(plan.stdout, expected);

    // What the daemon knows to be down stays out, without a probe of the plan's own.
    backends[1].hang();
    daemon.wait_up(1);
    let plan = scratch.plan(&[]).exit(0);
    assert!(plan.stdout.contains("down: no response head within 900ms"), "{}", plan.stdout);
    assert!(plan.stdout.contains("nothing to do; 1 stays down\n"), "{}", plan.stdout);
}

/// Withdrawn, and not yet enough up to come back: what only the daemon remembers.
#[test]
fn with_a_daemon_its_memory_is_used() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let floor = "health_floor: { min_up: 2, at_floor: withdraw, return_at: 3 }\n";
    scratch.write("www.yaml", &(policy(VIP, &backends, 80) + floor));
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    backends[0].answer(503);
    backends[1].answer(503);
    daemon.wait_up(1);
    backends[1].answer(200);
    daemon.wait_up(2);
    let plan = scratch.plan(&["--detailed-exitcode"]).exit(0).stdout;
    assert!(plan.contains("withdrawn by the health floor: 2 up, 3 needed"), "{plan}");
    assert!(plan.contains("nothing to do"), "{plan}");
}

#[test]
fn another_directory_says_what_an_edit_would_do() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let edited = scratch.path("edited");
    fs::create_dir(&edited).unwrap();
    let stranger = Backend::start();
    let [first, second] = &backends;
    let servers = [first.address, stranger.address].map(|address| address.to_string());
    let text = crate::scratch::policy_of(VIP, &servers, 40);
    fs::write(edited.join("www.yaml"), text).unwrap();

    let directory = edited.to_str().unwrap();
    let mut command = pointsman(&["plan", "--detailed-exitcode", "--policies", directory]);
    command.arg("--socket").arg(scratch.socket());
    let plan = finish(command).exit(3);
    for expected in [
        format!("~ {}", first.address),
        "weight 80 → 40".to_owned(),
        format!("· {}", stranger.address),
        format!("! {}", second.address),
        format!(
            "health: from the running daemon (pid {}), which runs {}; \
             1 of 2 check targets it does not probe, taken as unknown\n",
            daemon.pid(),
            scratch.policies().display()
        ),
    ] {
        assert!(plan.stdout.contains(&expected), "no {expected} in:\n{}", plan.stdout);
    }
    // Nothing of it has happened.
    scratch.plan(&["--detailed-exitcode"]).exit(0);
    assert_eq!(daemon.status().unwrap()["policies"]["reloads"], 0);
}

#[test]
fn json_is_one_document_with_every_change() {
    let backends = [Backend::start()];
    let scratch = Scratch::with(&backends);
    let plan = scratch.plan(&["--assume", "up", "--output", "json"]).exit(0);
    assert_eq!(plan.stderr, "");
    let plan = plan.json();
    assert_eq!(plan["health"], "every real server assumed up (--assume)");
    assert_eq!(plan["table"], "an empty one in memory (--ipvs memory)");
    assert_eq!(plan["summary"]["add"], 2);
    assert_eq!(plan["changes"][0]["action"], "add");
    assert_eq!(plan["changes"][0]["service"], VIP);
    assert_eq!(plan["changes"][1]["destination"], backends[0].address.to_string());
    assert_eq!(plan["changes"][1]["reason"], "up");
}

#[test]
fn the_exit_code_tells_of_changes_only_when_asked() {
    let scratch = Scratch::with_one();
    scratch.plan(&["--assume", "up"]).exit(0);
    scratch.plan(&["--assume", "up", "--detailed-exitcode"]).exit(3);
    scratch.plan(&["--assume", "up", "--detailed-exitcode", "--output", "json"]).exit(3);
}

#[test]
fn invalid_policies_give_every_problem_and_no_plan() {
    let scratch = Scratch::with_one();
    scratch.write("bad.yaml", "wieght: 1\nvirtual_services: x\n");
    let plan = scratch.plan(&["--assume", "up"]).exit(2);
    assert_eq!(plan.stdout, "");
    assert!(plan.stderr.contains("bad.yaml:1:1"), "{}", plan.stderr);
    assert!(plan.stderr.contains("bad.yaml:2:19"), "{}", plan.stderr);
    assert!(plan.stderr.contains("nothing was touched"), "{}", plan.stderr);
}

#[test]
fn a_daemon_that_hangs_is_an_error_and_not_an_absence() {
    let scratch = Scratch::with_one();
    // Accepts by its queue and never answers.
    let _silent = std::os::unix::net::UnixListener::bind(scratch.socket()).unwrap();
    let plan = scratch.plan(&[]).exit(1);
    assert!(plan.stderr.contains("did not answer: nothing came within 10 s"), "{}", plan.stderr);
}

#[test]
fn a_dry_run_is_planned_against_as_a_rehearsal() {
    let backends = [Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start_with(&scratch, |run| {
        run.arg("--dry-run");
    });
    daemon.wait_up(1);
    scratch.write("www.yaml", &policy(VIP, &backends, 7));
    daemon.wait_reloads(1);
    let status = scratch.status(&[]).exit(0);
    assert!(status.stdout.contains("DRY RUN: nothing is written"), "{}", status.stdout);
    assert!(!scratch.state().exists(), "a dry run writes nothing to the state directory");
}
