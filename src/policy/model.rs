//! Validated policies. Whoever holds a [`PolicySet`] need not check anything again.

use std::net::IpAddr;

use crate::ipvs::model::{DestinationConfig, DestinationKey, ServiceConfig, ServiceKey};
use crate::probe::target::Target;

/// All policies of a director, and the targets they need probed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// In the order of file name, then of documents in a file. No virtual service is in two.
    pub policies: Vec<Policy>,
    /// Every distinct target, sorted; [`TargetId`] indexes it.
    pub targets: Vec<Target>,
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
}

/// What happens to the destinations of a real server that is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They are removed.
    #[default]
    Remove,
    /// They stay with weight 0, so that established connections go on.
    Quiesce,
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
}

/// What a real server is in one virtual service while it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredDestination {
    /// Its identity.
    pub key: DestinationKey,
    /// Its settings, with the declared weight.
    pub config: DestinationConfig,
}

/// A declared real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// As operators call it: its address, with the port where one was written.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// What must pass for it to be up, all of them; empty: it is always up.
    pub targets: Vec<TargetId>,
}
