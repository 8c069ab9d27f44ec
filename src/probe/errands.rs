//! Work that may block, off the threads that probe: at most so many pieces at once.
//!
//! A file system that hangs keeps those who wait for it for ever. They are few, so that there is
//! room for everything else that has to be done on such threads, the record of verdicts and the
//! status among it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::outcome::Reason;
use super::progress::Failure;

/// As many may be under way at once.
const MOST: usize = 32;

/// Places for errands of one kind.
#[derive(Debug)]
pub(super) struct Errands(Arc<Semaphore>);

impl Default for Errands {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Errands {
    /// Does something on a thread of its own, as soon as there is room. It is done to its end also
    /// when nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        errand: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let lost = || Failure::new(Reason::Cancelled, "stopped before its end");
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(|_| lost())?;
        let done = tokio::task::spawn_blocking(move || {
            let done = errand();
            drop(place);
            done
        });
        done.await.map_err(|_| lost())?
    }
}
