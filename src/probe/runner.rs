//! The async shell around the engine: starts what is due, hands back what came of it, publishes
//! the verdicts.
//!
//! One task owns the engine. Policies come in on a `watch` channel, health views go out on
//! another; both carry the latest value only. Each `select!` arm is cancel-safe: a sleep, a
//! `JoinSet::join_next`, a `watch` change and an `mpsc` receive lose nothing when dropped.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::{debug, error, info, warn};

use super::Prober;
use super::engine::{Engine, ProbeId, Slot, Start};
use super::histogram::{Histogram, LATENESS, Latency};
use super::knowledge::Knowledge;
use super::log;
use super::outcome::Outcome;
use crate::events::{Journal, What};
use crate::health::OutcomeKind;
use crate::policy::model::{PolicySet, TargetId};
use crate::reconcile::overrides::Overrides;
use crate::reconcile::view::HealthView;
use crate::tuning::{Tuning, changed, retuned};

/// How many inconclusive targets are named in the log until all are conclusive again.
const LOGGED_INCONCLUSIVE: usize = 10;
/// So many say that there are more.
const MORE_INCONCLUSIVE: usize = LOGGED_INCONCLUSIVE + 1;

/// A moment of the engine, for whoever shows it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// One per target of the set.
    pub slots: Vec<Slot>,
    /// When it was taken.
    pub now: Instant,
    /// What operators said.
    pub overrides: Arc<Overrides>,
    /// How late probes started since the start.
    pub lateness: Histogram,
    /// How long they took, by policy and check.
    pub latencies: Vec<Latency>,
    /// Attempts in flight.
    pub in_flight: usize,
    /// The verdicts as the reconciler has them.
    pub view: HealthView,
}

/// What the runner is asked for; whoever hung up needs no answer.
#[derive(Debug)]
pub enum Query {
    /// A moment of the engine.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Whether the runner turns.
    Pulse(oneshot::Sender<()>),
    /// What a later run should know.
    Knowledge(oneshot::Sender<Knowledge>),
    /// Let the verdicts count that the blast-radius limit holds.
    Release {
        /// Who says so.
        by: String,
        /// How many targets it held, by an alarm or on parole.
        answer: oneshot::Sender<usize>,
    },
}

/// Owns the engine and the probes in flight.
#[derive(Debug)]
pub struct Runner<P> {
    engine: Engine,
    prober: Arc<P>,
    probes: JoinSet<(ProbeId, Outcome)>,
    handles: HashMap<ProbeId, AbortHandle>,
    by_task: HashMap<tokio::task::Id, (ProbeId, SocketAddr)>,
    lateness: Histogram,
    /// The policies that use each target, for the log.
    users: log::Users,
    journal: Journal,
    /// Targets of the set in force whose last attempt said nothing about them.
    inconclusive: HashSet<TargetId>,
    /// What operators said, for the views.
    overrides: watch::Receiver<Arc<Overrides>>,
    tuning: Option<watch::Receiver<Tuning>>,
}

impl<P: Prober> Runner<P> {
    /// A runner around an engine.
    pub fn new(engine: Engine, prober: Arc<P>) -> Self {
        Self {
            engine,
            prober,
            probes: JoinSet::new(),
            handles: HashMap::new(),
            by_task: HashMap::new(),
            lateness: Histogram::new(LATENESS),
            users: log::Users::default(),
            journal: Journal::default(),
            inconclusive: HashSet::new(),
            overrides: watch::channel(Arc::default()).1,
            tuning: None,
        }
    }

    /// Publishes with every view what operators said.
    #[must_use]
    pub fn overridden_by(self, overrides: watch::Receiver<Arc<Overrides>>) -> Self {
        Self { overrides, ..self }
    }

    /// Follows the blast-radius limit in this.
    #[must_use]
    pub fn tuned_by(self, tuning: watch::Receiver<Tuning>) -> Self {
        Self { tuning: Some(tuning), ..self }
    }

    /// Tells what turns.
    #[must_use]
    pub fn telling(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Probes until the senders of policies or queries are gone.
    pub async fn run(
        mut self,
        mut policies: watch::Receiver<Arc<PolicySet>>,
        mut queries: mpsc::Receiver<Query>,
        views: watch::Sender<Arc<HealthView>>,
    ) {
        let first = Arc::clone(&policies.borrow_and_update());
        self.set_policies(first, &views);
        log::recalled(&self.engine);
        loop {
            self.start_due();
            let changed = tokio::select! {
                () = sleep_until(self.engine.next_due()) => false,
                () = sleep_until(self.engine.next_expiry()) => self.expire(),
                Some(ended) = self.probes.join_next_with_id() => self.ended(ended),
                alive = policies.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    let set = Arc::clone(&policies.borrow_and_update());
                    self.set_policies(set, &views);
                    false
                }
                () = changed(&mut self.overrides) => true,
                tuning = retuned(&mut self.tuning) => {
                    self.engine.set_limit(tuning.blast_limit, now());
                    log::limit(&mut self.engine, &self.journal);
                    true
                }
                query = queries.recv() => {
                    let Some(query) = query else { return };
                    self.answer(query)
                }
            };
            if changed {
                self.publish(&views);
            }
        }
    }

