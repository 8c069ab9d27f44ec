//! The blast-radius limit: when more turns down at once than real servers do by themselves, it is
//! more likely the director that is ill, and the table is held.
//!
//! Pure: it is told which target turned when, and says which targets count as what they were.
//!
//! What is counted are addresses. A target that turns down hits the real servers that ask for it,
//! unless as many other checks pass as they need, and an address is lost when more than half of
//! the real servers on it are hit. So one dead
//! machine is one, however many ports, checks and policies there are on it; and an application that
//! dies on every machine loses none of them where others go on. A target leaves the wave when it
//! comes up again, or when its turn is older than the window while the limit holds nothing.
//!
//! Of few addresses a share says little: two of three may well die. There it takes all of them, at
//! least two, without one word from any, not even a refusal: an empty table would serve nobody either.
//! That ends with the first one that comes up. Where a policy has a sorry server, that one serves
//! somebody, and so it is not asked.
//!
//! Of many it ends when no more than half the limit is lost any more: what is still down then is on
//! parole, held until it is up or fails `fall` times in a row, in probes that began after that: one
//! that was in flight when the cable came back says nothing. Or an operator says that the failures
//! are real. Either way the wave is over: only what turns down after that counts towards the next
//! one, and so does who fails on parole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::health::{Health, OutcomeKind, Transition};
use crate::policy::model::{PolicySet, Share};
use crate::reconcile::view::Alarm;

/// Of fewer addresses than this a share means all of them.
pub const FEWEST_FOR_A_SHARE: usize = 10;

/// How much may turn down within which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlastLimit {
    /// As many addresses may be lost; `None`: any number.
    pub most: Option<Share>,
    /// Within this time.
    pub window: Duration,
}

impl Default for BlastLimit {
    fn default() -> Self {
        Self { most: Some(Share::Percent(50)), window: Duration::from_secs(60) }
    }
}

/// A target that turned down in the wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// When it turned down.
    pub at: Instant,
    /// What it was before.
    pub before: Health,
    /// Whether nothing at all came from it.
    pub silent: bool,
}

/// What became of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It holds from now on.
    Tripped(Extent),
    /// Enough have recovered: what is still down is on parole.
    Ended(Extent),
}

/// How much there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Addresses that are lost.
    pub lost: usize,
    /// Addresses with checks.
    pub addresses: usize,
    /// Targets of the wave.
    pub targets: usize,
}

/// The targets that turned down lately, and whether they are held.
#[derive(Debug)]
pub struct Wave {
    limit: BlastLimit,
    site: Site,
    members: BTreeMap<u32, Member>,
    /// All that are down, however long.
    down: BTreeSet<u32>,
    /// In the order of time; what is not in `members` with that time has left.
    order: VecDeque<(Instant, u32)>,
    hits: Hits,
    holds_since: Option<Instant>,
    /// Left over from the last wave.
    parole: BTreeMap<u32, Parole>,
}

/// A target that was still down when its wave was over.
#[derive(Debug, Clone, Copy)]
struct Parole {
    /// What it was before the wave.
    before: Health,
    /// When the wave was over.
    since: Instant,
    /// In a row, of probes that began after that.
    failures: u32,
}

impl Wave {
    /// No wave, and no targets.
    pub fn new(limit: BlastLimit) -> Self {
        Self {
            limit,
            site: Site::default(),
            members: BTreeMap::new(),
            down: BTreeSet::new(),
            order: VecDeque::new(),
            hits: Hits::default(),
            holds_since: None,
            parole: BTreeMap::new(),
        }
    }

    /// Follows a new set; `before` says which target of the old set a new one was. What left the
    /// policies leaves the wave.
    pub fn set_policies(
        &mut self,
        set: &PolicySet,
        before: impl Fn(u32) -> Option<u32>,
        now: Instant,
    ) -> Option<Event> {
        let (mut members, mut parole) = (Vec::new(), BTreeMap::new());
        let mut down = BTreeSet::new();
        // Who is in the wave or on parole is down.
        if !self.down.is_empty() {
            for target in 0..u32::try_from(set.targets.len()).unwrap_or(u32::MAX) {
                let Some(old) = before(target) else { continue };
                members.extend(self.members.get(&old).map(|member| (target, *member)));
                parole.extend(self.parole.get(&old).map(|parole| (target, *parole)));
                down.extend(self.down.contains(&old).then_some(target));
            }
        }
        self.parole = parole;
        self.down = down;
        self.site = Site::of(set);
        self.refill(members);
        self.end_if_recovered(false, now)
    }

    /// Counts by another limit from now on.
    pub fn set_limit(&mut self, limit: BlastLimit, now: Instant) -> Option<Event> {
        self.limit = limit;
        self.end_if_recovered(false, now)
    }

    /// Goes on with a wave of an earlier run, whose members are among those that are down.
    pub fn restore(
        &mut self,
        down: impl IntoIterator<Item = u32>,
        members: impl IntoIterator<Item = (u32, Member)>,
        holds_since: Option<Instant>,
        now: Instant,
    ) {
        self.down = down.into_iter().collect();
        self.refill(members.into_iter().collect());
        self.holds_since = holds_since;
        self.end_if_recovered(false, now);
    }

