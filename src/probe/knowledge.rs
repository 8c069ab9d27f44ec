//! What is known of targets, in a form that outlives the process.
//!
//! Pure: both clocks come in. A verdict is taken over by a later run while it is fresh: last
//! confirmed by a probe no longer ago than an interval and [`FRESH`]. What is older, what belongs
//! to another check, and what was written at a time that is yet to come is left: such a target
//! begins without a verdict. Advice is taken over until it expires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::advice::Said;
use super::advising::{Advising, Spoken};
use super::blast_limit::Member;
use super::slot::Slot;
use super::target::{Target, Timing};
use crate::health::damping::{Flaps, MOST_CHANGES};
use crate::health::{Health, State};
use crate::policy::model::PolicySet;
use crate::reconcile::standing::Clocks;
use crate::record::Kind;

/// The record of it.
pub const HEALTH: Kind = Kind {
    name: "health",
    key: "health",
    what: "verdicts",
    without: "every real server is unknown until it is probed",
};

/// The record is written so often without a change of a verdict, so that what is on it stays fresh.
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// How much older than its interval a verdict may be to be taken over.
pub const FRESH: Duration = Duration::from_secs(300);
/// No hold ends later than this.
const LONGEST_HOLD: Duration = Duration::from_secs(86_400);
/// Clocks are set right by little all the time.
const TOLERANCE: Duration = Duration::from_secs(5);

/// What is known of all targets at one moment.
#[derive(Debug)]
pub struct Knowledge {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// Aligned with their targets; `None` where nothing is known.
    pub targets: Vec<Option<Known>>,
    /// Likewise: the advice that counts.
    pub advice: Vec<Option<Spoken>>,
    /// Since when the blast-radius limit holds.
    pub holds_since: Option<Instant>,
    /// That moment.
    pub now: Instant,
}

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The verdict, up or down.
    pub health: Health,
    /// When it was reached.
    pub since: Instant,
    /// When the real server last said something.
    pub confirmed: Instant,
    /// Why it is down.
    pub reason: Option<Arc<str>>,
    /// Flap damping holds it down until then.
    pub held_until: Option<Instant>,
    /// Its changes.
    pub flaps: Option<Box<Flaps>>,
    /// Its part in a wave of failures.
    pub member: Option<Member>,
    /// Whether it is what a run that died had recorded, and no probe has said the same since: the
    /// table may know better.
    pub unconfirmed: bool,
}

impl Known {
    /// What is known of a target with a verdict.
    pub(super) fn of(slot: &Slot, member: Option<Member>) -> Option<Self> {
        if slot.state.health == Health::Unknown {
            return None;
        }
        Some(Self {
            health: slot.state.health,
            since: slot.state.since,
            confirmed: slot.confirmed?,
            reason: slot.reason.clone(),
            held_until: slot.state.held_until,
            flaps: slot.flaps.clone(),
            member,
            unconfirmed: slot.unconfirmed,
        })
    }
}

impl Slot {
    /// Goes on from what an earlier run knew.
    pub(super) fn recall(&mut self, known: &Known, timing: Timing, now: Instant) {
        let Known { health, since, held_until, .. } = *known;
        self.state = State { health, since, held_until, ..State::new(now) };
        self.confirmed = Some(known.confirmed);
        self.reason.clone_from(&known.reason);
        self.flaps.clone_from(&known.flaps);
        self.unconfirmed = known.unconfirmed;
        self.retime(timing, now);
    }

    /// Goes on with what it advised in an earlier run.
    pub(super) fn recall_advice(&mut self, spoken: Spoken) {
        self.advising = Some(Box::new(Advising { spoken: Some(spoken), ..Advising::default() }));
    }
}

