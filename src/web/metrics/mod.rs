//! The metrics, written anew for each picture: what is gone from the daemon is gone from them.
//!
//! Pure. `docs/METRICS.md` lists them all. Labels are names and addresses of what policies declare
//! or the table holds, and words of bounded sets; never what a real server says.

pub mod format;
mod probes;
mod process;
mod table;

use std::time::{Instant, SystemTime};

use format::{Format, Page};

use crate::control::status::{Facts, Policies, Status};
use crate::probe::runner::Snapshot;
use crate::reconcile::driver::Report;

/// What metrics are made from: one moment of the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What does not change.
    pub facts: &'a Facts,
    /// What the runner knows.
    pub snapshot: &'a Snapshot,
    /// What the driver knows.
    pub report: &'a Report,
    /// What the policy source knows.
    pub policies: &'a Policies,
    /// The status made from all of them.
    pub status: &'a Status,
    /// The wall clock at the moment of the snapshot.
    pub wall: SystemTime,
}

/// All metrics of a moment.
pub fn render(source: Source<'_>, format: Format) -> String {
    let mut page = Page::new(format);
    process::write(&source, &mut page);
    probes::write(&source, &mut page);
    table::write(&source, &mut page);
    page.finish()
}

impl Source<'_> {
    /// Seconds since 1970.
    fn unix(&self, moment: Instant) -> f64 {
        let ago = self.snapshot.now.saturating_duration_since(moment);
        unix(self.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

/// Seconds since 1970, to the millisecond.
fn unix(wall: SystemTime) -> f64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}
