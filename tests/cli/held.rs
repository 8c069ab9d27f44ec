//! The reload guard: what would remove too much waits for somebody to look at it.

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Finished, Scratch, VIP, policy};

struct Farm {
    backends: Vec<Backend>,
    scratch: Scratch,
}

impl Farm {
    fn new() -> Self {
        let backends: Vec<Backend> = (0..4).map(|_| Backend::start()).collect();
        let scratch = Scratch::with(&backends);
        Self { backends, scratch }
    }

    /// Saves a policy with the first so many real servers.
    fn keep(&self, servers: usize, weight: u32) {
        self.scratch.write("www.yaml", &policy(VIP, &self.backends[..servers], weight));
    }

    fn confirm(&self, args: &[&str]) -> Finished {
        self.scratch.order(&[&["confirm"], args].concat())
    }
}

fn wait_held(daemon: &Daemon<'_>) -> Value {
    daemon.wait("a held reload", |status| !status["policies"]["held"].is_null())
}

fn in_table(status: &Value) -> usize {
    let destinations = status["services"][0]["destinations"].as_array().unwrap();
    destinations.iter().filter(|it| it["weight_kernel"] == 80).count()
}

#[test]
fn a_file_cut_in_half_is_held_and_can_be_confirmed() {
    let farm = Farm::new();
    let daemon = Daemon::start(&farm.scratch);
    daemon.wait_up(4);
    let finished = farm.confirm(&["--yes"]).exit(1);
    assert!(finished.stderr.contains("nothing is held"), "{finished:#?}");

    farm.keep(1, 80);
    let status = wait_held(&daemon);
    assert_eq!(status["policies"]["held"]["removal"]["destinations"]["going"], 3, "{status:#}");
    assert_eq!(
        status["degraded"][0], "newer policies held: they would remove 3 of 4 destinations",
        "{status:#}"
    );
    assert_eq!(status["policies"]["reloads"], 0);
    daemon.wait_log("ERROR reload held: it would remove 3 of 4 destinations");
    let text = farm.scratch.status(&[]).exit(3).stdout;
    assert!(text.contains("HELD since 2") && text.contains("`pointsman confirm`"), "{text}");

    // What was there is still there, and probed.
    farm.backends[3].answer(500);
    daemon.wait_up(3);
    farm.backends[3].answer(200);
    assert_eq!(in_table(&daemon.wait_up(4)), 4);

    // Nobody sits at a terminal: the plan is shown and nothing done.
    let finished = farm.confirm(&[]).exit(2);
    assert!(finished.stdout.contains("this would remove 3 of 4 destinations"), "{finished:#?}");
    let gone = farm.backends[3].address.to_string();
    assert!(finished.stdout.contains(&gone), "{finished:#?}");
    assert!(finished.stderr.contains("--yes"), "{finished:#?}");
    assert_eq!(in_table(&wait_held(&daemon)), 4);

    let finished = farm.confirm(&["--yes"]).exit(0);
    assert!(finished.stdout.contains("confirmed: "), "{finished:#?}");
    let status = daemon.wait_reloads(1);
    assert_eq!(status["policies"]["held"], Value::Null);
    daemon.wait("one destination", |status| in_table(status) == 1);
    daemon.wait_log("held reload confirmed");
    farm.scratch.status(&[]).exit(0);
}

#[test]
fn mending_the_file_clears_it() {
    let farm = Farm::new();
    let daemon = Daemon::start(&farm.scratch);
    daemon.wait_up(4);
    farm.keep(1, 80);
    wait_held(&daemon);
    // Back to what it was.
    farm.keep(4, 80);
    let status = daemon.wait("nothing held", |status| status["policies"]["held"].is_null());
    assert_eq!(status["policies"]["reloads"], 0);
    daemon.wait_log("policies are valid and as before");
    // Or on to what is harmless.
    farm.keep(1, 80);
    wait_held(&daemon);
    farm.keep(3, 80);
    daemon.wait_reloads(1);
    daemon.wait("three destinations", |status| in_table(status) == 3);
    assert!(farm.confirm(&["--yes"]).exit(1).stderr.contains("nothing is held"));
    // A mistake after it is refused, and nothing is held any more.
    farm.keep(4, 80);
    daemon.wait_reloads(2);
    farm.keep(1, 80);
    wait_held(&daemon);
    farm.scratch.write("www.yaml", "virtual_services: 3\n");
    let status = daemon.wait_refused("www.yaml:1:19");
    assert_eq!(status["policies"]["held"], Value::Null, "{status:#}");
    assert_eq!(status["policies"]["reloads_held"], 3, "{status:#}");
    assert_eq!(status["policies"]["reloads_refused"], 1, "{status:#}");
}

#[test]
fn what_was_looked_at_is_what_is_confirmed() {
    let farm = Farm::new();
    let daemon = Daemon::start(&farm.scratch);
    daemon.wait_up(4);
    farm.keep(1, 80);
    let hash = wait_held(&daemon)["policies"]["held"]["hash"].as_str().unwrap().to_owned();
    farm.keep(1, 70);
    // The daemon looks at the disk before it answers, whether or not it has noticed the edit.
    let body = serde_json::json!({ "hash": hash, "acts_for": null }).to_string();
    let answer = post(&farm.scratch, "/v1/held", &body);
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
    assert!(answer.contains("the policies have changed meanwhile"), "{answer}");
    let status = wait_held(&daemon);
    assert_ne!(status["policies"]["held"]["hash"], hash.as_str());
    assert_eq!(in_table(&status), 4);
}

#[test]
fn the_guard_can_be_set_and_turned_off() {
    for (args, held) in [
        (&["--reload-guard", "80%"][..], false),
        (&["--reload-guard", "off"], false),
        (&["--yes"], false),
        (&["--reload-guard", "70%"], true),
    ] {
        let farm = Farm::new();
        let daemon = Daemon::start_with(&farm.scratch, |command| {
            command.args(args);
        });
        daemon.wait_up(4);
        farm.keep(1, 80);
        match held {
            true => wait_held(&daemon),
            false => daemon.wait_reloads(1),
        };
    }
}

#[test]
fn bodies_that_are_wrong_or_too_large_hurt_nobody() {
    let farm = Farm::new();
    let daemon = Daemon::start(&farm.scratch);
    daemon.wait_up(4);
    let huge = "x".repeat(20_000);
    for (path, body, status) in [
        ("/v1/held", "", "400"),
        ("/v1/held", "{", "400"),
        ("/v1/overrides", "[]", "400"),
        ("/v1/overrides", "{\"policy\":\"www\"}", "400"),
        ("/v1/explain", "{\"policy\":\"www\",\"real_server\":\"\"}", "405"),
        ("/v1/overrides", huge.as_str(), "413"),
        ("/v1/status", "{}", "405"),
        ("/v1/nothing", "{}", "404"),
    ] {
        let answer = post(&farm.scratch, path, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    daemon.wait_up(4);
    farm.scratch.status(&[]).exit(0);
}

/// One POST on the daemon's socket, as any client may send it.
fn post(scratch: &Scratch, path: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(scratch.socket()).unwrap();
    stream.set_read_timeout(Some(crate::scratch::DEADLINE)).unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    // Whoever refuses it may answer and hang up before all of it is written.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}
