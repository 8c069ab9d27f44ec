//! `pointsman run`: start, signals, end, log, and everything that can be in its way.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, VIP, finish, policy, within};

#[test]
fn starts_holds_the_table_and_leaves_it_at_the_end() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    daemon.wait_log(&format!("+ {VIP}: wlc; declared"));
    let mode = fs::metadata(scratch.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "the socket is its owner's and group's");
    let record = fs::read_to_string(scratch.path("state/owned-memory.json")).unwrap();
    assert!(record.contains(VIP), "{record}");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped: the table stays as it is cause=SIGTERM"), "{log}");
    assert!(!scratch.socket().exists(), "the socket goes with the daemon");
    assert!(scratch.path("state/owned-memory.json").exists(), "what is owned is remembered");
}

#[test]
fn interrupt_ends_it_as_well() {
    let scratch = Scratch::with_one();
    let mut daemon = Daemon::start(&scratch);
    daemon.signal(Signal::INT);
    daemon.wait_log("cause=SIGINT");
    assert!(crate::scratch::within(crate::scratch::DEADLINE, || !daemon.is_alive()));
}

#[test]
fn a_server_that_dies_standing_up_goes_and_comes_back() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    backends[1].hang();
    daemon.wait_up(1);
    let address = backends[1].address;
    daemon.wait_log(&format!("- {VIP} {address}: weight 80 masq; down: no response head within"));
    backends[1].answer(200);
    daemon.wait_up(2);
    let added = format!("+ {VIP} {address}: weight 80 masq; up");
    daemon.wait_logged(&added, 2);
    let turns = ["from=unknown to=up", "from=up to=down", "from=down to=up"];
    let transitions = daemon.wait_logged(&format!("real_server={address}"), turns.len());
    for (line, turn) in transitions.iter().zip(turns) {
        assert!(line.contains(turn), "{line}");
    }
}

#[test]
fn a_log_line_says_nothing_twice() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    daemon.wait_log("weight 80 masq; up");
    for line in daemon.log().lines() {
        assert!(line.matches(VIP).count() <= 1, "{line}");
    }
}

#[test]
fn a_second_one_is_refused_and_disturbs_nothing() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    let second = finish(scratch.run_command()).exit(1);
    assert!(
        second.stderr.contains("another pointsman runs with the state directory"),
        "{second:?}"
    );
    // With a state directory of its own it meets the socket.
    let mut command = crate::scratch::pointsman(&["run", "--ipvs", "memory"]);
    command.arg("--policies").arg(scratch.policies());
    command.arg("--state-dir").arg(scratch.path("other"));
    command.arg("--socket").arg(scratch.socket());
    let second = finish(command).exit(1);
    assert!(second.stderr.contains("another pointsman answers on"), "{second:?}");
    assert_eq!(daemon.status().unwrap()["pid"], daemon.pid());
}

#[test]
fn invalid_policies_at_the_start_exit_with_2_and_touch_nothing() {
    let scratch = Scratch::new();
    scratch.write("a.yaml", "virtual_services: [tcp://192.0.2.1:80]\nreal_server: []\n");
    scratch.write("b.yaml", "- not\n- a policy\n");
    let finished = finish(scratch.run_command()).exit(2);
    for expected in
        ["a.yaml:2:1", "did you mean `real_servers`", "b.yaml:1:1", "nothing was touched"]
    {
        assert!(finished.stderr.contains(expected), "no {expected} in:\n{}", finished.stderr);
    }
    assert!(!scratch.state().exists() && !scratch.socket().exists());
    let missing = {
        let scratch = Scratch::new();
        fs::remove_dir(scratch.policies()).unwrap();
        finish(scratch.run_command()).exit(2)
    };
    assert!(missing.stderr.contains("no such file or directory"), "{missing:?}");
}

