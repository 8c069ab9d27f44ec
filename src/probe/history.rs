//! The outcomes before the last one, kept small: ten thousand targets have some each.
//!
//! Durations are whole microseconds, and a text that repeats itself is kept once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::{Outcome, Phases, Reason};
use crate::health::OutcomeKind;

/// As many outcomes as are remembered besides the last one.
const OLDER: usize = 4;
/// A phase that was not reached.
const NEVER: u32 = u32::MAX;

/// One attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// When it ended.
    pub at: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

/// The outcomes before the last one, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Older([Option<Entry>; OLDER]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    at: Instant,
    detail: Arc<str>,
    /// Connected, TLS, first byte, ended: microseconds from the start.
    phases: [u32; 4],
    kind: OutcomeKind,
    reason: Reason,
}

impl Older {
    /// Takes in what was the last one until now.
    pub(super) fn push(&mut self, last: &Last) {
        let detail = last.outcome.detail.as_str();
        let same = self.0.iter().flatten().find(|entry| &*entry.detail == detail);
        let detail = same.map_or_else(|| Arc::from(detail), |entry| Arc::clone(&entry.detail));
        let Phases { connected, tls, first_byte, ended } = last.outcome.phases;
        let entry = Entry {
            at: last.at,
            detail,
            phases: [connected, tls, first_byte, Some(ended)].map(micros),
            kind: last.outcome.kind,
            reason: last.outcome.reason,
        };
        self.0.rotate_right(1);
        self.0[0] = Some(entry);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Last> {
        self.0.iter().flatten().map(Entry::unpack)
    }
}

impl Entry {
    fn unpack(&self) -> Last {
        let [connected, tls, first_byte, ended] = self.phases.map(duration);
        let ended = ended.unwrap_or_default();
        let phases = Phases { connected, tls, first_byte, ended };
        let outcome = Outcome::new(self.reason, &*self.detail, phases);
        Last { at: self.at, outcome: Outcome { kind: self.kind, ..outcome } }
    }
}

fn micros(phase: Option<Duration>) -> u32 {
    phase.map_or(NEVER, |phase| u32::try_from(phase.as_micros()).unwrap_or(NEVER).min(NEVER - 1))
}

fn duration(micros: u32) -> Option<Duration> {
    (micros != NEVER).then(|| Duration::from_micros(micros.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: u64, detail: &str) -> Last {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let at = Instant::now() + Duration::from_secs(number);
        let phases = Phases {
            connected: Some(Duration::from_micros(number)),
            tls: None,
            first_byte: None,
            ended: Duration::from_millis(number),
        };
        Last { at, outcome: Outcome::new(Reason::HeadTimeout, detail, phases) }
    }

    #[test]
    fn the_newest_few_come_back_as_they_were() {
        let mut older = Older::default();
        let all: Vec<Last> =
            (0..7).map(|number| outcome(number, &format!("no {number}"))).collect();
        all.iter().for_each(|last| older.push(last));
        let expected: Vec<Last> = all.iter().rev().take(OLDER).cloned().collect();
        assert_eq!(older.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_same_words_are_kept_once() {
        let mut older = Older::default();
        (0..4).for_each(|number| older.push(&outcome(number, "status 200")));
        let first = older.0[0].as_ref().unwrap();
        assert_eq!(Arc::strong_count(&first.detail), OLDER);
    }

    #[test]
    fn a_target_costs_little() {
        assert!(size_of::<Older>() <= 256, "{}", size_of::<Older>());
    }

    #[test]
    fn what_took_more_than_an_hour_is_cut_short_rather_than_forgotten() {
        let long = Some(Duration::from_secs(100_000));
        assert_eq!(duration(micros(long)), Some(Duration::from_micros(u64::from(NEVER) - 1)));
        assert_eq!(duration(micros(None)), None);
    }
}
