//! What is wrong, derived from what the tasks publish.
//!
//! Pure. A problem has a key, so that it can be told from others and found again after a restart.
//! What is not known (a real server without a verdict) leaves what was known before.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::control::certificate::since_1970;
use crate::control::status::{Policies, rfc3339};
use crate::events::FloorState;
use crate::health::Health;
use crate::reconcile::desired::Why;
use crate::reconcile::driver::Report;
use crate::reconcile::view::HealthView;

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A real server of a policy is down.
    Down,
    /// No real server of a virtual service takes connections.
    Empty,
    /// A health floor keeps what is down, or has withdrawn all.
    Floor,
    /// The blast-radius limit holds the table.
    BlastLimit,
    /// A reload was refused or is held.
    Reload,
    /// The table cannot be read, changed or recorded.
    Table,
    /// The certificate of a real server ends soon.
    Certificate,
    /// The director cannot ask some real servers.
    Unasked,
    /// Somebody else's edits of the table were undone. It is over as soon as it is told.
    Drift,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Down,
        Self::Empty,
        Self::Floor,
        Self::BlastLimit,
        Self::Reload,
        Self::Table,
        Self::Certificate,
        Self::Unasked,
        Self::Drift,
    ];

    /// Its name in settings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Empty => "empty",
            Self::Floor => "floor",
            Self::BlastLimit => "blast_limit",
            Self::Reload => "reload",
            Self::Table => "table",
            Self::Certificate => "certificate",
            Self::Unasked => "unasked",
            Self::Drift => "drift",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of thing.
    pub kind: Kind,
    /// The policy it is about, if it is about one.
    pub policy: Option<String>,
    /// The real server, if it is about one.
    pub real_server: Option<String>,
    /// What is wrong and what to do, in one line.
    pub text: String,
}

/// What is wrong by key.
pub type Problems = BTreeMap<String, Problem>;

/// What is published at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'s> {
    /// Policies and verdicts.
    pub view: &'s HealthView,
    /// The table.
    pub report: &'s Report,
    /// The last reload.
    pub policies: &'s Policies,
    /// Certificates that end before this moment do so soon.
    pub soon: SystemTime,
}

/// Everything that is wrong now; `before` is what was.
pub fn problems(seen: &Seen<'_>, before: &Problems) -> Problems {
    let mut all = Problems::new();
    servers(seen, before, &mut all);
    services(seen, before, &mut all);
    certificates(seen, before, &mut all);
    floors(seen, &mut all);
    whole(seen, &mut all);
    all
}

fn servers(seen: &Seen<'_>, before: &Problems, all: &mut Problems) {
    for policy in &seen.view.policies.policies {
        for server in &policy.real_servers {
            let verdict = seen.view.real_server(server);
            let key = || format!("down {} {}", policy.name, server.identity);
            match verdict.health {
                Health::Up => {}
                Health::Unknown => {
                    let key = key();
                    if let Some(problem) = before.get(&key) {
                        all.insert(key, problem.clone());
                    }
                }
                Health::Down => {
                    let reason = verdict.reason.as_deref().unwrap_or("no reason is known");
                    let problem = Problem {
                        kind: Kind::Down,
                        policy: Some(policy.name.clone()),
                        real_server: Some(server.name.clone()),
                        text: format!("{} of {} is down: {reason}", server.name, policy.name),
                    };
                    all.insert(key(), problem);
                }
            }
        }
    }
}

/// What nobody serves, whoever is to blame: checks, a floor, an operator.
fn services(seen: &Seen<'_>, before: &Problems, all: &mut Problems) {
    for policy in &seen.view.policies.policies {
        let is_open = policy
            .real_servers
            .iter()
            .any(|server| seen.view.real_server(server).health == Health::Unknown);
        for service in &policy.services {
            let Some(desired) = seen.report.desired.services.get(&service.key) else { continue };
            if !desired.is_unserved(service) {
                continue;
            }
            // The table is about to follow a verdict.
            let is_behind =
                service.destinations.iter().zip(&policy.real_servers).any(|(it, server)| {
                    let here = desired.destinations.get(&it.key).map(|it| &it.why);
                    let why = here.or_else(|| desired.absent.get(&it.key));
                    seen.view.real_server(server).health == Health::Up
                        && why.is_some_and(|why| why.is_undecided() || matches!(why, Why::Down(_)))
                });
            let (key, name) = (format!("empty {}", service.key), &policy.name);
            if (is_open || is_behind) && !before.contains_key(&key) {
                continue;
            }
            let sorry = if desired.has_sorry() { "; its sorry server answers" } else { "" };
            let text =
                format!("no real server of {} ({name}) takes connections{sorry}", service.key);
            let policy = Some(name.clone());
            all.insert(key, Problem { kind: Kind::Empty, policy, real_server: None, text });
        }
    }
}

