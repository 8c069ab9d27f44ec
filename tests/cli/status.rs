//! `pointsman status`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, end_of, pointsman, policy};

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let scratch = Scratch::new();
    let absent = scratch.status(&[]).exit(1);
    assert_eq!(absent.stdout, "");
    let expected = format!(
        "pointsman: no daemon answers on {} (there is no such socket): \
         start one with `pointsman run`, or name its socket with --socket\n",
        scratch.socket().display()
    );
    assert_eq!(absent.stderr, expected);
    drop(std::os::unix::net::UnixListener::bind(scratch.socket()).unwrap());
    let dead = scratch.status(&["--output", "json"]).exit(1);
    assert!(dead.stderr.contains("(nobody listens there)"), "{}", dead.stderr);
}

#[test]
fn says_what_is_wanted_what_is_there_and_why() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let text = scratch.status(&[]).exit(0).stdout;
    for expected in [
        "memory table, running since 2".to_owned(),
        format!("pointsman  {}, pid {}, memory table", env!("CARGO_PKG_VERSION"), daemon.pid()),
        "\nstate      ok: 3 real servers up\n".to_owned(),
        format!("\npolicies   1 policy from {}, in force since ", scratch.policies().display()),
        format!("\n{VIP}  wlc  policy www\n"),
        "status 200 in ".to_owned(),
    ] {
        assert!(text.contains(&expected), "no {expected} in:\n{text}");
    }

    backends[0].hang();
    backends[1].answer(404);
    let json = daemon.wait_up(1);
    assert_eq!(json["degraded"][0], "2 of 3 real servers down");
    let degraded = scratch.status(&[]).exit(3).stdout;
    let line = |backend: &Backend| {
        let address = backend.address.to_string();
        let line = degraded.lines().find(|line| line.contains(&address)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(degraded.contains("\nstate      DEGRADED: 2 of 3 real servers down\n"), "{degraded}");
    assert!(line(&backends[0]).contains(" down "), "{degraded}");
    assert!(line(&backends[0]).contains("- - 0 0 no response head within 900ms (connected in "));
    assert!(line(&backends[1]).contains("- - 0 0 status 404, expected 200-399, after "));
    assert!(line(&backends[2]).contains(" up "), "{degraded}");
    assert!(line(&backends[2]).contains(" 80 80 0 0 status 200 in "), "{degraded}");
}

#[test]
fn what_the_director_cannot_ask_needs_an_operator() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    scratch.status(&[]).exit(0);
    // An address that is not the director's: verdicts stay, and no probe is possible any more.
    let policy = policy(VIP, &backends, 80) + "    source: 192.0.2.77\n";
    scratch.write("www.yaml", &policy);
    let cannot = "2 of 2 real servers cannot be probed";
    daemon.wait(cannot, |json| json["degraded"][0] == cannot);
    let text = scratch.status(&[]).exit(3).stdout;
    assert!(text.contains(&format!("\nstate      DEGRADED: {cannot}")), "{text}");
}

#[test]
fn json_has_every_verdict_with_its_last_outcome() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    backends[1].answer(500);
    let status = daemon.wait_up(1);
    scratch.status(&["--output", "json"]).exit(3);
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["ipvs"], "memory");
    assert_eq!(status["services"][0]["service"], VIP);
    let destinations = status["services"][0]["destinations"].as_array().unwrap();
    assert_eq!(destinations.len(), 2);
    assert_eq!(destinations[0]["weight_wanted"], 80);
    assert_eq!(destinations[0]["weight_kernel"], 80);
    assert_eq!(destinations[1]["weight_kernel"], Value::Null);
    let check = &status["real_servers"][1]["checks"][0];
    assert_eq!(check["health"], "down");
    assert_eq!(check["last"]["reason"], "status");
    assert_eq!(check["last"]["kind"], "fail");
    assert!(check["since"].as_str().unwrap().ends_with('Z'), "{check}");
    assert_eq!(check["needed"], 2);
}

#[test]
fn watching_in_json_is_one_document_a_line() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    let mut command = pointsman(&["status", "--watch", "--output", "json"]);
    command.arg("--socket").arg(scratch.socket());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let document: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["pid"], daemon.pid());
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(end_of(&mut child, "status --watch"), Some(0));
}

#[test]
fn watching_outlives_the_daemon_but_not_its_reader() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    let mut command = pointsman(&["status", "--watch"]);
    command.arg("--socket").arg(scratch.socket());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert!(first.starts_with("pointsman  "), "{first}");
    drop(daemon);
    let mut complaint = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut complaint).unwrap();
    assert!(complaint.contains("no daemon answers"), "{complaint}");
    let again = Daemon::start(&scratch);
    again.wait_up(1);
    let new_pid = format!("pid {}", again.pid());
    let mut text = String::new();
    while !text.contains(&new_pid) {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
    }
    drop(stdout);
    assert_eq!(end_of(&mut child, "status --watch without a reader"), Some(0));
}