#[test]
fn what_cannot_be_written_is_named_with_what_to_do() {
    let scratch = Scratch::with_one();
    fs::write(scratch.path("file"), "").unwrap();
    let file = scratch.path("file");
    let below = file.join("below");
    let run = |state: &std::path::Path, socket: &std::path::Path| {
        let mut command = crate::scratch::pointsman(&["run", "--ipvs", "memory"]);
        command.arg("--policies").arg(scratch.policies());
        command.arg("--state-dir").arg(state).arg("--socket").arg(socket);
        finish(command).exit(1).stderr
    };
    let (state, socket) = (scratch.state(), scratch.socket());
    let said = run(&below, &socket);
    assert!(
        said.contains(&format!("cannot create the state directory {}", below.display())),
        "{said}"
    );
    assert!(said.contains("--state-dir"), "{said}");
    let said = run(&state, &below);
    assert!(said.contains(&format!("cannot listen on {}", below.display())), "{said}");
    assert!(said.contains("--socket"), "{said}");
    let said = run(&state, &file);
    assert!(said.contains("something that is not a socket is in its place"), "{said}");
    assert!(file.is_file(), "it is still there");
    // A log is no reason not to protect anybody: standard error takes its place.
    let daemon = Daemon::start_with(&scratch, |command| _ = command.arg("--log-file").arg(&below));
    daemon.wait_log(&format!("cannot open the log file {}", below.display()));
    daemon.wait_log("started");
}

