//! The task that keeps the overrides: takes orders, writes the record first, publishes what is in
//! force, and ends what has its time.
//!
//! An order is done when its record is on disk, or refused and then nothing has changed. The disk
//! is waited for on another thread, one write at a time, so that one that hangs delays orders and
//! nothing else: overrides end on time all the same, and their record follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info, warn};

use super::names::{self, NameError};
use crate::events::{Journal, What};
use crate::policy::model::PolicySet;
use crate::reconcile::overrides::{Action, Override, Overrides, called};
use crate::record::{Record, RecordError};

/// The wall clock may be set: looked at again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What an operator wants, and where the answer goes.
#[derive(Debug)]
pub struct Order {
    /// The policy.
    pub policy: String,
    /// The real server, by name, address or destination.
    pub real_server: String,
    /// Who wants it.
    pub by: String,
    /// What is wanted.
    pub wish: Wish,
    /// Answered when it is done or refused.
    pub answer: oneshot::Sender<Result<Done, OrderError>>,
}

/// What is wanted of a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// This override, in place of any other.
    Set {
        /// What is to be.
        action: Action,
        /// How long; `None`: until it is taken back.
        length: Option<Duration>,
        /// Why.
        reason: Option<String>,
    },
    /// No override.
    Remove,
}

/// An order that was carried out.
#[derive(Debug, Clone)]
pub struct Done {
    /// The policies it was understood by.
    pub set: Arc<PolicySet>,
    /// The policy's name.
    pub policy: String,
    /// The real server's identity in it.
    pub identity: String,
    /// The override there was.
    pub before: Option<Override>,
    /// The override there is.
    pub after: Option<Override>,
    /// Whether it survives a restart.
    pub recorded: bool,
}

/// Why an order was not carried out. Nothing has changed then.
#[derive(Debug, Error)]
pub enum OrderError {
    /// Nobody knows which real server is meant.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It would be forgotten by a restart.
    #[error("nothing has changed, because it cannot be recorded")]
    Record(#[from] RecordError),
    /// The thread that writes the record ended by a bug.
    #[error(
        "nothing has changed: writing the record ended in a bug of pointsman; restart the daemon and please report it"
    )]
    Lost,
}

/// Keeps the overrides.
#[derive(Debug)]
pub struct Overriding {
    overrides: Overrides,
    shared: watch::Sender<Arc<Overrides>>,
    disk: Disk,
    /// Something has ended that the record still has.
    behind: bool,
    /// Those that were reported to apply to nothing.
    strays: BTreeSet<(String, String)>,
    journal: Journal,
}

/// Where the record is.
#[derive(Debug)]
enum Disk {
    /// Nowhere: a rehearsal.
    Memory,
    Idle(Record<Overrides>),
    /// On another thread, with the order that waits for it.
    Busy(JoinHandle<Written>, Option<Resolved>),
    /// A bug took it.
    Lost,
}

type Written = (Record<Overrides>, Result<bool, RecordError>);

/// An order that is understood.
#[derive(Debug)]
struct Resolved {
    done: Done,
    by: String,
    answer: oneshot::Sender<Result<Done, OrderError>>,
}

impl Overriding {
    /// With what the last run has left on record; a rehearsal has no record. What is in force is
    /// on the receiver.
    pub fn new(
        recorded: Overrides,
        record: Option<Record<Overrides>>,
        journal: Journal,
    ) -> (Self, watch::Receiver<Arc<Overrides>>) {
        let (shared, out) = watch::channel(Arc::default());
        let disk = record.map_or(Disk::Memory, Disk::Idle);
        let mut overriding = Self {
            overrides: recorded,
            shared,
            disk,
            behind: false,
            strays: BTreeSet::new(),
            journal,
        };
        for (policy, real_server, entry) in overriding.overrides.expire(wall()) {
            told_end(&overriding.journal, &policy, &real_server, &entry);
            overriding.behind = true;
        }
        for (policy, real_server, entry) in overriding.overrides.iter() {
            told(policy, real_server, entry, "override goes on");
        }
        overriding.shared.send_replace(Arc::new(overriding.overrides.clone()));
        (overriding, out)
    }

