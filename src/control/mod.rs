//! The daemon's socket: HTTP with JSON bodies over a Unix socket.
//!
//! [`status`], [`overrides`] and [`explain`] are what it says, [`server`] and [`operations`] the
//! daemon's end, [`client`] the commands' end. Who may open the socket may also give orders.

pub mod advising;
pub mod alerting;
pub mod certificate;
pub mod client;
mod columns;
mod degraded;
pub mod explain;
pub mod explain_text;
pub mod holding;
pub mod latencies;
mod moment;
mod operations;
pub mod overrides;
pub mod rates;
pub mod server;
pub mod status;
pub mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::ipvs::model::{ServiceKey, Table};
use crate::policy::model::PolicySet;
use crate::probe::advice::Advice;
use crate::probe::target::Target;
use crate::reconcile::names::Names;
use crate::reconcile::overrides::Overrides;
use crate::reconcile::standing;
use crate::reconcile::view::{HealthView, Verdict};

/// What `plan` needs of a running daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanInput {
    /// Process id of the daemon.
    pub pid: u32,
    /// The directory or file it reads its policies from.
    pub policies: String,
    /// Verdicts by [`crate::probe::target::Target::key`].
    pub health: BTreeMap<String, KnownHealth>,
    /// What operators said.
    #[serde(default)]
    pub overrides: Overrides,
    /// What drains and what is withdrawn.
    #[serde(default)]
    pub standing: standing::Recorded,
    /// What it calls real servers, also those that drain and that no policy declares any more.
    #[serde(default)]
    pub names: Names,
    /// Virtual services it owns.
    pub owned: Vec<ServiceKey>,
    /// Its table, where that is not the kernel's. A rehearsal on the kernel's has none to offer:
    /// a plan is made against what is really there.
    pub table: Option<Table>,
}

/// A verdict as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownHealth {
    /// The verdict.
    pub health: Health,
    /// Why it is down.
    pub reason: Option<String>,
    /// Seconds since it was reached.
    pub since_ago: Option<f64>,
    /// What it counts as while the blast-radius limit holds it back.
    pub held: Option<Health>,
    /// What it advises, unless that has expired.
    #[serde(default)]
    pub advice: Option<Advice>,
    /// Whether it may advise and has had no turn to do so.
    #[serde(default)]
    pub unadvised: bool,
}

/// Says that what the blast-radius limit holds has really failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Release {
    /// For whom, as `sudo` says; believed of root only.
    pub acts_for: Option<String>,
}

/// What came of `release`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// As many targets were held, by an alarm or on parole, and count as down now; `None`: nothing
    /// was held.
    pub held: Option<usize>,
    /// How many targets there are.
    pub targets: usize,
}

impl PlanInput {
    /// What the daemon knows now of the targets of these policies, and how many of them it does not
    /// probe: they have no verdict.
    pub fn view(&self, set: Arc<PolicySet>, now: Instant) -> (HealthView, usize) {
        let verdict = |known: &KnownHealth| {
            let ago = known.since_ago.and_then(|ago| Duration::try_from_secs_f64(ago).ok());
            let since = ago.and_then(|ago| now.checked_sub(ago));
            let reason = known.reason.as_deref().map(Into::into);
            let (held, advice) = (known.held, known.advice.clone());
            let unadvised = known.unadvised;
            Verdict { since, held, advice, unadvised, ..Verdict::of(known.health, reason) }
        };
        let verdicts: Vec<Option<Verdict>> =
            set.targets.iter().map(|target| self.health.get(&target.key()).map(verdict)).collect();
        let strangers = verdicts.iter().filter(|verdict| verdict.is_none()).count();
        let stranger = |target: &Target| Verdict {
            unadvised: target.check.kind.advises(),
            ..Verdict::default()
        };
        let verdicts = verdicts.into_iter().zip(&set.targets);
        let verdicts =
            verdicts.map(|(known, target)| known.unwrap_or_else(|| stranger(target))).collect();
        let overrides = Arc::new(self.overrides.clone());
        (HealthView { overrides, ..HealthView::new(set, verdicts) }, strangers)
    }
}

/// What is held, and what it would do: a reload, or what no policy declared at the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldPlan {
    /// Identifies the policies that would be in force.
    pub hash: String,
    /// What would go, in words.
    pub removal: String,
    /// The plan as text, without colour.
    pub text: String,
    /// The same as `plan --output json` has it.
    pub plan: serde_json::Value,
}

/// Puts the policies that are held in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Confirmation {
    /// Those that were looked at: [`HeldPlan::hash`].
    pub hash: String,
    /// For whom, as `sudo` says; believed of root only.
    pub acts_for: Option<String>,
}
