use super::*;
use crate::health::damping::Damping;
use crate::health::{Health, Hysteresis};
use crate::probe::outcome::{Phases, Reason};
use crate::probe::target::{Check, CheckKind, TcpCheck, Timing};
use crate::reconcile::standing::Clocks;
use std::net::SocketAddr;
use std::num::NonZeroU32;

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn beginning() -> Instant {
    Instant::now()
}

fn timing(interval: u64, fall: u32) -> Timing {
    Timing {
        interval: Duration::from_millis(interval),
        fast_interval: None,
        timeout: Duration::from_millis(interval / 2),
        hysteresis: Hysteresis {
            rise: NonZeroU32::new(2).unwrap(),
            fall: NonZeroU32::new(fall).unwrap(),
        },
        damping: None,
        expires: None,
    }
}

fn target(address: &str, timing: Timing) -> Target {
    let kind = CheckKind::Tcp(TcpCheck::default());
    let check = Arc::new(Check::new(kind));
    Target { address: address.parse::<SocketAddr>().unwrap(), check, timing }
}

fn set(mut targets: Vec<Target>) -> Arc<PolicySet> {
    targets.sort();
    Arc::new(PolicySet { targets, ..PolicySet::default() })
}

fn outcome(reason: Reason) -> Option<Outcome> {
    Some(Outcome::new(reason, format!("{reason:?}"), Phases::default()))
}

fn engine(total: usize, per_address: usize) -> Engine {
    Engine::new(Limits { total, per_address }, 7)
}

/// Runs until `end`; every attempt takes `duration` and ends as `answer` says.
fn simulate(
    engine: &mut Engine,
    from: Instant,
    end: Duration,
    duration: Duration,
    mut answer: impl FnMut(&Target, Duration) -> Reason,
) -> Vec<(Duration, SocketAddr)> {
    let mut log = Vec::new();
    let mut running: BTreeSet<(Instant, ProbeId, SocketAddr)> = BTreeSet::new();
    let mut targets: HashMap<ProbeId, Target> = HashMap::new();
    let mut now = from;
    while now - from < end {
        for start in engine.start_due(now) {
            assert!(
                running.iter().all(|(_, _, address)| *address != start.target.address),
                "two attempts at {} at once",
                start.target.address
            );
            log.push((now - from, start.target.address));
            running.insert((now + duration, start.id, start.target.address));
            targets.insert(start.id, start.target);
        }
        let next_end = running.first().map(|(at, ..)| *at);
        now = match (engine.next_due(), next_end) {
            (Some(due), Some(ended)) => due.max(now).min(ended),
            (Some(due), None) => due.max(now),
            (None, Some(ended)) => ended,
            (None, None) => break,
        };
        if let Some((_, id, _)) = running.first().copied().filter(|(at, ..)| *at <= now) {
            running.pop_first();
            let reason = answer(&targets[&id], now - from);
            engine.finish(id, outcome(reason), now);
        }
    }
    log
}

#[test]
fn a_verdict_is_never_later_than_the_promise() {
    let from = beginning();
    let mut engine = engine(10, 10);
    engine.set_policies(set(vec![target("192.0.2.1:80", timing(5000, 3))]), from);
    let (timeout, dies) = (Duration::from_millis(2500), Duration::from_secs(60));
    let mut down_at = None;
    simulate(&mut engine, from, dies, Duration::from_millis(1), |_, _| Reason::Ok);
    assert_eq!(engine.slots()[0].state.health, Health::Up);
    let mut now = from + dies;
    while down_at.is_none() {
        for start in engine.start_due(now) {
            now += timeout;
            engine.finish(start.id, outcome(Reason::HeadTimeout), now);
        }
        if engine.slots()[0].state.health == Health::Down {
            down_at = Some(now);
        }
        now = engine.next_due().unwrap().max(now);
    }
    let took = down_at.unwrap() - (from + dies);
    assert!(took <= Duration::from_millis(3 * 5000 + 2500), "{took:?}");
}

