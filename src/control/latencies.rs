//! How long the last attempts of each real server took, which the page and `top` begin their curves
//! with.

use serde::{Deserialize, Serialize};

use super::status::seconds;
use crate::health::OutcomeKind;
use crate::policy::model::{Policy, RealServer};
use crate::probe::runner::Snapshot;

/// The last attempts of one real server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Latencies {
    /// The policy.
    pub policy: String,
    /// The real server's name in it.
    pub real_server: String,
    /// Those of its first check that has any, the oldest first, at most five.
    pub attempts: Vec<Latency>,
}

/// One attempt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    /// Seconds since it ended.
    pub ago: f64,
    /// How many seconds it took.
    pub took: f64,
    /// What came of it.
    pub kind: OutcomeKind,
}

/// The real servers in the order of policies, then as written.
pub fn latencies(snapshot: &Snapshot) -> Vec<Latencies> {
    let of = |policy: &Policy, real_server: &RealServer| Latencies {
        policy: policy.name.clone(),
        real_server: real_server.name.clone(),
        attempts: attempts(snapshot, real_server),
    };
    let policies = snapshot.policies.policies.iter();
    policies.flat_map(|policy| policy.real_servers.iter().map(move |it| of(policy, it))).collect()
}

fn attempts(snapshot: &Snapshot, real_server: &RealServer) -> Vec<Latency> {
    let slots = real_server.targets.iter().map(|id| &snapshot.slots[id.0 as usize]);
    let Some(slot) = slots.into_iter().find(|slot| slot.last.is_some()) else { return Vec::new() };
    let mut attempts: Vec<Latency> = slot
        .history()
        .map(|one| Latency {
            ago: seconds(snapshot.now.saturating_duration_since(one.at)),
            took: one.outcome.phases.ended.as_secs_f64(),
            kind: one.outcome.kind,
        })
        .collect();
    attempts.reverse();
    attempts
}