/// Everything as it is written down. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Whether it is the last word of a run that ended in order.
    #[serde(default)]
    ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds_since: Option<u64>,
    /// By [`Target::key`].
    targets: BTreeMap<String, RecordedTarget>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    advice: BTreeMap<String, RecordedAdvice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedAdvice {
    said: Said,
    at: u64,
    until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedTarget {
    health: Health,
    since: u64,
    confirmed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flaps: Option<RecordedFlaps>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wave: Option<RecordedMember>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unconfirmed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedFlaps {
    changes: Vec<u64>,
    level: u32,
    trips: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedMember {
    at: u64,
    before: Health,
    #[serde(default)]
    silent: bool,
}

impl Knowledge {
    /// As it is written down; `wall` is the time of [`Self::now`]. Two targets may ask the same at
    /// different paces: the one that is down speaks for both, and what was advised last counts.
    pub fn record(&self, wall: SystemTime) -> Recorded {
        let times = Times(Clocks { now: self.now, wall });
        let mut targets: BTreeMap<String, RecordedTarget> = BTreeMap::new();
        for (target, known) in self.policies.targets.iter().zip(&self.targets) {
            let Some(known) = known else { continue };
            let recorded = times.record(known);
            let down = recorded.health == Health::Down;
            let entry = targets.entry(target.key());
            let entry = entry.or_insert_with(|| recorded.clone());
            if down {
                *entry = recorded;
            }
        }
        let mut advice: BTreeMap<String, RecordedAdvice> = BTreeMap::new();
        for (target, spoken) in self.policies.targets.iter().zip(&self.advice) {
            let Some(spoken) = spoken else { continue };
            let recorded = times.record_advice(spoken);
            let entry = advice.entry(target.key()).or_insert_with(|| recorded.clone());
            if recorded.at > entry.at {
                *entry = recorded;
            }
        }
        let holds_since = self.holds_since.map(|since| times.wall(since));
        Recorded { ended: false, holds_since, targets, advice }
    }
}

impl Recorded {
    /// The same as the last word of a run that ends in order.
    #[must_use]
    pub fn ended(self) -> Self {
        Self { ended: true, ..self }
    }
}

/// What an earlier run has left, in the time of this one.
#[derive(Debug, Default)]
pub struct Recalled {
    targets: BTreeMap<String, Known>,
    advice: BTreeMap<String, Spoken>,
    holds_since: Option<Instant>,
}

impl Recalled {
    /// From a record. What was written at a time to come is left out.
    pub fn of(recorded: Recorded, clocks: Clocks) -> Self {
        let times = Times(clocks);
        let recall = |(key, target): (String, RecordedTarget)| {
            let known = times.recall(target)?;
            Some((key, Known { unconfirmed: known.unconfirmed || !recorded.ended, ..known }))
        };
        Self {
            targets: recorded.targets.into_iter().filter_map(recall).collect(),
            advice: (recorded.advice.into_iter())
                .filter_map(|(key, advice)| Some((key, times.recall_advice(advice)?)))
                .collect(),
            holds_since: recorded.holds_since.and_then(|since| times.past(since)),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.advice.is_empty()
    }

    /// What is known of a target and still fresh.
    pub(super) fn get(&self, target: &Target, now: Instant) -> Option<&Known> {
        let fresh = target.timing.interval.saturating_add(FRESH);
        let known = self.targets.get(&target.key())?;
        (now.saturating_duration_since(known.confirmed) <= fresh).then_some(known)
    }

    /// What a target advised, unless it has expired. As the record may be [`REFRESH`] behind what was
    /// heard, it counts so much longer, but never longer than if it were said now.
    pub(super) fn advice(&self, target: &Target, now: Instant) -> Option<Spoken> {
        let spoken = self.advice.get(&target.key()).filter(|_| target.check.kind.advises())?;
        let longest = now + target.timing.advice_lasts();
        let until = spoken.until.checked_add(REFRESH).unwrap_or(longest).min(longest);
        (until > now).then(|| Spoken { until, ..spoken.clone() })
    }

    pub(super) fn holds_since(&self) -> Option<Instant> {
        self.holds_since
    }
}

/// Between the clock on the wall and the one that never jumps.
struct Times(Clocks);

impl Times {
    fn record(&self, known: &Known) -> RecordedTarget {
        let flaps = known.flaps.as_ref().map(|flaps| RecordedFlaps {
            changes: flaps.changes.iter().map(|change| self.wall(*change)).collect(),
            level: flaps.level,
            trips: flaps.trips,
            words: flaps.words.clone(),
        });
        RecordedTarget {
            health: known.health,
            since: self.wall(known.since),
            confirmed: self.wall(known.confirmed),
            reason: known.reason.clone(),
            held_until: known.held_until.map(|until| self.wall(until)),
            flaps,
            wave: known.member.map(|Member { at, before, silent }| RecordedMember {
                at: self.wall(at),
                before,
                silent,
            }),
            unconfirmed: known.unconfirmed,
        }
    }

    fn recall(&self, recorded: RecordedTarget) -> Option<Known> {
        if recorded.health == Health::Unknown {
            return None;
        }
        let held_until = recorded.held_until.and_then(|until| self.soon(until));
        let flaps = recorded.flaps.map(|flaps| {
            let few = flaps.changes.into_iter().take(MOST_CHANGES as usize);
            let changes = few.filter_map(|change| self.soon(change)).collect();
            let words = flaps.words.filter(|_| held_until.is_some());
            Box::new(Flaps { changes, level: flaps.level, trips: flaps.trips, words })
        });
        let member = recorded.wave.and_then(|member| {
            let before = Some(member.before).filter(|before| *before != Health::Down)?;
            Some(Member { at: self.past(member.at)?, before, silent: member.silent })
        });
        Some(Known {
            health: recorded.health,
            since: self.past(recorded.since)?,
            confirmed: self.past(recorded.confirmed)?,
            reason: recorded.reason,
            held_until,
            flaps,
            member: member.filter(|_| recorded.health == Health::Down),
            unconfirmed: recorded.unconfirmed,
        })
    }

    fn record_advice(&self, spoken: &Spoken) -> RecordedAdvice {
        let Spoken { said, at, until, .. } = spoken;
        RecordedAdvice { said: said.clone(), at: self.wall(*at), until: self.wall(*until) }
    }

    fn recall_advice(&self, RecordedAdvice { said, at, until }: RecordedAdvice) -> Option<Spoken> {
        let (at, until) = (self.past(at)?, self.instant(until)?);
        Some(Spoken { said, at, until, counts: true, spared: false })
    }

    /// Milliseconds since 1970 at a moment.
    fn wall(&self, moment: Instant) -> u64 {
        let Clocks { now, wall } = self.0;
        let ago = now.saturating_duration_since(moment);
        let ahead = moment.saturating_duration_since(now);
        let wall = wall.checked_sub(ago).and_then(|wall| wall.checked_add(ahead));
        let since = wall.and_then(|wall| wall.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
    }

    /// The moment of that time, before or after now.
    fn instant(&self, millis: u64) -> Option<Instant> {
        let Clocks { now, wall } = self.0;
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
        match wall.duration_since(then) {
            Ok(ago) => now.checked_sub(ago),
            Err(ahead) => now.checked_add(ahead.duration()),
        }
    }

    /// The same, unless no hold lasts as long.
    fn soon(&self, millis: u64) -> Option<Instant> {
        self.instant(millis).filter(|moment| *moment <= self.0.now + LONGEST_HOLD)
    }

    /// The moment of a time that has passed.
    fn past(&self, millis: u64) -> Option<Instant> {
        let moment = self.instant(millis)?;
        (moment <= self.0.now + TOLERANCE).then(|| moment.min(self.0.now))
    }
}

#[cfg(test)]
#[path = "knowledge_tests.rs"]
mod tests;
