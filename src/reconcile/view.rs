//! What probing has to say to the reconciler: one consistent pair of policies and verdicts.

use std::sync::Arc;
use std::time::Instant;

use crate::health::Health;
use crate::policy::model::{PolicySet, RealServer, TargetId};
use crate::probe::advice::Advice;

use super::overrides::Overrides;

/// A policy set with the verdict on each of its targets, published as one value so that no plan
/// ever mixes the policies of one moment with the health of another.
#[derive(Debug, Clone)]
pub struct HealthView {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// Aligned with [`PolicySet::targets`].
    pub verdicts: Vec<Verdict>,
    /// What operators said.
    pub overrides: Arc<Overrides>,
    /// Set while the blast-radius limit holds verdicts back.
    pub alarm: Option<Alarm>,
}

/// So many targets turned down at once that the director itself may be ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Since when verdicts are held back.
    pub since: Instant,
    /// How many targets are held back.
    pub held: usize,
    /// How many targets there are.
    pub targets: usize,
}

/// The verdict on a target, as far as a plan needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Fit or not.
    pub health: Health,
    /// Why it is down: the detail of the outcome that took it down.
    pub reason: Option<Arc<str>>,
    /// When it was reached; `None` where nobody knows.
    pub since: Option<Instant>,
    /// What it counts as while the blast-radius limit holds it back.
    pub held: Option<Health>,
    /// What the real server itself asked for, unless that is stale.
    pub advice: Option<Advice>,
}

impl Verdict {
    /// A verdict of which nothing more is known.
    pub fn of(health: Health, reason: Option<Arc<str>>) -> Self {
        Self { health, reason, ..Self::default() }
    }

    /// What it counts as.
    pub fn effective(&self) -> Health {
        self.held.unwrap_or(self.health)
    }
}

impl HealthView {
    /// Verdicts on the targets of a set, without overrides or an alarm.
    pub fn new(policies: Arc<PolicySet>, verdicts: Vec<Verdict>) -> Self {
        Self { policies, verdicts, overrides: Arc::default(), alarm: None }
    }

    /// A view in which every target has the same health.
    pub fn uniform(policies: Arc<PolicySet>, health: Health) -> Self {
        let verdicts = vec![Verdict::of(health, None); policies.targets.len()];
        Self::new(policies, verdicts)
    }

    /// The verdict on one target.
    pub fn verdict(&self, target: TargetId) -> &Verdict {
        &self.verdicts[target.0 as usize]
    }

    /// The verdict on a real server: down if any of its targets counts as down, else unknown if any
    /// does, else up. Reason and time are those of the target that turned down first; who is up has
    /// been so since its last target came up.
    pub fn real_server(&self, real_server: &RealServer) -> Verdict {
        let verdicts = || real_server.targets.iter().map(|target| self.verdict(*target));
        let decides = |health| move |verdict: &&Verdict| verdict.effective() == health;
        let held = || verdicts().find(|verdict| verdict.held.is_some());
        let advice = verdicts().find_map(|verdict| verdict.advice.clone());
        let down = verdicts().filter(decides(Health::Down)).min_by_key(|verdict| verdict.since);
        let verdict = if let Some(down) = down {
            down.clone()
        } else if let Some(unknown) = verdicts().find(decides(Health::Unknown)) {
            Verdict { held: held().map(|_| Health::Unknown), ..unknown.clone() }
        } else if let Some(held) = held() {
            held.clone()
        } else {
            let since = verdicts().filter_map(|verdict| verdict.since).max();
            Verdict { since, ..Verdict::of(Health::Up, None) }
        };
        Verdict { advice, ..verdict }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_down_is_so_since_its_first_target_turned() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let first = Instant::now();
        let down = |reason: &str, later| Verdict {
            since: Some(first + Duration::from_secs(later)),
            ..Verdict::of(Health::Down, Some(reason.into()))
        };
        let verdicts = vec![down("second", 9), Verdict::of(Health::Up, None), down("first", 0)];
        let view = HealthView::new(Arc::default(), verdicts);
        let server = RealServer {
            name: "10.0.0.1".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            targets: (0..3).map(TargetId).collect(),
        };
        assert_eq!(view.real_server(&server), down("first", 0));
    }
}
