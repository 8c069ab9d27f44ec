//! Events that nobody causes in one place: they show when one moment is compared with the next.

use std::collections::HashMap;
use std::sync::Arc;

use super::{FloorState, What};
use crate::health::Health;
use crate::policy::guard::Removal;
use crate::policy::model::{Policy, PolicySet};
use crate::reconcile::desired::Desired;
use crate::reconcile::driver::Report;
use crate::reconcile::view::HealthView;
use crate::reconcile::why::Why;

/// What was so when it was looked at last.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    policies: Arc<PolicySet>,
    /// By policy and real server, as in the set.
    verdicts: Vec<Vec<Health>>,
    floors: HashMap<String, FloorState>,
    trouble: Option<String>,
    guarded: Option<Removal>,
}

/// Compares with the last moment, which becomes this one.
pub fn observe(last: &mut Moment, view: &HealthView, report: &Report) -> Vec<What> {
    let mut events = Vec::new();
    verdicts(last, view, &mut events);
    floors(last, view, &report.desired, &mut events);
    if report.error != last.trouble {
        events.push(match &report.error {
            Some(reason) => What::Trouble { reason: reason.clone() },
            None => What::TroubleOver,
        });
        last.trouble.clone_from(&report.error);
    }
    match (&last.guarded, &report.guarded) {
        (None, Some(removal)) => events.push(What::ReloadHeld {
            hash: view.policies.hash.clone(),
            removal: removal.to_string(),
        }),
        (Some(removal), None) => {
            events.push(What::HeldConfirmed { removal: removal.to_string() });
        }
        _ => {}
    }
    last.guarded.clone_from(&report.guarded);
    events
}

/// A real server that was not there before has had no verdict.
fn verdicts(last: &mut Moment, view: &HealthView, events: &mut Vec<What>) {
    if !Arc::ptr_eq(&last.policies, &view.policies) {
        let known: HashMap<(&str, &str), Health> = last
            .policies
            .policies
            .iter()
            .zip(&last.verdicts)
            .flat_map(|(policy, verdicts)| {
                let servers = policy.real_servers.iter().map(|server| server.identity.as_str());
                let key = |server| (policy.name.as_str(), server);
                servers.map(key).zip(verdicts.iter().copied())
            })
            .collect();
        let before = |policy: &Policy, identity: &str| {
            known.get(&(policy.name.as_str(), identity)).copied().unwrap_or_default()
        };
        let of = |policy: &Policy| {
            policy.real_servers.iter().map(|server| before(policy, &server.identity)).collect()
        };
        last.verdicts = view.policies.policies.iter().map(of).collect();
        last.policies = Arc::clone(&view.policies);
    }
    for (policy, before) in view.policies.policies.iter().zip(&mut last.verdicts) {
        for (server, before) in policy.real_servers.iter().zip(before) {
            let verdict = view.real_server(server);
            let (from, to) = (*before, verdict.effective());
            if from != to {
                *before = to;
                // One that is held is still down, and would read as if it had come up.
                let why = verdict.hold().into_iter().chain(verdict.reason.map(|it| it.to_string()));
                events.push(What::Verdict {
                    policy: policy.name.clone(),
                    real_server: server.name.clone(),
                    from,
                    to,
                    reason: why.reduce(|hold, reason| format!("{hold}; {reason}")),
                });
            }
        }
    }
}

fn floors(last: &mut Moment, view: &HealthView, desired: &Desired, events: &mut Vec<What>) {
    let mut floors = HashMap::new();
    for policy in view.policies.policies.iter().filter(|policy| policy.health_floor.is_some()) {
        let state = FloorState::of(policy, desired);
        let before = last.floors.get(&policy.name).copied().unwrap_or(FloorState::Off);
        if state != before {
            events.push(What::Floor { policy: policy.name.clone(), state });
        }
        floors.insert(policy.name.clone(), state);
    }
    last.floors = floors;
}

impl FloorState {
    /// What the floor of a policy does in a desired table.
    pub fn of(policy: &Policy, desired: &Desired) -> Self {
        if desired.standing.withdrawn.contains(&policy.name) {
            return Self::Withdrawn;
        }
        let services = policy.services.iter().filter_map(|it| desired.services.get(&it.key));
        let is_kept = services
            .flat_map(|service| service.destinations.values())
            .any(|destination| matches!(destination.why, Why::Kept(_)));
        if is_kept { Self::Keeps } else { Self::Off }
    }
}
