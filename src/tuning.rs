//! What can be set anew while the daemon runs.

use std::time::Duration;

use tokio::sync::watch;

use crate::policy::guard::Guard;
use crate::probe::blast_limit::BlastLimit;

/// The settings that need no restart; tasks follow them on a `watch` channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Longest time between two reads of the table.
    pub resync: Duration,
    /// How much a reload may remove unasked.
    pub guard: Guard,
    /// When the table is held because too much turns down at once.
    pub blast_limit: BlastLimit,
}

/// Waits for a value other than the last one seen; for ever when there will be none. Cancel-safe.
pub(crate) async fn changed<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The next tuning; never comes where none is followed. Cancel-safe.
pub(crate) async fn retuned(tuning: &mut Option<watch::Receiver<Tuning>>) -> Tuning {
    match tuning {
        Some(tuning) => {
            changed(tuning).await;
            *tuning.borrow_and_update()
        }
        None => std::future::pending().await,
    }
}