    /// Carries out orders until the sender of policies is gone.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut sets: watch::Receiver<Arc<PolicySet>>,
    ) {
        self.catch_up();
        loop {
            let set = Arc::clone(&sets.borrow_and_update());
            self.report_strays(&set);
            let idle = !matches!(self.disk, Disk::Busy(..));
            let sleep = self.sleep();
            // All arms are cancel-safe: queue and watch receives, a sleep, and a handle that is
            // kept.
            tokio::select! {
                Some(order) = orders.recv(), if idle => self.take(order, set),
                written = written(&mut self.disk) => self.settle(written),
                alive = sets.changed() => {
                    if alive.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(sleep) => self.expire(&set),
            }
        }
    }

    fn sleep(&self) -> Duration {
        let left = self.overrides.next_end().map(|end| end.duration_since(wall()));
        left.map_or(LONGEST_SLEEP, |left| left.unwrap_or_default().min(LONGEST_SLEEP))
    }

    fn take(&mut self, order: Order, set: Arc<PolicySet>) {
        if order.answer.is_closed() {
            // Nobody waits any more, and nobody would know that it was done.
            return;
        }
        let Order { policy, real_server, by, wish, answer } = order;
        let (policy, identity) = match self.resolve(&set, policy, real_server, &wish) {
            Ok(found) => found,
            Err(error) => {
                let _ = answer.send(Err(error.into()));
                return;
            }
        };
        let before = self.overrides.get(&policy, &identity).cloned();
        let after = entry(wish, &by);
        let recorded = !matches!(self.disk, Disk::Memory);
        let done = Done { set, policy, identity, before, after, recorded };
        self.start(Resolved { done, by, answer });
    }

    /// The policy and the identity an order means. An override of what has left the policies has
    /// no other name.
    fn resolve(
        &self,
        set: &PolicySet,
        policy: String,
        real_server: String,
        wish: &Wish,
    ) -> Result<(String, String), NameError> {
        if *wish == Wish::Remove && self.overrides.get(&policy, &real_server).is_some() {
            return Ok((policy, real_server));
        }
        let (policy, index) = names::find(set, &policy, &real_server)?;
        Ok((policy.name.clone(), policy.real_servers[index].identity.clone()))
    }

    fn start(&mut self, order: Resolved) {
        if order.done.before.is_none() && order.done.after.is_none() {
            let _ = order.answer.send(Ok(order.done));
            return;
        }
        match std::mem::replace(&mut self.disk, Disk::Lost) {
            Disk::Idle(record) => {
                let mut next = self.overrides.clone();
                change(&mut next, &order.done);
                self.write(record, next, Some(order));
            }
            Disk::Memory => {
                self.disk = Disk::Memory;
                self.commit(order);
            }
            busy_or_lost => {
                self.disk = busy_or_lost;
                let _ = order.answer.send(Err(OrderError::Lost));
            }
        }
    }

    fn write(
        &mut self,
        mut record: Record<Overrides>,
        content: Overrides,
        order: Option<Resolved>,
    ) {
        let writer = tokio::task::spawn_blocking(move || {
            let result = record.save(&content);
            (record, result)
        });
        self.disk = Disk::Busy(writer, order);
    }

    fn settle(&mut self, written: Result<Written, JoinError>) {
        let Disk::Busy(_, order) = std::mem::replace(&mut self.disk, Disk::Lost) else { return };
        let result = match written {
            Ok((record, result)) => {
                self.disk = Disk::Idle(record);
                result.map_err(OrderError::from)
            }
            Err(bug) => {
                error!(error = %bug, "writing the overrides ended in a bug of pointsman");
                Err(OrderError::Lost)
            }
        };
        match (result, order) {
            (Ok(_), Some(order)) => self.commit(order),
            (Ok(_), None) => {}
            (Err(error), Some(order)) => {
                let _ = order.answer.send(Err(error));
            }
            (Err(error), None) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "an override that has ended is still on record");
            }
        }
        self.catch_up();
    }

    /// Writes down what ended while the disk was busy.
    fn catch_up(&mut self) {
        if !self.behind {
            return;
        }
        match std::mem::replace(&mut self.disk, Disk::Lost) {
            Disk::Idle(record) => {
                self.behind = false;
                self.write(record, self.overrides.clone(), None);
            }
            other => self.disk = other,
        }
    }

    fn commit(&mut self, order: Resolved) {
        let Resolved { done, by, answer } = order;
        let (policy, real_server) = (&done.policy, called(&done.set, &done.policy, &done.identity));
        change(&mut self.overrides, &done);
        self.shared.send_replace(Arc::new(self.overrides.clone()));
        match &done.after {
            Some(entry) => {
                told(policy, real_server, entry, "override");
                self.journal.tell(What::Override {
                    policy: policy.clone(),
                    real_server: real_server.to_owned(),
                    action: entry.action.to_string(),
                    by,
                    until: entry.until.map(shown),
                    reason: entry.reason.clone(),
                });
            }
            None => {
                info!(policy, real_server, by, "override removed");
                if let Some(before) = &done.before {
                    self.journal.tell(ended(policy, real_server, before, Some(by)));
                }
            }
        }
        // A client that hung up sees it in the status.
        let _ = answer.send(Ok(done));
    }

    fn expire(&mut self, set: &PolicySet) {
        let ended = self.overrides.expire(wall());
        if ended.is_empty() {
            return;
        }
        self.shared.send_replace(Arc::new(self.overrides.clone()));
        for (policy, identity, entry) in ended {
            told_end(&self.journal, &policy, called(set, &policy, &identity), &entry);
        }
        self.behind = true;
        self.catch_up();
    }

    /// Says once of each override that its real server is not declared any more.
    fn report_strays(&mut self, set: &PolicySet) {
        let strays: BTreeSet<(String, String)> = self
            .overrides
            .strays(set)
            .map(|(policy, real_server, _)| (policy.to_owned(), real_server.to_owned()))
            .collect();
        for (policy, real_server) in strays.difference(&self.strays) {
            let entry = self.overrides.get(policy, real_server);
            let action = entry.map(|entry| entry.action.to_string());
            warn!(
                policy,
                real_server,
                action,
                "override of what no policy declares; `pointsman enable {policy} {real_server}` removes it"
            );
        }
        self.strays = strays;
    }
}

