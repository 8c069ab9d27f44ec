//! Flap damping: who changes too often stays down for a while, and longer each time.
//!
//! Pure. A hold begins only with a verdict of down that the failures have earned: damping never
//! takes anybody out, it only delays the return. The time of a hold is not lived through: a change
//! before it is as young after it, so that whoever goes on flapping is held again at the first
//! failure, however long the hold was.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Health, Transition};

/// As many changes as are remembered, and so may be asked for.
pub const MOST_CHANGES: u32 = 50;

/// When a target changes too often, and what becomes of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damping {
    /// So many changes between up and down are too many; 2 to [`MOST_CHANGES`].
    pub changes: NonZeroU32,
    /// Within this time.
    pub window: Duration,
    /// How long the first hold lasts; each further one twice as long as the last.
    pub hold: Duration,
    /// The longest a hold gets.
    pub max_hold: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            changes: const { NonZeroU32::new(5).expect("not 0") },
            window: Duration::from_secs(300),
            hold: Duration::from_secs(30),
            max_hold: Duration::from_secs(600),
        }
    }
}

/// What is remembered of a target's changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flaps {
    /// When it changed, the oldest first; only those that still count.
    pub changes: VecDeque<Instant>,
    /// Holds since it was last quiet for a whole window.
    pub level: u32,
    /// Holds since it is known.
    pub trips: u64,
    /// Why it is held down now, for people; the same for as long as it is.
    pub words: Option<Arc<str>>,
}

impl Flaps {
    /// Takes a change of verdict into account; how long the target is to be held down from now
    /// on, if it is. A first verdict is no change.
    pub fn note(
        &mut self,
        transition: Transition,
        damping: Damping,
        now: Instant,
    ) -> Option<Duration> {
        self.words = None;
        if transition.from == Health::Unknown {
            return None;
        }
        self.forget(damping.window, now);
        if self.changes.is_empty() {
            self.level = 0;
        }
        self.changes.push_back(now);
        if self.changes.len() > MOST_CHANGES as usize {
            self.changes.pop_front();
        }
        let too_many = self.changes.len() >= damping.changes.get() as usize;
        if transition.to != Health::Down || !too_many {
            return None;
        }
        let times = 1_u32.checked_shl(self.level).unwrap_or(u32::MAX);
        let hold = damping.hold.saturating_mul(times).min(damping.max_hold);
        self.level = self.level.saturating_add(1);
        self.trips = self.trips.saturating_add(1);
        let window = humantime::format_duration(damping.window);
        let count = self.changes.len();
        self.words = Some(format!("held down by flap damping, {count} changes in {window}").into());
        for change in &mut self.changes {
            *change += hold;
        }
        Some(hold)
    }