    fn set_policies(&mut self, set: Arc<PolicySet>, views: &watch::Sender<Arc<HealthView>>) {
        self.users = log::Users::of(&set);
        self.inconclusive.clear();
        for id in self.engine.set_policies(set, now()) {
            if let Some(handle) = self.handles.get(&id) {
                handle.abort();
            }
        }
        log::limit(&mut self.engine, &self.journal);
        self.publish(views);
    }

    fn publish(&self, views: &watch::Sender<Arc<HealthView>>) {
        views.send_replace(Arc::new(self.view()));
    }

    fn view(&self) -> HealthView {
        let overrides = Arc::clone(&self.overrides.borrow());
        HealthView { overrides, ..self.engine.view() }
    }

    /// Answers; true if a verdict counts differently now.
    fn answer(&mut self, query: Query) -> bool {
        match query {
            Query::Snapshot(answer) => _ = answer.send(self.snapshot()),
            Query::Pulse(answer) => _ = answer.send(()),
            Query::Knowledge(answer) => _ = answer.send(self.engine.knowledge(now())),
            Query::Release { by, answer } => {
                let held = self.engine.release();
                if held > 0 {
                    let targets = self.engine.slots().len();
                    warn!(
                        by,
                        held,
                        targets,
                        "released by hand: what the blast-radius limit held counts as down"
                    );
                    self.journal.tell(What::BlastLimitOver { released_by: Some(by) });
                }
                _ = answer.send(held);
                return held > 0;
            }
        }
        false
    }

    fn start_due(&mut self) {
        for Start { id, target, lateness } in self.engine.start_due(now()) {
            self.lateness.count(lateness);
            let prober = Arc::clone(&self.prober);
            let address = target.address;
            let handle = self.probes.spawn(async move { (id, prober.probe(&target).await) });
            self.by_task.insert(handle.id(), (id, address));
            self.handles.insert(id, handle);
        }
    }

    /// Lets old advice go; true if a weight is another one now.
    fn expire(&mut self) -> bool {
        let expired = self.engine.expire(now());
        log::expired(&self.engine, &self.users, &expired);
        !expired.is_empty()
    }

    /// Takes in one end and every other that is already there; true if what
    /// the view tells has changed.
    fn ended(&mut self, first: Result<(tokio::task::Id, (ProbeId, Outcome)), JoinError>) -> bool {
        let mut changed = self.finish(first);
        while let Some(next) = self.probes.try_join_next_with_id() {
            changed |= self.finish(next);
        }
        changed
    }

    fn finish(&mut self, ended: Result<(tokio::task::Id, (ProbeId, Outcome)), JoinError>) -> bool {
        let (task, outcome) = match ended {
            Ok((task, (_, outcome))) => (task, Some(outcome)),
            Err(join) => {
                if join.is_panic() {
                    error!(error = %join, "a probe ended in a bug of pointsman; it counts as inconclusive, please report it");
                }
                (join.id(), None)
            }
        };
        let Some((id, address)) = self.by_task.remove(&task) else { return false };
        self.handles.remove(&id);
        if let Some(outcome) = &outcome {
            debug!(real_server = %address, kind = ?outcome.kind, detail = %outcome.detail, took = ?outcome.phases.ended, "probe");
            if let Some(target) = self.engine.owner(id) {
                self.note_inconclusive(target, outcome);
            }
        }
        let turned = self.engine.finish(id, outcome, now());
        if let Some(turned) = &turned {
            log::turned(&self.engine, &self.users, &self.journal, turned);
        }
        log::limit(&mut self.engine, &self.journal);
        let news = self.engine.take_news();
        if let Some((target, news)) = &news {
            log::advice(&self.engine, &self.users, *target, news);
        }
        let noted = self.engine.take_noted();
        turned.is_some() || noted || news.is_some_and(|(_, news)| news.changed)
    }

    /// Says once per target that the director could not ask, for the first few: ten thousand
    /// targets without a descriptor must not fill the log.
    fn note_inconclusive(&mut self, target: TargetId, outcome: &Outcome) {
        if outcome.kind != OutcomeKind::Inconclusive {
            if self.inconclusive.remove(&target) && self.inconclusive.is_empty() {
                info!("every probe is conclusive again");
            }
        } else if self.inconclusive.insert(target) {
            match self.inconclusive.len() {
                1..=LOGGED_INCONCLUSIVE => {
                    log::inconclusive(&self.engine, &self.users, target, &outcome.detail);
                }
                MORE_INCONCLUSIVE => log::more_inconclusive(LOGGED_INCONCLUSIVE),
                _ => {}
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            policies: Arc::clone(self.engine.policies()),
            slots: self.engine.slots().to_vec(),
            now: now(),
            overrides: Arc::clone(&self.overrides.borrow()),
            lateness: self.lateness.clone(),
            latencies: self.engine.latencies().to_vec(),
            in_flight: self.engine.in_flight(),
            view: self.view(),
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The clock of the runtime, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
