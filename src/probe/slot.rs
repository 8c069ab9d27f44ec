//! Everything known of one target: its verdict, what led to it, and when it is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::advising::{Advising, News, Spoken};
use super::engine::ProbeId;
pub use super::history::Last;
use super::history::Older;
use super::outcome::Outcome;
use super::tally::Tally;
use super::target::{Target, Timing};
use crate::health::damping::Flaps;
use crate::health::{Health, OutcomeKind, State, Transition};
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
    /// What it advises, where it was asked for that.
    pub advising: Option<Box<Advising>>,
    /// When the certificate ends that it showed last, in seconds since 1970. It outlives no process.
    pub certificate_ends: Option<u64>,
    /// The verdict is that of a run that died, and no probe has said the same since.
    pub(super) unconfirmed: bool,
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
            advising: None,
            certificate_ends: None,
            unconfirmed: false,
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
        let advice = self.advising.as_ref().and_then(|advising| advising.advice());
        Verdict {
            since: Some(self.state.since),
            advice,
            certificate_ends: self.certificate_ends,
            unconfirmed: self.unconfirmed,
            unasked: self.unasked().map(|last| last.detail.as_str().into()),
            ..Verdict::of(self.state.health, reason)
        }
    }

    /// Whether it may advise, has had no turn to do so yet, and nothing is known from before.
    pub(super) fn is_unadvised(&self, target: &Target) -> bool {
        target.check.kind.advises() && self.last.is_none() && self.advising.is_none()
    }

    /// The last outcome, if the director could not ask.
    fn unasked(&self) -> Option<&Outcome> {
        let last = self.last.as_ref().map(|last| &last.outcome);
        last.filter(|outcome| outcome.kind == OutcomeKind::Inconclusive)
    }

    /// What the view tells beside the verdict: whether it has had its turn to advise, whether it could
    /// be asked, whether it is confirmed, and its certificate.
    pub(super) fn beside(&self, target: &Target) -> (bool, bool, bool, Option<u64>) {
        let unasked = self.unasked().is_some();
        (self.is_unadvised(target), unasked, self.unconfirmed, self.certificate_ends)
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
        let transition = self.state.record(outcome.kind, timing.hysteresis, now);
        transition.into_iter().for_each(|it| self.tally.turned(it));
        if transition.is_some() {
            self.reason =
                (outcome.kind == OutcomeKind::Fail).then(|| outcome.detail.as_str().into());
        }
        let confirms = matches!(
            (outcome.kind, self.state.health),
            (OutcomeKind::Pass, Health::Up) | (OutcomeKind::Fail, Health::Down)
        );
        self.unconfirmed &= !confirms;
        self.note(outcome, now);
        let transition = transition?;
        let hold = timing
            .damping
            .and_then(|damping| self.flaps.get_or_insert_default().note(transition, damping, now));
        self.state.held_until = hold.map(|hold| now + hold);
        Some(Change { transition, hold })
    }

    /// Remembers an outcome, whatever it means.
    pub(super) fn note(&mut self, outcome: Outcome, now: Instant) {
        self.tally.ended(outcome.reason);
        if outcome.kind != OutcomeKind::Inconclusive {
            self.confirmed = Some(now);
        }
        if let Some(last) = self.last.replace(Last { at: now, outcome }) {
            self.older.push(&last);
        }
    }

    /// Takes the advice out of an outcome. An advisor that says nothing is missed; whether a check
    /// passes or fails is no advice.
    pub(super) fn listen(&mut self, outcome: &mut Outcome, target: &Target, now: Instant) -> News {
        let heard = outcome.advice.take();
        if let Some(heard) = heard {
            let lasts = target.timing.advice_lasts();
            self.advising.get_or_insert_default().hear(*heard, lasts, now)
        } else if target.check.kind.is_advisor() {
            self.advising.get_or_insert_default().miss(outcome.detail.as_str().into(), now)
        } else {
            News::default()
        }
    }

    /// Whether its last attempt passed, and ended later than that.
    pub(super) fn has_passed_since(&self, then: Instant) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| last.outcome.kind == OutcomeKind::Pass && last.at > then)
    }

    /// The advice of it that counts.
    pub(super) fn counting(&self) -> Option<Spoken> {
        self.advising.as_ref()?.spoken.clone().filter(|spoken| spoken.counts)
    }

    /// When its advice expires.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.advising.as_ref().and_then(|advising| advising.expires())
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
