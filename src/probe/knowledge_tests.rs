use super::*;
use crate::health::Hysteresis;
use crate::probe::outcome::{Outcome, Phases, Reason};
use crate::probe::target::{Check, CheckKind, FileCheck, TcpCheck};
use std::num::NonZeroU32;

fn clocks(wall: u64) -> Clocks {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now() + Duration::from_secs(1_000_000);
    Clocks { now, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall) }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn target(send: &str) -> Target {
    let kind = CheckKind::Tcp(TcpCheck { send: send.into(), expect: None });
    let one = NonZeroU32::new(1).unwrap();
    Target {
        address: "192.0.2.1:80".parse().unwrap(),
        check: Arc::new(Check::new(kind)),
        timing: Timing {
            interval: seconds(5),
            fast_interval: None,
            timeout: seconds(1),
            hysteresis: Hysteresis { rise: one, fall: one },
            damping: None,
            expires: None,
        },
    }
}

/// Down for 100 seconds, held down for 20 more, last confirmed 3 seconds ago.
fn down(now: Instant) -> Known {
    Known {
        health: Health::Down,
        since: now - seconds(100),
        confirmed: now - seconds(3),
        reason: Some("connection refused".into()),
        held_until: Some(now + seconds(20)),
        flaps: Some(Box::new(Flaps {
            changes: [now - seconds(200), now + seconds(10)].into(),
            level: 2,
            trips: 3,
            words: Some("held down".into()),
        })),
        member: Some(Member { at: now - seconds(100), before: Health::Up, silent: true }),
        unconfirmed: false,
    }
}

fn knowledge(known: Known, now: Instant) -> Knowledge {
    let policies = PolicySet { targets: vec![target("a")], ..PolicySet::default() };
    let holds_since = Some(now - seconds(50));
    let (targets, advice) = (vec![Some(known)], vec![None]);
    Knowledge { policies: Arc::new(policies), targets, advice, holds_since, now }
}

/// Written at one time and read at another, by way of the disk.
fn travel(knowledge: &Knowledge, wall: SystemTime, after: Clocks) -> Recalled {
    read(&knowledge.record(wall).ended(), after)
}

fn read(recorded: &Recorded, after: Clocks) -> Recalled {
    let text = serde_json::to_string(recorded).unwrap();
    Recalled::of(serde_json::from_str(&text).unwrap(), after)
}

#[test]
fn everything_goes_on_as_if_time_had_passed() {
    let (before, after) = (clocks(5_000), clocks(5_010));
    let recalled = travel(&knowledge(down(before.now), before.now), before.wall, after);
    let expected = down(after.now - seconds(10));
    assert_eq!(recalled.get(&target("a"), after.now), Some(&expected));
    assert_eq!(recalled.holds_since(), Some(after.now - seconds(60)));
    assert_eq!(recalled.get(&target("b"), after.now), None, "another check");
}

/// What a run that died had on record may be older than what it did to the table last.
#[test]
fn who_died_is_believed_once_a_probe_has_said_the_same() {
    let clocks = clocks(5_000);
    let known =
        |recorded: &Recorded| read(recorded, clocks).get(&target("a"), clocks.now).unwrap().clone();
    let alive = knowledge(down(clocks.now), clocks.now).record(clocks.wall);
    let doubted = known(&alive);
    assert_eq!(doubted, Known { unconfirmed: true, ..down(clocks.now) });
    // A run in between that ends before it has heard anything changes nothing about that.
    let between = knowledge(doubted.clone(), clocks.now).record(clocks.wall);
    assert!(known(&between.ended()).unconfirmed);

    let mut timing = target("a").timing;
    timing.hysteresis.rise = NonZeroU32::new(2).unwrap();
    for (result, confirmed) in [(Reason::Refused, true), (Reason::Ok, false)] {
        let mut slot = Slot::new(clocks.now, clocks.now);
        slot.recall(&doubted, timing, clocks.now);
        assert!(slot.verdict().unconfirmed);
        let outcome = Outcome::new(result, String::new(), Phases::default());
        slot.record(outcome, timing, clocks.now);
        assert_eq!(!slot.verdict().unconfirmed, confirmed, "{result:?}");
    }
}

#[test]
fn what_is_stale_or_yet_to_come_is_left() {
    for (written, read, counts) in [
        (5_000, 5_000, true),
        (5_000, 5_301, true),
        (5_000, 5_303, false),
        (5_000, 900_000, false),
        // A little back is what clocks do; more is another clock.
        (5_000, 4_999, true),
        (5_000, 4_000, false),
    ] {
        let (before, after) = (clocks(written), clocks(read));
        let recalled = travel(&knowledge(down(before.now), before.now), before.wall, after);
        let known = recalled.get(&target("a"), after.now);
        assert_eq!(known.is_some(), counts, "written at {written}, read at {read}");
    }
}

#[test]
fn a_long_interval_is_given_its_time() {
    let (before, after) = (clocks(500_000), clocks(503_600));
    let recalled = travel(&knowledge(down(before.now), before.now), before.wall, after);
    let mut hourly = target("a");
    hourly.timing.interval = seconds(3_600);
    assert!(recalled.get(&hourly, after.now).is_some());
    assert!(recalled.get(&target("a"), after.now).is_none());
}

#[test]
fn a_target_without_a_verdict_leaves_nothing() {
    let now = clocks(0).now;
    assert_eq!(Known::of(&Slot::new(now, now), None), None);
}