    fn refill(&mut self, mut members: Vec<(u32, Member)>) {
        self.clear();
        members.sort_by_key(|(_, member)| member.at);
        for (target, member) in members {
            self.add(target, member);
        }
    }

    /// Takes a change of verdict into account; `silent`: nothing at all came from it.
    pub fn turned(
        &mut self,
        target: u32,
        transition: Transition,
        silent: bool,
        now: Instant,
    ) -> Option<Event> {
        self.parole.remove(&target);
        if transition.to != Health::Down {
            if self.down.remove(&target) {
                self.hits.change(&self.site, target, |count| count.down -= 1);
            }
            self.remove(target);
            return self.end_if_recovered(true, now);
        }
        if self.down.insert(target) {
            self.hits.change(&self.site, target, |count| count.down += 1);
        }
        if self.holds_since.is_none() {
            self.forget(now);
        }
        self.add(target, Member { at: now, before: transition.from, silent });
        if self.holds_since.is_none() && self.is_too_much() {
            self.holds_since = Some(now);
            return Some(Event::Tripped(self.extent()));
        }
        None
    }

    /// What a target counts as while the limit holds it.
    pub fn held(&self, target: u32) -> Option<Health> {
        let member = self.holds_since.and_then(|_| self.members.get(&target));
        member.map(|member| member.before).or_else(|| self.on_parole(target))
    }

    /// What a target counts as until it is up or has failed on parole.
    pub fn on_parole(&self, target: u32) -> Option<Health> {
        self.parole.get(&target).map(|parole| parole.before)
    }

    /// How many failures in a row more take a target on parole out, where `fall` are needed.
    pub fn parole_left(&self, target: u32, fall: u32) -> Option<u32> {
        self.parole.get(&target).map(|parole| fall.saturating_sub(parole.failures).max(1))
    }

    /// Counts what came of a probe of a target on parole. It has failed there with the last of `fall`
    /// failures in a row, and turns down from what this names.
    pub fn probed(
        &mut self,
        target: u32,
        outcome: OutcomeKind,
        begun: Instant,
        fall: u32,
    ) -> Option<Health> {
        let parole = self.parole.get_mut(&target).filter(|parole| parole.since <= begun)?;
        match outcome {
            OutcomeKind::Pass => parole.failures = 0,
            OutcomeKind::Fail => parole.failures += 1,
            OutcomeKind::Inconclusive => {}
        }
        (parole.failures >= fall).then_some(parole.before)
    }

    /// The wave's membership of a target.
    pub fn member(&self, target: u32) -> Option<Member> {
        self.members.get(&target).copied()
    }

    /// Since when it holds, and how many of so many targets.
    pub fn alarm(&self, targets: usize) -> Option<Alarm> {
        self.holds_since.map(|since| Alarm { since, held: self.members.len(), targets })
    }

    /// The operator says that the failures are real: how many were held, by an alarm or on parole.
    pub fn release(&mut self) -> usize {
        let members = self.holds_since.take().map_or(0, |_| self.members.len());
        let held = members + self.parole.len();
        self.parole.clear();
        self.clear();
        held
    }

    /// `came_up`: because some target did; of one that is new and has no verdict yet nobody knows.
    fn end_if_recovered(&mut self, came_up: bool, now: Instant) -> Option<Event> {
        if self.holds_since.is_none() || !self.is_recovered(came_up) {
            return None;
        }
        let extent = self.extent();
        self.holds_since = None;
        let parole = |before| Parole { before, since: now, failures: 0 };
        self.parole.extend(self.members.iter().map(|(target, it)| (*target, parole(it.before))));
        self.clear();
        Some(Event::Ended(extent))
    }

    fn extent(&self) -> Extent {
        let (lost, addresses) = (self.hits.lost, self.site.addresses.len());
        Extent { lost, addresses, targets: self.members.len() }
    }

    fn is_too_much(&self) -> bool {
        let (lost, addresses) = (self.hits.lost, self.site.addresses.len());
        match self.limit.most {
            None => false,
            Some(Share::Count(most)) => lost > most as usize,
            Some(Share::Percent(share)) if addresses >= FEWEST_FOR_A_SHARE => {
                lost * 100 > addresses * usize::from(share)
            }
            Some(Share::Percent(share)) => {
                share < 100
                    && lost > 1
                    && !self.site.has_sorry
                    && self.is_nobody_up()
                    && self.members.values().all(|member| member.silent)
            }
        }
    }

    fn is_nobody_up(&self) -> bool {
        let mut servers = self.hits.servers.iter().zip(&self.site.spare);
        servers.all(|(struck, spare)| struck.down > *spare)
    }

