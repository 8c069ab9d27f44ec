//! The daemon's socket: HTTP with JSON bodies over a Unix socket.
//!
//! [`status`] is what it says, [`server`] the daemon's end, [`client`] the commands' end.

pub mod client;
pub mod server;
pub mod status;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::ipvs::model::{ServiceKey, Table};

/// What `plan` needs of a running daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanInput {
    /// Process id of the daemon.
    pub pid: u32,
    /// The directory or file it reads its policies from.
    pub policies: String,
    /// Verdicts by [`crate::probe::target::Target::key`].
    pub health: BTreeMap<String, KnownHealth>,
    /// Virtual services it owns.
    pub owned: Vec<ServiceKey>,
    /// Its table, where that is not the kernel's. A rehearsal on the kernel's has none to offer:
    /// a plan is made against what is really there.
    pub table: Option<Table>,
}

/// A verdict as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHealth {
    /// The verdict.
    pub health: Health,
    /// Why it is down.
    pub reason: Option<String>,
}
