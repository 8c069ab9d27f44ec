//! The exec check: a program on the director, and what its exit status says.
//!
//! It is started without a shell, as a user without privileges, in a process group of its own. It
//! is waited for through its pidfd, so that it is reaped only after its whole group was ended: a
//! process id cannot come to mean somebody else before that. Whoever holds its output open does
//! not keep the probe waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::thread::clear_ambient_capability_set;
use tokio::net::unix::pipe::Receiver;

use super::advice::{Heard, Said};
use super::dialogue::words;
use super::errands::Errands;
use super::file::ADDRESS;
use super::group::Group;
use super::outcome::Reason;
use super::program;
use super::progress::{Failure, Progress};
use super::socket::kernel_words;
use super::target::Target;
use super::user::{self, User};
use crate::privileges;

/// As much of the output as is kept.
const KEPT: usize = 4096;
/// As much of it as is read; a program that goes on writing is held up then.
const MOST: usize = 1 << 20;
/// What stands for the port in an argument.
const PORT: &str = "{port}";
/// Where programs that it calls are looked for, unless the policy says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which program, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecCheck {
    /// The absolute path of the program, and its arguments.
    pub command: Vec<String>,
    /// The name or number of the user it runs as; `None`: `nobody` where the daemon is root, else
    /// the daemon's own.
    pub user: Option<String>,
    /// What its environment holds besides `PATH` and the facts of the target.
    pub environment: BTreeMap<String, String>,
    /// Whether the exit statuses from 2 on pass, with a weight of 2 less.
    pub weight_from_status: bool,
}

impl ExecCheck {
    /// The path of the program.
    pub fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// Runs the program and judges its end; the text says what passed.
pub(super) async fn ask(
    target: &Target,
    check: &ExecCheck,
    errands: &Errands,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::Resources, "room to start the program");
    let (command, user) = (command(target, check), check.user.clone());
    let command = command?;
    let runtime = tokio::runtime::Handle::current();
    let (mut group, output) = errands.run(move || start(command, user.as_deref(), runtime)).await?;
    progress.wait_for(Reason::HeadTimeout, "end of the program");
    let mut output = Output::of(output)?;
    let status = loop {
        tokio::select! {
            // Both are cancel-safe: a readiness is there again when it is asked for again.
            ended = group.ended() => break ended,
            () = output.more() => progress.says(output.words()),
        }
    };
    let status = status.map_err(|error| director("waiting for the program", &error))?;
    output.take_what_is_there();
    judge(status, check, &output.words(), progress)
}

/// The program with its arguments and the facts of the target; nothing else of our environment.
fn command(target: &Target, check: &ExecCheck) -> Result<Command, Failure> {
    let address = target.address;
    if address.port() == 0 && check.command.iter().any(|word| word.contains(PORT)) {
        let detail = "there is no port to put in for `{port}`: give the check a `port`";
        return Err(Failure::new(Reason::Setup, detail));
    }
    let port = address.port().to_string();
    let word =
        |word: &String| word.replace(ADDRESS, &address.ip().to_string()).replace(PORT, &port);
    let mut command = Command::new(check.program());
    command.args(check.command.iter().skip(1).map(word));
    command.env_clear().current_dir("/").process_group(0);
    command.env("PATH", PATH).envs(&check.environment);
    command.env("POINTSMAN_ADDRESS", address.ip().to_string());
    command.env("POINTSMAN_FAMILY", if address.is_ipv4() { "inet" } else { "inet6" });
    command.env("POINTSMAN_TIMEOUT_MS", target.timing.timeout.as_millis().to_string());
    if address.port() != 0 {
        command.env("POINTSMAN_PORT", port);
    }
    Ok(command)
}

