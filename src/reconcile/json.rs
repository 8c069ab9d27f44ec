//! A plan as JSON, for programs (`plan --output json`).
//!
//! An object with
//! * `changes`: in the order of execution, each with `action` (`add`, `change`, `remove`),
//!   `service`, `destination` (null for the service itself), `before` and `after` (the settings,
//!   null where there are none), `policy` (null when no policy declares the service), `reason`,
//!   `repair`, `private` (whether it is about a virtual service for probes), and `text`, the line that the log has;
//! * `held`: each with `service`, `destination`, `policy` (likewise), `why` (`down`, `no_verdict`,
//!   `undeclared`, `drains`, `health_floor`, … as [`super::why::Why::name`] has them), `settings` (null when it is not in the table), `what` and `reason`;
//! * `guarded`: services of ours that no policy declares, held by the reload guard;
//! * `foreign`: the services left alone;
//! * `summary`: the counts `add`, `change`, `remove`, `repairs`, `held`, `down`, `draining`,
//!   `foreign`, and `private`: changes of virtual services for probes, which no other counts.
//!
//! Fields may be added; these stay. Settings are written as [`crate::ipvs::model`] has them.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::ipvs::model::{Change, DestinationConfig, DestinationKey, ServiceConfig, ServiceKey};

use super::plan::{Before, Held, Plan, Step};
use super::wording::Sign;

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut plan = serializer.serialize_struct("Plan", 5)?;
        plan.serialize_field("changes", &self.steps)?;
        plan.serialize_field("held", &self.held)?;
        plan.serialize_field("guarded", &self.guarded)?;
        plan.serialize_field("foreign", &self.foreign)?;
        plan.serialize_field("summary", &self.summary())?;
        plan.end()
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ChangeJson {
            action: match self.sign() {
                Sign::Add => "add",
                Sign::Remove => "remove",
                _ => "change",
            },
            service: self.change.service(),
            destination: self.destination(),
            before: self.before.as_ref().map(Settings::before),
            after: Settings::after(&self.change),
            policy: self.policy.as_deref(),
            reason: self.reason(),
            repair: self.repair,
            private: self.change.service().is_private(),
            text: self.to_string(),
        }
        .serialize(serializer)
    }
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HeldJson {
            service: &self.service,
            destination: &self.destination,
            policy: self.policy.as_deref(),
            why: self.why.name(),
            settings: self.config.as_ref(),
            what: self.what(),
            reason: self.reason(),
        }
        .serialize(serializer)
    }
}

#[derive(serde::Serialize)]
struct ChangeJson<'p> {
    action: &'static str,
    service: &'p ServiceKey,
    destination: Option<&'p DestinationKey>,
    before: Option<Settings<'p>>,
    after: Option<Settings<'p>>,
    policy: Option<&'p str>,
    reason: String,
    repair: bool,
    private: bool,
    text: String,
}

#[derive(serde::Serialize)]
struct HeldJson<'p> {
    service: &'p ServiceKey,
    destination: &'p DestinationKey,
    policy: Option<&'p str>,
    why: &'static str,
    settings: Option<&'p DestinationConfig>,
    what: String,
    reason: String,
}

#[derive(serde::Serialize)]
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
