//! `pointsman doctor`, on whatever machine the tests run on.

use crate::scratch::{Finished, Scratch, VIP, finish, pointsman};

fn doctor(scratch: &Scratch, args: &[&str]) -> Finished {
    let mut command = pointsman(&["doctor"]);
    command.arg("--policies").arg(scratch.policies());
    command.arg("--state-dir").arg(scratch.state());
    command.arg("--socket").arg(scratch.socket()).args(args);
    finish(command)
}

/// The findings of this kind.
fn of(answer: &serde_json::Value, id: &str) -> Vec<serde_json::Value> {
    let all = answer["findings"].as_array().unwrap().iter();
    all.filter(|it| it["id"] == id).cloned().collect()
}

#[test]
fn what_is_missing_has_a_command() {
    let scratch = Scratch::with_one();
    let text = doctor(&scratch, &[]).exit(3).stdout;
    let address = VIP.trim_start_matches("tcp://").trim_end_matches(":80");
    for expected in [
        &format!("error     {address} [virtual-address]\nis        not on this machine\n"),
        &format!("run       ip addr add {address}/32 dev "),
        "warning   daemon [daemon]\nis        nobody answers on ",
        "run there ",
        "as they should be\n",
    ] {
        assert!(text.contains(expected), "no {expected} in:\n{text}");
    }
    assert!(!text.contains("\nok ") && !text.contains('\x1b'), "{text}");
    let all = doctor(&scratch, &["--all"]).exit(3).stdout;
    assert!(all.contains(&format!("\nok        {}: ", scratch.state().display())), "{all}");
}

#[test]
fn json_has_every_finding() {
    let scratch = Scratch::with_one();
    let answer = doctor(&scratch, &["--output", "json"]).exit(3).json();
    let count = |severity: &str| {
        let all = answer["findings"].as_array().unwrap().iter();
        all.filter(|it| it["severity"] == severity).count()
    };
    for (field, severity) in [("errors", "error"), ("warnings", "warning"), ("notes", "note")] {
        assert_eq!(answer[field], count(severity), "{field}");
    }
    assert!(count("ok") > 0);
    let missing = &of(&answer, "virtual-address")[0];
    assert_eq!((&missing["severity"], &missing["run_on"]), (&"error".into(), &"director".into()));
}

#[test]
fn policies_that_cannot_be_used_are_a_finding() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", "virtual_services: 3\n");
    let finished = doctor(&scratch, &["--output", "json"]).exit(3);
    assert!(finished.stderr.contains("a.yaml:1:19"), "{}", finished.stderr);
    let bad = &of(&finished.json(), "policies")[0];
    let command = format!("pointsman check {}", scratch.policies().display());
    assert_eq!((&bad["severity"], &bad["command"]), (&"error".into(), &command.into()));
}

#[test]
fn a_daemon_on_a_table_in_memory_is_no_director() {
    let scratch = Scratch::with_one();
    let daemon = crate::daemon::Daemon::start(&scratch);
    daemon.wait_up(1);
    let answer = doctor(&scratch, &["--output", "json"]).exit(3).json();
    let found = &of(&answer, "daemon")[0];
    assert_eq!(found["severity"], "warning");
    assert!(found["is"].as_str().unwrap().ends_with("works on a table in memory"), "{found}");
}

#[test]
fn where_it_cannot_look_it_fails() {
    let scratch = Scratch::with_one();
    let finished = doctor(&scratch, &["--netns", "there-is-none"]).exit(1);
    assert!(finished.stderr.contains("`ip netns list` shows"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}