/// Blocks: looks up the user, forks and waits for the program to be loaded.
fn start(
    mut command: Command,
    user: Option<&str>,
    runtime: tokio::runtime::Handle,
) -> Result<(Group, OwnedFd), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    if let Some(trouble) = program::trouble(&program) {
        return Err(Failure::new(Reason::Setup, format!("`{program}` {trouble}")));
    }
    let user = user::of(user)?;
    // With the user go the supplementary groups (std drops them together with root), and with root
    // its capabilities. Those of a daemon that is not root must not be handed on either; a kernel
    // that knows none of that has none to hand on.
    if let User::Other { uid, gid, .. } = user {
        command.uid(uid).gid(gid);
    }
    let _ = clear_ambient_capability_set();
    let (output, input) = io::pipe().map_err(|error| director("making a pipe", &error))?;
    let kept = output.try_clone().map_err(|error| director("making a pipe", &error))?;
    let twice = input.try_clone().map_err(|error| director("making a pipe", &error))?;
    command.stdin(Stdio::null()).stdout(input).stderr(twice);
    let child = privileges::with(privileges::OF_PROGRAMS, || command.spawn())
        .map_err(|error| not_started(&program, &user, &error))?;
    // Our copies of what it writes to are closed with this.
    drop(command);
    let group = Group::of(child, kept, runtime)
        .map_err(|error| director("watching the program", &error))?;
    Ok((group, output.into()))
}

fn director(what: &str, error: &io::Error) -> Failure {
    Failure::new(Reason::Resources, format!("{what}: {}", kernel_words(error)))
}

/// What cannot be started says nothing about the real server.
fn not_started(program: &str, user: &User, error: &io::Error) -> Failure {
    let setup = |detail: String| Failure::new(Reason::Setup, detail);
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
            director(&format!("starting `{program}`"), error)
        }
        Some(Errno::NOENT) => setup(format!(
            "`{program}` is not on this director, or the interpreter in its first line is not: \
             install it"
        )),
        Some(Errno::ACCESS) => setup(format!(
            "`{program}` may not be run by {user}: look at its mode and those of its directories"
        )),
        Some(Errno::PERM) => setup(format!(
            "the daemon may not run programs as {user}: restart pointsman if no policy had an `exec` \
             check when it started, else give it CAP_SETUID and CAP_SETGID (of root a systemd unit may \
             have taken them), or run it as that user"
        )),
        _ => setup(format!("`{program}` cannot be run by {user}: {}", kernel_words(error))),
    }
}

fn judge(
    status: ExitStatus,
    check: &ExecCheck,
    said: &str,
    progress: &Progress,
) -> Result<String, Failure> {
    let colon = if said.is_empty() { "" } else { ": " };
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let detail = format!("ended by signal {}{colon}{said}", SignalName(signal));
        return Err(Failure::new(Reason::Status, detail));
    };
    let detail = format!("exit status {code}{colon}{said}");
    match (code, check.weight_from_status) {
        (0, false) => Ok(detail),
        (0, true) => {
            progress.advise(Heard::More(Said::default()));
            Ok(detail)
        }
        (2..=255, true) => {
            progress.advise(Heard::More(Said::weight(code.unsigned_abs() - 2)));
            Ok(detail)
        }
        _ => Err(Failure::new(Reason::Status, detail)),
    }
}

/// `11 (SIGSEGV)`.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => write!(f, "{} ({})", self.0, signal.as_str()),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

/// What the program writes, standard output and standard error together.
struct Output {
    pipe: Receiver,
    kept: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Output {
    fn of(pipe: OwnedFd) -> Result<Self, Failure> {
        let pipe = Receiver::from_owned_fd(pipe);
        let pipe = pipe.map_err(|error| director("reading from the program", &error))?;
        Ok(Self { pipe, kept: Vec::new(), read: 0, ended: false })
    }

    /// Reads more of it, when there is more; for ever where there will not be.
    async fn more(&mut self) {
        if self.ended || self.pipe.readable().await.is_err() {
            std::future::pending().await
        }
        let mut part = [0; KEPT];
        match self.pipe.try_read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => self.keep(&part, read.unwrap_or(0)),
        }
    }

    /// Reads what is there already, whether that was announced or not; who still holds the pipe
    /// open is not waited for.
    fn take_what_is_there(&mut self) {
        let mut part = [0; KEPT];
        while !self.ended {
            // The pipe does not block.
            let read = rustix::io::read(&self.pipe, &mut part[..]).unwrap_or(0);
            self.keep(&part, read);
        }
    }

    /// Takes in what was read; nothing is the end.
    fn keep(&mut self, part: &[u8], count: usize) {
        let room = KEPT.saturating_sub(self.kept.len()).min(count);
        self.kept.extend_from_slice(&part[..room]);
        self.read += count;
        self.ended = count == 0 || self.read >= MOST;
    }

    /// The first line that says something.
    fn words(&self) -> String {
        let mut lines = self.kept.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        words(lines.find(|line| !line.is_empty()).unwrap_or(&[]))
    }
}
