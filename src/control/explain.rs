//! Why one real server has the weight it has: what `pointsman explain` shows and prints as JSON.
//!
//! Pure: built from the same snapshot and report as the status.

use std::time::{Instant, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::advising::AdvisorStatus;
use super::moment::{Moment, weight};
use super::overrides::{OverrideStatus, list};
use super::status::{CheckStatus, DestinationStatus, WeightStatus, seconds};
use super::text::age;
use crate::health::Health;
use crate::ipvs::model::ServiceKey;
use crate::operator::names::{self, NameError};
use crate::policy::model::{AtFloor, HealthFloor, Policy, RealServer, VirtualService};
use crate::probe::outcome::Outcome;
use crate::probe::runner::Snapshot;
use crate::probe::slot::{Last, Slot};
use crate::probe::target::Timing;
use crate::reconcile::driver::Report;
use crate::reconcile::fitness::counted;
use crate::reconcile::view::Quorum;

/// Whom to explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The policy.
    pub policy: String,
    /// The real server: its name in the policy, its address, or a destination of it.
    pub real_server: String,
}

impl Question {
    /// Where its answer is.
    pub fn resource(&self) -> String {
        let [policy, real_server] =
            [&self.policy, &self.real_server].map(|it| utf8_percent_encode(it, NON_ALPHANUMERIC));
        format!("/v1/explain?policy={policy}&real_server={real_server}")
    }
}

/// Everything that decides on one real server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// The policy.
    pub policy: String,
    /// Its `file:line`.
    pub origin: String,
    /// The real server's name in it.
    pub real_server: String,
    /// The verdict of all checks together.
    pub health: Health,
    /// How many checks pass and must; `None` where all must.
    #[serde(default)]
    pub quorum: Option<Quorum>,
    /// One by one; empty: it always counts as up.
    pub checks: Vec<CheckExplained>,
    /// Its agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisors: Vec<AdvisorStatus>,
    /// What an operator said.
    pub r#override: Option<OverrideStatus>,
    /// The health floor of the policy.
    pub floor: Option<FloorStatus>,
    /// One per virtual service of the policy, in its order.
    pub destinations: Vec<DestinationExplained>,
}

/// One check and what would change its verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckExplained {
    /// As in the status.
    #[serde(flatten)]
    pub status: CheckStatus,
    /// Passes in a row that bring it up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// From one probe to the next, in seconds.
    pub interval: f64,
    /// What would change the verdict, for people.
    pub next: String,
    /// The attempts before the last one, the newest first.
    pub earlier: Vec<Attempt>,
}

/// An attempt that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// Seconds since it ended.
    pub ago: f64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The health floor and how far away it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorStatus {
    /// How many real servers must be up.
    pub needed: usize,
    /// Of so many: those that are out of service or have weight 0 do not count.
    pub of: usize,
    /// How many are up.
    pub up: usize,
    /// `keep` or `withdraw`.
    pub at_floor: String,
    /// Whether all are withdrawn now.
    pub withdrawn: bool,
}

/// One destination of the real server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationExplained {
    /// The virtual service.
    pub service: ServiceKey,
    /// As in the status.
    #[serde(flatten)]
    pub status: DestinationStatus,
    /// The weight in the policy.
    pub configured: u32,
    /// How the weight wanted came about; `None`: it should not be there.
    pub parts: Option<WeightStatus>,
    /// What decides, as plans name it in JSON: `up`, `down`, `override`, `drains`, …
    pub decided_by: Option<String>,
}

impl Explanation {
    /// Explains one real server of the policies in force.
    ///
    /// # Errors
    /// No real server fits the question, or several do.
    pub fn build(
        question: &Question,
        snapshot: &Snapshot,
        report: &Report,
        wall: SystemTime,
    ) -> Result<Self, NameError> {
        let set = &snapshot.policies;
        let (policy, index) = names::find(set, &question.policy, &question.real_server)?;
        let server = &policy.real_servers[index];
        let moment = Moment::new(snapshot, report, wall);
        let status = moment.real_server(policy, server);
        let asked = server.targets.iter().map(|id| {
            (set.target(*id).timing, earlier(&snapshot.slots[id.0 as usize], snapshot.now))
        });
        let overrides = list(&snapshot.overrides, set, wall);
        Ok(Self {
            policy: policy.name.clone(),
            origin: policy.origin.clone(),
            real_server: server.name.clone(),
            health: status.health,
            quorum: status.quorum,
            advisors: status.advisors,
            checks: status.checks.into_iter().zip(asked).map(CheckExplained::of).collect(),
            r#override: overrides
                .into_iter()
                .find(|it| it.policy == policy.name && it.real_server == server.name),
            floor: policy.health_floor.as_ref().map(|it| floor(it, policy, snapshot, report)),
            destinations: policy
                .services
                .iter()
                .filter_map(|service| destination(&moment, report, service, (index, server)))
                .collect(),
        })
    }
}

