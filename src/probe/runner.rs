//! The async shell around the engine: starts what is due, hands back what came of it, publishes
//! the verdicts.
//!
//! One task owns the engine. Policies come in on a `watch` channel, health views go out on
//! another; both carry the latest value only. Each `select!` arm is cancel-safe: a sleep, a
//! `JoinSet::join_next`, a `watch` change and an `mpsc` receive lose nothing when dropped.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::{debug, error, info, warn};

use super::Prober;
use super::engine::{Engine, ProbeId, Slot, Start, Turned};
use super::outcome::Outcome;
use crate::health::{Health, OutcomeKind};
use crate::policy::model::PolicySet;
use crate::reconcile::view::HealthView;

/// How many inconclusive targets are named in the log until all are conclusive again.
const LOGGED_INCONCLUSIVE: usize = 10;
/// How many policies that share a target a line of the log names.
const NAMED_USERS: usize = 10;

/// How late probes started, counted in buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lateness {
    /// One count per bound of [`Lateness::BOUNDS`], and one for everything later.
    pub counts: [u64; Lateness::BOUNDS.len() + 1],
}

impl Lateness {
    /// Upper bounds of the buckets in milliseconds.
    pub const BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

    fn count(&mut self, lateness: Duration) {
        let bucket = Self::BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < lateness);
        self.counts[bucket] += 1;
    }
}

/// A moment of the engine, for whoever shows it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// One per target of the set.
    pub slots: Vec<Slot>,
    /// When it was taken.
    pub now: Instant,
    /// How late probes started since the start.
    pub lateness: Lateness,
    /// Attempts in flight.
    pub in_flight: usize,
}

/// Asks the runner for a [`Snapshot`].
pub type Query = oneshot::Sender<Snapshot>;

/// Owns the engine and the probes in flight.
#[derive(Debug)]
pub struct Runner<P> {
    engine: Engine,
    prober: Arc<P>,
    probes: JoinSet<(ProbeId, Outcome)>,
    handles: HashMap<ProbeId, AbortHandle>,
    by_task: HashMap<tokio::task::Id, (ProbeId, SocketAddr)>,
    lateness: Lateness,
    /// Names of the policies that use each target, for the log.
    users: Vec<String>,
    /// Targets whose last attempt said nothing about them.
    inconclusive: HashSet<SocketAddr>,
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
            lateness: Lateness::default(),
            users: Vec::new(),
            inconclusive: HashSet::new(),
        }
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
        loop {
            self.start_due();
            let changed = tokio::select! {
                () = sleep_until(self.engine.next_due()) => false,
                Some(ended) = self.probes.join_next_with_id() => self.ended(ended),
                alive = policies.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    let set = Arc::clone(&policies.borrow_and_update());
                    self.set_policies(set, &views);
                    false
                }
                query = queries.recv() => {
                    let Some(query) = query else { return };
                    // A client that hung up needs no answer.
                    let _ = query.send(self.snapshot());
                    false
                }
            };
            if changed {
                views.send_replace(Arc::new(self.engine.view()));
            }
        }
    }

    fn set_policies(&mut self, set: Arc<PolicySet>, views: &watch::Sender<Arc<HealthView>>) {
        self.users = users(&set);
        self.inconclusive.clear();
        for id in self.engine.set_policies(set, now()) {
            if let Some(handle) = self.handles.get(&id) {
                handle.abort();
            }
        }
        views.send_replace(Arc::new(self.engine.view()));
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

    /// Takes in one end and every other that is already there; true if a verdict changed.
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
            self.note_inconclusive(address, outcome);
        }
        let turned = self.engine.finish(id, outcome, now());
        if let Some(turned) = &turned {
            self.log(turned);
        }
        turned.is_some()
    }

    /// Says once per target that the director could not ask, for the first few: ten thousand
    /// targets without a descriptor must not fill the log.
    fn note_inconclusive(&mut self, address: SocketAddr, outcome: &Outcome) {
        if outcome.kind != OutcomeKind::Inconclusive {
            if self.inconclusive.remove(&address) && self.inconclusive.is_empty() {
                info!("every probe is conclusive again");
            }
        } else if self.inconclusive.insert(address)
            && self.inconclusive.len() <= LOGGED_INCONCLUSIVE
        {
            warn!(real_server = %address, reason = %outcome.detail, "inconclusive probe: the director could not ask; the verdict stays");
        }
    }

    fn log(&self, turned: &Turned) {
        let set = self.engine.policies();
        let slot = &self.engine.slots()[turned.target.0 as usize];
        let reason = slot.last.as_ref().map_or("", |last| last.outcome.detail.as_str());
        let target = set.target(turned.target);
        let (from, to) = (turned.transition.from, turned.transition.to);
        let check = target.check.kind.name();
        let policy = self.users[turned.target.0 as usize].as_str();
        match to {
            Health::Down => {
                warn!(policy, real_server = %target.address, check, %from, %to, reason, "transition");
            }
            _ => {
                info!(policy, real_server = %target.address, check, %from, %to, reason, "transition")
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            policies: Arc::clone(self.engine.policies()),
            slots: self.engine.slots().to_vec(),
            now: now(),
            lateness: self.lateness.clone(),
            in_flight: self.engine.in_flight(),
        }
    }
}

/// For each target the names of the policies that use it: the first few, and how many more.
fn users(set: &PolicySet) -> Vec<String> {
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
