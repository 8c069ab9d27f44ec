//! Who is due, who may start, and what a result means: the pure heart of probing.
//!
//! Time and randomness come in from outside. The engine opens no socket and spawns nothing; the
//! [`super::runner`] starts what it names and tells it what came of it.
//!
//! Schedule: a target is probed again `interval` after the *start* of its last probe
//! (`fast_interval` while a streak is open), shortened by up to a tenth, so that a verdict is never
//! later than `fall × interval + timeout`. The first probes follow each other at once; the second
//! ones are spread over the whole interval, so that rounds never fall into step.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::advising::News;
use super::blast_limit::{BlastLimit, Event, Wave};
use super::histogram::{Latencies, Latency};
use super::knowledge::{Knowledge, Known, Recalled};
use super::outcome::Outcome;
pub use super::slot::{Last, Slot};
use super::target::Target;
use crate::health::{Health, OutcomeKind, Transition};
use crate::policy::model::{PolicySet, TargetId};
use crate::reconcile::view::{Alarm, HealthView, Verdict};

/// First probes start this far apart at most; all of them within their interval.
const FIRST_SPACING: Duration = Duration::from_micros(500);

/// How many probes may be in flight.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Over all targets.
    pub total: usize,
    /// Towards one address, so that one hanging machine cannot use up `total`.
    pub per_address: usize,
}

impl Limits {
    /// Limits for a process that may keep this many probe sockets open.
    pub fn for_sockets(sockets: usize) -> Self {
        let total = sockets.max(4);
        Self { total, per_address: total / 4 }
    }
}

/// Names one attempt, across reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(u64);

/// An attempt to be made now.
#[derive(Debug, Clone)]
pub struct Start {
    /// To be given back with the outcome.
    pub id: ProbeId,
    /// Whom to probe.
    pub target: Target,
    /// How long after its due time it starts.
    pub lateness: Duration,
}

/// A verdict that changed.
#[derive(Debug, Clone)]
pub struct Turned {
    /// Which target, in the set now in force.
    pub target: TargetId,
    /// From what to what.
    pub transition: Transition,
    /// How long flap damping holds it down from now on.
    pub hold: Option<Duration>,
    /// It had turned down before, and only now counts as that.
    pub was_held: bool,
}

/// The schedule and the verdicts of all targets.
#[derive(Debug)]
pub struct Engine {
    policies: Arc<PolicySet>,
    slots: Vec<Slot>,
    due: BTreeSet<(Instant, u32)>,
    /// Due, but their address has its fill of probes in flight.
    blocked: HashMap<IpAddr, VecDeque<u32>>,
    in_flight: HashMap<ProbeId, (IpAddr, Option<u32>)>,
    per_address: HashMap<IpAddr, usize>,
    limits: Limits,
    next_id: u64,
    random: StdRng,
    wave: Wave,
    limit_event: Option<Event>,
    /// When advice expires, and whose.
    expiring: BTreeSet<(Instant, u32)>,
    news: Option<(TargetId, News)>,
    noted: bool,
    /// Of an earlier run; used up by the first policies.
    recalled: Recalled,
    latencies: Latencies,
}

