//! Writes down what is known of targets, so that a restart goes on where it was.
//!
//! A task of its own: it asks the runner for what it knows when a verdict has changed and every
//! half minute, and writes on a thread where the disk may take its time. Probes never wait for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::knowledge::{Knowledge, REFRESH, Recorded};
use super::runner::Query;
use crate::reconcile::view::HealthView;
use crate::record::{Record, RecordError};

/// From a change of a verdict to the write: the rest of a wave comes with it.
const SETTLE: Duration = Duration::from_secs(1);
/// A write that took long is followed by a rest so many times as long.
const REST: u32 = 10;

/// Keeps the record.
#[derive(Debug)]
pub struct Keeper {
    record: Record<Recorded>,
    queries: mpsc::Sender<Query>,
    views: watch::Receiver<Arc<HealthView>>,
}

impl Keeper {
    /// A keeper that asks this runner; `views` are those it publishes.
    pub fn new(
        record: Record<Recorded>,
        queries: mpsc::Sender<Query>,
        views: watch::Receiver<Arc<HealthView>>,
    ) -> Self {
        Self { record, queries, views }
    }

    /// Writes until the runner is gone, or the sender of `stop`, and then once more: only that is
    /// marked as a last word, which the first write takes back without delay.
    pub async fn run(self, mut stop: oneshot::Receiver<()>) {
        let Self { mut record, queries, mut views } = self;
        let (mut pause, mut failing) = (Duration::ZERO, false);
        loop {
            // Both are cancel-safe: what a wait was for is in what is written after it.
            let ends = tokio::select! {
                _ = &mut stop => true,
                () = until_worthwhile(&mut views, pause) => false,
            };
            let Some(knowledge) = ask(&queries).await else { return };
            let (begun, wall) = (tokio::time::Instant::now(), wall());
            let write = tokio::task::spawn_blocking(move || {
                let known = knowledge.record(wall);
                let written = record.save(&if ends { known.ended() } else { known });
                (record, written)
            });
            let Ok((again, written)) = write.await else { return };
            record = again;
            report(written, &mut failing);
            if ends {
                return;
            }
            pause = SETTLE.max(begun.elapsed() * REST);
        }
    }
}

/// A verdict has changed and the dust has settled, or half a minute has passed.
async fn until_worthwhile(views: &mut watch::Receiver<Arc<HealthView>>, pause: Duration) {
    if let Ok(Ok(())) = tokio::time::timeout(REFRESH, views.changed()).await {
        tokio::time::sleep(pause).await;
        views.mark_unchanged();
    }
}

async fn ask(queries: &mpsc::Sender<Query>) -> Option<Knowledge> {
    let (answer, knowledge) = oneshot::channel();
    queries.send(Query::Knowledge(answer)).await.ok()?;
    knowledge.await.ok()
}

/// Says that it fails, and that it works again, once each.
fn report(written: Result<bool, RecordError>, failing: &mut bool) {
    match written {
        Err(error) if !*failing => {
            *failing = true;
            let cause = std::error::Error::source(&error).map(tracing::field::display);
            warn!(%error, cause, "a restart would begin without verdicts; probing goes on");
        }
        Err(_) => {}
        Ok(_) if *failing => {
            *failing = false;
            info!("verdicts are recorded again");
        }
        Ok(_) => {}
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's clock: what is recorded outlives this one"
)]
fn wall() -> SystemTime {
    SystemTime::now()
}