fn certificates(seen: &Seen<'_>, before: &Problems, all: &mut Problems) {
    for policy in &seen.view.policies.policies {
        for server in &policy.real_servers {
            let key = format!("certificate {} {}", policy.name, server.identity);
            let Some(ends) = seen.view.real_server(server).certificate_ends else {
                // None was shown yet.
                all.extend(before.get(&key).map(|problem| (key, problem.clone())));
                continue;
            };
            if since_1970(ends) < seen.soon {
                let ends = rfc3339(since_1970(ends));
                let problem = Problem {
                    kind: Kind::Certificate,
                    policy: Some(policy.name.clone()),
                    real_server: Some(server.name.clone()),
                    text: format!(
                        "the certificate of {} of {} ends at {ends}",
                        server.name, policy.name
                    ),
                };
                all.insert(key, problem);
            }
        }
    }
}

fn floors(seen: &Seen<'_>, all: &mut Problems) {
    for policy in seen.view.policies.policies.iter().filter(|it| it.health_floor.is_some()) {
        let name = &policy.name;
        let text = match FloorState::of(policy, &seen.report.desired) {
            FloorState::Off => continue,
            FloorState::Keeps => {
                format!("too few real servers of {name} are up; some that are down are kept in")
            }
            FloorState::Withdrawn => {
                format!("too few real servers of {name} are up; all are withdrawn")
            }
        };
        let problem =
            Problem { kind: Kind::Floor, policy: Some(name.clone()), real_server: None, text };
        all.insert(format!("floor {name}"), problem);
    }
}