#[test]
fn rounds_do_not_stay_in_step() {
    let from = beginning();
    let mut engine = engine(1000, 1000);
    let targets = (1..=200).map(|n| target(&format!("192.0.2.{n}:80"), timing(2000, 3)));
    engine.set_policies(set(targets.collect()), from);
    let length = Duration::from_secs(40);
    let log = simulate(&mut engine, from, length, Duration::from_millis(1), |_, _| Reason::Ok);
    let first_round = log.iter().filter(|(at, _)| *at < Duration::from_millis(101)).count();
    assert_eq!(first_round, 200, "first verdicts come at once");
    let mut per_100ms = [0; 400];
    for (at, _) in log.iter().filter(|(at, _)| *at > Duration::from_secs(4)) {
        per_100ms[(at.as_millis() / 100) as usize] += 1;
    }
    let busiest = per_100ms.iter().max().unwrap();
    assert!(*busiest <= 30, "{busiest} of 200 targets in one tenth of a second (even: 10)");
    let expected = 200 * 20;
    assert!((expected..expected * 12 / 10).contains(&log.len()), "{}", log.len());
}

#[test]
fn a_hanging_machine_does_not_starve_the_others() {
    let from = beginning();
    let mut engine = engine(8, 2);
    let hanging = (1..=50).map(|port| target(&format!("192.0.2.1:{port}"), timing(1000, 3)));
    let healthy = (2..=7).map(|n| target(&format!("192.0.2.{n}:80"), timing(1000, 3)));
    engine.set_policies(set(hanging.chain(healthy).collect()), from);
    let mut hung = Vec::new();
    let mut probed = HashMap::new();
    let mut now = from;
    while now - from < Duration::from_secs(10) {
        for start in engine.start_due(now) {
            if start.target.address.ip() == "192.0.2.1".parse::<IpAddr>().unwrap() {
                hung.push(start.id);
            } else {
                assert!(start.lateness < Duration::from_millis(2), "{:?}", start.lateness);
                *probed.entry(start.target.address).or_insert(0) += 1;
                engine.finish(start.id, outcome(Reason::Ok), now);
            }
        }
        assert!(hung.len() <= 2);
        now += Duration::from_millis(1);
    }
    assert_eq!(probed.len(), 6);
    assert!(probed.values().all(|count| *count >= 9), "{probed:?}");
    // The machine comes back: those that had to wait get their turn, in order.
    for id in hung {
        engine.finish(id, outcome(Reason::Ok), now);
    }
    assert_eq!(engine.start_due(now).iter().filter(|s| s.target.address.port() != 80).count(), 2);
}

#[test]
fn at_the_total_limit_only_an_end_wakes() {
    let from = beginning();
    let mut engine = engine(1, 1);
    let two =
        vec![target("192.0.2.1:80", timing(1000, 1)), target("192.0.2.2:80", timing(1000, 1))];
    engine.set_policies(set(two), from);
    let later = from + Duration::from_secs(5);
    let first = engine.start_due(later);
    assert_eq!(first.len(), 1);
    assert_eq!(engine.next_due(), None);
    engine.finish(first[0].id, outcome(Reason::Ok), later);
    let second = engine.start_due(later);
    assert_ne!(second[0].target.address, first[0].target.address);
    assert!(second[0].lateness > Duration::from_secs(4));
}

#[test]
fn a_reload_keeps_verdict_schedule_and_attempt() {
    let from = beginning();
    let mut engine = engine(10, 10);
    let stays = target("192.0.2.1:80", timing(5000, 3));
    let goes = target("192.0.2.2:80", timing(5000, 3));
    engine.set_policies(set(vec![stays.clone(), goes]), from);
    let now = from + Duration::from_secs(1);
    let starts = engine.start_due(now);
    engine.finish(starts[0].id, outcome(Reason::Ok), now);
    let due = engine.slots()[0].due;

    let comes = target("192.0.2.0:80", timing(5000, 3));
    let abandoned = engine.set_policies(set(vec![comes, stays.clone()]), now);
    assert_eq!(abandoned, vec![starts[1].id], "only the attempt at the target that left");
    assert_eq!(engine.slots()[1].state.health, Health::Up);
    assert_eq!(engine.slots()[1].due, due);
    assert_eq!(engine.slots()[0].state.health, Health::Unknown);
    assert!(engine.finish(starts[1].id, outcome(Reason::Refused), now).is_none());
    assert_eq!(engine.in_flight(), 0);
    assert_eq!(engine.start_due(now).len(), 1, "only the new target is due");

    // An attempt in flight counts across a reload, and a changed timing loses nothing.
    let now = due;
    let start = engine.start_due(now).pop().unwrap();
    assert_eq!(start.target, stays);
    let mut faster = target("192.0.2.1:80", timing(1000, 1));
    faster.timing.timeout = stays.timing.timeout;
    assert!(engine.set_policies(set(vec![faster]), now).len() <= 1);
    let turned = engine.finish(start.id, outcome(Reason::Refused), now).unwrap();
    assert_eq!((turned.transition.from, turned.transition.to), (Health::Up, Health::Down));
    assert_eq!(engine.view().verdicts[0].reason.as_deref(), Some("Refused"));
    assert!(engine.slots()[0].due <= now + Duration::from_millis(1000));
}

