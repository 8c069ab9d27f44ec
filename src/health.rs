//! The state machine of one target: consecutive outcomes in, verdict out.
//!
//! Pure: `(state, outcome, now)` gives a new state and perhaps a transition. It knows neither
//! what was probed nor when the next probe is due; that is [`crate::probe::engine`].
//!
//! Rules: an `unknown` target goes up on its first pass and down only after `fall` failures in a
//! row; an up one goes down after `fall` failures in a row; a down one comes up after `rise`
//! passes in a row, unless [`damping`] holds it down. An inconclusive outcome moves nothing.

pub mod damping;

use std::num::NonZeroU32;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The verdict on a target.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No verdict yet: the table keeps what it has.
    #[default]
    Unknown,
    /// Fit to take traffic.
    Up,
    /// Not fit.
    Down,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// What an outcome means to the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeKind {
    /// The real server answered as expected.
    Pass,
    /// It did not.
    Fail,
    /// The director could not ask: says nothing about the real server.
    Inconclusive,
}

/// How many results in a row change the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hysteresis {
    /// Passes in a row that bring a down target up.
    pub rise: NonZeroU32,
    /// Failures in a row that take a target down.
    pub fall: NonZeroU32,
}

/// A change of verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The verdict before.
    pub from: Health,
    /// The verdict now.
    pub to: Health,
}

/// Verdict, streak and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The verdict.
    pub health: Health,
    /// When the verdict was reached, or the target first seen.
    pub since: Instant,
    /// Results in a row that speak against the verdict; an unknown target counts failures.
    pub streak: u32,
    /// Down at least until then, whatever passes: it changed too often.
    pub held_until: Option<Instant>,
}

impl State {
    /// A target without a verdict.
    pub fn new(now: Instant) -> Self {
        Self { health: Health::Unknown, since: now, streak: 0, held_until: None }
    }

    /// Takes one result into account.
    pub fn record(
        &mut self,
        result: OutcomeKind,
        limits: Hysteresis,
        now: Instant,
    ) -> Option<Transition> {
        let (against, needed) = match (self.health, result) {
            (_, OutcomeKind::Inconclusive) => return None,
            (Health::Unknown, OutcomeKind::Pass) => return Some(self.turn(Health::Up, now)),
            (Health::Unknown | Health::Up, OutcomeKind::Fail) => (Health::Down, limits.fall),
            (Health::Down, OutcomeKind::Pass) => (Health::Up, limits.rise),
            (Health::Up, OutcomeKind::Pass) | (Health::Down, OutcomeKind::Fail) => {
                self.streak = 0;
                return None;
            }
        };
        self.streak = self.streak.saturating_add(1);
        let may = against == Health::Down || !self.is_held(now);
        (may && self.streak >= needed.get()).then(|| self.turn(against, now))
    }

    /// Whether passes cannot bring it up yet.
    pub fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// How long a streak has to be to change the verdict.
    pub fn needed(&self, limits: Hysteresis) -> u32 {
        match self.health {
            Health::Down => limits.rise.get(),
            Health::Unknown | Health::Up => limits.fall.get(),
        }
    }

    fn turn(&mut self, to: Health, now: Instant) -> Transition {
        let from = std::mem::replace(&mut self.health, to);
        self.since = now;
        self.streak = 0;
        self.held_until = None;
        Transition { from, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(rise: u32, fall: u32) -> Hysteresis {
        Hysteresis { rise: NonZeroU32::new(rise).unwrap(), fall: NonZeroU32::new(fall).unwrap() }
    }

    /// Plays a script of results (`p` pass, `f` fail, `i` inconclusive) and writes the verdict
    /// after each one (`?` unknown, `U` up, `D` down).
    fn play(rise: u32, fall: u32, script: &str) -> String {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let mut state = State::new(now);
        script
            .chars()
            .map(|letter| {
                let result = match letter {
                    'p' => OutcomeKind::Pass,
                    'f' => OutcomeKind::Fail,
                    _ => OutcomeKind::Inconclusive,
                };
                state.record(result, limits(rise, fall), now);
                match state.health {
                    Health::Unknown => '?',
                    Health::Up => 'U',
                    Health::Down => 'D',
                }
            })
            .collect()
    }

    #[test]
    fn verdicts_by_table() {
        for (rise, fall, script, verdicts) in [
            (2, 3, "p", "U"),
            (2, 3, "fff", "??D"),
            (2, 3, "ffp", "??U"),
            (2, 3, "pffpfff", "UUUUUUD"),
            (2, 3, "fffpfpp", "??DDDDU"),
            (1, 1, "pfpf", "UDUD"),
            (2, 3, "iiip", "???U"),
            (2, 3, "pffif", "UUUUD"),
            (2, 1, "pfpip", "UDDDU"),
        ] {
            assert_eq!(play(rise, fall, script), verdicts, "rise {rise} fall {fall}: {script}");
        }
    }

    proptest! {
        /// A verdict changes only with `rise` or `fall` conclusive results of one kind at the end
        /// of what was seen, or with the first pass.
        #[test]
        fn a_verdict_is_always_earned(rise in 1u32..5, fall in 1u32..5, script in "[pfi]{0,60}") {
            let verdicts = play(rise, fall, &script);
            let mut before = '?';
            for (at, after) in verdicts.chars().enumerate() {
                let seen: String = script[..=at].chars().filter(|c| *c != 'i').collect();
                match (before, after) {
                    ('?', 'U') => prop_assert!(seen.ends_with('p')),
                    (_, 'D') if before != 'D' => {
                        prop_assert!(seen.ends_with(&"f".repeat(fall as usize)));
                    }
                    ('D', 'U') => prop_assert!(seen.ends_with(&"p".repeat(rise as usize))),
                    (was, is) => prop_assert_eq!(was, is),
                }
                before = after;
            }
        }
    }
}
