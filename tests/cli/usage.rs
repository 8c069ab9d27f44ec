//! Help, versions, mistakes in the arguments, and readers that go away.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::scratch::{Scratch, end_of, finish, pointsman};

const COMMANDS: [&str; 6] = ["run", "plan", "check", "status", "top", "demo"];

#[test]
fn every_command_has_help_and_a_version() {
    let help = finish(pointsman(&["--help"])).exit(0);
    assert!(help.stdout.contains("Exit codes: 0 done"), "{}", help.stdout);
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("  {command} ")), "{}", help.stdout);
        let own = finish(pointsman(&[command, "--help"])).exit(0);
        assert!(own.stdout.contains("Usage: pointsman"), "{own:?}");
        assert!(own.stderr.is_empty(), "{own:?}");
        let version = finish(pointsman(&[command, "--version"])).exit(0);
        assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    }
}

#[test]
fn help_names_every_flag_of_the_contract_with_its_default() {
    let text = |command| finish(pointsman(&[command, "--help"])).stdout;
    for (command, words) in [
        (
            "run",
            &[
                "--policies <DIR>",
                "[default: /etc/pointsman/policies]",
                "--ipvs <TABLE>",
                "--dry-run",
                "--state-dir <DIR>",
                "[default: /var/lib/pointsman]",
                "--socket <PATH>",
                "[default: /run/pointsman/pointsman.sock]",
                "--log-file <PATH>",
                "--log-max-size <SIZE>",
                "--log-keep <COUNT>",
                "--log-format <FORMAT>",
                "--resync <DURATION>",
                "[default: 30s]",
                "--netns <NAME>",
            ][..],
        ),
        ("plan", &["--policies", "--assume <HEALTH>", "--output <FORMAT>", "--detailed-exitcode"]),
        ("check", &["[PATH]...", "--output <FORMAT>"]),
        ("status", &["--socket", "--output <FORMAT>", "--watch"]),
        ("top", &["--socket", "--interval <DURATION>", "[default: 1s]"]),
        ("demo", &["--for <DURATION>", "[default: 20s]"]),
    ] {
        let help = text(command);
        for word in words {
            assert!(help.contains(word), "{command} --help does not say {word}:\n{help}");
        }
    }
}

#[test]
fn mistakes_in_the_arguments_exit_with_2() {
    for args in [
        &["frobnicate"][..],
        &["run", "--frobnicate"],
        &["run", "--ipvs", "userspace"],
        &["run", "--resync", "soon"],
        &["run", "--resync", "0s"],
        &["run", "--log-max-size", "10MB"],
        &["run", "--log-keep", "-1"],
        &["run", "--log-format", "xml"],
        &["plan", "--assume", "down"],
        &["plan", "extra"],
        &["status", "--output", "yaml"],
        &["top", "--interval", "1"],
        &["check", "--policies", "x"],
        &["demo", "--for", "1"],
    ] {
        let finished = finish(pointsman(args)).exit(2);
        assert!(finished.stdout.is_empty(), "{args:?}: {finished:?}");
        assert!(finished.stderr.contains("--help"), "{args:?}: {finished:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scratch = Scratch::new();
    for number in 0..300 {
        let server = number / 250;
        let text = format!(
            "virtual_services: [tcp://198.51.{server}.{}:80]\nforwarding: masq\n\
             real_servers: [192.0.2.1, 192.0.2.2]\nchecks: []\n",
            number % 250 + 1
        );
        scratch.write(&format!("{number}.yaml"), &text);
    }
    let policies = scratch.policies();
    let socket = scratch.socket();
    let paths = [policies.to_str().unwrap(), socket.to_str().unwrap()];
    for args in [
        &["--help"][..],
        &[
            "plan",
            "--ipvs",
            "memory",
            "--assume",
            "up",
            "--policies",
            paths[0],
            "--socket",
            paths[1],
        ],
    ] {
        let mut command = pointsman(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        assert_eq!(end_of(&mut child, "a command without a reader"), Some(0), "{args:?}");
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let scratch = Scratch::new();
    scratch.write("bad.yaml", "virtual_service: []\n");
    let mut command = pointsman(&["check"]);
    command.arg(scratch.policies());
    let piped = finish(command).exit(2);
    assert!(piped.stderr.contains("error: unknown key"), "{piped:?}");
    assert!(!piped.stderr.contains('\x1b'), "{piped:?}");

    // `script`, of util-linux, gives its command a terminal.
    let line =
        format!("{} check {}", env!("CARGO_BIN_EXE_pointsman"), scratch.policies().display());
    let on_terminal = |no_colour: Option<&str>| {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env("TERM", "xterm").env_remove("NO_COLOR");
        if let Some(value) = no_colour {
            script.env("NO_COLOR", value);
        }
        finish(script).exit(2).stdout
    };
    assert!(on_terminal(None).contains("\x1b[1;31merror\x1b[0m"));
    assert!(on_terminal(Some("")).contains('\x1b'), "an empty NO_COLOR is none");
    let plain = on_terminal(Some("1"));
    assert!(plain.contains("error: unknown key") && !plain.contains('\x1b'), "{plain:?}");
}