impl Engine {
    /// An engine without targets, and without a blast-radius limit.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            policies: Arc::default(),
            slots: Vec::new(),
            due: BTreeSet::new(),
            blocked: HashMap::new(),
            in_flight: HashMap::new(),
            per_address: HashMap::new(),
            limits,
            next_id: 0,
            random: StdRng::seed_from_u64(seed),
            wave: Wave::new(BlastLimit { most: None, ..BlastLimit::default() }),
            limit_event: None,
            expiring: BTreeSet::new(),
            news: None,
            noted: false,
            recalled: Recalled::default(),
            latencies: Latencies::default(),
        }
    }

    /// The same with a blast-radius limit.
    pub fn limited(self, limit: BlastLimit) -> Self {
        Self { wave: Wave::new(limit), ..self }
    }

    /// Counts by another blast-radius limit from now on.
    pub fn set_limit(&mut self, limit: BlastLimit, now: Instant) {
        self.limit_event = self.wave.set_limit(limit, now).or(self.limit_event);
    }

    /// The same with what an earlier run has left: it seeds the verdicts on the first policies.
    pub fn remembering(self, recalled: Recalled) -> Self {
        Self { recalled, ..self }
    }

    /// Puts a policy set in force and names the attempts that nobody waits for any more.
    ///
    /// A target that was there before keeps its verdict, streak, schedule and attempt in flight,
    /// also when only its timing changed.
    pub fn set_policies(&mut self, policies: Arc<PolicySet>, now: Instant) -> Vec<ProbeId> {
        self.latencies.set_policies(&policies);
        let old = std::mem::replace(&mut self.policies, policies);
        let mut old_slots = std::mem::take(&mut self.slots);
        let spacing = FIRST_SPACING;
        let mut first_due = now;
        let mut before = Vec::with_capacity(self.policies.targets.len());
        for target in &self.policies.targets {
            let index = predecessor(&old.targets, target);
            before.push(index.and_then(|index| u32::try_from(index).ok()));
            let slot = match index {
                Some(index) => {
                    let mut slot = old_slots[index].clone();
                    slot.retime(target.timing, now);
                    slot.due = slot.due.min(now + target.timing.interval);
                    if target.timing.timeout < old.targets[index].timing.timeout {
                        // An attempt that may take longer than is allowed now is made anew.
                        slot.due = if slot.probe.take().is_some() { now } else { slot.due };
                    } else {
                        old_slots[index].probe = None;
                    }
                    slot
                }
                None => {
                    let phase =
                        (first_due - now).as_nanos() % target.timing.interval.as_nanos().max(1);
                    first_due += spacing;
                    Slot::new(now + Duration::from_nanos(u64::try_from(phase).unwrap_or(0)), now)
                }
            };
            self.slots.push(slot);
        }
        self.reindex();
        let event = self.wave.set_policies(&self.policies, |target| before[target as usize], now);
        self.limit_event = event.or(self.limit_event);
        self.recall(now);
        let abandoned = old_slots.iter().filter_map(|slot| slot.probe.map(|(id, _)| id));
        abandoned.collect()
    }

    /// Seeds the first targets with what is still true of what an earlier run knew.
    fn recall(&mut self, now: Instant) {
        if self.policies.targets.is_empty() || self.recalled.is_empty() {
            return;
        }
        let recalled = std::mem::take(&mut self.recalled);
        let mut members = Vec::new();
        for (index, (target, slot)) in (0..).zip(self.policies.targets.iter().zip(&mut self.slots))
        {
            if let Some(known) = recalled.get(target, now) {
                slot.recall(known, target.timing, now);
                members.extend(known.member.map(|member| (index, member)));
            }
            if let Some(spoken) = recalled.advice(target, now) {
                self.expiring.insert((spoken.until, index));
                slot.recall_advice(spoken);
            }
        }
        let down = (0..).zip(&self.slots).filter(|(_, slot)| slot.state.health == Health::Down);
        let down = down.map(|(index, _)| index);
        self.wave.restore(down, members, recalled.holds_since(), now);
    }

    /// Rebuilds what is derived from the slots: the queue, and whose attempt is whose.
    fn reindex(&mut self) {
        self.due.clear();
        self.blocked.clear();
        let expiring = (0u32..).zip(&self.slots);
        let expiring = expiring.filter_map(|(index, slot)| Some((slot.expires()?, index)));
        self.expiring = expiring.collect();
        for (_, owner) in self.in_flight.values_mut() {
            *owner = None;
        }
        for (index, slot) in (0u32..).zip(&self.slots) {
            match slot.probe {
                Some((id, _)) => {
                    if let Some((_, owner)) = self.in_flight.get_mut(&id) {
                        *owner = Some(index);
                    }
                }
                None => {
                    self.due.insert((slot.due, index));
                }
            }
        }
    }

    /// When [`Self::start_due`] has something to do; `None` while only an end can help.
    pub fn next_due(&self) -> Option<Instant> {
        if self.in_flight.len() >= self.limits.total {
            return None;
        }
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the attempts that are due, the longest overdue first, as far as the limits allow.
    pub fn start_due(&mut self, now: Instant) -> Vec<Start> {
        let mut starts = Vec::new();
        while self.in_flight.len() < self.limits.total {
            let Some(&(due, index)) = self.due.first() else { break };
            if due > now {
                break;
            }
            self.due.pop_first();
            let address = self.policies.targets[index as usize].address.ip();
            if self.per_address.get(&address).copied().unwrap_or(0) >= self.limits.per_address {
                self.blocked.entry(address).or_default().push_back(index);
                continue;
            }
            starts.push(self.start(index, address, now));
        }
        starts
    }

    fn start(&mut self, index: u32, address: IpAddr, now: Instant) -> Start {
        let id = ProbeId(self.next_id);
        self.next_id += 1;
        self.in_flight.insert(id, (address, Some(index)));
        *self.per_address.entry(address).or_default() += 1;
        let slot = &mut self.slots[index as usize];
        slot.probe = Some((id, now));
        slot.attempts += 1;
        let target = self.policies.targets[index as usize].clone();
        Start { id, target, lateness: now.saturating_duration_since(slot.due) }
    }

    /// Takes the outcome of an attempt into account. `None` for an attempt that was abandoned or
    /// cancelled: it frees its place and moves nothing.
    pub fn finish(
        &mut self,
        id: ProbeId,
        outcome: Option<Outcome>,
        now: Instant,
    ) -> Option<Turned> {
        let (address, owner) = self.in_flight.remove(&id)?;
        self.free(address);
        let index = owner?;
        let target = &self.policies.targets[index as usize];
        let timing = target.timing;
        let slot = &mut self.slots[index as usize];
        let (_, started) = slot.probe.take()?;
        let kind = outcome.as_ref().map_or(OutcomeKind::Inconclusive, |it| it.kind);
        let silent = outcome.as_ref().is_some_and(Outcome::is_silence);
        if let Some(outcome) = outcome.as_ref().filter(|it| it.kind != OutcomeKind::Inconclusive) {
            self.latencies.count(index, outcome.phases.ended);
        }
        let beside = slot.beside(target);
        let change = outcome.and_then(|mut outcome| {
            slot.certificate_ends = outcome.certificate_ends.or(slot.certificate_ends);
            let before = slot.expires();
            let news = slot.listen(&mut outcome, target, now);
            self.news = (news != News::default()).then_some((TargetId(index), news));
            if before != slot.expires() {
                before.map(|at| self.expiring.remove(&(at, index)));
                slot.expires().map(|at| self.expiring.insert((at, index)));
            }
            match target.check.kind.is_advisor() {
                true => {
                    slot.note(outcome, now);
                    None
                }
                false => slot.record(outcome, timing, now),
            }
        });
        self.noted |= slot.beside(target) != beside;
        let interval = match timing.fast_interval {
            // Haste cannot end a hold.
            Some(fast) if slot.state.streak > 0 && !slot.state.is_held(now) => fast,
            _ => timing.interval,
        };
        // The second attempt is spread over the whole interval, later ones over its last tenth.
        let shortest = if slot.attempts == 1 { 0.1 } else { 0.9 };
        let share: f64 = self.random.random_range(shortest..=1.0);
        slot.due = (started + interval.mul_f64(share)).max(now);
        self.due.insert((slot.due, index));
        let failed = self.wave.probed(index, kind, started, timing.hysteresis.fall.get());
        let late = failed.map(|from| Transition { from, to: Health::Down });
        let transition = change.map(|change| change.transition).or(late)?;
        self.limit_event = self.wave.turned(index, transition, silent, now).or(self.limit_event);
        Some(Turned {
            target: TargetId(index),
            transition,
            hold: change.and_then(|change| change.hold),
            was_held: failed.is_some(),
        })
    }

    /// Which target an attempt in flight is for; `None` for one that was abandoned.
    pub fn owner(&self, id: ProbeId) -> Option<TargetId> {
        self.in_flight.get(&id)?.1.map(TargetId)
    }

    /// An operator says that what the blast-radius limit holds has really failed: how many it held.
    /// Where it holds nobody, no verdict counts differently.
    pub fn release(&mut self) -> usize {
        let held = self.wave.release();
        if held > 0 {
            for slot in self.slots.iter_mut().filter(|slot| slot.state.health == Health::Down) {
                slot.unconfirmed = false;
            }
        }
        held
    }

    /// What has become of the blast-radius limit since this was asked last.
    pub fn take_limit_event(&mut self) -> Option<Event> {
        self.limit_event.take()
    }

    /// What the last outcome said of advice, unless that is nothing new.
    pub fn take_news(&mut self) -> Option<(TargetId, News)> {
        self.news.take()
    }

    /// Whether what the view tells beside verdicts has changed since this was asked last:
    /// another certificate, somebody who can no more or can again be asked.
    pub fn take_noted(&mut self) -> bool {
        std::mem::take(&mut self.noted)
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// Lets advice that was not said again for too long count no more: whose. None expires while
    /// silence may be the director's own.
    pub fn expire(&mut self, now: Instant) -> Vec<TargetId> {
        let mut expired = Vec::new();
        while let Some(&(at, index)) = self.expiring.first().filter(|(at, _)| *at <= now) {
            self.expiring.remove(&(at, index));
            let in_doubt = self.is_in_doubt(index);
            let lasts = self.policies.targets[index as usize].timing.advice_lasts();
            let Some(advising) = &mut self.slots[index as usize].advising else { continue };
            if advising.expire(in_doubt, lasts, now) {
                expired.push(TargetId(index));
            }
            self.expiring.extend(advising.expires().map(|at| (at, index)));
        }
        expired
    }

    /// Whether the silence of a target says nothing about it: the blast-radius limit holds, or no
    /// check of the same address has passed since the silence began.
    fn is_in_doubt(&self, index: u32) -> bool {
        if self.alarm().is_some() {
            return true;
        }
        let targets = &self.policies.targets;
        let advising = self.slots[index as usize].advising.as_ref();
        let Some(silent_since) = advising.and_then(|advising| advising.silent_since()) else {
            return false;
        };
        let address = targets[index as usize].address.ip();
        let first = targets.partition_point(|target| target.address.ip() < address);
        let there = targets[first..].iter().zip(&self.slots[first..]);
        let mut checks = there
            .take_while(|(target, _)| target.address.ip() == address)
            .filter(|(target, _)| !target.check.kind.is_advisor() && !target.check.kind.is_local())
            .map(|(_, slot)| slot.has_passed_since(silent_since))
            .peekable();
        checks.peek().is_some() && !checks.any(|passed| passed)
    }

    /// What the blast-radius limit holds, if it does.
    pub fn alarm(&self) -> Option<Alarm> {
        self.wave.alarm(self.slots.len())
    }

    fn free(&mut self, address: IpAddr) {
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        if let Some(queue) = self.blocked.get_mut(&address) {
            if let Some(index) = queue.pop_front() {
                self.due.insert((self.slots[index as usize].due, index));
            }
            if queue.is_empty() {
                self.blocked.remove(&address);
            }
        }
    }

    /// The policies in force and the verdicts on their targets.
    pub fn view(&self) -> HealthView {
        let verdict = |(index, (slot, target)): (u32, (&Slot, &Target))| Verdict {
            held: self.wave.held(index),
            parole: self.wave.parole_left(index, target.timing.hysteresis.fall.get()),
            unadvised: slot.is_unadvised(target),
            ..slot.verdict()
        };
        let slots = self.slots.iter().zip(&self.policies.targets);
        let verdicts = (0..).zip(slots).map(verdict).collect();
        let view = HealthView::new(Arc::clone(&self.policies), verdicts);
        HealthView { alarm: self.alarm(), ..view }
    }

    /// What a later run should know.
    pub fn knowledge(&self, now: Instant) -> Knowledge {
        let known = |(index, slot): (u32, &Slot)| match self.wave.on_parole(index) {
            // Whether it is really down is about to turn out.
            Some(_) => None,
            None => Known::of(slot, self.wave.member(index)),
        };
        Knowledge {
            policies: Arc::clone(&self.policies),
            targets: (0..).zip(&self.slots).map(known).collect(),
            advice: self.slots.iter().map(Slot::counting).collect(),
            holds_since: self.alarm().map(|alarm| alarm.since),
            now,
        }
    }

    /// The policies in force.
    pub fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// One slot per target, in the order of the set's targets.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How long probes took, by policy and check.
    pub fn latencies(&self) -> &[Latency] {
        self.latencies.all()
    }

    /// How many attempts are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

/// The old target whose state a new one inherits: the same one, or else one that asks the same.
/// Both lists are sorted by address, check, timing.
fn predecessor(old: &[Target], new: &Target) -> Option<usize> {
    match old.binary_search(new) {
        Ok(index) => Some(index),
        Err(index) => [index.checked_sub(1), Some(index)]
            .into_iter()
            .flatten()
            .find(|near| old.get(*near).is_some_and(|target| target.asks_the_same(new))),
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "engine_advice_tests.rs"]
mod advice_tests;
