//! What of a status is about verdicts that are held: by the blast-radius limit, by flap damping.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::status::seconds;
use crate::count::count;
use crate::probe::runner::Snapshot;
use crate::probe::slot::Slot;

/// So much turned down at once that the table is held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlarmStatus {
    /// Seconds since it is held.
    pub since_seconds: f64,
    /// Targets that count as what they were before they turned down.
    pub held: usize,
    /// How many targets there are.
    pub targets: usize,
}

impl AlarmStatus {
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let alarm = snapshot.view.alarm?;
        let since = snapshot.now.saturating_duration_since(alarm.since);
        let (held, targets) = (alarm.held, alarm.targets);
        Some(Self { since_seconds: seconds(since), held, targets })
    }
}

impl fmt::Display for AlarmStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "BLAST-RADIUS LIMIT: {} of {} check targets are down and held as they were: look at \
             this director first; if the failures are real, `pointsman release`",
            self.held, self.targets
        )
    }
}

/// What flap damping knows of a target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DampingStatus {
    /// Changes that count at the moment.
    pub changes: usize,
    /// How often it was held down since it is known.
    pub holds: u64,
    /// Seconds for which it is held down yet, if it is.
    pub held_for: Option<f64>,
}

impl DampingStatus {
    pub(super) fn of(slot: &Slot, now: Instant) -> Option<Self> {
        let flaps = slot.flaps.as_ref()?;
        let until = slot.state.held_until.filter(|_| slot.state.is_held(now));
        let left = until.map(|until| seconds(until.saturating_duration_since(now)));
        Some(Self { changes: flaps.changes.len(), holds: flaps.trips, held_for: left })
    }
}

impl fmt::Display for DampingStatus {
    /// Nothing, unless it is held down.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(left) = self.held_for else { return Ok(()) };
        let left = humantime::format_duration(Duration::from_secs(left.ceil() as u64));
        let holds = count(self.holds as usize, "hold");
        write!(f, "; held down by flap damping for {left} more ({holds})")
    }
}
