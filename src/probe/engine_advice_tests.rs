//! Advice on its way through the engine, on a clock of the test's own.

use super::*;
use crate::health::Hysteresis;
use crate::probe::advice::{AdvisedState, AdvisedWeight, Heard, Said};
use crate::probe::agent::AgentCheck;
use crate::probe::outcome::{Phases, Reason};
use crate::probe::target::{Check, CheckKind, FileCheck, Timing};
use crate::reconcile::standing::Clocks;
use std::num::NonZeroU32;
use std::time::SystemTime;

const SECOND: Duration = Duration::from_secs(1);

fn target(kind: CheckKind, expires: Option<Duration>) -> Target {
    let once = NonZeroU32::MIN;
    let timing = Timing {
        interval: 5 * SECOND,
        fast_interval: None,
        timeout: SECOND,
        hysteresis: Hysteresis { rise: once, fall: once },
        damping: None,
        expires,
    };
    let address = "192.0.2.1:0".parse().unwrap();
    Target { address, check: Arc::new(Check::new(kind)), timing }
}

fn agent() -> Target {
    target(CheckKind::Agent(AgentCheck::default()), None)
}

fn file() -> Target {
    target(CheckKind::File(FileCheck { path: "/f".to_owned(), missing_fails: false }), None)
}

/// One target, and the time.
struct Play {
    engine: Engine,
    now: Instant,
}

impl Play {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    fn of(target: Target) -> Self {
        let mut engine = Engine::new(Limits { total: 9, per_address: 9 }, 7);
        let now = Instant::now();
        let set = PolicySet { targets: vec![target], ..PolicySet::default() };
        engine.set_policies(Arc::new(set), now);
        Self { engine, now }
    }

    /// The next probe ends so, at once.
    fn next(&mut self, reason: Reason, heard: Option<Heard>) -> (Option<Turned>, Option<News>) {
        self.now = self.engine.next_due().unwrap().max(self.now);
        let start = self.engine.start_due(self.now).pop().unwrap();
        let outcome = Outcome::new(reason, "words", Phases::default());
        let outcome = Outcome { advice: heard.map(Box::new), ..outcome };
        let turned = self.engine.finish(start.id, Some(outcome), self.now);
        (turned, self.engine.take_news().map(|(_, news)| news))
    }

    /// Another process goes on with what this one has recorded, so much later.
    fn restart(&mut self, later: Duration) {
        let wall = SystemTime::UNIX_EPOCH + 5_000 * SECOND;
        let recorded = self.engine.knowledge(self.now).record(wall);
        self.now += later;
        let recalled = Recalled::of(recorded, Clocks { now: self.now, wall: wall + later });
        let policies = Arc::clone(self.engine.policies());
        self.engine = Engine::new(Limits { total: 9, per_address: 9 }, 7).remembering(recalled);
        self.engine.set_policies(policies, self.now);
    }

    fn verdict(&self) -> Verdict {
        self.engine.view().verdicts[0].clone()
    }

    fn weight(&self) -> Option<AdvisedWeight> {
        self.verdict().advice.and_then(|advice| advice.weight)
    }
}

fn more(line: &str) -> Option<Heard> {
    Some(Heard::More(Said::parse(line).unwrap()))
}

fn all(line: &str) -> Option<Heard> {
    Some(Heard::All(Said::parse(line).unwrap()))
}

#[test]
fn an_agent_moves_no_verdict() {
    let mut play = Play::of(agent());
    for reason in [Reason::Ok, Reason::Refused, Reason::Refused, Reason::Refused, Reason::Ok] {
        let (turned, _) = play.next(reason, None);
        assert!(turned.is_none(), "{turned:?}");
        assert_eq!(play.verdict().health, Health::Unknown);
        assert_eq!(play.engine.slots()[0].state.streak, 0);
    }
    assert!(play.engine.knowledge(play.now).targets[0].is_none());
}

