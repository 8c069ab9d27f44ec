//! What the kernel lets a running daemon do, thread by thread.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, VIP, policy, within};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SETUID: u64 = 1 << 7;
const SETGID: u64 = 1 << 6;
const KILL: u64 = 1 << 5;
const DAC_READ_SEARCH: u64 = 1 << 2;

/// The lines of each thread's status (proc(5)).
fn threads(daemon: &Daemon<'_>) -> Vec<BTreeMap<String, String>> {
    let read = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let line = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        };
        Some(text.lines().filter_map(line).collect())
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    tasks.filter_map(|task| read(task.unwrap())).collect()
}

fn assert_holds(daemon: &Daemon<'_>, capabilities: u64) {
    let threads = threads(daemon);
    let names: Vec<&str> = threads.iter().map(|thread| thread["Name"].as_str()).collect();
    for name in ["pointsman", "reconciler", "log", "policy-watch"] {
        assert!(names.contains(&name), "no thread {name} among {names:?}");
    }
    for thread in &threads {
        let sets = ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"];
        let sets = sets.map(|set| u64::from_str_radix(&thread[set], 16).unwrap());
        // The table is the reconciler's alone; the others have nothing at hand that is worth having.
        let (effective, permitted) = match thread["Name"].as_str() {
            "reconciler" => (NET_ADMIN, NET_ADMIN),
            "listener" | "log" | "events" | "policy-watch" => (0, 0),
            name if name.starts_with("notify-rs") => (0, 0),
            _ => (capabilities & (KILL | DAC_READ_SEARCH), capabilities),
        };
        let expected = [effective, permitted, capabilities, 0, 0];
        assert_eq!(sets, expected, "{}: {sets:x?}", thread["Name"]);
        assert_eq!(thread["NoNewPrivs"], "1", "{}", thread["Name"]);
    }
}

/// Only root has something to give up.
fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "not root");
        eprintln!("NOT TESTED: not root");
    }
    root
}

#[test]
fn every_thread_keeps_what_the_policies_need_and_no_more() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::with_one();
    let daemon =
        Daemon::start_with(&scratch, |command| _ = command.args(["--listen", "127.0.0.1:0"]));
    daemon.wait_up(1);
    assert_holds(&daemon, NET_ADMIN);
    let names: Vec<_> = threads(&daemon).into_iter().map(|thread| thread["Name"].clone()).collect();
    assert!(
        ["listener", "events"].iter().all(|it| names.iter().any(|name| name == it)),
        "{names:?}"
    );
    daemon.wait_log("privileges=CAP_NET_ADMIN");
    drop(daemon);

    let rehearsal = Daemon::start_with(&scratch, |command| {
        command.arg("--dry-run");
    });
    rehearsal.wait_up(1);
    assert_holds(&rehearsal, NET_ADMIN | DAC_READ_SEARCH);
    drop(rehearsal);

    let text = fs::read_to_string(scratch.policies().join("www.yaml")).unwrap();
    scratch.write("www.yaml", &text.replace("checks:\n", "checks:\n  - icmp: {}\n"));
    assert_holds(&Daemon::start(&scratch), NET_ADMIN | NET_RAW);
}

/// A program runs as another user and with none of the capabilities that starting it took, and is
/// ended when it takes too long.
#[test]
fn programs_get_nothing_and_are_ended() {
    if !is_root() {
        return;
    }
    let backend = Backend::start();
    let scratch = Scratch::with(std::slice::from_ref(&backend));
    let text = policy(VIP, std::slice::from_ref(&backend), 80);
    let with = |command: &str| {
        let exec = format!("checks:\n  - exec: {{ command: [{command}] }}\n    timeout: 900ms\n");
        scratch.write("www.yaml", &text.replace("checks:\n", &exec));
    };
    with("/bin/sh, -c, '[ $(id -u) != 0 ] && grep -q CapPrm:.0000000000000000 /proc/self/status'");
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    assert_holds(&daemon, NET_ADMIN | SETUID | SETGID | KILL);

    let forever = format!("98765{}", daemon.pid());
    with(&format!("/bin/sleep, {forever}"));
    daemon.wait_reloads(1);
    let is_there = || {
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let command = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).ok();
        processes
            .filter_map(command)
            .any(|words| words == format!("/bin/sleep\0{forever}\0").as_bytes())
    };
    assert!(within(DEADLINE, is_there), "never started");
    scratch.write("www.yaml", &text);
    daemon.wait_reloads(2);
    assert!(within(DEADLINE, || !is_there()), "not ended");
}

/// Sockets for echo requests without a privilege are for groups that a sysctl names, in a new
/// network namespace for none.
#[test]
fn a_privilege_that_was_given_up_takes_a_restart() {
    if !is_root() {
        return;
    }
    let backend = Backend::start();
    let scratch = Scratch::with(std::slice::from_ref(&backend));
    let start = || {
        let run = scratch.run_command();
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(run.get_program()).args(run.get_args());
        command.stdin(Stdio::null()).env_remove("RUST_LOG");
        Daemon::of(&scratch, command)
    };
    let daemon = start();
    let text = policy(VIP, std::slice::from_ref(&backend), 80);
    let icmp = text.replace("checks:\n", "checks:\n  - icmp: {}\n");
    scratch.write("www.yaml", &icmp);
    daemon.wait_reloads(1);
    daemon.wait_log("restart pointsman if no policy had an `icmp` check when it started");
    drop(daemon);
    let daemon = start();
    // `lo` is down there: it cannot be asked, for want of a route and not of a privilege.
    daemon.wait_log("inconclusive probe");
    assert_eq!(daemon.logged("may not use ICMP"), [""; 0]);
}

/// What can be read only because root may read everything is refused at the start, and not first
/// by a reload.
#[test]
fn files_are_read_as_their_permissions_say() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::with_one();
    let file = scratch.policies().join("www.yaml");
    std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&file, mode(0o600)).unwrap();
    let finished = crate::scratch::finish(scratch.run_command()).exit(2);
    assert!(finished.stderr.contains("permission denied"), "{finished:?}");
    fs::set_permissions(&file, mode(0o604)).unwrap();
    Daemon::start(&scratch).wait_up(1);
}
