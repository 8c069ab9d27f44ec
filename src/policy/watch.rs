//! Notices that policies may have changed; part of the shell.
//!
//! One thread waits for events on the directory and on its parent, never on the files: a watch on
//! a file goes deaf with the first rename. It also looks at the directory every few seconds, for
//! what raised no event: a swapped symlink elsewhere, a network file system, a lost event, a
//! directory that was made anew. Files that policies name may be anywhere, so they are looked at
//! and nothing else. What changed is not its business; whoever is woken loads
//! everything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;

use super::fingerprint::{Fingerprint, Identity};
use super::load::is_policy_name;
use crate::privileges;

/// Why a path cannot be watched.
#[derive(Debug, Error)]
#[error("cannot watch {}", path.display())]
pub struct WatchError {
    /// The path.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// A running watch; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    wakes: tokio::sync::mpsc::Receiver<()>,
    signals: Sender<Signal>,
}

/// Watches a policy directory or file, which need not exist yet.
///
/// When the system has no more watches to give, a warning is logged and changes are found by
/// looking every two seconds.
///
/// # Errors
/// The path is empty, or the system has no thread to give.
pub fn watch(path: &Path) -> Result<Watch, WatchError> {
    watch_at(path, Pace::DEFAULT)
}

impl Watch {
    /// Resolves after a change that may have changed a policy, once it has been quiet for 200 ms,
    /// at the latest a second after the first change. Changes while nobody waits are kept as one.
    ///
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if self.wakes.recv().await.is_none() {
            // The thread is gone, which only a panic in it can bring about: nothing will change.
            std::future::pending::<()>().await;
        }
    }

    /// From now on also looks at these files, which policies name, and at no others; they need not
    /// be there. Wakes once when they are not those of before: they may have changed since they
    /// were read.
    pub fn named(&self, files: BTreeSet<PathBuf>) {
        // An error means that the thread has ended.
        let _ = self.signals.send(Signal::Named(files));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.signals.send(Signal::Stop);
    }
}

/// How long the thread waits for what.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Without an event before a wake.
    quiet: Duration,
    /// From the first event to the wake, at most.
    storm: Duration,
    /// Between two looks at the directory.
    look: Duration,
}

impl Pace {
    const DEFAULT: Self = Self {
        quiet: Duration::from_millis(200),
        storm: Duration::from_secs(1),
        look: Duration::from_secs(2),
    };
}

/// What the thread is told.
#[derive(Debug, PartialEq, Eq)]
enum Signal {
    /// A policy file was touched.
    Policy,
    /// Something was touched that may be behind a policy file.
    Hint,
    /// The directory itself appeared, went or was replaced.
    Directory,
    /// Policies name these files.
    Named(BTreeSet<PathBuf>),
    /// The watch was dropped.
    Stop,
}

fn watch_at(path: &Path, pace: Pace) -> Result<Watch, WatchError> {
    let failed = |source| WatchError { path: path.to_owned(), source };
    let scope = Scope::new(&std::path::absolute(path).map_err(failed)?);
    let (signals, received) = mpsc::channel();
    let (wake, wakes) = tokio::sync::mpsc::channel(1);
    // It starts a thread that reads what the kernel says of files.
    let mut worker = privileges::without(|| Worker::new(scope, signals.clone(), wake, pace));
    thread::Builder::new()
        .name("policy-watch".to_owned())
        .spawn(move || {
            privileges::none();
            worker.run(&received);
        })
        .map_err(failed)?;
    Ok(Watch { wakes, signals })
}

/// What is watched.
#[derive(Debug, Clone)]
struct Scope {
    /// The path as given, absolute.
    path: PathBuf,
    /// The directory with policies in it.
    directory: PathBuf,
    /// The only policy in it, when the path is a file.
    file: Option<PathBuf>,
}

impl Scope {
    /// A path that is not there yet is taken for a file when it is named as a policy.
    fn new(path: &Path) -> Self {
        let named = path.file_name().map(OsStr::to_string_lossy);
        let is_file =
            path.is_file() || (!path.is_dir() && named.is_some_and(|name| is_policy_name(&name)));
        let (directory, file) = match (is_file, path.parent()) {
            (true, Some(parent)) => (parent.to_owned(), Some(path.to_owned())),
            _ => (path.to_owned(), None),
        };
        Self { path: path.to_owned(), directory, file }
    }

    /// What an event means; `None` for what cannot change a policy.
    fn signal(&self, event: &Event) -> Option<Signal> {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return None,
            _ if event.paths.is_empty() => return Some(Signal::Hint),
            _ => {}
        }
        let signals = event.paths.iter().filter_map(|path| self.of_path(path, event.kind));
        signals.max_by_key(|signal| match signal {
            Signal::Directory => 2,
            Signal::Policy => 1,
            Signal::Hint | Signal::Named(_) | Signal::Stop => 0,
        })
    }

    fn of_path(&self, path: &Path, kind: EventKind) -> Option<Signal> {
        if path == self.directory {
            let written = matches!(
                kind,
                EventKind::Access(_) | EventKind::Modify(notify::event::ModifyKind::Data(_))
            );
            return (!written).then_some(Signal::Directory);
        }
        let name = path.file_name()?.to_string_lossy();
        let here = path.parent() == Some(&self.directory);
        let is_policy = match &self.file {
            Some(file) => path == file,
            None => here && is_policy_name(&name),
        };
        match (is_policy, here && name.starts_with("..")) {
            (true, _) => Some(Signal::Policy),
            (false, true) => Some(Signal::Hint),
            (false, false) => None,
        }
    }
}

