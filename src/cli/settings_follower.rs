//! Follows the settings file while the daemon runs.

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::settings::{File, Values, compare, tuning};
use crate::control::status::SettingsStatus;
use crate::policy::problem::Problem;
use crate::policy::watch::{Watch, watch};
use crate::tuning::Tuning;

/// Puts in force what can be, and says what cannot.
pub(super) struct Follower {
    file: File,
    /// What it said when the daemon started.
    started: Values,
    /// What it said last.
    last: Values,
    tunings: watch::Sender<Tuning>,
    status: watch::Sender<SettingsStatus>,
}

impl Follower {
    /// A follower, and what it publishes.
    pub(super) fn new(
        file: File,
        started: Values,
        first: Tuning,
    ) -> (Self, watch::Receiver<Tuning>, watch::Receiver<SettingsStatus>) {
        let path = file.path.display().to_string();
        let (status, statuses) = watch::channel(SettingsStatus { path, ..Default::default() });
        let (tunings, tuned) = watch::channel(first);
        (Self { file, last: started.clone(), started, tunings, status }, tuned, statuses)
    }

    /// Reads the file after every change and on SIGHUP; never ends.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        let mut watch = watch(&self.file.path)
            .inspect_err(|error| warn!(%error, "the settings file is read on SIGHUP only"))
            .ok();
        loop {
            let file = self.file.clone();
            match tokio::task::spawn_blocking(move || file.load()).await {
                Ok(Ok(values)) => self.accept(values),
                Ok(Err(problems)) => self.refuse(&problems),
                Err(bug) => {
                    error!(error = %bug, "reading the settings file ended in a bug of pointsman; please report it")
                }
            }
            // Both are cancel-safe: a watch and a signal.
            tokio::select! {
                () = changed(watch.as_mut()) => {}
                _ = hangup.recv() => {}
            }
        }
    }

    fn accept(&mut self, values: Values) {
        let was_refused = !self.status.borrow().refused.is_empty();
        if values == self.last && !was_refused {
            return;
        }
        let arguments = std::env::args_os().collect::<Vec<_>>();
        let (run, need_restart) = match compare(&self.started, &values, arguments) {
            Ok(compared) => compared,
            Err(why) => return self.refuse(&[self.file.problem(why)]),
        };
        self.last = values;
        let tuning = tuning(&run);
        let other = self.tunings.send_if_modified(|now| std::mem::replace(now, tuning) != tuning);
        info!(file = %self.file.path.display(), changed = other, "settings read");
        if !need_restart.is_empty() {
            warn!(settings = need_restart.join(", "), "these settings count after a restart");
        }
        self.status.send_modify(|status| {
            status.refused.clear();
            status.need_restart = need_restart;
        });
    }

    fn refuse(&mut self, problems: &[Problem]) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if self.status.borrow().refused == problems {
            return;
        }
        error!(problems = problems.len(), "settings refused: those before stay in force");
        for problem in &problems {
            error!("{problem}");
        }
        self.status.send_modify(|status| status.refused = problems);
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
