//! What is to become of each real server of a policy, before anybody looks at a virtual service.
//!
//! Pure. Verdicts, what operators say, what the real server itself asks for, and the health floor
//! come together here; weights, draining and the sorry server come after, per service.

use std::sync::Arc;
use std::time::Instant;

use crate::health::Health;
use crate::policy::model::{OnDown, Policy, RealServer};
use crate::probe::advice::{AdvisedState, AdvisedWeight};

use super::floor::{Candidate, Ruling, rule};
use super::overrides::{Action, Override};
use super::view::{HealthView, Verdict};
use super::why::Why;

/// What is to become of a real server's destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// In, with its weight.
    Fit,
    /// As the table has it, because there is no verdict.
    Undecided,
    /// In, with weight 0.
    Quiesced,
    /// Out at once.
    Out,
    /// Weight 0, and out when its connections are gone.
    Leaves,
}

/// The decision on one real server.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) fitness: Fitness,
    pub(crate) why: Why,
    /// Whether its verdict counts only where the table does not contradict it.
    pub(crate) unconfirmed: bool,
    /// Since when it has been up; set only where a ramp would begin then.
    pub(crate) up_since: Option<Instant>,
    /// The weight it asks for.
    pub(crate) advised: Option<AdvisedWeight>,
    /// Whether it may ask for something and has had no turn yet.
    pub(crate) unadvised: bool,
    /// The weight an operator wants, and the words for it.
    pub(crate) overridden: Option<(u32, Arc<str>)>,
}

/// The decisions on a policy's real servers, in their order.
pub(crate) struct Decisions {
    pub(crate) servers: Vec<Decision>,
    /// Whether the health floor keeps all of them out.
    pub(crate) withdrawn: bool,
}

/// Decides on every real server of a policy. `takes` says whether the table has one with weight,
/// `withdrawn` whether all were out before.
pub(crate) fn decide(
    view: &HealthView,
    policy: &Policy,
    withdrawn: bool,
    takes: impl Fn(usize) -> bool,
) -> Decisions {
    let mut servers: Vec<Decision> =
        policy.real_servers.iter().map(|server| Decision::of(view, policy, server)).collect();
    let Some(floor) = &policy.health_floor else { return Decisions { servers, withdrawn: false } };
    let candidates: Vec<Option<Candidate>> = policy
        .real_servers
        .iter()
        .zip(&servers)
        .enumerate()
        .map(|(index, (server, decision))| {
            let (health, since) = (decision.counts(policy, index)?, view.real_server(server).since);
            Some(Candidate { health, since, takes: takes(index) })
        })
        .collect();
    match rule(floor, &candidates, withdrawn) {
        Ruling::Verdicts => Decisions { servers, withdrawn: false },
        Ruling::Keep(kept) => {
            for index in kept {
                servers[index].keep();
            }
            Decisions { servers, withdrawn: false }
        }
        Ruling::Withdraw { up, needed } => {
            for decision in servers.iter_mut().filter(|one| one.health().is_some()) {
                decision.withdraw(policy.on_down, Why::Withdrawn { up, needed });
            }
            Decisions { servers, withdrawn: true }
        }
    }
}

/// The health of a policy's real servers as its floor counts them; `None` for those that it does not.
pub(crate) fn counted(view: &HealthView, policy: &Policy) -> Vec<Option<Health>> {
    let servers = policy.real_servers.iter().enumerate();
    servers
        .map(|(index, server)| Decision::of(view, policy, server).counts(policy, index))
        .collect()
}

impl Decision {
    /// The decision without a floor.
    fn of(view: &HealthView, policy: &Policy, server: &RealServer) -> Self {
        let verdict = view.real_server(server);
        let said = match view.overrides.is_empty() {
            true => None,
            false => view.overrides.get(&policy.name, &server.identity),
        };
        let overridden = match said {
            Some(entry) => match entry.action {
                Action::Disable => return Self::overridden(Fitness::Out, entry),
                Action::Drain => return Self::overridden(Fitness::Leaves, entry),
                Action::Weight(weight) => Some((weight, words(entry))),
            },
            None => None,
        };
        let state = verdict.advice.as_ref().and_then(|advice| advice.state.as_ref());
        let advised = verdict.advice.as_ref().and_then(|advice| advice.weight);
        let decision = match state {
            Some(AdvisedState::Maint) => Self::new(Fitness::Out, advice("maintenance")),
            Some(AdvisedState::Drain) if verdict.effective() == Health::Down => {
                let down = Self::down(policy.on_down, verdict.reason.clone());
                Self { why: advice(&format!("drain; {}", down.why)), ..down }
            }
            Some(AdvisedState::Drain) => Self::new(Fitness::Quiesced, advice("drain")),
            Some(AdvisedState::Down(reason)) if verdict.effective() != Health::Down => {
                Self::down(policy.on_down, Some(Arc::clone(reason)))
            }
            _ => {
                Self { unconfirmed: verdict.unconfirmed, ..Self::judged(policy.on_down, &verdict) }
            }
        };
        let unadvised = verdict.unadvised && overridden.is_none();
        Self { advised, unadvised, overridden, ..decision }
    }

