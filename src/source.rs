//! The task that holds the last good policies and replaces them when better ones appear.
//!
//! A reload is one of four things: as before; refused, because something is wrong with it; held,
//! because it would remove too much unasked; or accepted. What is refused or held changes nothing.
//! What is held is always what lies on disk: a further edit takes its place, and is judged anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::control::status::{HeldReload, Policies, Refused, rfc3339};
use crate::events::{Journal, What};
use crate::policy::guard::{Guard, Removal};
use crate::policy::load::{Loaded, load_with_files};
use crate::policy::model::PolicySet;
use crate::policy::watch::{Watch, watch};
use crate::tuning::{Tuning, retuned};

/// What operators ask about a reload that is held. The policies are read anew first.
#[derive(Debug)]
pub enum Ask {
    /// Which policies are held?
    Held(oneshot::Sender<Option<Arc<PolicySet>>>),
    /// Put them in force.
    Confirm {
        /// Which ones, by their hash.
        hash: String,
        /// Who says so.
        by: String,
        /// Answered when they are in force or something else is on disk.
        answer: oneshot::Sender<Result<(), ConfirmError>>,
    },
}

/// Why nothing was confirmed. The policies in force stay so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfirmError {
    /// Nothing waits for it.
    #[error(
        "nothing is held: the policies on disk are in force, or were refused; see `pointsman status`"
    )]
    NothingHeld,
    /// Other policies wait now.
    #[error(
        "the policies have changed meanwhile (now {now}): look at their plan and confirm again"
    )]
    Changed {
        /// Their hash.
        now: String,
    },
}

/// What the source publishes.
#[derive(Debug)]
pub struct Outlets {
    /// The policies in force.
    pub sets: watch::Receiver<Arc<PolicySet>>,
    /// The same and the last reload in words.
    pub policies: watch::Receiver<Policies>,
}

/// Holds the last good policies and replaces them when better ones appear.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    guard: Guard,
    tuning: Option<watch::Receiver<Tuning>>,
    watch: Option<Watch>,
    held: Option<Loaded>,
    sets: watch::Sender<Arc<PolicySet>>,
    policies: watch::Sender<Policies>,
    journal: Journal,
}

impl Source {
    /// With the place they are read from, how much may go unasked, and those to begin with.
    pub fn new(path: PathBuf, guard: Guard, first: Loaded, journal: Journal) -> (Self, Outlets) {
        announce(&first, None, &journal);
        let policies = Policies {
            path: shown(&path),
            hash: first.set.hash.clone(),
            loaded: rfc3339(wall()),
            count: first.set.policies.len(),
            ..Policies::default()
        };
        let (sets, sets_out) = watch::channel(Arc::new(first.set));
        let (policies, policies_out) = watch::channel(policies);
        let outlets = Outlets { sets: sets_out, policies: policies_out };
        let tuning = None;
        (Self { path, guard, tuning, watch: None, held: None, sets, policies, journal }, outlets)
    }

    /// Follows the guard in this.
    #[must_use]
    pub fn tuned_by(self, tuning: watch::Receiver<Tuning>) -> Self {
        Self { tuning: Some(tuning), ..self }
    }

