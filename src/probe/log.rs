//! The log of verdicts: who turned, what is held, what the last run has left.

use std::collections::{BTreeSet, HashMap};

use tracing::{debug, error, field, info, warn};

use super::advising::News;
use super::blast_limit::{Event, Extent};
use super::engine::{Engine, Slot, Turned};
use crate::events::{Journal, What};
use crate::health::Health;
use crate::policy::model::{PolicySet, TargetId};
use crate::reconcile::view::Alarm;

/// How many that share a target a line names.
const NAMED_USERS: usize = 10;

/// A verdict that changed: one line, and one more for a hold that begins.
pub(super) fn turned(engine: &Engine, users: &Users, journal: &Journal, turned: &Turned) {
    let set = engine.policies();
    let slot = &engine.slots()[turned.target.0 as usize];
    let reason = slot.last.as_ref().map_or("", |last| last.outcome.detail.as_str());
    let target = set.target(turned.target);
    let (from, to) = (turned.transition.from, turned.transition.to);
    let check = target.check.kind.name();
    let policy = users.shown(set, turned.target);
    let policy = policy.as_str();
    let policies = users.names(set, turned.target);
    let name = users.given(set, turned.target);
    let address = target.place().to_string();
    if let Some(hold) = turned.hold {
        journal.tell(What::Flapping {
            policies: policies.clone(),
            address: address.clone(),
            name: name.clone(),
            check: check.to_owned(),
            hold_seconds: hold.as_secs(),
        });
    }
    journal.tell(What::Transition {
        policies,
        address,
        name,
        check: check.to_owned(),
        from,
        to,
        reason: reason.to_owned(),
    });
    let hold = turned.hold.map(|hold| field::display(humantime::format_duration(hold)));
    if let (Some(hold), Some(flaps)) = (hold, &slot.flaps) {
        let (changes, holds) = (flaps.changes.len(), flaps.trips);
        warn!(policy, real_server = %target.place(), check, %hold, changes, holds, "flapping: held down, whatever passes");
    }
    match to {
        Health::Down if turned.was_held => {
            warn!(policy, real_server = %target.place(), check, reason, "held no more: it has not recovered with the others, and counts as down");
        }
        Health::Down => {
            warn!(policy, real_server = %target.place(), check, %from, %to, reason, "transition");
        }
        _ => {
            info!(policy, real_server = %target.place(), check, %from, %to, reason, "transition")
        }
    }
}

/// The director could not ask; it is said once, until the target can be asked again.
pub(super) fn inconclusive(engine: &Engine, users: &Users, id: TargetId, reason: &str) {
    let set = engine.policies();
    let target = set.target(id);
    let (policy, check) = (users.shown(set, id), target.check.kind.name());
    warn!(policy, real_server = %target.place(), check, reason, "inconclusive probe: the director could not ask; the verdict stays");
}

/// More targets than those named cannot be asked.
pub(super) fn more_inconclusive(named: usize) {
    warn!(
        named,
        "inconclusive probes: the director cannot ask more targets than those named; `pointsman status` shows all"
    );
}

/// What is new of a target's advice. What comes of it is logged as a change of the table.
pub(super) fn advice(engine: &Engine, users: &Users, id: TargetId, news: &News) {
    let set = engine.policies();
    let target = set.target(id);
    let (policy, check) = (users.shown(set, id), target.check.kind.name());
    if let Some(reason) = &news.trouble {
        warn!(policy, real_server = %target.place(), check, %reason, "no advice");
    }
    if news.changed {
        let says = engine.slots()[id.0 as usize].advising.as_ref();
        let says = says.and_then(|advising| advising.spoken.as_ref());
        let says = says.map_or("nothing".to_owned(), |spoken| spoken.said.to_string());
        debug!(policy, real_server = %target.place(), check, says, "advice");
    }
}

/// Advice that does not count any more.
pub(super) fn expired(engine: &Engine, users: &Users, expired: &[TargetId]) {
    let set = engine.policies();
    for id in expired {
        let target = set.target(*id);
        let (policy, check) = (users.shown(set, *id), target.check.kind.name());
        warn!(policy, real_server = %target.place(), check, "advice expired: it was not said again, and counts no more");
    }
}

