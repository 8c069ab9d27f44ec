//! Follows the daemon and tells systemd what becomes of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::Notifier;
use crate::control::status::{Facts, Policies, Status};
use crate::health::Health;
use crate::probe::runner::Query;
use crate::reconcile::driver::Report;
use crate::source::Ask;

/// Between two looks at the status; ten thousand real servers take some milliseconds.
const PACE: Duration = Duration::from_secs(2);

/// What the tasks publish and answer.
#[derive(Debug)]
pub struct Life {
    /// For the status.
    pub facts: Facts,
    /// To the runner.
    pub queries: mpsc::Sender<Query>,
    /// To the source.
    pub asks: mpsc::Sender<Ask>,
    /// Of the driver.
    pub reports: watch::Receiver<Arc<Report>>,
    /// Of the source.
    pub policies: watch::Receiver<Policies>,
}

impl Life {
    /// Says that the daemon is ready when the first pass over the table has ended, well or ill: from
    /// then on the table is looked after, and trouble with it is in the status and tried again.
    /// Then follows reloads and the status, until the tasks are gone.
    pub async fn tell(mut self, notifier: Notifier, mut hangup: Signal) {
        if self.reports.changed().await.is_err() {
            return;
        }
        notifier.ready();
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            // Both are cancel-safe: a tick and a signal.
            tokio::select! {
                _ = hangup.recv() => {
                    notifier.reloading();
                    self.reloaded().await;
                    notifier.ready();
                }
                _ = ticks.tick() => {}
            }
            let Some(line) = self.line().await else { return };
            if line != told {
                notifier.status(&line);
                told = line;
            }
        }
    }

    /// Resolves when the source has read the policies after this moment.
    async fn reloaded(&self) {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask::Held(answer)).await.is_ok() {
            // An error is an end, which has its own words.
            let _ = answered.await;
        }
    }

    async fn line(&self) -> Option<String> {
        let (answer, snapshot) = oneshot::channel();
        self.queries.send(Query::Snapshot(answer)).await.ok()?;
        let snapshot = snapshot.await.ok()?;
        let facts = self.facts.clone();
        let report = Arc::clone(&self.reports.borrow());
        let policies = self.policies.borrow().clone();
        // Off the thread that probes.
        let build = move || line(&Status::build(&facts, &snapshot, &report, policies, wall()));
        tokio::task::spawn_blocking(build).await.ok()
    }
}

/// `4 of 4 real servers up`, and what needs an operator.
fn line(status: &Status) -> String {
    let up = status.count(Health::Up);
    let mut parts = vec![format!("{up} of {} real servers up", status.real_servers.len())];
    if status.dry_run {
        parts.push("dry run".to_owned());
    }
    parts.extend(status.degraded.iter().cloned());
    parts.join("; ")
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: a status has ages")]
fn wall() -> SystemTime {
    SystemTime::now()
}