    /// Reloads after every change below the path or of a file that policies name, on SIGHUP and before each answer; never ends.
    pub async fn run(mut self, mut hangup: Signal, mut asks: mpsc::Receiver<Ask>) {
        self.watch = watch(&self.path)
            .inspect_err(|error| warn!(%error, "edits are noticed on SIGHUP only"))
            .ok();
        // What changed between the first load and the watch is noticed here.
        self.reload(false).await;
        loop {
            // All arms are cancel-safe: a watch, a signal and a queue.
            tokio::select! {
                () = changed(self.watch.as_mut()) => self.reload(false).await,
                _ = hangup.recv() => self.reload(true).await,
                tuning = retuned(&mut self.tuning) => {
                    self.guard = tuning.guard;
                    // What it held may pass now.
                    self.reload(false).await;
                }
                Some(ask) = asks.recv() => {
                    self.reload(false).await;
                    self.answer(ask);
                }
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        // Whoever asked may have hung up.
        match ask {
            Ask::Held(answer) => {
                let set = self.held.as_ref().map(|held| Arc::new(held.set.clone()));
                let _ = answer.send(set);
            }
            Ask::Confirm { hash, by, answer } => {
                let _ = answer.send(self.confirm(&hash, &by));
            }
        }
    }

    fn confirm(&mut self, hash: &str, by: &str) -> Result<(), ConfirmError> {
        match self.held.take() {
            None => Err(ConfirmError::NothingHeld),
            Some(held) if held.set.hash != hash => {
                let now = held.set.hash.clone();
                self.held = Some(held);
                Err(ConfirmError::Changed { now })
            }
            Some(held) => {
                info!(hash, by, "held reload confirmed");
                self.put_in_force(held, Some(by));
                Ok(())
            }
        }
    }

    async fn reload(&mut self, asked: bool) {
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || load_with_files(&path)).await;
        let loaded = loaded.map(|(loaded, files)| {
            if let Some(watch) = &self.watch {
                watch.named(files);
            }
            loaded
        });
        match loaded {
            Ok(Ok(loaded)) => self.accept(loaded, asked),
            Ok(Err(problems)) => {
                // A lint keeps nothing from being used.
                let errors = problems.iter().filter(|problem| problem.is_error());
                self.refuse(errors.map(ToString::to_string).collect(), asked);
            }
            Err(bug) => {
                error!(error = %bug, "loading policies ended in a bug of pointsman; the last good ones stay, please report it")
            }
        }
    }

    fn accept(&mut self, loaded: Loaded, asked: bool) {
        let was_refused = self.policies.borrow().refused.is_some();
        let (in_force, removal) = {
            let sets = self.sets.borrow();
            (loaded.set.hash == sets.hash, Removal::between(&sets, &loaded.set))
        };
        if in_force {
            let was_held = self.held.take().is_some();
            self.policies.send_modify(|policies| (policies.refused, policies.held) = (None, None));
            if was_refused || was_held || asked {
                info!(hash = %loaded.set.hash, "policies are valid and as before");
            }
        } else if self.guard.holds(&removal) {
            self.hold(loaded, removal, asked);
        } else {
            self.put_in_force(loaded, None);
        }
    }

    /// Keeps policies until somebody confirms them or others come.
    fn hold(&mut self, loaded: Loaded, removal: Removal, asked: bool) {
        let known = self.held.as_ref().is_some_and(|held| held.set.hash == loaded.set.hash);
        if known && !asked {
            self.policies.send_modify(|policies| policies.refused = None);
            return;
        }
        let hash = loaded.set.hash.clone();
        error!(
            hash,
            "reload held: it would remove {removal}; the policies before it stay in force; `pointsman confirm` shows its plan and accepts it"
        );
        if !known {
            let (hash, removal) = (hash.clone(), removal.to_string());
            self.journal.tell(What::ReloadHeld { hash, removal });
        }
        self.policies.send_modify(|policies| {
            policies.refused = None;
            policies.reloads_held += 1;
            if !known {
                policies.held = Some(HeldReload { at: rfc3339(wall()), hash, removal });
            }
        });
        self.held = Some(loaded);
    }

    fn put_in_force(&mut self, loaded: Loaded, confirmed_by: Option<&str>) {
        announce(&loaded, confirmed_by, &self.journal);
        self.held = None;
        self.policies.send_modify(|policies| {
            policies.hash.clone_from(&loaded.set.hash);
            policies.loaded = rfc3339(wall());
            policies.count = loaded.set.policies.len();
            policies.reloads += 1;
            (policies.refused, policies.held) = (None, None);
        });
        self.sets.send_replace(Arc::new(loaded.set));
    }

    fn refuse(&mut self, problems: Vec<String>, asked: bool) {
        let known = self.policies.borrow().refused.as_ref().map(|it| it.problems.clone());
        if known.as_ref() == Some(&problems) {
            if asked {
                error!(problems = problems.len(), "reload refused for the same problems as before");
                self.policies.send_modify(|policies| policies.reloads_refused += 1);
            }
            return;
        }
        error!(problems = problems.len(), "reload refused: the last good policies stay in force");
        for problem in &problems {
            error!("{problem}");
        }
        self.journal.tell(What::ReloadRefused { problems: problems.clone() });
        let at = rfc3339(wall());
        self.held = None;
        self.policies.send_modify(|policies| {
            policies.reloads_refused += 1;
            policies.refused = Some(Refused { at, problems });
            policies.held = None;
        });
    }
}

/// The path as it can be understood from any directory.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn announce(loaded: &Loaded, confirmed_by: Option<&str>, journal: &Journal) {
    let set = &loaded.set;
    let services: usize = set.policies.iter().map(|policy| policy.services.len()).sum();
    info!(
        hash = %set.hash,
        policies = set.policies.len(),
        services,
        targets = set.targets.len(),
        "policies loaded"
    );
    journal.tell(What::Reload {
        hash: set.hash.clone(),
        policies: set.policies.len(),
        services,
        confirmed_by: confirmed_by.map(str::to_owned),
    });
    for lint in &loaded.lints {
        warn!("{lint}");
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: status shows wall-clock times")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;
    use crate::policy::load::load;

    #[tokio::test]
    async fn an_edit_before_the_watch_is_up_is_not_missed() {
        const POLICY: &str = "
virtual_services: [tcp://192.0.2.1:80]
real_servers: [192.0.2.10]
checks: []
";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("www.yaml");
        fs::write(&file, POLICY).unwrap();
        let path = directory.path().to_owned();
        let first = load(&path).map_err(|problems| problems[0].to_string()).unwrap();
        let (source, outlets) = Source::new(path, Guard::Off, first, Journal::default());
        let mut sets = outlets.sets;
        let (_asks, asks) = mpsc::channel(1);
        fs::write(&file, POLICY.replace("192.0.2.10", "192.0.2.11")).unwrap();
        let running = tokio::spawn(source.run(signal(SignalKind::hangup()).unwrap(), asks));
        let changed = tokio::time::timeout(Duration::from_secs(5), sets.changed()).await;
        assert!(matches!(changed, Ok(Ok(()))), "the edit was missed");
        let server = sets.borrow().policies[0].real_servers[0].name.clone();
        assert_eq!(server, "192.0.2.11");
        running.abort();
    }

    #[tokio::test]
    async fn lints_are_no_reason_for_a_refusal() {
        const SUSPICIOUS: &str = "
virtual_services: [tcp://192.0.2.1:80]
real_servers: [192.0.2.10]
checks: []
";
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("www.yaml"), SUSPICIOUS).unwrap();
        let first = load(directory.path()).map_err(|problems| problems[0].to_string()).unwrap();
        assert!(!first.lints.is_empty());
        let path = directory.path().to_owned();
        let (mut source, outlets) = Source::new(path, Guard::Off, first, Journal::default());
        fs::write(directory.path().join("bad.yaml"), "virtual_services: []").unwrap();
        source.reload(true).await;
        let refused = outlets.policies.borrow().refused.clone().unwrap().problems;
        assert!(!refused.is_empty());
        assert!(refused.iter().all(|problem| problem.contains("bad.yaml")), "{refused:?}");
    }
}
