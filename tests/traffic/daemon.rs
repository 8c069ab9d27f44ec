//! The program itself on the director, its policies, and what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pointsman::control::status::Status;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::clock::{PATIENCE, until};
use crate::common::netns::Process;
use crate::server::ALIVE;
use crate::site::DIRECTOR;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// How the policies of the tests probe.
pub(crate) const INTERVAL: Duration = Duration::from_millis(600);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const FALL: u32 = 2;
pub(crate) const RISE: u32 = 2;

/// Where the guests keep things; `/tmp` is theirs alone.
const PLACE: &str = "/tmp";

/// A policy of services (entries of the list, as YAML), settings (lines) and real servers, with one
/// check on this port.
pub(crate) fn policy(services: &[&str], settings: &str, servers: &[&str], port: u16) -> String {
    let list = |items: &[&str]| items.iter().map(|it| format!("  - {it}\n")).collect::<String>();
    format!(
        "virtual_services:\n{}scheduler: rr\n{settings}\nreal_servers:\n{}checks:\n  \
         - http: {{ port: {port}, host: www.example.com, path: {ALIVE} }}\n    \
         interval: {INTERVAL:?}\n    timeout: {TIMEOUT:?}\n    rise: {RISE}\n    fall: {FALL}\n",
        list(services),
        list(servers),
    )
}

/// A directory of policies.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) directory: PathBuf,
}

impl Policies {
    /// A new directory with one policy.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let directory = Path::new(PLACE).join("policies");
        fs::create_dir(&directory).unwrap();
        let policies = Self { directory };
        policies.write(name, text);
        policies
    }

    /// Writes a file in place, as a shell does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).unwrap();
    }

    /// Writes another file and renames it.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let new = self.directory.join(format!(".{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.directory.join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.directory.join(name)).unwrap();
    }
}

/// A daemon that runs on the director. Its log is shown if the test fails.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    log: PathBuf,
}

/// A line of its log.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) message: String,
    fields: Value,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }
}

impl Daemon {
    /// Starts one that holds the director's table.
    pub(crate) fn start(policies: &Policies, options: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::SeqCst);
        let log = Path::new(PLACE).join(format!("daemon-{number}.log"));
        let mut command = program("run");
        command
            .arg("--policies")
            .arg(&policies.directory)
            .args(["--netns", DIRECTOR, "--state-dir", &state(), "--log-format", "json"])
            .arg("--log-file")
            .arg(&log)
            .args(options);
        let daemon = Self { process: Process(command.spawn().unwrap()), log };
        daemon.until_log("the daemon has started", |line| line.message == "started");
        daemon
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let line = |text| {
            let fields: Value = serde_json::from_str(text).ok()?;
            let word = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            Some(Line { level: word("level"), message: word("message"), fields })
        };
        text.lines().filter_map(line).collect()
    }

    /// Waits for a line.
    pub(crate) fn until_log(&self, what: &str, is_it: impl Fn(&Line) -> bool) -> Line {
        until(what, PATIENCE, || self.log().into_iter().find(&is_it))
    }

    /// The changes it has logged, in its words.
    pub(crate) fn changes(&self) -> Vec<String> {
        let messages = self.log().into_iter().map(|line| line.message);
        messages.filter(|message| message.starts_with(['+', '~', '-'])).collect()
    }

    /// The verdicts it has logged, as `192.168.16.232:80 up`.
    pub(crate) fn transitions(&self) -> Vec<String> {
        let lines = self.log().into_iter().filter(|line| line.message == "transition");
        lines.map(|line| format!("{} {}", line.field("real_server"), line.field("to"))).collect()
    }

    /// Ends it as no daemon expects.
    pub(crate) fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Ends it as `systemctl stop` does.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process.0), Signal::TERM).unwrap();
        self.process.0.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the daemon's log:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// What `pointsman status` says now; it reads the table anew, which repairs it too.
pub(crate) fn status() -> Status {
    let output = answer(program("status").args(["--output", "json"]));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The metrics, as a reader on the socket gets them.
pub(crate) fn metrics() -> String {
    let socket = Path::new(PLACE).join("pointsman.sock");
    let mut curl = Command::new("curl");
    let output =
        answer(curl.args(["-sf", "http://pointsman/metrics", "--unix-socket"]).arg(socket));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The sum of all series of a family with this label.
pub(crate) fn total(page: &str, family: &str, label: &str) -> u64 {
    let ours = page.lines().filter(|line| line.starts_with(family) && line.contains(label));
    ours.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until the daemon says something of itself.
pub(crate) fn until_status(what: &str, is_it: impl Fn(&Status) -> bool) -> Status {
    until(what, PATIENCE, || Some(status()).filter(&is_it))
}

/// What `pointsman plan` says, with the policies that the daemon has.
pub(crate) fn plan(policies: &Policies, options: &[&str]) -> Output {
    let mut command = program("plan");
    command
        .arg("--policies")
        .arg(&policies.directory)
        .args(["--netns", DIRECTOR, "--state-dir", &state()])
        .args(options);
    answer(&mut command)
}

/// Gives the daemon an order, which it must carry out; what it says.
pub(crate) fn order(words: &[&str]) -> String {
    let output = answer(program(words[0]).args(&words[1..]));
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command of the program, on the socket all commands here use.
pub(crate) fn program(command: &str) -> Command {
    let mut program = Command::new(PROGRAM);
    program.arg(command).stdin(Stdio::null());
    program.arg("--socket").arg(Path::new(PLACE).join("pointsman.sock"));
    program
}

pub(crate) fn state() -> String {
    Path::new(PLACE).join("state").display().to_string()
}

pub(crate) fn answer(command: &mut Command) -> Output {
    command.output().unwrap()
}