/// What is about the director as a whole.
fn whole(seen: &Seen<'_>, all: &mut Problems) {
    let mut add = |key: &str, kind, text: String| {
        all.insert(key.to_owned(), Problem { kind, policy: None, real_server: None, text });
    };
    let servers = || seen.view.policies.policies.iter().flat_map(|policy| &policy.real_servers);
    let mut unasked = servers().filter_map(|server| seen.view.real_server(server).unasked);
    if let Some(reason) = unasked.next() {
        let (some, all) = (1 + unasked.count(), servers().count());
        let text = format!(
            "{some} of {all} real servers cannot be probed, and keep their verdicts whatever \
             becomes of them: {reason}"
        );
        add("unasked", Kind::Unasked, text);
    }
    if let Some(alarm) = seen.view.alarm {
        let text = format!(
            "{} of {} targets are held: so much turned down at once that the director is more \
             likely ill; look at its network, or `pointsman release`",
            alarm.held, alarm.targets
        );
        add("blast_limit", Kind::BlastLimit, text);
    }
    if let Some(refused) = &seen.policies.refused {
        let first = refused.problems.first().map(|text| text.lines().collect::<Vec<_>>());
        let first = first.unwrap_or_default();
        let text = match refused.problems.len() {
            0 | 1 => format!("newer policies are refused: {}", first.join(" ")),
            many => format!("newer policies are refused for {many} problems: {}", first.join(" ")),
        };
        add("reload refused", Kind::Reload, text);
    }
    if let Some(held) = &seen.policies.held {
        let text = format!(
            "newer policies are held: they would remove {}; `pointsman confirm`",
            held.removal
        );
        add("reload held", Kind::Reload, text);
    }
    if let Some(removal) = &seen.report.guarded {
        let text =
            format!("what no policy declares is held: {removal} would go; `pointsman confirm`");
        add("start held", Kind::Reload, text);
    }
    if let Some(error) = &seen.report.error {
        add("table", Kind::Table, error.clone());
    }
    if let Some(first) = seen.report.failures.first() {
        add("refused", Kind::Table, format!("the kernel refuses a change: {first}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::status::Refused;
    use crate::policy::load::load;
    use crate::policy::model::PolicySet;
    use crate::reconcile::view::{Alarm, Verdict};

    fn set() -> Arc<PolicySet> {
        let yaml = "name: www
virtual_services: ['tcp://198.51.100.1:80']
forwarding: masq
real_servers: [192.0.2.1, 192.0.2.2]
health_floor: { min_up: 1, at_floor: withdraw }
checks: [{ tcp: { port: 80 } }]
";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("www.yaml"), yaml).unwrap();
        Arc::new(load(directory.path()).unwrap_or_else(|it| panic!("{}", it[0])).set)
    }

    fn view(health: [Health; 2]) -> HealthView {
        let verdict = |health| Verdict::of(health, Some("refused".into()));
        HealthView::new(set(), health.map(verdict).to_vec())
    }

    const SOON: u64 = 1_000_000;

    #[test]
    fn certificates_that_end_soon_are_wrong_until_another_one_is_shown() {
        let (report, policies) = (Report::default(), Policies::default());
        let mut now = Problems::new();
        let told = "the certificate of 192.0.2.1 of www ends at 1970-01-12T13:46:39Z";
        for (ends, expected) in [
            (None, None),
            (Some(SOON), None),
            (Some(SOON - 1), Some(told)),
            (None, Some(told)),
            (Some(u64::MAX), None),
        ] {
            let mut view = view([Health::Up; 2]);
            view.verdicts[0].certificate_ends = ends;
            now = texts(&view, &report, &policies, &now);
            assert_eq!(now.values().next().map(|it| it.text.as_str()), expected, "{ends:?}");
        }
    }

    fn texts(
        view: &HealthView,
        report: &Report,
        policies: &Policies,
        before: &Problems,
    ) -> Problems {
        let soon = since_1970(SOON);
        problems(&Seen { view, report, policies, soon }, before)
    }

    #[test]
    fn what_is_down_stays_wrong_until_it_is_known_to_be_up() {
        use Health::{Down, Unknown, Up};
        let (report, policies) = (Report::default(), Policies::default());
        let mut now = Problems::new();
        for (health, expected) in [
            ([Unknown, Unknown], vec![]),
            ([Up, Down], vec!["192.0.2.2 of www is down: refused"]),
            (
                [Down, Unknown],
                vec!["192.0.2.1 of www is down: refused", "192.0.2.2 of www is down: refused"],
            ),
            ([Up, Up], vec![]),
        ] {
            now = texts(&view(health), &report, &policies, &now);
            assert_eq!(now.values().map(|it| it.text.as_str()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_director_as_a_whole() {
        let mut desired = crate::reconcile::desired::Desired::default();
        desired.standing.withdrawn.insert("www".to_owned());
        let report = Report {
            desired: Arc::new(desired),
            error: Some("cannot read the IPVS table".to_owned()),
            failures: vec!["+ x: no".to_owned()],
            ..Report::default()
        };
        let problems = vec!["error: a\n --> b".to_owned(), "error: c".to_owned()];
        let refused = Some(Refused { at: String::new(), problems });
        let policies = Policies { refused, ..Policies::default() };
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let since = std::time::Instant::now();
        let alarm = Some(Alarm { since, held: 1, targets: 2 });
        let mut view = HealthView { alarm, ..view([Health::Up; 2]) };
        view.verdicts[1].unasked = Some("no route".into());
        let all = texts(&view, &report, &policies, &Problems::new());
        let kinds: Vec<(&str, Kind)> =
            all.iter().map(|(key, it)| (key.as_str(), it.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("blast_limit", Kind::BlastLimit),
                ("floor www", Kind::Floor),
                ("refused", Kind::Table),
                ("reload refused", Kind::Reload),
                ("table", Kind::Table),
                ("unasked", Kind::Unasked),
            ]
        );
        assert!(all["unasked"].text.starts_with("1 of 2 real servers"), "{:?}", all["unasked"]);
        assert!(all["unasked"].text.ends_with(": no route"), "{:?}", all["unasked"]);
        let text = &all["reload refused"].text;
        assert_eq!(text, "newer policies are refused for 2 problems: error: a  --> b");
    }
}