#[test]
fn of_two_paces_the_one_that_is_down_speaks() {
    let before = clocks(5_000);
    let up = Known {
        health: Health::Up,
        held_until: None,
        flaps: None,
        member: None,
        reason: None,
        ..down(before.now)
    };
    let mut slow = target("a");
    slow.timing.interval = seconds(60);
    let policies = PolicySet { targets: vec![target("a"), slow], ..PolicySet::default() };
    for known in [[up.clone(), down(before.now)], [down(before.now), up]] {
        let targets = known.map(Some).into();
        let policies = Arc::new(policies.clone());
        let (advice, now) = (vec![None, None], before.now);
        let knowledge = Knowledge { policies, targets, advice, holds_since: None, now };
        let recalled = travel(&knowledge, before.wall, before);
        assert_eq!(recalled.get(&target("a"), before.now).unwrap().health, Health::Down);
    }
}

#[test]
fn a_record_that_lies_is_not_believed_in_what_it_cannot_be() {
    for lie in [
        r#"{"health":"unknown","since":1000,"confirmed":1000}"#,
        r#"{"health":"up","since":18446744073709551615,"confirmed":1000}"#,
        r#"{"health":"up","since":1000,"confirmed":18446744073709551615}"#,
    ] {
        let text = format!(r#"{{"targets":{{"{}":{lie}}}}}"#, target("a").key());
        let recalled = Recalled::of(serde_json::from_str(&text).unwrap(), clocks(2));
        assert!(recalled.is_empty(), "{lie}");
    }
    let text = format!(
        r#"{{"targets":{{"{}":{{"health":"up","since":1000,"confirmed":1000,
           "held_until":18446744073709551615,
           "flaps":{{"changes":[18446744073709551615,0],"level":4294967295,"trips":18446744073709551615}},
           "wave":{{"at":1000,"before":"down"}}}}}}}}"#,
        target("a").key()
    );
    let clocks = clocks(2);
    let recalled = Recalled::of(serde_json::from_str(&text).unwrap(), clocks);
    let known = recalled.get(&target("a"), clocks.now).unwrap();
    assert_eq!(known.member, None);
    let mut slot = Slot::new(clocks.now, clocks.now);
    slot.recall(known, target("a").timing, clocks.now);
    assert_eq!((slot.state.held_until, slot.flaps), (None, None), "nothing is damped here");
}

fn file() -> Target {
    let kind = CheckKind::File(FileCheck { path: "/state".to_owned(), missing_fails: false });
    Target { check: Arc::new(Check::new(kind)), ..target("") }
}

/// What a file said, some seconds ago, at that pace of five seconds.
fn advised(line: &str, ago: u64, now: Instant) -> Spoken {
    let at = now - seconds(ago);
    Spoken {
        said: Said::parse(line).unwrap(),
        at,
        until: at + seconds(16),
        counts: true,
        spared: false,
    }
}

fn advising(lines: &[(&str, u64)], now: Instant) -> Knowledge {
    let policies = PolicySet { targets: vec![file(); lines.len()], ..PolicySet::default() };
    let advice = lines.iter().map(|(line, ago)| Some(advised(line, *ago, now))).collect();
    let targets = vec![None; lines.len()];
    Knowledge { policies: Arc::new(policies), targets, advice, holds_since: None, now }
}

#[test]
fn advice_is_taken_over_until_it_expires() {
    for (line, later, left) in [
        ("50% drain", 0, Some(16)),
        ("failed # no disk", 5, Some(16)),
        // What was on record may have been said again for half a minute.
        ("maint", 40, Some(4)),
        ("maint", 44, None),
        ("maint", 900_000, None),
    ] {
        let (before, after) = (clocks(5_000), clocks(5_000 + later));
        let recalled = travel(&advising(&[(line, 2)], before.now), before.wall, after);
        assert!(!recalled.is_empty());
        let expected = left.map(|left| Spoken {
            until: after.now + seconds(left),
            ..advised(line, 2 + later, after.now)
        });
        assert_eq!(recalled.advice(&file(), after.now), expected, "{line}, {later} later");
        assert_eq!(recalled.advice(&target("a"), after.now), None, "another check");
    }
}

#[test]
fn advice_of_another_time_is_left() {
    let before = clocks(5_000);
    let recalled = travel(&advising(&[("maint", 2)], before.now), before.wall, clocks(4_000));
    assert_eq!(recalled.advice(&file(), clocks(4_000).now), None);
    let text = format!(
        r#"{{"targets":{{}},"advice":{{"{}":
           {{"said":{{"order":"maint"}},"at":1000,"until":18446744073709551615}}}}}}"#,
        file().key()
    );
    let clocks = clocks(2);
    let recalled = Recalled::of(serde_json::from_str(&text).unwrap(), clocks);
    let until = recalled.advice(&file(), clocks.now).map(|spoken| spoken.until);
    assert!(until.is_none_or(|until| until == clocks.now + seconds(16)), "no longer than anew");
}

#[test]
fn of_two_paces_what_was_said_last_counts() {
    let before = clocks(5_000);
    for lines in [[("drain", 3), ("maint", 1)], [("maint", 1), ("drain", 3)]] {
        let recalled = travel(&advising(&lines, before.now), before.wall, before);
        let said = recalled.advice(&file(), before.now).unwrap().said;
        assert_eq!(said, Said::parse("maint").unwrap());
    }
}

/// Neither stumbles over what the other has written.
#[test]
fn records_of_versions_with_and_without_advice_are_read() {
    let before = clocks(5_000);
    let without =
        serde_json::to_string(&knowledge(down(before.now), before.now).record(before.wall));
    assert!(!without.unwrap().contains("advice"));
    let with =
        serde_json::to_value(advising(&[("maint", 1)], before.now).record(before.wall)).unwrap();
    assert_eq!(with["targets"], serde_json::json!({}), "which is all that older ones look at");
}
