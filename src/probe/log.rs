//! The log of verdicts: who turned, what is held, what the last run has left.

use tracing::{error, field, info, warn};

use super::blast_limit::{Event, Extent};
use super::engine::{Engine, Slot, Turned};
use crate::health::Health;
use crate::policy::model::PolicySet;
use crate::reconcile::view::Alarm;

/// How many policies that share a target a line names.
const NAMED_USERS: usize = 10;

/// A verdict that changed: one line, and one more for a hold that begins.
pub(super) fn turned(engine: &Engine, users: &[String], turned: &Turned) {
    let set = engine.policies();
    let slot = &engine.slots()[turned.target.0 as usize];
    let reason = slot.last.as_ref().map_or("", |last| last.outcome.detail.as_str());
    let target = set.target(turned.target);
    let (from, to) = (turned.transition.from, turned.transition.to);
    let check = target.check.kind.name();
    let policy = users[turned.target.0 as usize].as_str();
    let hold = turned.hold.map(|hold| field::display(humantime::format_duration(hold)));
    if let (Some(hold), Some(flaps)) = (hold, &slot.flaps) {
        let (changes, holds) = (flaps.changes.len(), flaps.trips);
        warn!(policy, real_server = %target.address, check, %hold, changes, holds, "flapping: held down, whatever passes");
    }
    match to {
        Health::Down if turned.was_held => {
            warn!(policy, real_server = %target.address, check, reason, "held no more: it has not recovered with the others, and counts as down");
        }
        Health::Down => {
            warn!(policy, real_server = %target.address, check, %from, %to, reason, "transition");
        }
        _ => {
            info!(policy, real_server = %target.address, check, %from, %to, reason, "transition")
        }
    }
}

/// What has become of the blast-radius limit, if anything has.
pub(super) fn limit(engine: &mut Engine) {
    let all = engine.slots().len();
    match engine.take_limit_event() {
        Some(Event::Tripped(Extent { lost, addresses, targets: held })) => error!(
            lost,
            addresses,
            held,
            targets = all,
            "BLAST-RADIUS LIMIT: so much turned down at once that this director is more likely \
             ill than all of it; the table is held. Look at its network first; if the \
             failures are real: `pointsman release`"
        ),
        Some(Event::Ended(Extent { lost, addresses, targets: held })) => warn!(
            lost,
            addresses,
            held,
            targets = all,
            "the blast-radius limit is over: most have recovered; the others count as down \
             from their next failure on"
        ),
        None => {}
    }
}

/// Says what the last run has left.
pub(super) fn recalled(engine: &Engine) {
    let known = |slot: &&Slot| slot.state.health != Health::Unknown;
    let slots = engine.slots();
    let verdicts = slots.iter().filter(known).count();
    if verdicts > 0 {
        info!(verdicts, targets = slots.len(), "verdicts of the last run still count");
    }
    if let Some(Alarm { held, targets, .. }) = engine.alarm() {
        error!(
            held,
            targets,
            "BLAST-RADIUS LIMIT: still holds what it held before the restart; if the failures are real: `pointsman release`"
        );
    }
}

/// For each target the names of the policies that use it: the first few, and how many more.
pub(super) fn users(set: &PolicySet) -> Vec<String> {
    let mut users: Vec<Vec<&str>> = vec![Vec::new(); set.targets.len()];
    let mut counts = vec![0_usize; set.targets.len()];
    let mut seen = vec![usize::MAX; set.targets.len()];
    for (number, policy) in set.policies.iter().enumerate() {
        for target in policy.real_servers.iter().flat_map(|server| &server.targets) {
            let target = target.0 as usize;
            if std::mem::replace(&mut seen[target], number) == number {
                continue;
            }
            counts[target] += 1;
            if counts[target] <= NAMED_USERS {
                users[target].push(&policy.name);
            }
        }
    }
    let told = |(names, count): (Vec<&str>, usize)| match count.saturating_sub(NAMED_USERS) {
        0 => names.join(","),
        more => format!("{} and {more} more", names.join(",")),
    };
    users.into_iter().zip(counts).map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::load;

    #[test]
    fn a_target_of_many_policies_names_the_first_few() {
        let policy = |number: usize| {
            format!(
                "name: p{number}
virtual_services: ['tcp://198.51.100.{}:80']
forwarding: masq
real_servers: [192.0.2.1, 192.0.2.{}]
checks: [{{ tcp: {{ port: 80 }} }}]
",
                number + 1,
                10 + number / 2,
            )
        };
        let directory = tempfile::tempdir().unwrap();
        let yaml: Vec<String> = (0..13).map(policy).collect();
        std::fs::write(directory.path().join("many.yaml"), yaml.join("---\n")).unwrap();
        let loaded = load(directory.path());
        let set = loaded.unwrap_or_else(|problems| panic!("{}", problems[0])).set;
        assert_eq!(
            users(&set)[..3],
            ["p0,p1,p2,p3,p4,p5,p6,p7,p8,p9 and 3 more", "p0,p1", "p2,p3"],
        );
    }
}
