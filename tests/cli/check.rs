//! `pointsman check`.

use std::process::Command;

use crate::scratch::{Scratch, finish, pointsman};

fn check(scratch: &Scratch, names: &[&str]) -> Command {
    let mut command = pointsman(&["check"]);
    command.current_dir(scratch.policies()).args(names);
    command
}

const GOOD: &str = "virtual_services: [tcp://192.0.2.10:80]\nforwarding: masq\n\
                    real_servers: [192.0.2.20, 192.0.2.21]\nchecks: [{ tcp: {} }]\n";

#[test]
fn valid_policies_are_counted() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", GOOD);
    let finished = finish(check(&scratch, &["."])).exit(0);
    assert_eq!(
        (finished.stdout.as_str(), finished.stderr.as_str()),
        ("ok: 1 policy, 0 lints\n", "")
    );
    scratch.write("b.yml", &GOOD.replace(".10", ".11"));
    let finished = finish(check(&scratch, &["a.yaml", "b.yml", "."])).exit(0);
    assert_eq!(finished.stdout, "ok: 2 policies, 0 lints\n");
}

#[test]
fn every_problem_of_every_file_at_once_with_its_place() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", &GOOD.replace("forwarding: masq", "forwarding: nat\nwieght: 80"));
    scratch.write("b.yaml", &GOOD.replace("192.0.2.21", "web2.example.org").replace(".10", ".11"));
    scratch.write("c.yaml", &GOOD.replace(".10", ".12"));
    let finished = finish(check(&scratch, &["a.yaml", "b.yaml", "c.yaml"])).exit(2);
    assert_eq!(finished.stdout, "");
    for expected in [
        "--> a.yaml:2:13",
        "--> a.yaml:3:1",
        "3 | wieght: 80\n  | ^^^^^^",
        "did you mean `weight`",
        "--> b.yaml:3:28",
        "web2.example.org",
        "\n3 errors",
    ] {
        assert!(finished.stderr.contains(expected), "no {expected} in:\n{}", finished.stderr);
    }
}

#[test]
fn lints_are_shown_and_do_not_fail() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", &GOOD.replace(", 192.0.2.21", ""));
    let finished = finish(check(&scratch, &["a.yaml"])).exit(0);
    assert_eq!(finished.stdout, "ok: 1 policy, 1 lint\n");
    assert!(finished.stderr.contains("lint: only one real server"), "{}", finished.stderr);
    assert!(finished.stderr.contains("--> a.yaml:3:16"), "{}", finished.stderr);
}

#[test]
fn json_tells_errors_from_lints() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", &GOOD.replace(", 192.0.2.21", ""));
    scratch.write("b.yaml", "virtual_services: 3\n");
    let valid = finish(check(&scratch, &["a.yaml", "--output", "json"])).exit(0);
    assert_eq!(valid.stderr, "");
    let valid = valid.json();
    assert_eq!(valid["valid"], true);
    assert_eq!(valid["policies"], 1);
    assert_eq!(valid["problems"].as_array().unwrap().len(), 0);
    assert_eq!(valid["lints"][0]["severity"], "lint");

    let invalid = finish(check(&scratch, &[".", "--output", "json"])).exit(2).json();
    assert_eq!(invalid["valid"], false);
    let problems = invalid["problems"].as_array().unwrap();
    assert!(!problems.is_empty());
    for problem in problems {
        assert_eq!(problem["severity"], "error");
        assert_eq!(problem["location"]["file"], "./b.yaml");
        assert!(problem["location"]["line"].as_u64().unwrap() >= 1, "{problem}");
        assert!(problem["message"].is_string());
    }
}

#[test]
fn paths_that_are_not_there_are_problems() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", GOOD);
    let finished = finish(check(&scratch, &["a.yaml", "nowhere", "neither"])).exit(2);
    assert!(finished.stderr.contains("--> nowhere"), "{}", finished.stderr);
    assert!(finished.stderr.contains("--> neither"), "{}", finished.stderr);
    let empty = finish(check(&scratch, &[scratch.path("").to_str().unwrap()])).exit(2);
    assert!(empty.stderr.contains("no policy in this directory"), "{}", empty.stderr);
}

#[test]
fn every_example_is_valid_without_a_lint() {
    let mut command = pointsman(&["check", "policies"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let finished = finish(command).exit(0);
    assert!(finished.stdout.ends_with("policies, 0 lints\n"), "{finished:?}");
}
