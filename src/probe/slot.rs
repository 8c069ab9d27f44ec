//! Everything known of one target: its verdict, what led to it, and when it is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::ProbeId;
pub use super::history::Last;
use super::history::Older;
use super::outcome::Outcome;
use super::tally::Tally;
use super::target::Timing;
use crate::health::damping::Flaps;
use crate::health::{OutcomeKind, State, Transition};
use crate::reconcile::view::Verdict;

/// Everything known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Verdict, since when, streak.
    pub state: State,
    /// The last attempt.
    pub last: Option<Last>,
    /// When the real server last said something, pass or fail.
    pub confirmed: Option<Instant>,
    /// Its changes, where they are damped and there were some.
    pub flaps: Option<Box<Flaps>>,
    /// What came of all of them, as numbers.
    pub tally: Tally,
    older: Older,
    pub(super) reason: Option<Arc<str>>,
    pub(super) due: Instant,
    pub(super) attempts: u64,
    pub(super) probe: Option<(ProbeId, Instant)>,
}

/// What one outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) transition: Transition,
    /// How long it is held down from now on.
    pub(super) hold: Option<Duration>,
}

impl Slot {
    pub(super) fn new(due: Instant, now: Instant) -> Self {
        Self {
            state: State::new(now),
            last: None,
            confirmed: None,
            flaps: None,
            tally: Tally::default(),
            older: Older::default(),
            reason: None,
            due,
            attempts: 0,
            probe: None,
        }
    }

    /// The verdict, as far as a plan needs it.
    pub fn verdict(&self) -> Verdict {
        let reason = self.reason.clone();
        let reason = match self.flaps.as_ref().and_then(|flaps| flaps.words.as_deref()) {
            Some(words) => {
                Some(format!("{words}; last: {}", reason.as_deref().unwrap_or("unknown")).into())
            }
            None => reason,
        };
        Verdict { since: Some(self.state.since), ..Verdict::of(self.state.health, reason) }
    }

    /// The last five outcomes, the newest first.
    pub fn history(&self) -> impl Iterator<Item = Last> {
        self.last.iter().cloned().chain(self.older.iter())
    }

    pub(super) fn record(
        &mut self,
        outcome: Outcome,
        timing: Timing,
        now: Instant,
    ) -> Option<Change> {
        self.end_hold(now);
        self.tally.ended(outcome.reason);
        let transition = self.state.record(outcome.kind, timing.hysteresis, now);
        transition.into_iter().for_each(|it| self.tally.turned(it));
        if transition.is_some() {
            self.reason =
                (outcome.kind == OutcomeKind::Fail).then(|| outcome.detail.as_str().into());
        }
        if outcome.kind != OutcomeKind::Inconclusive {
            self.confirmed = Some(now);
        }
        if let Some(last) = self.last.replace(Last { at: now, outcome }) {
            self.older.push(&last);
        }
        let transition = transition?;
        let hold = timing
            .damping
            .and_then(|damping| self.flaps.get_or_insert_default().note(transition, damping, now));
        self.state.held_until = hold.map(|hold| now + hold);
        Some(Change { transition, hold })
    }

    /// Follows a new timing: no damping, no hold; a shorter longest hold counts at once.
    pub(super) fn retime(&mut self, timing: Timing, now: Instant) {
        let latest = timing.damping.map(|damping| now + damping.max_hold);
        if latest.is_none() {
            self.flaps = None;
        }
        self.state.held_until = self.state.held_until.zip(latest).map(|(until, at)| until.min(at));
    }

    /// A hold that is over needs no words any more, although nothing may have passed yet.
    fn end_hold(&mut self, now: Instant) {
        if self.state.held_until.is_some() && !self.state.is_held(now) {
            self.state.held_until = None;
            if let Some(flaps) = &mut self.flaps {
                flaps.words = None;
            }
        }
    }
}