    fn new(fitness: Fitness, why: Why) -> Self {
        let (up_since, advised, overridden) = (None, None, None);
        let (unconfirmed, unadvised) = (false, false);
        Self { fitness, why, unconfirmed, up_since, advised, unadvised, overridden }
    }

    fn overridden(fitness: Fitness, entry: &Override) -> Self {
        Self::new(fitness, Why::Overridden(words(entry)))
    }

    fn down(on_down: OnDown, reason: Option<Arc<str>>) -> Self {
        let fitness = match on_down {
            OnDown::Quiesce => Fitness::Quiesced,
            OnDown::Remove | OnDown::Cut => Fitness::Out,
        };
        Self::new(fitness, Why::Down(reason))
    }

    fn judged(on_down: OnDown, verdict: &Verdict) -> Self {
        let held_back = || Why::HeldBack(verdict.reason.clone());
        match (verdict.effective(), verdict.held.is_some()) {
            (Health::Down, _) => Self::down(on_down, verdict.reason.clone()),
            (Health::Up, true) => Self::new(Fitness::Fit, held_back()),
            (Health::Up, false) => {
                Self { up_since: verdict.since, ..Self::new(Fitness::Fit, Why::Up) }
            }
            (Health::Unknown, true) => Self::new(Fitness::Undecided, held_back()),
            (Health::Unknown, false) => Self::new(Fitness::Undecided, Why::Unknown),
        }
    }

    /// Its health as the floor counts it; `None` for one that was taken out of service.
    fn health(&self) -> Option<Health> {
        match (&self.fitness, &self.why) {
            (Fitness::Fit, _) => Some(Health::Up),
            (Fitness::Undecided, _) => Some(Health::Unknown),
            (_, Why::Down(_)) => Some(Health::Down),
            (Fitness::Quiesced | Fitness::Out | Fitness::Leaves, _) => None,
        }
    }

    /// The same, but for one that takes nothing anyway.
    fn counts(&self, policy: &Policy, index: usize) -> Option<Health> {
        self.health().filter(|_| !self.is_idle(policy, index))
    }

    /// Whether it takes no new connections even while it is up: its weight is 0.
    fn is_idle(&self, policy: &Policy, index: usize) -> bool {
        if let Some((weight, _)) = &self.overridden {
            return *weight == 0;
        }
        let declared = policy.services.iter().filter_map(|it| it.destinations.get(index));
        let weighs = |declared: u32| self.advised.map_or(declared, |it| it.of(declared)) > 0;
        !declared.map(|it| it.config.weight).any(weighs)
    }

    /// Whether it is in although nobody knows that it is up.
    pub(crate) fn stays_as_found(&self) -> bool {
        self.why.is_undecided() || matches!(self.why, Why::Kept(_) | Why::HeldBack(_))
    }

    /// The same until a probe has decided.
    pub(crate) fn until_confirmed(&self) -> Self {
        Self { fitness: Fitness::Undecided, why: Why::Unconfirmed, up_since: None, ..self.clone() }
    }

    /// Whether it is out, or takes nothing, only because somebody wants that.
    pub(crate) fn is_kept_out(&self) -> bool {
        !matches!(self.fitness, Fitness::Fit | Fitness::Undecided)
            && matches!(self.why, Why::Overridden(_) | Why::Advised(_))
    }

    fn keep(&mut self) {
        if let Why::Down(reason) = &self.why {
            self.why = Why::Kept(reason.clone());
            self.unconfirmed = false;
            self.fitness = Fitness::Fit;
        }
    }

    /// Who is fit serves the connections it has to their end, unless they are to be cut.
    fn withdraw(&mut self, on_down: OnDown, why: Why) {
        let why = if matches!(self.why, Why::Down(_)) { self.why.clone() } else { why };
        let down = Self::down(on_down, None);
        let fitness = match (&self.fitness, on_down) {
            (Fitness::Fit, OnDown::Remove) => Fitness::Leaves,
            _ => down.fitness,
        };
        *self = Self { fitness, why, ..down };
    }
}

fn advice(word: &str) -> Why {
    Why::Advised(format!("the real server asks for {word}").into())
}

/// `drained by alice: disk swap`, `weight 10 by bob`.
fn words(entry: &Override) -> Arc<str> {
    match &entry.reason {
        Some(reason) => format!("{} by {}: {reason}", entry.action, entry.by).into(),
        None => format!("{} by {}", entry.action, entry.by).into(),
    }
}