#[test]
fn inconclusive_and_cancelled_attempts_move_no_counter() {
    let from = beginning();
    let mut engine = engine(10, 10);
    engine.set_policies(set(vec![target("192.0.2.1:80", timing(1000, 1))]), from);
    simulate(&mut engine, from, Duration::from_secs(3), Duration::from_millis(1), |_, _| {
        Reason::Ok
    });
    let now = from + Duration::from_secs(10);
    let start = engine.start_due(now).pop().unwrap();
    assert!(engine.finish(start.id, outcome(Reason::Resources), now).is_none());
    let now = now + Duration::from_secs(10);
    let start = engine.start_due(now).pop().unwrap();
    assert!(engine.finish(start.id, None, now).is_none());
    assert_eq!(engine.slots()[0].state.health, Health::Up);
    assert_eq!(engine.slots()[0].state.streak, 0);
    assert!(engine.next_due().unwrap() > now, "it is tried again, but not at once");
}

#[test]
fn an_open_streak_quickens_the_pace() {
    let from = beginning();
    let mut engine = engine(10, 10);
    let mut quick = timing(10_000, 3);
    quick.fast_interval = Some(Duration::from_millis(500));
    engine.set_policies(set(vec![target("192.0.2.1:80", quick)]), from);
    let dies = Duration::from_secs(40);
    let answer = |_: &Target, at| if at < dies { Reason::Ok } else { Reason::Refused };
    let log =
        simulate(&mut engine, from, Duration::from_secs(60), Duration::from_millis(1), answer);
    let failing: Vec<_> = log.iter().filter(|(at, _)| *at >= dies).take(3).collect();
    assert!(failing[2].0 - failing[0].0 <= Duration::from_secs(1), "{failing:?}");
    assert_eq!(engine.slots()[0].state.health, Health::Down);
}

#[test]
fn a_shorter_timeout_is_in_force_at_once() {
    let from = beginning();
    let mut engine = engine(10, 10);
    engine.set_policies(set(vec![target("192.0.2.1:80", timing(40_000, 1))]), from);
    let start = engine.start_due(from).pop().unwrap();
    let now = from + Duration::from_secs(1);
    let shorter = set(vec![target("192.0.2.1:80", timing(2000, 1))]);
    assert_eq!(engine.set_policies(shorter, now), vec![start.id]);
    assert!(engine.finish(start.id, None, now).is_none());
    let again = engine.start_due(now).pop().unwrap();
    assert_eq!(again.target.timing.timeout, Duration::from_millis(1000));
}

/// Lets the only target's next attempt end so; when it did.
fn next(engine: &mut Engine, reason: Reason) -> (Instant, Option<Turned>) {
    let now = engine.next_due().unwrap();
    let start = engine.start_due(now).pop().unwrap();
    (now, engine.finish(start.id, outcome(reason), now))
}

#[test]
fn a_flapping_target_is_held_down_and_probed_without_haste() {
    let mut engine = engine(10, 10);
    let mut damped = timing(1000, 1);
    damped.hysteresis.rise = NonZeroU32::new(1).unwrap();
    damped.fast_interval = Some(Duration::from_millis(100));
    let changes = NonZeroU32::new(3).unwrap();
    damped.damping = Some(Damping { changes, ..Damping::default() });
    engine.set_policies(set(vec![target("192.0.2.1:80", damped)]), beginning());
    for reason in [Reason::Ok, Reason::Refused, Reason::Ok] {
        assert_eq!(next(&mut engine, reason).1.unwrap().hold, None);
    }
    let (held_at, turned) = next(&mut engine, Reason::Refused);
    assert_eq!(turned.unwrap().hold, Some(Duration::from_secs(30)));
    let words = "held down by flap damping, 3 changes in 5m; last: Refused";
    assert_eq!(engine.view().verdicts[0].reason.as_deref(), Some(words));
    let mut probes = 0;
    let back = loop {
        let (now, turned) = next(&mut engine, Reason::Ok);
        probes += 1;
        if let Some(turned) = turned {
            assert_eq!(turned.transition.to, Health::Up);
            break now - held_at;
        }
    };
    assert!(back >= Duration::from_secs(30) && back <= Duration::from_secs(31), "{back:?}");
    assert!((30..=36).contains(&probes), "{probes} probes in 30 intervals");
    assert_eq!(engine.view().verdicts[0].reason, None);

    // A hold that is over needs no words, although it is still down.
    next(&mut engine, Reason::Refused);
    while engine.slots()[0].state.held_until.is_some() {
        next(&mut engine, Reason::Refused);
    }
    assert_eq!(engine.view().verdicts[0].reason.as_deref(), Some("Refused"));

    // Without damping in the policy there is no hold.
    next(&mut engine, Reason::Ok);
    next(&mut engine, Reason::Refused);
    assert!(engine.slots()[0].state.held_until.is_some());
    let plain = Timing { damping: None, ..damped };
    let now = engine.next_due().unwrap();
    engine.set_policies(set(vec![target("192.0.2.1:80", plain)]), now);
    assert_eq!(next(&mut engine, Reason::Ok).1.unwrap().transition.to, Health::Up);
}

