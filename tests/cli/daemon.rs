//! A daemon that runs beside the test, with its log and its status.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scratch::{DEADLINE, Scratch, end_of, within};

/// A running `pointsman run`; killed when dropped.
pub(crate) struct Daemon<'s> {
    scratch: &'s Scratch,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl<'s> Daemon<'s> {
    /// Starts one and waits until it answers.
    pub(crate) fn start(scratch: &'s Scratch) -> Self {
        Self::start_with(scratch, |_| {})
    }

    /// The same with more arguments or another environment.
    pub(crate) fn start_with(scratch: &'s Scratch, more: impl FnOnce(&mut Command)) -> Self {
        let mut command = scratch.run_command();
        more(&mut command);
        Self::of(scratch, command)
    }

    /// Starts this command, a `pointsman run`, and waits until it answers.
    pub(crate) fn of(scratch: &'s Scratch, command: Command) -> Self {
        let daemon = Self::spawn(scratch, command);
        daemon.wait("an answer", |_| true);
        daemon
    }

    /// Starts one that need not answer.
    pub(crate) fn spawn_only(scratch: &'s Scratch, more: impl FnOnce(&mut Command)) -> Self {
        let mut command = scratch.run_command();
        more(&mut command);
        Self::spawn(scratch, command)
    }

    fn spawn(scratch: &'s Scratch, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { scratch, child, log, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything on standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Log lines that contain this.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits for a log line that contains this.
    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str) {
        let found = within(DEADLINE, || self.log().contains(text));
        assert!(found, "nothing of `{text}` in the log:\n{}", self.log());
    }

    /// Waits until so many log lines contain this, and no more.
    #[track_caller]
    pub(crate) fn wait_logged(&self, text: &str, count: usize) -> Vec<String> {
        within(DEADLINE, || self.logged(text).len() >= count);
        let lines = self.logged(text);
        assert_eq!(lines.len(), count, "lines with `{text}` in the log:\n{}", self.log());
        lines
    }

    /// The status as JSON; `None` when there is no answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let finished = self.scratch.status(&["--output", "json"]);
        matches!(finished.code, Some(0 | 3)).then(|| finished.json())
    }

    /// Waits for a status that is as described.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = within(DEADLINE, || {
            last = self.status();
            last.as_ref().is_some_and(&is_there)
        });
        let last = last.unwrap_or_default();
        assert!(found, "no {what}; status: {last:#}\nlog:\n{}", self.log());
        last
    }

    /// Waits until so many real servers are up and no other is.
    #[track_caller]
    pub(crate) fn wait_up(&self, up: usize) -> Value {
        self.wait(&format!("{up} real servers up"), |status| {
            let servers = status["real_servers"].as_array().unwrap();
            let is_up = |server: &&Value| server["health"] == "up";
            let known = servers.iter().all(|server| server["health"] != "unknown");
            known && servers.iter().filter(is_up).count() == up
        })
    }

    /// Waits until the newest policies are in force and none are refused.
    #[track_caller]
    pub(crate) fn wait_reloads(&self, reloads: u64) -> Value {
        self.wait(&format!("{reloads} accepted reloads"), |status| {
            status["policies"]["reloads"] == reloads && status["policies"]["refused"].is_null()
        })
    }

    /// Waits until a reload was refused, and gives the problems.
    #[track_caller]
    pub(crate) fn wait_refused(&self, problem: &str) -> Value {
        self.wait(&format!("refusal with `{problem}`"), |status| {
            let problems = status["policies"]["refused"]["problems"].as_array();
            problems.is_some_and(|it| it.iter().any(|it| it.as_str().unwrap().contains(problem)))
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let code = end_of(&mut self.child, "the daemon");
        self.reader.take().unwrap().join().unwrap();
        (code, self.log())
    }

    /// Ends it without a chance to do anything about it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
