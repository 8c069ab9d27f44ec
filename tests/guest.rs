//! The guests that other tests rely on: what a command in one can and cannot do, and what happens
//! where there are none.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::uml::{Guest, available, in_guest};

const DEADLINE: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Guest {
    Guest::new("/bin/sh").args(["-c", script]).deadline(DEADLINE)
}

#[test]
fn a_body_runs_inside() {
    in_guest("a_body_runs_inside", DEADLINE, || {
        assert!(Path::new("/run/modules").exists());
    });
}

#[test]
fn a_command_has_arguments_variables_and_a_status() {
    if !available("a guest") {
        return;
    }
    let output = sh(r#"echo "$0 $WORD"; echo it"'"s >&2; exit 7"#).env("WORD", "a 'b' $c").run();
    assert_eq!(output.status, Some(7));
    assert!(output.text.contains("/bin/sh a 'b' $c\nit's\n"), "{}", output.text);
}

#[test]
fn the_host_is_out_of_reach() {
    if !available("a guest") {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("out-of-reach");
    let there = format!("/tmp/out-of-reach-{}", std::process::id());
    let script = format!("touch {there} && echo kept; touch {} && echo kept too", here.display());
    let output = sh(&script).run();
    assert!(output.text.starts_with("kept\n"), "{}", output.text);
    assert!(!output.text.contains("kept too"), "{}", output.text);
    assert!(!Path::new(&there).exists() && !here.exists());
}

#[test]
fn a_command_that_hangs_is_killed() {
    if !available("a guest") {
        return;
    }
    let output = sh("echo here; sleep 1000").deadline(Duration::from_secs(1)).run();
    assert_eq!(output.status, Some(128 + 9));
    assert!(output.text.starts_with("here\n"), "{}", output.text);
}

#[test]
fn a_program_in_a_hidden_place_shows() {
    if !available("a guest") {
        return;
    }
    // Usually in /tmp, which the guest has one of its own of.
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("program");
    std::fs::copy("/bin/echo", &program).unwrap();
    let output = Guest::new(&program).args(["shown"]).deadline(DEADLINE).run();
    assert_eq!(output.status, Some(0), "{}", output.text);
    assert!(output.text.starts_with("shown\n"), "{}", output.text);
}

/// Runs another test of this file where no guests can be had.
fn without_guests(name: &str, value: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["a_body_runs_inside", "--exact"])
        .env("PATH", "/nonexistent")
        .env_remove("CI")
        .env_remove("POINTSMAN_REQUIRE_KERNEL")
        .env(name, value)
        .output()
        .unwrap()
}

#[test]
fn where_there_are_none_it_is_said_loudly() {
    let output = without_guests("CI", "");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("*** NOT RUN: a_body_runs_inside"), "{text}");
    assert!(text.contains("apt-get install user-mode-linux"), "{text}");
}

#[test]
fn where_there_must_be_some_it_is_a_failure() {
    for name in ["CI", "POINTSMAN_REQUIRE_KERNEL"] {
        let output = without_guests(name, "true");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("apt-get install user-mode-linux"), "{text}");
    }
}
