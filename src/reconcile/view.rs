//! What probing has to say to the reconciler: one consistent pair of policies and verdicts.

use std::sync::Arc;

use crate::health::Health;
use crate::policy::model::{PolicySet, RealServer, TargetId};

/// A policy set with the verdict on each of its targets, published as one value so that no plan
/// ever mixes the policies of one moment with the health of another.
#[derive(Debug, Clone)]
pub struct HealthView {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// Aligned with [`PolicySet::targets`].
    pub verdicts: Vec<Verdict>,
}

/// The verdict on a target, as far as a plan needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Fit or not.
    pub health: Health,
    /// Why it is down: the detail of the outcome that took it down.
    pub reason: Option<Arc<str>>,
}

impl HealthView {
    /// A view in which every target has the same health.
    pub fn uniform(policies: Arc<PolicySet>, health: Health) -> Self {
        let verdict = Verdict { health, reason: None };
        let verdicts = vec![verdict; policies.targets.len()];
        Self { policies, verdicts }
    }

    /// The verdict on one target.
    pub fn verdict(&self, target: TargetId) -> &Verdict {
        &self.verdicts[target.0 as usize]
    }

    /// The verdict on a real server: down if any of its targets is, else unknown if any is, else
    /// up. The reason is that of the first target that is down.
    pub fn real_server(&self, real_server: &RealServer) -> Verdict {
        let mut health = Health::Up;
        for target in &real_server.targets {
            let verdict = self.verdict(*target);
            match verdict.health {
                Health::Down => return verdict.clone(),
                Health::Unknown => health = Health::Unknown,
                Health::Up => {}
            }
        }
        Verdict { health, reason: None }
    }
}
