//! A place of its own for each test, and commands that are run to their end.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::backend::Backend;

/// Longer than anything here takes, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A directory with policies, a state directory and a socket in it; all gone when dropped.
pub(crate) struct Scratch {
    dir: TempDir,
    _backend: Option<Backend>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        Self { dir, _backend: None }
    }

    /// With one policy, `www.yaml`, over these servers.
    pub(crate) fn with(backends: &[Backend]) -> Self {
        let scratch = Self::new();
        scratch.write("www.yaml", &policy(VIP, backends, 80));
        scratch
    }

    /// With one policy over a server of its own that is always up.
    pub(crate) fn with_one() -> Self {
        let backend = Backend::start();
        let scratch = Self::with(std::slice::from_ref(&backend));
        Self { _backend: Some(backend), ..scratch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn policies(&self) -> PathBuf {
        self.path("policies")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file of the policy directory in place, as `cat >` does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.policies().join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.policies().join(name)).unwrap();
    }

    /// `pointsman plan` on this place, with these arguments more.
    pub(crate) fn plan(&self, args: &[&str]) -> Finished {
        let mut command = pointsman(&["plan", "--ipvs", "memory"]);
        command.arg("--policies").arg(self.policies());
        command.arg("--state-dir").arg(self.state());
        command.arg("--socket").arg(self.socket()).args(args);
        finish(command)
    }

    /// `pointsman status` on this place, with these arguments more.
    pub(crate) fn status(&self, args: &[&str]) -> Finished {
        let mut command = pointsman(&["status"]);
        command.arg("--socket").arg(self.socket()).args(args);
        finish(command)
    }

    /// Another command for the daemon of this place, with its arguments.
    pub(crate) fn order(&self, args: &[&str]) -> Finished {
        let mut command = pointsman(args);
        command.arg("--socket").arg(self.socket()).env_remove("SUDO_USER");
        finish(command)
    }

    /// `pointsman run` on this place; the caller starts it.
    pub(crate) fn run_command(&self) -> Command {
        let mut command = pointsman(&["run", "--ipvs", "memory"]);
        command.arg("--policies").arg(self.policies());
        command.arg("--state-dir").arg(self.state());
        command.arg("--socket").arg(self.socket());
        command
    }
}

/// The virtual service of most tests.
pub(crate) const VIP: &str = "tcp://192.0.2.10:80";

/// A policy that notices everything fast.
pub(crate) fn policy(service: &str, backends: &[Backend], weight: u32) -> String {
    let addresses: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    policy_of(service, &addresses, weight)
}

pub(crate) fn policy_of(service: &str, real_servers: &[String], weight: u32) -> String {
    let real_servers: String = real_servers.iter().map(|it| format!("  - {it}\n")).collect();
    format!(
        "virtual_services:\n  - {service}\nscheduler: wlc\nforwarding: masq\nweight: {weight}\n\
         real_servers:\n{real_servers}checks:\n  - http:\n      path: /alive\n    interval: 1s\n    \
         fast_interval: 200ms\n    timeout: 900ms\n    rise: 2\n    fall: 2\n"
    )
}

/// The binary with these arguments, in an environment that changes nothing.
pub(crate) fn pointsman(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command.args(args).stdin(Stdio::null());
    for name in ["RUST_LOG", "NO_COLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Asserts the exit code, showing everything if it is another.
    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a command to its end, which must come.
pub(crate) fn finish(mut command: Command) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let code = end_of(&mut child, &format!("{command:?}"));
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    Finished { code, stdout, stderr }
}

/// Waits for the end of a process; kills it and fails the test if there is none.
pub(crate) fn end_of(child: &mut Child, what: &str) -> Option<i32> {
    let mut code = None;
    let ended = within(DEADLINE, || match child.try_wait().unwrap() {
        Some(status) => {
            code = status.code();
            true
        }
        None => false,
    });
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{what} did not end within {DEADLINE:?}");
    }
    code
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether something becomes true in time.
#[expect(clippy::disallowed_methods, reason = "polls processes of the real world")]
pub(crate) fn within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Replaces a file by rename.
pub(crate) fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("new");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}