    /// Whether no more than half the limit is lost; of few addresses, whether one is back.
    fn is_recovered(&self, came_up: bool) -> bool {
        let (lost, addresses) = (self.hits.lost, self.site.addresses.len());
        match self.limit.most {
            None => true,
            Some(Share::Count(most)) => lost * 2 <= most as usize,
            Some(Share::Percent(share)) if addresses >= FEWEST_FOR_A_SHARE => {
                lost * 200 <= addresses * usize::from(share)
            }
            Some(Share::Percent(_)) => self.members.is_empty() || (came_up && !self.is_nobody_up()),
        }
    }

    /// Lets go of what turned down too long ago to be of one wave with what turns down now.
    fn forget(&mut self, now: Instant) {
        while let Some(&(at, target)) = self.order.front()
            && now.saturating_duration_since(at) > self.limit.window
        {
            self.order.pop_front();
            if self.members.get(&target).is_some_and(|member| member.at == at) {
                self.remove(target);
            }
        }
    }

    fn add(&mut self, target: u32, member: Member) {
        if self.members.insert(target, member).is_none() {
            self.hits.change(&self.site, target, |count| count.members += 1);
        }
        // While it holds nobody is let go for age, however long that lasts.
        if self.holds_since.is_none() {
            self.order.push_back((member.at, target));
        }
    }

    fn remove(&mut self, target: u32) {
        if self.members.remove(&target).is_some() {
            self.hits.change(&self.site, target, |count| count.members -= 1);
        }
        if self.members.is_empty() {
            self.order.clear();
        }
    }

    fn clear(&mut self) {
        self.members.clear();
        self.order.clear();
        self.hits = Hits::of(&self.site);
        for target in &self.down {
            self.hits.change(&self.site, *target, |count| count.down += 1);
        }
    }
}

/// Who asks for which target, and where they are.
#[derive(Debug, Default)]
struct Site {
    /// (target, real server), sorted. A real server of two policies is two.
    asked: Vec<(u32, u32)>,
    /// The address of each real server, as an index.
    address_of: Vec<u32>,
    /// How many targets of each real server may be down while it is up.
    spare: Vec<usize>,
    /// How many real servers with checks each address has.
    addresses: Vec<u32>,
    /// Whether some policy has a sorry server.
    has_sorry: bool,
}

impl Site {
    fn of(set: &PolicySet) -> Self {
        let servers = || {
            let all = set.policies.iter().flat_map(|policy| &policy.real_servers);
            all.filter(|server| !server.targets.is_empty())
        };
        let known: BTreeSet<IpAddr> = servers().map(|server| server.address).collect();
        let known: Vec<IpAddr> = known.into_iter().collect();
        let has_sorry = set.policies.iter().any(|policy| policy.sorry_server.is_some());
        let mut site = Self { addresses: vec![0; known.len()], has_sorry, ..Self::default() };
        for (number, server) in (0..).zip(servers()) {
            let address = known.binary_search(&server.address).unwrap_or_default();
            site.addresses[address] += 1;
            site.address_of.push(u32::try_from(address).unwrap_or(u32::MAX));
            site.spare.push(server.targets.len() - server.needed);
            site.asked.extend(server.targets.iter().map(|target| (target.0, number)));
        }
        site.asked.sort_unstable();
        site
    }

    fn asking(&self, target: u32) -> impl Iterator<Item = usize> {
        let from = self.asked.partition_point(|(asked, _)| *asked < target);
        let asking = self.asked[from..].iter().take_while(move |(asked, _)| *asked == target);
        asking.map(|(_, server)| *server as usize)
    }
}

/// Whom the wave hits.
#[derive(Debug, Default)]
struct Hits {
    servers: Vec<Struck>,
    /// For each address: how many of its real servers are hit.
    addresses: Vec<u32>,
    /// Addresses with more than half of their real servers hit.
    lost: usize,
}

/// How many targets of a real server have turned down.
#[derive(Debug, Clone, Copy, Default)]
struct Struck {
    /// In the wave.
    members: usize,
    /// In the wave or before it.
    down: usize,
}

impl Struck {
    /// Whether the wave has a part in its being down.
    fn is_hit(self, spare: usize) -> bool {
        self.members > 0 && self.down > spare
    }
}

impl Hits {
    fn of(site: &Site) -> Self {
        let servers = vec![Struck::default(); site.address_of.len()];
        Self { servers, addresses: vec![0; site.addresses.len()], lost: 0 }
    }

    /// One target more or less.
    fn change(&mut self, site: &Site, target: u32, change: impl Fn(&mut Struck)) {
        for server in site.asking(target) {
            let was_hit = self.servers[server].is_hit(site.spare[server]);
            change(&mut self.servers[server]);
            let is_hit = self.servers[server].is_hit(site.spare[server]);
            if was_hit == is_hit {
                continue;
            }
            let address = site.address_of[server] as usize;
            let is_lost = |hit: u32| hit * 2 > site.addresses[address];
            let was_lost = is_lost(self.addresses[address]);
            match is_hit {
                true => self.addresses[address] += 1,
                false => self.addresses[address] -= 1,
            }
            match (was_lost, is_lost(self.addresses[address])) {
                (false, true) => self.lost += 1,
                (true, false) => self.lost -= 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "blast_limit_tests.rs"]
mod tests;