/// Waits for a write under way; for ever if there is none.
async fn written(disk: &mut Disk) -> Result<Written, JoinError> {
    match disk {
        Disk::Busy(writer, _) => writer.await,
        _ => std::future::pending().await,
    }
}

fn change(overrides: &mut Overrides, done: &Done) {
    match &done.after {
        Some(entry) => overrides.set(&done.policy, &done.identity, entry.clone()),
        None => drop(overrides.remove(&done.policy, &done.identity)),
    }
}

/// The override a wish makes, with times in whole seconds, as they are recorded: from before now to
/// after its end.
fn entry(wish: Wish, by: &str) -> Option<Override> {
    let Wish::Set { action, length, reason } = wish else { return None };
    let since_epoch = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = |since: Duration| SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
    let until = length.map(|length| seconds(since_epoch + length + Duration::from_millis(999)));
    Some(Override { action, by: by.to_owned(), at: seconds(since_epoch), until, reason })
}

fn told(policy: &str, real_server: &str, entry: &Override, what: &str) {
    let (action, by) = (entry.action, &entry.by);
    let until = entry.until.map(shown);
    let reason = entry.reason.as_deref();
    info!(policy, real_server, %action, by, until, reason, "{what}");
}

fn told_end(journal: &Journal, policy: &str, real_server: &str, entry: &Override) {
    let (action, by) = (entry.action, &entry.by);
    info!(policy, real_server, %action, by, "override ended: its time is up");
    journal.tell(ended(policy, real_server, entry, None));
}

fn ended(policy: &str, real_server: &str, entry: &Override, by: Option<String>) -> What {
    let (policy, real_server) = (policy.to_owned(), real_server.to_owned());
    What::OverrideEnded { policy, real_server, action: entry.action.to_string(), by }
}

fn shown(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: overrides end by the wall clock")]
fn wall() -> SystemTime {
    SystemTime::now()
}