#[test]
fn a_dry_run_goes_without_a_socket_rather_than_not_at_all() {
    let scratch = Scratch::with_one();
    fs::write(scratch.socket(), "precious").unwrap();
    let daemon = Daemon::spawn_only(&scratch, |run| {
        run.arg("--dry-run");
    });
    daemon.wait_log("no socket for this rehearsal");
    daemon.wait_log("weight 80 masq; up");
    let (code, _) = daemon.stop();
    assert_eq!(code, Some(0));
    assert_eq!(fs::read_to_string(scratch.socket()).unwrap(), "precious");
    assert!(!scratch.state().exists(), "a dry run writes nothing to the state directory");
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    let scratch = Scratch::with_one();
    drop(UnixListener::bind(scratch.socket()).unwrap());
    assert!(fs::metadata(scratch.socket()).unwrap().file_type().is_socket());
    let first = Daemon::start(&scratch);
    first.kill();
    assert!(scratch.socket().exists(), "a killed daemon leaves its socket");
    let second = Daemon::start(&scratch);
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn a_symbolic_link_in_place_of_the_socket_is_not_followed() {
    let scratch = Scratch::with_one();
    std::os::unix::fs::symlink(scratch.path("nowhere"), scratch.socket()).unwrap();
    let finished = finish(scratch.run_command()).exit(1);
    assert!(finished.stderr.contains("not a socket"), "{finished:?}");
}

#[test]
fn a_damaged_record_is_kept_aside_and_does_not_stop_it() {
    let scratch = Scratch::with_one();
    fs::create_dir(scratch.state()).unwrap();
    fs::write(scratch.path("state/owned-memory.json"), "{ \"version\": 1, \"serv").unwrap();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    daemon.wait_log("is damaged");
    let aside = fs::read_to_string(scratch.path("state/owned-memory.json.damaged.1")).unwrap();
    assert!(aside.contains("serv"), "{aside}");
}

#[test]
fn a_table_in_memory_leaves_the_record_of_the_kernels_alone() {
    const RECORD: &str = "{\"version\":1,\"services\":[\"tcp://203.0.113.9:80\"]}";
    let scratch = Scratch::with_one();
    fs::create_dir(scratch.state()).unwrap();
    fs::write(scratch.path("state/owned.json"), RECORD).unwrap();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(fs::read_to_string(scratch.path("state/owned.json")).unwrap(), RECORD);
}

#[test]
fn the_log_file_has_a_bounded_size_and_number() {
    let scratch = Scratch::with_one();
    let log = scratch.path("log");
    let daemon = Daemon::start_with(&scratch, |run| {
        run.arg("--log-file").arg(&log).args(["--log-max-size", "1KiB", "--log-keep", "2"]);
    });
    daemon.wait_up(1);
    let backends = [Backend::start()];
    for weight in 1..10 {
        scratch.write("www.yaml", &policy(VIP, &backends, weight));
        daemon.wait_reloads(weight.into());
    }
    assert_eq!(daemon.log(), "", "nothing goes to standard error beside it");
    daemon.stop();
    let mut names: Vec<_> = fs::read_dir(scratch.path(""))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("log"))
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    names.sort();
    assert_eq!(
        names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["log", "log.1", "log.2"]
    );
    assert!(names.iter().all(|(_, size)| *size <= 1024), "{names:?}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("stopped"), "{text}");
    assert!(!text.contains('\x1b'), "no colour in a file: {text}");
}

#[test]
fn json_log_lines_are_objects_with_fields() {
    let backends = [Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start_with(&scratch, |run| {
        run.args(["--log-format", "json"]);
    });
    daemon.wait_up(1);
    backends[0].answer(503);
    daemon.wait_up(0);
    let (_, log) = daemon.stop();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let down =
        lines.iter().find(|line| line["message"] == "transition" && line["to"] == "down").unwrap();
    assert_eq!(down["level"], "WARN");
    assert_eq!(down["policy"], "www");
    assert_eq!(down["real_server"], backends[0].address.to_string());
    assert_eq!(down["reason"], "status 503, expected 200-399");
    let is_removal = |line: &&Value| line["message"].as_str().unwrap().starts_with("- ");
    let removal = lines.iter().find(is_removal).unwrap();
    assert_eq!(removal["service"], VIP);
    assert_eq!(removal["destination"], backends[0].address.to_string());
    for line in &lines {
        assert!(line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn the_level_of_the_log_can_be_chosen() {
    let scratch = Scratch::with_one();
    let debug = |run: &mut Command| {
        run.env("RUST_LOG", "pointsman=debug");
    };
    let daemon = Daemon::start_with(&scratch, debug);
    daemon.wait_log("DEBUG probe real_server=");
    let (_, log) = daemon.stop();
    assert!(log.contains("kind=Pass"), "{log}");
}

#[test]
fn nobody_reading_the_log_is_no_reason_to_die() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = scratch.run_command();
    command.stdout(std::process::Stdio::null()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let is_up = || scratch.status(&[]).stdout.contains("ok: 2 real servers up");
    assert!(crate::scratch::within(crate::scratch::DEADLINE, is_up));
    drop(reader);
    backends[0].answer(500);
    let is_down = || scratch.status(&[]).stdout.contains("1 of 2 real servers down");
    let survived = crate::scratch::within(crate::scratch::DEADLINE, is_down);
    let _ = child.kill();
    let _ = child.wait();
    assert!(survived, "the daemon died of a log that nobody reads");
}

#[test]
fn services_that_left_the_policies_meanwhile_are_still_remembered() {
    let backends = [Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    daemon.kill();
    let record = fs::read_to_string(scratch.path("state/owned-memory.json")).unwrap();
    assert!(record.contains(VIP), "a kill leaves the record: {record}");
    // A dry run reads it and leaves it as it is.
    let rehearsal = Daemon::start_with(&scratch, |run| {
        run.arg("--dry-run");
    });
    rehearsal.wait_up(1);
    scratch.write("www.yaml", &policy("tcp://192.0.2.11:80", &backends, 80));
    rehearsal.wait_reloads(1);
    rehearsal.stop();
    assert_eq!(fs::read_to_string(scratch.path("state/owned-memory.json")).unwrap(), record);
}

#[test]
fn a_hangup_during_the_start_does_not_end_it() {
    let scratch = Scratch::with_one();
    // Reading so much takes the start a while.
    let servers: String =
        (0..10_000).map(|n| format!("  - 127.1.{}.{}\n", n / 250, n % 250 + 1)).collect();
    scratch.write(
        "big.yaml",
        &format!(
            "virtual_services: [tcp://192.0.2.99:80]\nforwarding: masq\nreal_servers:\n{servers}\
             checks: []\n"
        ),
    );
    let mut daemon = Daemon::spawn_only(&scratch, |_| {});
    let status = format!("/proc/{}/status", daemon.pid());
    let caught = || {
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & 1 == 1
    };
    assert!(within(DEADLINE, caught), "SIGHUP would end it");
    assert!(!scratch.path("sock").exists(), "the start is over");
    daemon.signal(Signal::HUP);
    daemon.wait_up(10_001);
    assert!(daemon.is_alive());
}

#[test]
fn a_log_that_nobody_reads_stalls_nothing() {
    let scratch = Scratch::new();
    let servers: String = (1..=20).map(|n| format!("  - 127.0.0.{n}:9\n")).collect();
    scratch.write(
        "busy.yaml",
        &format!(
            "virtual_services: [{VIP}]\nforwarding: masq\nreal_servers:\n{servers}\
             checks:\n  - tcp: {{}}\n    interval: 10ms\n    timeout: 10ms\n"
        ),
    );
    let (_unread, stderr) = std::io::pipe().unwrap();
    let mut command = scratch.run_command();
    let mut daemon = command.env("RUST_LOG", "debug").stderr(stderr).spawn().unwrap();
    // Ten times what a pipe holds, at a line of more than a hundred bytes for each probe.
    let is_probing = || {
        let status = scratch.status(&["--output", "json"]);
        matches!(status.code, Some(0 | 3))
            && status.json()["probes"]["started"].as_u64() > Some(6000)
    };
    let probing = within(DEADLINE, is_probing);
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    let mut ended = None;
    let in_time = within(DEADLINE, || {
        ended = daemon.try_wait().unwrap();
        ended.is_some()
    });
    if !in_time {
        daemon.kill().unwrap();
    }
    assert!(probing, "it stopped probing");
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

/// Two checks of one address, of which one cannot be asked: that is said once for each real server, and
/// nobody says that it is over.
#[test]
fn what_cannot_be_asked_is_said_once() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let missing = "checks:\n  - exec: { command: [/no/such/program] }\n    interval: 200ms\n    timeout: 100ms\n";
    let text = policy(VIP, &backends, 80).replace("checks:\n", missing);
    scratch.write("www.yaml", &text.replace("interval: 1s", "interval: 900ms"));
    let daemon = Daemon::start(&scratch);
    daemon.wait("a while", |status| status["probes"]["started"].as_u64() > Some(30));
    let lines = daemon.wait_logged("inconclusive probe", 2);
    for backend in &backends {
        let of = format!("policy=www real_server={} check=exec reason=", backend.address);
        assert!(lines.iter().any(|line| line.contains(&of)), "{lines:#?}");
    }
    assert_eq!(daemon.logged("conclusive again"), [""; 0]);
}

/// The first few are named; of the others it is said once that there are some.
#[test]
fn that_more_cannot_be_asked_is_said_once() {
    let scratch = Scratch::new();
    let servers: Vec<String> = (1..=15).map(|host| format!("192.0.2.{host}")).collect();
    let servers = servers.join(", ");
    scratch.write(
        "www.yaml",
        &format!(
            "virtual_services: ['tcp://198.51.100.1:80']\nreal_servers: [{servers}]\nchecks:\n  \
             - exec: {{ command: [/no/such/program] }}\n    interval: 200ms\n    timeout: 100ms\n"
        ),
    );
    let daemon = Daemon::start(&scratch);
    daemon.wait("a while", |status| status["probes"]["started"].as_u64() > Some(60));
    daemon.wait_logged("cannot ask more targets", 1);
    daemon.wait_logged("inconclusive probe:", 10);
}

/// What is in the place of a file of the state directory keeps nobody waiting.
#[test]
fn pipes_in_the_state_directory_do_not_stop_it() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let scratch = Scratch::with_one();
    fs::create_dir_all(scratch.state()).unwrap();
    for name in ["owned", "standing", "health", "overrides", "alerts"] {
        let path = scratch.state().join(format!("{name}-memory.json"));
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    }
    let events = scratch.state().join("events-memory.jsonl");
    mkfifoat(CWD, &events, Mode::RUSR | Mode::WUSR).unwrap();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    daemon.wait_log("owned-memory.json; going on without");
    assert!(scratch.state().join("owned-memory.json.damaged.1").exists());
}
