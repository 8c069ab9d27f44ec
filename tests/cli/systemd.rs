//! What systemd is told, and the unit that it reads.

use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, finish};

const UNIT: &str = "contrib/pointsman.service";

/// systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
    heard: RefCell<Vec<String>>,
}

impl Systemd {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, heard: RefCell::default() }
    }

    /// Takes messages until one begins like this; those before it.
    fn until(&self, start: &str) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut before = Vec::new();
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no `{start}`: {error}; heard {before:?} after {:?}", self.heard.borrow())
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(start) {
                self.heard.borrow_mut().push(message);
                return before;
            }
            before.push(message);
        }
    }

    fn last(&self) -> String {
        self.heard.borrow().last().cloned().unwrap_or_default()
    }
}

#[test]
fn systemd_is_told_what_becomes_of_the_daemon() {
    let scratch = Scratch::with_one();
    let path = scratch.path("notify");
    let systemd = Systemd::listen(&path);
    let daemon = Daemon::spawn_only(&scratch, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    });
    systemd.until("READY=1");
    assert!(daemon.status().is_some(), "ready, and nobody answers");
    systemd.until("STATUS=1 of 1 real servers up");
    assert_eq!(systemd.last(), "STATUS=1 of 1 real servers up", "and nothing to complain of");
    systemd.until("WATCHDOG=1");

    // A reload is over when what was on disk has been judged.
    scratch.write("bad.yaml", "virtual_services: nothing\n");
    daemon.signal(Signal::HUP);
    systemd.until("RELOADING=1\nMONOTONIC_USEC=");
    systemd.until("READY=1");
    let refused = &daemon.status().unwrap()["policies"]["refused"];
    assert!(refused.is_object(), "ready before it was read: {refused}");
    systemd.until("STATUS=1 of 1 real servers up; newer policies refused");

    daemon.signal(Signal::TERM);
    systemd.until("STOPPING=1");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_daemon_that_stands_still_gives_no_sign_of_life() {
    let scratch = Scratch::with_one();
    let path = scratch.path("notify");
    let systemd = Systemd::listen(&path);
    let daemon = Daemon::spawn_only(&scratch, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    systemd.until("WATCHDOG=1");
    daemon.signal(Signal::STOP);
    // What was on its way has arrived by then.
    systemd.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while systemd.socket.recv(&mut [0; 4096]).is_ok() {}
    daemon.signal(Signal::CONT);
    systemd.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    systemd.until("WATCHDOG=1");
}

#[test]
fn a_notify_socket_that_is_none_stops_nothing() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start_with(&scratch, |command| {
        command.env("NOTIFY_SOCKET", "x".repeat(300));
    });
    daemon.wait_log("cannot use NOTIFY_SOCKET");
    daemon.wait_up(1);
}

/// `systemd-analyze` scores what a unit may do from 0 (nothing) to 10 (everything).
#[test]
fn the_unit_gives_little_away() {
    let mut version = Command::new("systemd-analyze");
    let version = version.arg("--version").output().ok().and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    if version.is_none_or(|version| version < 250) {
        assert!(std::env::var_os("CI").is_none(), "no systemd-analyze of version 250 or newer");
        eprintln!("NOT TESTED: no systemd-analyze of version 250 or newer ({version:?})");
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT);
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&unit);
    finish(analyze).exit(0);
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit);
    let verified = finish(verify);
    let own = |line: &&str| line.contains(UNIT) && !line.contains("is not executable");
    assert_eq!(verified.stderr.lines().filter(own).collect::<Vec<_>>(), [""; 0]);
}