#[test]
fn the_last_five_outcomes_are_remembered() {
    let mut engine = engine(10, 10);
    engine.set_policies(set(vec![target("192.0.2.1:80", timing(1000, 3))]), beginning());
    let reasons = [
        Reason::Ok,
        Reason::Refused,
        Reason::Resources,
        Reason::Status,
        Reason::Reset,
        Reason::Ok,
        Reason::Closed,
    ];
    let ended: Vec<Instant> = reasons.iter().map(|reason| next(&mut engine, *reason).0).collect();
    let history: Vec<Last> = engine.slots()[0].history().collect();
    assert_eq!(history[0], engine.slots()[0].last.clone().unwrap());
    let found: Vec<_> = history.iter().map(|last| (last.outcome.reason, last.at)).collect();
    let expected: Vec<_> = reasons.into_iter().zip(ended).rev().take(5).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_an_earlier_run_knew_seeds_the_first_policies_only() {
    let from = beginning();
    let targets = || vec![target("192.0.2.1:80", timing(1000, 1))];
    let mut first = engine(10, 10);
    first.set_policies(set(targets()), from);
    let (now, turned) = next(&mut first, Reason::Refused);
    assert_eq!(turned.unwrap().transition.to, Health::Down);
    let wall = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let recorded = first.knowledge(now).record(wall);
    let later = now + Duration::from_secs(10);
    let clocks = Clocks { now: later, wall: wall + Duration::from_secs(10) };
    let recall = || Recalled::of(recorded.clone(), clocks);

    let mut second = engine(10, 10).remembering(recall());
    second.set_policies(set(targets()), later);
    let verdict = &second.view().verdicts[0];
    assert_eq!((verdict.health, verdict.reason.as_deref()), (Health::Down, Some("Refused")));
    let since = later - verdict.since.unwrap();
    assert_eq!(since.as_secs(), 10);
    assert_eq!(second.next_due(), Some(later), "it is asked at once all the same");

    let mut third = engine(10, 10).remembering(recall());
    third.set_policies(set(vec![target("192.0.2.2:80", timing(1000, 1))]), later);
    third.set_policies(set(targets()), later);
    assert_eq!(third.view().verdicts[0].health, Health::Unknown);
}

#[test]
fn what_the_view_tells_beside_verdicts_is_noted_once() {
    let start = beginning();
    let mut engine = engine(10, 10);
    engine.set_policies(set(vec![target("10.0.0.1:443", timing(1000, 2))]), start);
    let mut now = start;
    for (reason, ends, is_new) in [
        (Reason::Ok, None, false),
        (Reason::Ok, Some(7), true),
        (Reason::Ok, Some(7), false),
        (Reason::Refused, None, false),
        (Reason::Route, None, true),
        (Reason::Route, None, false),
        (Reason::Ok, Some(9), true),
    ] {
        now = engine.next_due().unwrap().max(now);
        let probe = engine.start_due(now).remove(0);
        let shown = Outcome { certificate_ends: ends, ..outcome(reason).unwrap() };
        engine.finish(probe.id, Some(shown), now);
        assert_eq!(engine.take_noted(), is_new, "{reason:?} {ends:?}");
        assert_eq!(engine.view().verdicts[0].unasked.is_some(), reason == Reason::Route);
    }
    assert_eq!(engine.view().verdicts[0].certificate_ends, Some(9));
}