impl CheckExplained {
    fn of((status, (timing, earlier)): (CheckStatus, (Timing, Vec<Attempt>))) -> Self {
        let next = match status.parole {
            Some(left) => format!("{}; {}", parole(left), next(&status, timing)),
            None => next(&status, timing),
        };
        let (rise, fall) = (timing.hysteresis.rise.get(), timing.hysteresis.fall.get());
        Self { status, rise, fall, interval: timing.interval.as_secs_f64(), next, earlier }
    }
}

fn earlier(slot: &Slot, now: Instant) -> Vec<Attempt> {
    let attempt = |last: Last| Attempt {
        ago: seconds(now.saturating_duration_since(last.at)),
        outcome: last.outcome,
    };
    slot.history().skip(1).map(attempt).collect()
}

/// What ends the hold of one that is down already.
fn parole(left: u32) -> String {
    let failures = match left {
        1 => "1 more failure takes".to_owned(),
        more => format!("{more} more failures in a row take"),
    };
    format!("held by the blast-radius limit, {failures} it out")
}

/// `2 more passes in a row bring it up`.
fn next(status: &CheckStatus, timing: Timing) -> String {
    let hold = status.damping.as_ref().and_then(|damping| damping.held_for);
    let more = status.needed.saturating_sub(status.streak).max(1);
    if let Some(hold) = hold {
        let then = match more {
            1 => ", then the next pass brings it up".to_owned(),
            more => format!(", and {more} passes in a row bring it up"),
        };
        return format!("held down by flap damping for {} more{then}", age(hold.ceil()));
    }
    let so_far = match status.streak.min(status.needed) {
        0 => String::new(),
        streak => format!(" ({streak} of {} so far)", status.needed),
    };
    let (rise, fall) = (timing.hysteresis.rise.get(), timing.hysteresis.fall.get());
    match (status.health, more) {
        (Health::Down, 1) => format!("1 more pass brings it up{so_far}"),
        (Health::Down, _) => {
            let word = if status.streak > 0 { "more passes" } else { "passes" };
            format!("{more} {word} in a row bring it up{so_far}")
        }
        (Health::Up, 1) if fall > 1 => format!("1 more failure takes it down{so_far}"),
        (Health::Up, 1) => "1 failure takes it down".to_owned(),
        (Health::Up, _) => {
            let word = if status.streak > 0 { "more failures" } else { "failures" };
            format!("{more} {word} in a row take it down, then {rise} passes bring it up{so_far}")
        }
        (Health::Unknown, _) => {
            format!("the next pass brings it up, {more} failures in a row take it down{so_far}")
        }
    }
}

/// The floor of a policy in this moment.
pub(crate) fn floor(
    floor: &HealthFloor,
    policy: &Policy,
    snapshot: &Snapshot,
    report: &Report,
) -> FloorStatus {
    let counted: Vec<Health> = counted(&snapshot.view, policy).into_iter().flatten().collect();
    let withdrawn = report.desired.standing.withdrawn.contains(&policy.name);
    let of = counted.len();
    let least = floor.min_up.of(of);
    let (needed, at_floor) = match floor.at_floor {
        AtFloor::Keep => (least, "keep"),
        AtFloor::Withdraw { return_at } if withdrawn => (return_at.of(of).max(least), "withdraw"),
        AtFloor::Withdraw { .. } => (least, "withdraw"),
    };
    FloorStatus {
        needed,
        of,
        up: counted.iter().filter(|health| **health == Health::Up).count(),
        at_floor: at_floor.to_owned(),
        withdrawn,
    }
}

fn destination(
    moment: &Moment<'_>,
    report: &Report,
    service: &VirtualService,
    (index, server): (usize, &RealServer),
) -> Option<DestinationExplained> {
    let declared = service.destinations.get(index)?;
    let desired = report.desired.services.get(&service.key);
    let wanted = desired.and_then(|it| it.destinations.get(&declared.key));
    let absent = desired.and_then(|it| it.absent.get(&declared.key));
    let why = wanted.map(|it| &it.why).or(absent);
    Some(DestinationExplained {
        service: service.key,
        status: moment.destination(service.key, declared.key, Some(server)),
        configured: declared.config.weight,
        parts: wanted.and_then(|it| it.weight.as_deref()).map(weight),
        decided_by: why.map(|why| why.name().to_owned()),
    })
}