#[test]
fn advice_of_a_dead_agent_expires_and_comes_back() {
    let mut play = Play::of(agent());
    let (_, news) = play.next(Reason::Ok, more("50%"));
    assert!(news.unwrap().changed);
    let said = play.now;
    assert_eq!(play.engine.next_expiry(), Some(said + 16 * SECOND));
    let (_, news) = play.next(Reason::Refused, None);
    assert_eq!(news, Some(News { changed: false, trouble: Some("words".into()) }));
    assert_eq!(play.next(Reason::Refused, None).1, None, "said once");
    assert_eq!(play.weight(), Some(AdvisedWeight::Percent(50)), "two answers may be lost");
    assert!(play.engine.expire(said + 16 * SECOND - SECOND / 1000).is_empty());
    assert_eq!(play.engine.expire(said + 16 * SECOND), [TargetId(0)]);
    assert_eq!((play.weight(), play.engine.next_expiry()), (None, None));
    let (_, news) = play.next(Reason::Ok, more("50%"));
    assert_eq!(news, Some(News { changed: true, trouble: None }));
    assert_eq!(play.weight(), Some(AdvisedWeight::Percent(50)));
}

#[test]
fn advice_that_is_said_again_never_expires() {
    let mut play = Play::of(target(CheckKind::Agent(AgentCheck::default()), Some(6 * SECOND)));
    let begin = play.now;
    assert!(play.next(Reason::Ok, more("drain")).1.unwrap().changed);
    while play.now - begin < 1000 * SECOND {
        let (_, news) = play.next(Reason::Ok, more("up"));
        assert!(news.is_none_or(|news| !news.changed));
        assert!(play.engine.expire(play.now).is_empty());
        assert_eq!(play.verdict().advice.unwrap().state, Some(AdvisedState::Drain));
    }
    assert_eq!(play.engine.next_expiry(), Some(play.now + 6 * SECOND));
}

#[test]
fn a_check_that_advises_keeps_its_verdict_to_itself() {
    let mut play = Play::of(file());
    let (turned, news) = play.next(Reason::Ok, all("30"));
    assert!(turned.is_some() && news.unwrap().changed);
    assert_eq!(play.weight(), Some(AdvisedWeight::Absolute(30)));
    let (turned, news) = play.next(Reason::Status, None);
    assert_eq!(turned.unwrap().transition.to, Health::Down);
    assert_eq!(news, None);
    assert_eq!(play.verdict().health, Health::Down);
    let (turned, news) = play.next(Reason::Ok, Some(Heard::Nothing("what?".into())));
    assert_eq!(turned.unwrap().transition.to, Health::Up, "the verdict is untouched");
    assert_eq!(news.unwrap().trouble.as_deref(), Some("what?"));
    // What it leaves out it does not ask for any more.
    assert!(play.next(Reason::Ok, all("up")).1.unwrap().changed);
    assert_eq!(play.verdict().advice, None);
}

#[test]
fn advice_survives_a_reload_and_a_restart() {
    let mut play = Play::of(agent());
    play.next(Reason::Ok, more("50%"));
    let expiry = play.engine.next_expiry();
    let other = PolicySet { targets: vec![file(), agent()], ..PolicySet::default() };
    let mut targets = other.targets.clone();
    targets.sort();
    let index = targets.iter().position(|target| *target == agent()).unwrap();
    play.engine.set_policies(Arc::new(PolicySet { targets, ..other.clone() }), play.now);
    assert_eq!(play.engine.next_expiry(), expiry);
    assert!(play.engine.view().verdicts[index].advice.is_some());

    play.restart(SECOND);
    assert_eq!(play.engine.next_expiry(), Some(play.now + 16 * SECOND));
    assert_eq!(play.engine.view().verdicts[index].advice.as_ref().unwrap().weight, {
        Some(AdvisedWeight::Percent(50))
    });
    assert_eq!(play.engine.expire(play.now + 16 * SECOND).len(), 1, "as any other");
    play.restart(SECOND);
    assert_eq!(play.engine.next_expiry(), None, "what has expired is not on record");

    let gone = PolicySet { targets: vec![file()], ..PolicySet::default() };
    play.engine.set_policies(Arc::new(gone), play.now);
    assert_eq!(play.engine.next_expiry(), None);
}

#[test]
fn who_advises_is_unadvised_until_its_first_turn_ends() {
    for (reason, heard) in
        [(Reason::Ok, more("50%")), (Reason::Refused, None), (Reason::Resources, None)]
    {
        let mut play = Play::of(agent());
        assert!(play.verdict().unadvised);
        play.next(reason, heard);
        assert!(!play.verdict().unadvised, "{reason:?}");
        assert!(play.engine.take_noted(), "{reason:?}: somebody waits for that");
    }
    let mut play = Play::of(agent());
    play.next(Reason::Ok, more("50%"));
    play.restart(SECOND);
    assert!(!play.verdict().unadvised, "what is on record is enough");
    play.restart(3600 * SECOND);
    assert!(play.verdict().unadvised);
}
