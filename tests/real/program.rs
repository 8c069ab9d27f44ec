//! Programs of the machine, each with a directory of its own, that end with their test.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Set where the servers must be there, besides `CI`.
const REQUIRED: &str = "POINTSMAN_REQUIRE_SERVERS";

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a program, or nothing where it may be missing; says so loudly then.
///
/// # Panics
/// If it is missing but must be there, because `CI` or `POINTSMAN_REQUIRE_SERVERS` is set.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .chain(postgresql())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        is_missing(program);
    }
    found
}

/// Debian keeps the programs of each version apart.
fn postgresql() -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin"))
}

/// A command under another name if we are root, which some servers refuse to be; that user then
/// owns `directory`.
pub(crate) fn as_user(user: &str, program: &Path, directory: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let id: u32 = succeed("id", &["-u", user]).trim().parse().unwrap();
    std::os::unix::fs::chown(directory, Some(id), None).unwrap();
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    command.args(ids).arg("--clear-groups").arg(program);
    command
}

/// Says loudly that a test is not run because something is missing.
///
/// # Panics
/// If it must be there, because `CI` or `POINTSMAN_REQUIRE_SERVERS` is set.
pub(crate) fn is_missing(what: &str) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    assert!(!set("CI") && !set(REQUIRED), "no `{what}`: run tests/install-deps");
    let text = format!("\n*** NOT RUN: no `{what}`: run tests/install-deps ***\n\n");
    // Past the test harness, which keeps the output of what passes to itself.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A running server and its directory.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    directory: TempDir,
    /// What ends it; most leave nothing behind that a kill would leave.
    ending: Signal,
}

impl Server {
    /// Starts a command that stays in the foreground, with its output in `log` in the directory.
    pub(crate) fn start(directory: TempDir, command: &mut Command) -> Self {
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, directory, ending: Signal::KILL }
    }

    /// Has it ended by a signal that lets it end its children and free what it holds.
    pub(crate) fn ends_with(mut self, ending: Signal) -> Self {
        self.ending = ending;
        self
    }

    /// Sends it a signal.
    pub(crate) fn send(&self, signal: Signal) {
        let process = Pid::from_child(&self.process);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Ends it, and goes on with its directory.
    pub(crate) fn end(mut self) -> TempDir {
        self.finish();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    fn finish(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.send(self.ending);
            // One that is stopped hears nothing but this.
            self.send(Signal::CONT);
        }
        let _ = self.process.wait();
    }

    /// Waits until somebody listens on a TCP address.
    pub(crate) fn listens(mut self, address: SocketAddr) -> Self {
        self.until(&format!("a listener on {address}"), || TcpStream::connect(address).is_ok());
        self
    }

    /// Waits for something.
    pub(crate) fn until(&mut self, what: &str, is_it: impl Fn() -> bool) {
        let deadline = now() + PATIENCE;
        while !is_it() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && now() < deadline, "no {what}: {ended:?}\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}

/// An address on loopback that is free now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn succeed(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program.as_ref()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[expect(clippy::disallowed_methods, reason = "a test that waits")]
fn now() -> Instant {
    Instant::now()
}