/// What has become of the blast-radius limit, if anything has.
pub(super) fn limit(engine: &mut Engine, journal: &Journal) {
    let all = engine.slots().len();
    match engine.take_limit_event() {
        Some(Event::Tripped(Extent { lost, addresses, targets: held })) => {
            error!(
                lost,
                addresses,
                held,
                targets = all,
                "BLAST-RADIUS LIMIT: so much turned down at once that this director is more \
                 likely ill than all of it; the table is held. Look at its network first; if the \
                 failures are real: `pointsman release`"
            );
            journal.tell(What::BlastLimit { lost, addresses });
        }
        Some(Event::Ended(Extent { lost, addresses, targets: held })) => {
            warn!(
                lost,
                addresses,
                held,
                targets = all,
                "the blast-radius limit is over: most have recovered; the others are held until \
                 they have failed `fall` times more"
            );
            journal.tell(What::BlastLimitOver { released_by: None });
        }
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

/// Who uses the targets of a set.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// For each target the policies.
    policies: Vec<Vec<u32>>,
    /// The real servers that were given a name, by policy and place in it.
    named: HashMap<TargetId, Vec<(u32, u32)>>,
}

impl Users {
    pub(super) fn of(set: &PolicySet) -> Self {
        let mut policies: Vec<Vec<u32>> = vec![Vec::new(); set.targets.len()];
        let mut named: HashMap<TargetId, Vec<(u32, u32)>> = HashMap::new();
        for (number, policy) in (0..).zip(&set.policies) {
            for (place, server) in (0..).zip(&policy.real_servers) {
                for target in server.asked() {
                    let policies = &mut policies[target.0 as usize];
                    if policies.last() != Some(&number) {
                        policies.push(number);
                    }
                    if server.given().is_some() {
                        named.entry(target).or_default().push((number, place));
                    }
                }
            }
        }
        Self { policies, named }
    }

    fn names(&self, set: &PolicySet, target: TargetId) -> Vec<String> {
        let name = |number: &u32| set.policies[*number as usize].name.clone();
        self.policies[target.0 as usize].iter().map(name).collect()
    }

    /// What its real servers are called, where they were given names: mostly one.
    fn given(&self, set: &PolicySet, target: TargetId) -> Option<String> {
        let server = |(policy, place): &(u32, u32)| {
            set.policies[*policy as usize].real_servers[*place as usize].given()
        };
        let names: BTreeSet<&str> = self.named.get(&target)?.iter().filter_map(server).collect();
        Some(names.into_iter().take(NAMED_USERS).collect::<Vec<_>>().join(", "))
    }

    /// The first few, and how many more.
    fn shown(&self, set: &PolicySet, target: TargetId) -> String {
        let names = self.names(set, target);
        match names.len().saturating_sub(NAMED_USERS) {
            0 => names.join(","),
            more => format!("{} and {more} more", names[..NAMED_USERS].join(",")),
        }
    }
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
        let users = Users::of(&set);
        assert_eq!(
            [0, 1, 2].map(|target| users.shown(&set, TargetId(target))),
            ["p0,p1,p2,p3,p4,p5,p6,p7,p8,p9 and 3 more", "p0,p1", "p2,p3"],
        );
        assert_eq!(users.names(&set, TargetId(0)).len(), 13);
    }

    #[test]
    fn a_target_is_called_as_its_real_servers_are() {
        let policy = |number: usize, servers: &str| {
            format!(
                "name: p{number}\nvirtual_services: ['tcp://198.51.100.{number}:80']\n\
                 forwarding: masq\nreal_servers: [{servers}]\nchecks: [{{ tcp: {{ port: 80 }} }}]\n"
            )
        };
        let directory = tempfile::tempdir().unwrap();
        let yaml = [
            policy(1, "{ address: 192.0.2.1, name: web-1 }, { address: 192.0.2.2, name: web-2 }"),
            policy(2, "{ address: 192.0.2.1, name: web-1 }, 192.0.2.2, 192.0.2.3"),
            policy(3, "{ address: 192.0.2.2, name: other }"),
        ];
        std::fs::write(directory.path().join("many.yaml"), yaml.join("---\n")).unwrap();
        let loaded = load(directory.path());
        let set = loaded.unwrap_or_else(|problems| panic!("{}", problems[0])).set;
        let users = Users::of(&set);
        let given = [0, 1, 2].map(|target| users.given(&set, TargetId(target)));
        assert_eq!(given, [Some("web-1".into()), Some("other, web-2".into()), None]);
    }
}