/// The thread's state.
struct Worker {
    scope: Scope,
    signals: Sender<Signal>,
    wake: tokio::sync::mpsc::Sender<()>,
    pace: Pace,
    /// Keeps the watches of the kernel; replaced as a whole, so that none is ever stale.
    watcher: Option<RecommendedWatcher>,
    /// The directory they are on.
    armed: Option<Identity>,
    /// Files that policies name.
    named: BTreeSet<PathBuf>,
    /// What the policies and these looked like at the last wake.
    seen: Fingerprint,
    pending: Option<Pending>,
    warned: bool,
}

/// A change that has not been quiet for long enough.
#[derive(Debug, Clone, Copy)]
struct Pending {
    first: Instant,
    last: Instant,
    /// Whether to wake even when nothing looks changed.
    certain: bool,
}

impl Worker {
    fn new(
        scope: Scope,
        signals: Sender<Signal>,
        wake: tokio::sync::mpsc::Sender<()>,
        pace: Pace,
    ) -> Self {
        let mut worker = Self {
            seen: Fingerprint::of(&scope.path, &BTreeSet::new()),
            named: BTreeSet::new(),
            scope,
            signals,
            wake,
            pace,
            watcher: None,
            armed: None,
            pending: None,
            warned: false,
        };
        worker.arm();
        worker
    }

    fn run(&mut self, received: &Receiver<Signal>) {
        let mut look = now() + self.pace.look;
        loop {
            let due = self.pending.map_or(look, |pending| look.min(self.due(pending)));
            match received.recv_timeout(due.saturating_duration_since(now())) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(signal) => self.note(signal),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.pending.is_some_and(|pending| now() >= self.due(pending)) && !self.settle() {
                return;
            }
            if now() >= look {
                self.look();
                look = now() + self.pace.look;
            }
        }
    }

    fn due(&self, pending: Pending) -> Instant {
        (pending.last + self.pace.quiet).min(pending.first + self.pace.storm)
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.scope.path, &self.named)
    }

    fn note(&mut self, signal: Signal) {
        let certain = signal == Signal::Policy;
        match signal {
            Signal::Directory => self.arm(),
            Signal::Named(files) if files == self.named => return,
            Signal::Named(files) => self.named = files,
            Signal::Policy | Signal::Hint | Signal::Stop => {}
        }
        let last = now();
        let before = self.pending.unwrap_or(Pending { first: last, last, certain: false });
        let certain = before.certain || certain;
        self.pending = Some(Pending { last, certain, ..before });
    }

    /// Wakes whoever waits; false when nobody will ever again.
    fn settle(&mut self) -> bool {
        let certain = self.pending.take().is_some_and(|pending| pending.certain);
        let fingerprint = self.fingerprint();
        if !certain && fingerprint == self.seen {
            return true;
        }
        self.seen = fingerprint;
        // A full channel holds a wake already.
        !matches!(self.wake.try_send(()), Err(tokio::sync::mpsc::error::TrySendError::Closed(())))
    }

    /// Finds what raised no event.
    fn look(&mut self) {
        if Identity::of(&self.scope.directory) != self.armed {
            self.arm();
        }
        if self.pending.is_none() && self.fingerprint() != self.seen {
            self.note(Signal::Hint);
        }
    }

    /// Puts new watches on the directory and its parent, as far as they exist.
    fn arm(&mut self) {
        self.watcher = None;
        self.armed = Identity::of(&self.scope.directory);
        let armed = self.watcher();
        match armed {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) if !self.warned => {
                self.warned = true;
                let path = self.scope.path.display();
                let every = humantime::format_duration(self.pace.look);
                tracing::warn!(%path, %error, "no file events: looking for changes every {every}");
            }
            Err(_) => {}
        }
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let (scope, signals) = (self.scope.clone(), self.signals.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let signal = event.map_or(Some(Signal::Hint), |event| scope.signal(&event));
            if let Some(signal) = signal {
                // An error means that the thread has ended.
                let _ = signals.send(signal);
            }
        })?;
        if let Some(parent) = self.scope.directory.parent() {
            // Without it a directory made anew is found at the next look.
            let _ = watcher.watch(parent, RecursiveMode::NonRecursive);
        }
        if self.armed.is_some() {
            watcher.watch(&self.scope.directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

#[expect(clippy::disallowed_methods, reason = "part of the shell: debouncing needs a clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
