//! The settings file from outside: found, refused, followed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Finished, Scratch, finish, pointsman, policy, replace};

/// A place whose paths are all in a settings file.
fn settings(scratch: &Scratch, more: &str) -> PathBuf {
    let file = scratch.path("pointsman.yaml");
    let (policies, state, socket) = (scratch.policies(), scratch.state(), scratch.socket());
    let text = format!(
        "policies: {}\nstate_dir: {}\nsocket: {}\nipvs: memory\n{more}",
        policies.display(),
        state.display(),
        socket.display()
    );
    replace(&file, &text);
    file
}

fn command(name: &str, file: &PathBuf) -> Command {
    let mut command = pointsman(&[name, "--settings"]);
    command.arg(file);
    command
}

fn start<'s>(scratch: &'s Scratch, file: &PathBuf) -> Daemon<'s> {
    Daemon::of(scratch, command("run", file))
}

fn degraded(status: &Value) -> String {
    status["degraded"].to_string()
}

#[test]
fn one_file_serves_all_commands() {
    let scratch = Scratch::with_one();
    let file = settings(&scratch, "resync: 5s\n");
    let daemon = start(&scratch, &file);
    daemon.wait_up(1);
    let status = finish(command("status", &file)).exit(0);
    assert!(status.stdout.contains("www"), "{status:?}");
    let check = finish(command("check", &file)).exit(0);
    assert!(check.stdout.contains("ok: 1 policy"), "{check:?}");
    finish(command("plan", &file)).exit(0);
    // And a flag wins.
    let mut elsewhere = command("status", &file);
    elsewhere.arg("--socket").arg(scratch.path("elsewhere"));
    finish(elsewhere).exit(1);
}

#[test]
fn a_broken_file_starts_nothing() {
    let scratch = Scratch::with_one();
    let file = settings(&scratch, "resyn: 5s\n");
    let place = format!("{}:5:1", file.display());
    let told = |finished: &Finished| {
        assert!(finished.stderr.contains(&place), "{finished:?}");
        assert!(finished.stderr.contains("did you mean `resync`?"), "{finished:?}");
    };
    for name in ["run", "plan", "status"] {
        let finished = finish(command(name, &file)).exit(2);
        told(&finished);
        assert!(finished.stderr.contains("invalid settings"), "{finished:?}");
    }
    let mut check = command("check", &file);
    check.arg(scratch.policies());
    told(&finish(check).exit(2));
    let mut check = command("check", &file);
    check.arg(scratch.policies()).args(["--output", "json"]);
    assert_eq!(finish(check).exit(2).json()["problems"][0]["location"]["line"], 5);
    fs::remove_file(&file).unwrap();
    let missing = finish(command("status", &file)).exit(2);
    assert!(missing.stderr.contains("there is no such file"), "{missing:?}");
}

#[test]
fn what_can_counts_at_once_and_the_rest_takes_a_restart() {
    let scratch = Scratch::with_one();
    let file = settings(&scratch, "");
    let daemon = start(&scratch, &file);
    daemon.wait_up(1);

    settings(&scratch, "resync: 100ms\nlog: { format: json }\n");
    let status = daemon.wait("a setting that takes a restart", |status| {
        status["settings"]["need_restart"] == serde_json::json!(["log: format"])
    });
    assert!(degraded(&status).contains("settings that need a restart: log: format"), "{status:#}");
    daemon.wait_log("these settings count after a restart");

    settings(&scratch, "resync: never\n");
    let status = daemon.wait("a refusal", |status| {
        status["settings"]["refused"].as_array().is_some_and(|problems| problems.len() == 1)
    });
    assert!(degraded(&status).contains("newer settings refused"), "{status:#}");
    daemon.wait_log("pointsman.yaml:5:9");

    settings(&scratch, "");
    daemon.signal(Signal::HUP);
    daemon.wait("all as at the start", |status| status["degraded"] == serde_json::json!([]));
    assert_eq!(daemon.stop().0, Some(0));
}

/// A reload that the guard holds passes when the guard lets go.
#[test]
fn the_guard_follows_the_file() {
    let backend = Backend::start();
    let scratch = Scratch::with(std::slice::from_ref(&backend));
    // The guard looks at two services at least.
    for number in [11, 12] {
        let service = format!("tcp://192.0.2.{number}:80");
        let text = policy(&service, std::slice::from_ref(&backend), 1);
        scratch.write(&format!("more-{number}.yaml"), &text);
    }
    let file = settings(&scratch, "reload_guard: 10%\n");
    let daemon = start(&scratch, &file);
    daemon.wait_up(3);
    // By one edit: else what goes first passes.
    let rest = scratch.path("rest");
    fs::create_dir(&rest).unwrap();
    fs::rename(scratch.policies().join("www.yaml"), rest.join("www.yaml")).unwrap();
    fs::rename(scratch.policies(), scratch.path("gone")).unwrap();
    fs::rename(rest, scratch.policies()).unwrap();
    daemon.wait("a held reload", |status| status["policies"]["held"].is_object());
    settings(&scratch, "reload_guard: off\n");
    daemon.wait_reloads(1);
}

/// What the keys say together is looked at before a restart has to.
#[test]
fn a_listener_that_would_not_start_is_a_problem_beforehand() {
    let scratch = Scratch::with_one();
    let settings = scratch.path("settings.yaml");
    let check = |text: &str| {
        fs::write(&settings, text).unwrap();
        let mut command = pointsman(&["check", "--settings"]);
        command.arg(&settings).arg(scratch.policies());
        finish(command)
    };
    for (text, complaint) in [
        ("listen: 0.0.0.0:9470\n", "is not a loopback address"),
        ("listen_tls_cert: /etc/cert.pem\n", "belong together"),
        ("listen_token_file: /etc/token\n", "without a listener"),
    ] {
        let finished = check(text).exit(2);
        assert!(finished.stderr.contains(complaint), "{text}: {finished:?}");
    }
    check("listen: 127.0.0.1:0\n").exit(0);

    let daemon =
        Daemon::start_with(&scratch, |command| _ = command.arg("--settings").arg(&settings));
    daemon.wait_up(1);
    fs::write(&settings, "listen: 0.0.0.0:9470\n").unwrap();
    let status = daemon.wait("a refusal", |status| status["settings"]["refused"][0].is_string());
    assert!(status["settings"]["refused"][0].as_str().unwrap().contains("loopback"), "{status:#}");
    assert_eq!(status["settings"]["need_restart"], Value::Array(Vec::new()));
}

/// A mistake in the settings is not a mistake in policies that are elsewhere.
#[test]
fn broken_settings_are_the_only_problem_they_are() {
    let scratch = Scratch::new();
    let settings = scratch.path("settings.yaml");
    fs::write(&settings, "policies: /srv/nowhere\nresnyc: 5s\n").unwrap();
    let mut command = pointsman(&["check", "--settings"]);
    command.arg(&settings);
    let finished = finish(command).exit(2);
    assert!(finished.stderr.contains("did you mean `resync`"), "{finished:?}");
    assert!(!finished.stderr.contains("/etc/pointsman/policies"), "{finished:?}");
    assert!(finished.stderr.ends_with("1 error\n"), "{finished:?}");
}
