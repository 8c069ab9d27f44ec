//! A plan as JSON, for programs (`plan --output json`).
//!
//! An object with
//! * `changes`: in the order of execution, each with `action` (`add`, `change`, `remove`),
//!   `service`, `destination` (null for the service itself), `name` (of its real server; only where
//!   the policy gives it one), `before` and `after` (the settings,
//!   null where there are none), `policy` (null when no policy declares the service), `reason`,
//!   `repair`, `private` (whether it is about a virtual service for probes), and `text`, the line that the log has;
//! * `held`: each with `service`, `destination`, `name` and `policy` (likewise), `why` (`down`, `no_verdict`,
//!   `undeclared`, `drains`, `health_floor`, … as [`super::why::Why::name`] has them), `settings` (null when it is not in the table), `what` and `reason`;
//! * `guarded`: services of ours that no policy declares, held by the reload guard;
//! * `foreign`: the services left alone;
//! * `summary`: the counts `add`, `change`, `remove`, `repairs`, `held`, `down`, `draining`,
//!   `foreign`, and `private`: changes of virtual services for probes, which no other counts.
//!
//! Fields may be added; these stay. Settings are written as [`crate::ipvs::model`] has them.

use serde::Serialize;

use crate::ipvs::model::{Change, DestinationConfig, DestinationKey, ServiceConfig, ServiceKey};

use super::names::Names;
use super::plan::{Before, Held, Plan, Step, Summary};
use super::wording::Sign;

/// A plan as it is written, with the names that real servers were given.
#[derive(Serialize)]
pub struct PlanJson<'p> {
    changes: Vec<ChangeJson<'p>>,
    held: Vec<HeldJson<'p>>,
    guarded: &'p [ServiceKey],
    foreign: &'p [ServiceKey],
    summary: Summary,
}

impl<'p> PlanJson<'p> {
    /// A plan with these names.
    pub fn of(plan: &'p Plan, names: &'p Names) -> Self {
        Self {
            changes: plan.steps.iter().map(|step| ChangeJson::of(step, names)).collect(),
            held: plan.held.iter().map(|held| HeldJson::of(held, names)).collect(),
            guarded: &plan.guarded,
            foreign: &plan.foreign,
            summary: plan.summary(),
        }
    }
}

#[derive(Serialize)]
struct ChangeJson<'p> {
    action: &'static str,
    service: &'p ServiceKey,
    destination: Option<&'p DestinationKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'p str>,
    before: Option<Settings<'p>>,
    after: Option<Settings<'p>>,
    policy: Option<&'p str>,
    reason: String,
    repair: bool,
    private: bool,
    text: String,
}

impl<'p> ChangeJson<'p> {
    fn of(step: &'p Step, names: &'p Names) -> Self {
        Self {
            action: match step.sign() {
                Sign::Add => "add",
                Sign::Remove => "remove",
                _ => "change",
            },
            service: step.change.service(),
            destination: step.destination(),
            name: names.of_step(step),
            before: step.before.as_ref().map(Settings::before),
            after: Settings::after(&step.change),
            policy: step.policy.as_deref(),
            reason: step.reason(),
            repair: step.repair,
            private: step.change.service().is_private(),
            text: step.line(names),
        }
    }
}

#[derive(Serialize)]
struct HeldJson<'p> {
    service: &'p ServiceKey,
    destination: &'p DestinationKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'p str>,
    policy: Option<&'p str>,
    why: &'static str,
    settings: Option<&'p DestinationConfig>,
    what: String,
    reason: String,
}

impl<'p> HeldJson<'p> {
    fn of(held: &'p Held, names: &'p Names) -> Self {
        Self {
            service: &held.service,
            destination: &held.destination,
            name: names.get(held.service, held.destination),
            policy: held.policy.as_deref(),
            why: held.why.name(),
            settings: held.config.as_ref(),
            what: held.what(),
            reason: held.reason(),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Settings<'p> {
    Service(&'p ServiceConfig),
    Destination(&'p DestinationConfig),
}

impl<'p> Settings<'p> {
    fn before(before: &'p Before) -> Self {
        match before {
            Before::Service { config, .. } => Self::Service(config),
            Before::Destination(config) => Self::Destination(config),
        }
    }

    fn after(change: &'p Change) -> Option<Self> {
        match change {
            Change::AddService(_, config) | Change::SetService(_, config) => {
                Some(Self::Service(config))
            }
            Change::AddDestination(.., config) | Change::SetDestination(.., config) => {
                Some(Self::Destination(config))
            }
            Change::DeleteService(..) | Change::DeleteDestination(..) => None,
        }
    }
}
