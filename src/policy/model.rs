//! Validated policies. Whoever holds a [`PolicySet`] need not check anything again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ipvs::model::{DestinationConfig, DestinationKey, Protocol, ServiceConfig, ServiceKey};
use crate::probe::target::Target;

/// All policies of a director, and the targets they need probed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// In the order of file name, then of documents in a file. No virtual service is in two.
    pub policies: Vec<Policy>,
    /// Every distinct target, sorted; [`TargetId`] indexes it.
    pub targets: Vec<Target>,
    /// What leads probes through virtual addresses, by key.
    pub private: Vec<PrivateService>,
    /// Identifies the content of the files: 16 hexadecimal digits.
    pub hash: String,
}

/// Index into [`PolicySet::targets`]; meaningless with another set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

impl PolicySet {
    /// The target of this index.
    pub fn target(&self, id: TargetId) -> &Target {
        &self.targets[id.0 as usize]
    }

    /// What is asked about a real server, agents last, and what that is called: by its protocol, and
    /// of several with the same one the second is `http-2`.
    pub fn check_names(&self, real_server: &RealServer) -> Vec<(TargetId, String)> {
        let asked: Vec<TargetId> =
            real_server.targets.iter().chain(&real_server.advisors).copied().collect();
        let kinds: Vec<&str> = asked.iter().map(|id| self.target(*id).check.kind.name()).collect();
        let name = |(at, kind): (usize, &&str)| match kinds[..at]
            .iter()
            .filter(|it| *it == kind)
            .count()
        {
            0 => (*kind).to_owned(),
            before => format!("{kind}-{}", before + 1),
        };
        asked.iter().copied().zip(kinds.iter().enumerate().map(name)).collect()
    }
}

/// One policy: real servers, how they are checked, and the virtual services they stand behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Unique in the set.
    pub name: String,
    /// `file:line` it begins at.
    pub origin: String,
    /// At least one, in the order written.
    pub services: Vec<VirtualService>,
    /// At least one, in the order written.
    pub real_servers: Vec<RealServer>,
    /// What a down verdict does to destinations.
    pub on_down: OnDown,
    /// How many real servers probes may not take out.
    pub health_floor: Option<HealthFloor>,
    /// Who answers when no real server takes connections. Without checks it is always up.
    pub sorry_server: Option<RealServer>,
}

/// The least number of real servers that probes leave in, and what happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthFloor {
    /// That number.
    pub min_up: Share,
    /// What happens when fewer are up.
    pub at_floor: AtFloor,
}

/// What happens at the health floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtFloor {
    /// The rest stays, although it is down: fail open.
    Keep,
    /// All go: fail closed.
    Withdraw {
        /// How many must be up for all to come back.
        return_at: Share,
    },
}

/// A number of things, or a share of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many, but never more than there are.
    Count(u32),
    /// So many of a hundred, rounded up; 0 to 100.
    Percent(u8),
}

impl Share {
    /// How many that is of `all`.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => all.min(usize::try_from(count).unwrap_or(usize::MAX)),
            Self::Percent(percent) => (all * usize::from(percent.min(100))).div_ceil(100),
        }
    }
}

/// What happens to the destinations of a real server that is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They are removed.
    #[default]
    Remove,
    /// They stay with weight 0, so that established connections go on.
    Quiesce,
    /// They are removed, and established connections are cut rather than left hanging: the same
    /// for the table, but the kernel must be told (`net.ipv4.vs.expire_nodest_conn`).
    Cut,
}

/// A virtual service with its declared destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    /// Its identity.
    pub key: ServiceKey,
    /// Its settings.
    pub config: ServiceConfig,
    /// One per real server of the policy, in the same order.
    pub destinations: Vec<DeclaredDestination>,
    /// The sorry server of the policy in this service.
    pub sorry: Option<DeclaredDestination>,
    /// How long what leaves may keep its connections; zero: it goes at once.
    pub drain: Duration,
    /// How long a real server that comes back takes to its whole weight; zero: no time.
    pub slow_start: Duration,
}

impl VirtualService {
    /// How long one destination that leaves may keep its connections. A scheduler that refuses the
    /// clients of one with weight 0 would lose more than that saves.
    pub fn drain_of_one(&self) -> Duration {
        match self.config.refuses_weight_0() {
            true => Duration::ZERO,
            false => self.drain,
        }
    }
}

/// How long what leaves a service may keep its connections, unless the policy says otherwise.
/// Datagrams are not waited for, and one-packet scheduling has no connections.
pub fn default_drain(key: &ServiceKey, config: &ServiceConfig) -> Duration {
    let is_udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
    match is_udp || config.flags.one_packet {
        true => Duration::ZERO,
        false => Duration::from_secs(60),
    }
}

/// A virtual service of ours, behind a firewall mark, that leads probes to one real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateService {
    /// A policy that needs it.
    pub policy: Arc<str>,
    /// Its identity.
    pub key: ServiceKey,
    /// Its settings.
    pub config: ServiceConfig,
    /// Its only destination, whatever its health.
    pub destination: DeclaredDestination,
}

/// What a real server is in one virtual service while it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredDestination {
    /// Its identity.
    pub key: DestinationKey,
    /// Its settings, with the declared weight.
    pub config: DestinationConfig,
}

/// How many of its checks a real server must pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChecksNeeded {
    /// Each of them.
    #[default]
    All,
    /// One, whichever.
    Any,
    /// So many, at least 1.
    Count(u32),
}

impl ChecksNeeded {
    /// How many that is of `all`.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::Any => all.min(1),
            Self::Count(count) => Share::Count(count).of(all),
        }
    }
}

/// A declared real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// As people call it: the name it was given, or else its identity.
    pub name: String,
    /// Its address, with the port where one was written. What is remembered of it (overrides, what
    /// was told of it) is kept by this, so that a new name changes nothing.
    pub identity: String,
    /// Its address.
    pub address: IpAddr,
    /// What is asked about it; empty: it is always up.
    pub targets: Vec<TargetId>,
    /// How many of its targets must pass for it to be up: from 1 to all, 0 where there is none.
    pub needed: usize,
    /// Whose advice counts for it besides, and whose verdict does not: agents.
    pub advisors: Vec<TargetId>,
}

impl RealServer {
    /// The name it was given, if it was given one.
    pub fn given(&self) -> Option<&str> {
        (self.name != self.identity).then_some(self.name.as_str())
    }

    /// Everything that is probed for it: its checks, then its advisors.
    pub fn asked(&self) -> impl Iterator<Item = TargetId> {
        self.targets.iter().chain(&self.advisors).copied()
    }
}
