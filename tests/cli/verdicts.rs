//! What outlives the daemon, and what an operator releases.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, VIP, finish, policy_of, within};

/// Real servers on addresses of their own.
fn machines(count: u8) -> Vec<Backend> {
    (1..=count).map(|n| Backend::on([127, 0, 9, n].into(), 0).unwrap()).collect()
}

fn farm(backends: &[Backend]) -> Scratch {
    let scratch = Scratch::new();
    let addresses: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    scratch.write("www.yaml", &policy_of(VIP, &addresses, 80));
    scratch
}

fn release(scratch: &Scratch, args: &[&str]) -> crate::scratch::Finished {
    scratch.order(&[&["release"], args].concat())
}

fn record(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path("state/health-memory.json")
}

/// Waits for a record in which so many are down.
#[track_caller]
fn wait_recorded(scratch: &Scratch, down: usize) {
    let is_there = || {
        let text = fs::read_to_string(record(scratch)).unwrap_or_default();
        text.matches("\"health\": \"down\"").count() == down && text.contains("\"up\"")
    };
    assert!(within(DEADLINE, is_there), "{:?}", fs::read_to_string(record(scratch)));
}

#[test]
fn a_killed_daemon_leaves_its_verdicts_to_the_next() {
    let backends = machines(3);
    let scratch = farm(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    backends[0].answer(503);
    daemon.wait_up(2);
    wait_recorded(&scratch, 1);
    daemon.kill();
    let daemon = Daemon::start(&scratch);
    let status = daemon.status().unwrap();
    let health: Vec<_> = (0..3).map(|index| &status["real_servers"][index]["health"]).collect();
    assert_eq!(health, ["down", "up", "up"]);
    let taken_over = "verdicts of the last run still count verdicts=3 targets=3";
    daemon.wait_log(taken_over);
    let first = daemon.logged("transition");
    assert!(first.iter().all(|line| !line.contains("from=unknown")), "{first:?}");
    backends[0].answer(200);
    daemon.wait_log(&format!("real_server={}", backends[0].address));
}

#[test]
fn an_orderly_end_writes_what_is_known() {
    let backends = machines(2);
    let scratch = farm(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    assert_eq!(daemon.stop().0, Some(0));
    wait_recorded(&scratch, 0);
    assert_eq!(fs::read_to_string(record(&scratch)).unwrap().matches("\"up\"").count(), 2);
}

#[test]
fn a_damaged_record_of_verdicts_is_reported_and_ignored() {
    for damage in ["{", "{\"version\":1,\"health\":{\"targets\":[]}}", "\u{0}"] {
        let scratch = farm(&machines(2));
        fs::create_dir(scratch.state()).unwrap();
        fs::write(record(&scratch), damage).unwrap();
        let daemon = Daemon::start(&scratch);
        let log = daemon.log();
        assert!(log.contains("the record of verdicts") && log.contains("is damaged"), "{log}");
        let aside = scratch.path("state/health-memory.json.damaged.1");
        assert!(within(DEADLINE, || fs::read_to_string(&aside).is_ok_and(|it| it == damage)));
        assert_eq!(daemon.stop().0, Some(0));
    }
}

#[test]
fn a_dry_run_reads_verdicts_and_writes_none() {
    let backends = machines(2);
    let scratch = farm(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    daemon.stop();
    let before = fs::read(record(&scratch)).unwrap();
    backends[1].hang();
    let daemon = Daemon::start_with(&scratch, |run| {
        run.arg("--dry-run");
    });
    daemon.wait_log("verdicts of the last run still count");
    daemon.wait_up(1);
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(fs::read(record(&scratch)).unwrap(), before);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_said_once() {
    let backends = machines(2);
    let scratch = farm(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    wait_recorded(&scratch, 0);
    // A directory in the place of the draft is in the way of root, too.
    fs::create_dir(scratch.path("state/health-memory.json.new")).unwrap();
    backends[0].answer(503);
    daemon.wait_log("cannot record the verdicts");
    backends[0].answer(200);
    daemon.wait_up(2);
    fs::remove_dir(scratch.path("state/health-memory.json.new")).unwrap();
    backends[1].answer(503);
    daemon.wait_log("verdicts are recorded again");
    assert_eq!(daemon.logged("cannot record the verdicts").len(), 1);
    wait_recorded(&scratch, 1);
    let mode = fs::metadata(record(&scratch)).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "{mode:o}");
}

#[test]
fn what_is_held_is_shown_and_released() {
    let backends = machines(3);
    let scratch = farm(&backends);
    let daemon = Daemon::start_with(&scratch, |run| {
        run.args(["--blast-limit", "1"]);
    });
    daemon.wait_up(3);
    let nothing = release(&scratch, &[]).exit(0);
    assert_eq!(nothing.stdout, "nothing to release: the blast-radius limit holds nothing\n");
    backends[..2].iter().for_each(Backend::hang);
    let status = daemon.wait("an alarm", |status| status["alarm"]["held"] == 2);
    let degraded = status["degraded"][0].as_str().unwrap();
    let expected = "BLAST-RADIUS LIMIT: 2 of 3 check targets are down and held as they were";
    assert!(degraded.starts_with(expected) && degraded.contains("`pointsman release`"));
    assert_eq!(status["services"][0]["destinations"][0]["weight_kernel"], 80);
    assert_eq!(status["real_servers"][0]["checks"][0]["held"], "up");
    let alarms = daemon.wait_logged("ERROR", 1);
    assert!(alarms[0].contains("lost=2 addresses=3 held=2 targets=3"), "{alarms:?}");
    let text = scratch.status(&[]).exit(3).stdout;
    assert!(text.contains("held by the blast-radius limit; down: no response head"), "{text}");
    let plan = scratch.plan(&[]).exit(0).stdout;
    assert!(plan.contains("held by the blast-radius limit"), "{plan}");

    // A restart does not forget what it holds.
    let recorded = || fs::read_to_string(record(&scratch)).unwrap().contains("holds_since");
    assert!(within(DEADLINE, recorded));
    daemon.kill();
    let daemon = Daemon::start_with(&scratch, |run| {
        run.args(["--blast-limit", "1"]);
    });
    assert_eq!(daemon.status().unwrap()["alarm"]["held"], 2);

    let released = release(&scratch, &["--output", "json"]).exit(0).json();
    assert_eq!((&released["held"], &released["targets"]), (&Value::from(2), &Value::from(3)));
    let status = daemon.status().unwrap();
    assert_eq!(status["alarm"], Value::Null);
    assert_eq!(status["services"][0]["destinations"][0]["weight_kernel"], Value::Null);
    daemon.wait_log("released by hand: what the blast-radius limit held counts as down by=");
}

#[test]
fn who_is_on_parole_is_shown_and_released() {
    let backends = machines(3);
    let scratch = farm(&backends);
    let daemon = Daemon::start_with(&scratch, |run| {
        run.args(["--blast-limit", "2"]);
    });
    daemon.wait_up(3);
    backends.iter().for_each(|backend| backend.answer(503));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 3);
    // So that parole does not end by itself.
    let addresses: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    scratch.write("www.yaml", &policy_of(VIP, &addresses, 80).replace("fall: 2", "fall: 1000"));
    daemon.wait_reloads(1);
    backends[1..].iter().for_each(|backend| backend.answer(200));
    let status = daemon.wait_up(2);
    assert_eq!(status["alarm"], Value::Null);
    assert_eq!(status["services"][0]["destinations"][0]["weight_kernel"], 80);
    let held = "1 check target still down after the blast-radius limit, held until `fall` more";
    assert!(status["degraded"][0].as_str().unwrap().starts_with(held), "{status:#}");
    let check = |server: usize| status["real_servers"][server]["checks"][0]["parole"].as_u64();
    assert!(check(0).is_some_and(|left| (500..=1000).contains(&left)), "{status:#}");
    assert_eq!(check(1), None);
    let told = |text: &str, before: &str, after: &str| {
        let mut told = text.split(before).skip(1).filter_map(|it| it.split_once(after));
        let left = told.next().unwrap_or_else(|| panic!("no `{before}…{after}` in:\n{text}")).0;
        assert!((500..=1000).contains(&left.parse().unwrap()), "{left}");
    };
    let until = ("held by the blast-radius limit until ", " more failures; down: status 503");
    told(&scratch.status(&[]).exit(3).stdout, until.0, until.1);
    let explained = scratch.order(&["explain", "www", &addresses[0]]).exit(0).stdout;
    told(&explained, until.0, until.1);
    let next = "next       held by the blast-radius limit, ";
    told(&explained, next, " more failures in a row take it out; 2 passes in a row bring it up");

    assert_eq!(
        release(&scratch, &[]).exit(0).stdout,
        "released: 1 of 3 check targets count as down now\n"
    );
    let status = daemon.status().unwrap();
    assert_eq!(status["services"][0]["destinations"][0]["weight_kernel"], Value::Null);
    daemon.wait_log("released by hand: what the blast-radius limit held counts as down by=");
    let told = || {
        let told = fs::read_to_string(scratch.path("state/events-memory.jsonl"));
        told.unwrap().contains("\"released_by\":\"")
    };
    assert!(within(DEADLINE, told), "no event");
    let nothing = release(&scratch, &[]).exit(0).stdout;
    assert_eq!(nothing, "nothing to release: the blast-radius limit holds nothing\n");
}

#[test]
fn release_without_a_daemon_says_what_to_do() {
    let scratch = Scratch::new();
    let said = release(&scratch, &[]).exit(1).stderr;
    assert!(said.contains("no daemon answers") && said.contains("--socket"), "{said}");
}

#[test]
fn a_limit_that_cannot_be_meant_is_refused() {
    let scratch = Scratch::with_one();
    for wrong in ["0", "100%", "half"] {
        let mut command = scratch.run_command();
        command.args(["--blast-limit", wrong]);
        let said = finish(command).exit(2).stderr;
        assert!(said.contains("a share from 1% to 99%, or `off`"), "{said}");
    }
}

#[test]
fn a_flapping_server_is_held_down_and_status_says_so() {
    let backends = machines(2);
    let scratch = farm(&backends);
    let addresses: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    let policy = policy_of(VIP, &addresses, 80)
        .replace("fall: 2", "fall: 1\n    damping: { changes: 3, hold: 1m }")
        .replace("rise: 2", "rise: 1");
    scratch.write("www.yaml", &policy);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    for (status, up) in [(503, 1), (200, 2), (503, 1), (200, 1)] {
        backends[0].answer(status);
        daemon.wait_up(up);
    }
    daemon.wait_log("flapping: held down, whatever passes");
    let status = daemon.wait("a pass during the hold", |status| {
        status["services"][0]["destinations"][0]["why"].as_str().unwrap().starts_with("status 200")
    });
    let why = status["services"][0]["destinations"][0]["why"].as_str().unwrap();
    assert!(why.contains("(1 of 1 passes); held down by flap damping for "), "{why}");
    assert!(why.ends_with(" more (1 hold)"), "{why}");
    assert_eq!(status["real_servers"][0]["checks"][0]["damping"]["holds"], 1);
    let plan = scratch.plan(&[]).exit(0).stdout;
    assert!(plan.contains("down: held down by flap damping, 3 changes in 5m; last: status 503"));

    let name = backends[0].address.to_string();
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    assert!(text.contains("next       held down by flap damping for "), "{text}");
    assert!(text.contains("more, then the next pass brings it up"), "{text}");
    assert_eq!(text.matches("before it  ").count(), 4, "{text}");

    // A restart is no way out of it.
    wait_recorded(&scratch, 1);
    kill_process(Pid::from_raw(daemon.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    drop(daemon);
    let daemon = Daemon::start(&scratch);
    daemon.wait("a pass after the restart", |status| {
        let check = &status["real_servers"][0]["checks"][0];
        check["last"]["kind"] == "pass" && check["damping"]["held_for"].is_number()
    });
}