    /// Lets go of changes that have left the window.
    fn forget(&mut self, window: Duration, now: Instant) {
        let counts = |change: &Instant| now.saturating_duration_since(*change) < window;
        while self.changes.front().is_some_and(|change| !counts(change)) {
            self.changes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Hysteresis, OutcomeKind, State};
    use proptest::prelude::*;

    fn damping(changes: u32, window: u64, hold: u64, max_hold: u64) -> Damping {
        Damping {
            changes: NonZeroU32::new(changes).unwrap(),
            window: Duration::from_secs(window),
            hold: Duration::from_secs(hold),
            max_hold: Duration::from_secs(max_hold),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    fn beginning() -> Instant {
        Instant::now()
    }

    const ONCE: NonZeroU32 = NonZeroU32::new(1).expect("not 0");

    /// A target with rise and fall 1 that is asked every second: whether it is up after each
    /// answer, and the holds that began.
    fn play(damping: Damping, answers: impl Iterator<Item = bool>) -> (Vec<bool>, Vec<u64>) {
        let start = beginning();
        let (mut state, mut flaps) = (State::new(start), Flaps::default());
        let (mut ups, mut holds) = (Vec::new(), Vec::new());
        for (second, passes) in (0..).zip(answers) {
            let now = start + Duration::from_secs(second);
            let kind = if passes { OutcomeKind::Pass } else { OutcomeKind::Fail };
            let limits = Hysteresis { rise: ONCE, fall: ONCE };
            if let Some(transition) = state.record(kind, limits, now)
                && let Some(hold) = flaps.note(transition, damping, now)
            {
                state.held_until = Some(now + hold);
                holds.push(hold.as_secs());
            }
            ups.push(state.health == Health::Up);
        }
        (ups, holds)
    }

    fn script(text: &str) -> impl Iterator<Item = bool> {
        text.chars().map(|letter| letter == 'p')
    }

    #[test]
    fn verdicts_by_table() {
        for (changes, script_text, verdicts) in [
            // The first verdict is no change; the third change trips it.
            (3, "pfpfpppp", "UDUDDDDU"),
            // The fourth change is one up, and nobody who passes is held: the fifth is.
            (4, "pfpfpfpppp", "UDUDUDDDDU"),
            // Failures during the hold do not prolong it.
            (3, "pfpffffp", "UDUDDDDU"),
            // Still failing at its end: up with the first pass after it.
            (3, "pfpfpfpffp", "UDUDDDDDDU"),
            // Too few changes.
            (5, "pfpfpppp", "UDUDUUUU"),
            // Down from the start is no change either.
            (2, "fpfp", "DUDD"),
        ] {
            let (ups, _) = play(damping(changes, 60, 4, 60), script(script_text));
            let found: String = ups.iter().map(|up| if *up { 'U' } else { 'D' }).collect();
            assert_eq!(found, verdicts, "{changes} changes: {script_text}");
        }
    }

    #[test]
    fn holds_double_up_to_the_longest() {
        // Passes when it may come up, fails at once when it has.
        let damping = damping(3, 30, 4, 20);
        let start = beginning();
        let (mut state, mut flaps) = (State::new(start), Flaps::default());
        let mut holds = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            let kind =
                if state.health == Health::Up { OutcomeKind::Fail } else { OutcomeKind::Pass };
            let limits = Hysteresis { rise: ONCE, fall: ONCE };
            if let Some(transition) = state.record(kind, limits, now)
                && let Some(hold) = flaps.note(transition, damping, now)
            {
                state.held_until = Some(now + hold);
                holds.push(hold.as_secs());
            }
        }
        assert_eq!(holds[..5], [4, 8, 16, 20, 20]);
        assert_eq!(flaps.trips, holds.len() as u64);
    }

    #[test]
    fn a_quiet_window_is_forgiven() {
        let quiet = |seconds: usize| format!("pfpf{}fpfpf", "p".repeat(seconds));
        let (_, holds) = play(damping(3, 30, 4, 60), script(&quiet(20)));
        assert_eq!(holds, [4, 8], "flapping again too soon");
        let (_, holds) = play(damping(3, 30, 4, 60), script(&quiet(60)));
        assert_eq!(holds, [4, 4], "a window without a change in between");
    }

    #[test]
    fn slow_changes_are_none_of_its_business() {
        let slow = "pppppppppppfffffffffff".repeat(20);
        assert_eq!(play(damping(3, 20, 4, 60), script(&slow)).1, [0_u64; 0]);
    }

    proptest! {
        /// Nobody who is up goes down by damping; nobody is down who passes longer than the longest
        /// hold; and what is not held follows the plain machine.
        #[test]
        fn damping_only_delays_a_return(
            changes in 2u32..6, hold in 1u64..10, max in 10u64..20, window in 5u64..100,
            answers in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let (ups, holds) = play(damping(changes, window, hold, max), answers.iter().copied());
            for (at, up) in ups.iter().enumerate() {
                if *up {
                    prop_assert!(answers[at], "up although it fails");
                } else {
                    let passing = answers[..=at].iter().rev().take_while(|it| **it).count() as u64;
                    prop_assert!(passing < max, "down for {passing} passes");
                }
            }
            prop_assert!(holds.iter().all(|it| (hold..=max).contains(it)));
            if holds.is_empty() {
                prop_assert_eq!(ups, answers);
            }
        }
    }
}
