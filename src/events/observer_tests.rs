use std::sync::Arc;

use super::{FloorState, Moment, What, observe};
use crate::health::Health;
use crate::policy::load::load;
use crate::policy::model::PolicySet;
use crate::reconcile::desired::Desired;
use crate::reconcile::driver::Report;
use crate::reconcile::view::{HealthView, Verdict};

fn policies(servers: &str) -> Arc<PolicySet> {
    let yaml = format!(
        "name: www
virtual_services: ['tcp://198.51.100.1:80']
forwarding: masq
real_servers: [{servers}]
health_floor: {{ min_up: 1, at_floor: withdraw }}
checks: [{{ tcp: {{ port: 80 }} }}]
"
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("www.yaml"), yaml).unwrap();
    let loaded = load(directory.path());
    Arc::new(loaded.unwrap_or_else(|problems| panic!("{}", problems[0])).set)
}

fn view(set: &Arc<PolicySet>, health: &[Health]) -> HealthView {
    let verdict = |health: &Health| {
        let reason = (*health == Health::Down).then(|| "refused".into());
        Verdict::of(*health, reason)
    };
    HealthView::new(Arc::clone(set), health.iter().map(verdict).collect())
}

fn told(events: Vec<What>) -> Vec<String> {
    events.iter().map(|event| format!("{}: {event}", event.name())).collect()
}

#[test]
fn verdicts_are_told_once_and_go_over_a_reload() {
    use Health::{Down, Unknown, Up};
    let two = policies("192.0.2.1, 192.0.2.2");
    let three = policies("192.0.2.1, 192.0.2.2, 192.0.2.3");
    let (mut last, report) = (Moment::default(), Report::default());
    let mut see = |view: &HealthView| told(observe(&mut last, view, &report));
    assert_eq!(see(&view(&two, &[Unknown, Unknown])), [""; 0]);
    assert_eq!(
        see(&view(&two, &[Up, Down])),
        [
            "verdict: 192.0.2.1 of www: unknown → up",
            "verdict: 192.0.2.2 of www: unknown → down: refused",
        ]
    );
    assert_eq!(see(&view(&two, &[Up, Down])), [""; 0]);
    assert_eq!(see(&view(&three, &[Up, Down, Unknown])), [""; 0]);
    assert_eq!(
        see(&view(&three, &[Up, Up, Up])),
        ["verdict: 192.0.2.2 of www: down → up", "verdict: 192.0.2.3 of www: unknown → up"]
    );
}

#[test]
fn who_is_held_has_not_come_up() {
    use Health::{Down, Up};
    let set = policies("192.0.2.1, 192.0.2.2");
    let (mut last, report) = (Moment::default(), Report::default());
    let mut see = |view: &HealthView| observe(&mut last, view, &report);
    see(&view(&set, &[Up, Up]));
    see(&view(&set, &[Down, Down]));
    let mut held = view(&set, &[Down, Down]);
    held.verdicts.iter_mut().for_each(|it| it.held = Some(Up));
    held.verdicts[1].parole = Some(2);
    let events = see(&held);
    let [What::Verdict { reason: Some(reason), .. }, _] = &events[..] else { panic!("{events:?}") };
    assert_eq!(reason, "held by the blast-radius limit; refused");
    assert_eq!(
        told(events),
        [
            "verdict: 192.0.2.1 of www: down → up: held by the blast-radius limit; refused",
            "verdict: 192.0.2.2 of www: down → up: held by the blast-radius limit until 2 more \
             failures; refused",
        ]
    );
    assert_eq!(
        told(see(&view(&set, &[Down, Up]))),
        ["verdict: 192.0.2.1 of www: up → down: refused"],
        "released, and up again"
    );
}

#[test]
fn floors_and_trouble_come_and_go() {
    let set = policies("192.0.2.1");
    let view = view(&set, &[Health::Unknown]);
    let mut last = Moment::default();
    let mut see = |report: &Report| observe(&mut last, &view, report);
    assert_eq!(see(&Report::default()), []);
    let mut desired = Desired::default();
    desired.standing.withdrawn.insert("www".to_owned());
    let ill =
        Report { desired: Arc::new(desired), error: Some("no".to_owned()), ..Report::default() };
    let floor = |state| What::Floor { policy: "www".to_owned(), state };
    let trouble = What::Trouble { reason: "no".to_owned() };
    assert_eq!(see(&ill), [floor(FloorState::Withdrawn), trouble]);
    assert_eq!(see(&ill), []);
    assert_eq!(see(&Report::default()), [floor(FloorState::Off), What::TroubleOver]);
}
