//! The task that tells: looks at what is published, collects, queues, delivers, records.
//!
//! Nobody waits for it. A receiver that is dead keeps its own messages waiting and no others.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{error, info, warn};

use super::collect::Collector;
use super::config::{Alerts, Receiver};
use super::deliver::{Refusal, deliver};
use super::file::load;
use super::message::{Message, one_line};
use super::problem::{Kind, Problem, Problems, Seen, problems};
use super::queue::{Queue, Recorded, RecordedReceiver};
use crate::control::alerting::{AlertsStatus, Undelivered};
use crate::control::status::{Policies, rfc3339};
use crate::events::{Event, What};
use crate::policy::model::{Policy, PolicySet};
use crate::policy::problem;
use crate::reconcile::driver::Report;
use crate::reconcile::view::HealthView;
use crate::record::{Record, RecordError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the task looks at.
#[derive(Debug)]
pub struct Sources {
    /// Policies and verdicts.
    pub views: watch::Receiver<Arc<HealthView>>,
    /// The table.
    pub reports: watch::Receiver<Arc<Report>>,
    /// The last reload.
    pub policies: watch::Receiver<Policies>,
    /// What happens and is over.
    pub events: broadcast::Receiver<Arc<Event>>,
}

/// Tells receivers what goes wrong.
#[derive(Debug)]
pub struct Alerting {
    alerts: Alerts,
    file: PathBuf,
    /// Why the newest content of the file does not count, and whom alerts do not reach.
    status: watch::Sender<AlertsStatus>,
    /// What is on record of receivers that cannot be named while their file is wrong.
    unnamed: Recorded,
    director: String,
    /// Those in force.
    policies: Arc<PolicySet>,
    wrong: Problems,
    told: Vec<Told>,
    deliveries: JoinSet<(usize, Result<(), Refusal>)>,
    disk: Disk,
}

/// One receiver.
#[derive(Debug, Default)]
struct Told {
    collector: Collector,
    queue: Queue,
    /// A delivery is under way.
    busy: bool,
    /// Not before that.
    retry: Option<Instant>,
    /// Since when deliveries fail, and why the last one did.
    trouble: Option<(SystemTime, String)>,
}

/// The record, and whether it is behind.
#[derive(Debug)]
struct Disk {
    record: Option<Record<Recorded>>,
    writing: Option<JoinHandle<Written>>,
    is_behind: bool,
}

type Written = (Record<Recorded>, Result<bool, RecordError>);

impl Alerting {
    /// With what the last run has left, in the name of this director. Without a record what waits
    /// is lost with the process. While the file is wrong nobody is told, and what is on record waits
    /// until it has been mended.
    pub fn new(
        loaded: Result<Alerts, Vec<problem::Problem>>,
        file: PathBuf,
        director: String,
        mut recorded: Recorded,
        record: Option<Record<Recorded>>,
    ) -> Self {
        let is_right = loaded.is_ok();
        let (alerts, refused) = match loaded {
            Ok(alerts) => (alerts, Vec::new()),
            Err(problems) => (Alerts::default(), texts(&problems)),
        };
        let told =
            |receiver: &Receiver| Told::of(recorded.remove(&receiver.name).unwrap_or_default());
        let told: Vec<Told> = alerts.receivers.iter().map(told).collect();
        let unnamed = if is_right { Recorded::default() } else { recorded };
        // What is not known yet is as it was told last.
        let wrong = told.iter().flat_map(|it| it.collector.told().clone()).collect();
        let disk = Disk { record, writing: None, is_behind: false };
        let status = AlertsStatus { refused, ..AlertsStatus::default() };
        let (status, deliveries) = (watch::Sender::new(status), JoinSet::new());
        let policies = Arc::default();
        Self { alerts, file, status, unnamed, director, policies, wrong, told, deliveries, disk }
    }

    /// Why the newest content of the file does not count, and whom alerts do not reach.
    pub fn status(&self) -> watch::Receiver<AlertsStatus> {
        self.status.subscribe()
    }

    /// Tells until the senders are gone. The file is read anew on SIGHUP.
    pub async fn run(mut self, mut sources: Sources, mut hangup: Signal) {
        loop {
            self.look(&mut sources);
            self.collect();
            self.start();
            self.publish();
            self.disk.catch_up(&self.alerts, &self.told, &self.unnamed);
            let next = self.next();
            // All arms are cancel-safe: watches, a broadcast, a JoinSet, a kept handle, a sleep.
            let alive = tokio::select! {
                changed = sources.views.changed() => changed.is_ok(),
                changed = sources.reports.changed() => changed.is_ok(),
                changed = sources.policies.changed() => changed.is_ok(),
                event = sources.events.recv() => self.happened(event),
                Some(ended) = self.deliveries.join_next() => { self.ended(ended); true }
                _ = hangup.recv() => { self.reload().await; true }
                written = written(&mut self.disk.writing) => { self.disk.settle(written); true }
                () = sleep_until(next) => true,
            };
            if !alive {
                return;
            }
        }
    }

    /// Takes over receivers as they are in the file now; those of the same name go on.
    async fn reload(&mut self) {
        let path = self.file.clone();
        let loaded = match tokio::task::spawn_blocking(move || load(&path)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problems)) => {
                error!(problems = problems.len(), "alerts stay as they were: their file is wrong");
                problems.iter().for_each(|problem| error!("{problem}"));
                self.status.send_modify(|status| status.refused = texts(&problems));
                return;
            }
            Err(bug) => {
                error!(error = %bug, "loading the alerts ended in a bug of pointsman");
                return;
            }
        };
        self.status.send_modify(|status| status.refused.clear());
        // What is under way belongs to the receivers there were; it is tried again.
        self.deliveries.abort_all();
        while self.deliveries.join_next().await.is_some() {}
        let old = std::mem::replace(&mut self.alerts, loaded);
        let names = old.receivers.into_iter().map(|receiver| receiver.name);
        let mut told: HashMap<String, Told> = names.zip(std::mem::take(&mut self.told)).collect();
        let of = |receiver: &Receiver| match told.remove(&receiver.name) {
            Some(told) => {
                // What was given up is nobody's trouble with a file that may have mended it.
                let trouble = told.trouble.filter(|_| told.queue.first().is_some());
                Told { busy: false, retry: None, trouble, ..told }
            }
            None => Told::of(self.unnamed.remove(&receiver.name).unwrap_or_default()),
        };
        self.told = self.alerts.receivers.iter().map(of).collect();
        self.unnamed.clear();
        self.disk.is_behind = true;
        info!(receivers = self.told.len(), "alerts loaded");
    }

    fn look(&mut self, sources: &mut Sources) {
        let view = Arc::clone(&sources.views.borrow_and_update());
        let report = Arc::clone(&sources.reports.borrow_and_update());
        let policies = sources.policies.borrow_and_update().clone();
        self.policies = Arc::clone(&view.policies);
        let soon = wall() + DAY * self.alerts.certificate_days;
        let seen = Seen { view: &view, report: &report, policies: &policies, soon };
        self.wrong = problems(&seen, &self.wrong);
        let mut of: HashMap<(Kind, Option<&str>), Vec<usize>> = HashMap::new();
        let mut each = vec![Problems::new(); self.told.len()];
        for (key, problem) in &self.wrong {
            let (kind, policy) = (problem.kind, problem.policy.as_deref());
            let receivers =
                of.entry((kind, policy)).or_insert_with(|| self.alerts.receivers_of(kind, policy));
            for receiver in receivers {
                each[*receiver].insert(key.clone(), problem.clone());
            }
        }
        for (told, wrong) in self.told.iter_mut().zip(each) {
            told.collector.see(wrong, now());
        }
    }

    /// Says whom alerts do not reach.
    fn publish(&self) {
        let named = self.alerts.receivers.iter().zip(&self.told);
        let undelivered: Vec<Undelivered> =
            named.filter_map(|(receiver, told)| told.undelivered(receiver)).collect();
        self.status.send_if_modified(|status| {
            let is_new = status.undelivered != undelivered;
            status.undelivered = undelivered;
            is_new
        });
    }

    /// False when there will be no more events.
    fn happened(&mut self, event: Result<Arc<Event>, broadcast::error::RecvError>) -> bool {
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => return true,
            Err(broadcast::error::RecvError::Closed) => return false,
        };
        if let What::Repair { service, change, .. } = &event.what {
            let declares = |policy: &&Policy| {
                policy.services.iter().any(|one| one.key.to_string() == *service)
            };
            let policy = self.policies.policies.iter().find(declares).map(|it| it.name.clone());
            let problem = Problem {
                kind: Kind::Drift,
                policy: policy.clone(),
                real_server: None,
                text: format!("somebody else changed the table; repaired: {change}"),
            };
            for receiver in self.alerts.receivers_of(Kind::Drift, policy.as_deref()) {
                self.told[receiver].collector.note(problem.clone(), now());
            }
        }
        true
    }

    /// Makes messages of what is due.
    fn collect(&mut self) {
        for (receiver, told) in self.alerts.receivers.iter().zip(&mut self.told) {
            if told.queue.first().is_some() {
                // What comes until that is delivered becomes one message then.
                continue;
            }
            let Some(news) = told.collector.take(receiver, now()) else { continue };
            told.queue.push(Message::new(news, &self.director, &rfc3339(wall())));
            self.disk.is_behind = true;
        }
    }

    /// Starts what can be delivered: one message a receiver at a time.
    fn start(&mut self) {
        for (index, (receiver, told)) in
            self.alerts.receivers.iter().zip(&mut self.told).enumerate()
        {
            if told.busy || told.retry.is_some_and(|retry| retry > now()) {
                continue;
            }
            let Some(message) = told.queue.first().cloned() else { continue };
            told.busy = true;
            let receiver = receiver.clone();
            self.deliveries.spawn(async move { (index, deliver(&receiver, &message).await) });
        }
    }

    fn ended(&mut self, ended: Result<(usize, Result<(), Refusal>), JoinError>) {
        let (index, result) = match ended {
            Ok(ended) => ended,
            Err(bug) => {
                error!(error = %bug, "delivering an alert ended in a bug of pointsman, please report it");
                for told in &mut self.told {
                    told.busy = false;
                }
                return;
            }
        };
        let (receiver, told) = (&self.alerts.receivers[index].name, &mut self.told[index]);
        told.busy = false;
        match result {
            Ok(()) => {
                if told.queue.is_failing() {
                    info!(receiver, "alerts are delivered again");
                }
                (told.retry, told.trouble) = (None, None);
                told.queue.delivered();
                self.disk.is_behind = true;
            }
            Err(Refusal { reason, for_good: true }) => {
                error!(receiver, reason, "an alert is refused for good, and given up");
                told.failed(&reason);
                told.retry = None;
                told.queue.delivered();
                self.disk.is_behind = true;
            }
            Err(Refusal { reason, for_good: false }) => {
                if !told.queue.is_failing() {
                    warn!(receiver, reason, "cannot deliver an alert; it waits and is tried again");
                }
                told.failed(&reason);
                told.retry = Some(now() + told.queue.failed());
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let each = self.alerts.receivers.iter().zip(&self.told).flat_map(|(receiver, told)| {
            let waits = told.queue.first().is_some();
            [
                told.collector.due(receiver).filter(|_| !waits),
                told.retry.filter(|_| waits && !told.busy),
            ]
        });
        each.flatten().min()
    }
}

impl Told {
    fn of(recorded: RecordedReceiver) -> Self {
        let RecordedReceiver { told, waiting } = recorded;
        let (collector, queue) = (Collector::new(told), Queue::new(waiting));
        Self { collector, queue, ..Self::default() }
    }

    fn failed(&mut self, reason: &str) {
        let since = self.trouble.take().map_or_else(wall, |(since, _)| since);
        self.trouble = Some((since, one_line(reason)));
    }

    fn undelivered(&self, receiver: &Receiver) -> Option<Undelivered> {
        let (since, reason) = self.trouble.clone()?;
        let queued: usize = self.queue.waiting().iter().map(|it| it.problems.len()).sum();
        Some(Undelivered {
            receiver: receiver.name.clone(),
            since: rfc3339(since),
            reason,
            waiting: queued + self.collector.untold(),
        })
    }
}

/// Each problem, ready to print.
fn texts(problems: &[problem::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

impl Disk {
    /// Writes down what is behind, one write at a time.
    fn catch_up(&mut self, alerts: &Alerts, told: &[Told], unnamed: &Recorded) {
        if !self.is_behind || self.writing.is_some() {
            return;
        }
        self.is_behind = false;
        let Some(mut record) = self.record.take() else { return };
        let of = |(receiver, told): (&Receiver, &Told)| {
            let (wrong, waiting) = (told.collector.told().clone(), told.queue.waiting().clone());
            (receiver.name.clone(), RecordedReceiver { told: wrong, waiting })
        };
        let named = alerts.receivers.iter().zip(told).map(of);
        let content: Recorded = unnamed.clone().into_iter().chain(named).collect();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = record.save(&content);
            (record, result)
        }));
    }

    fn settle(&mut self, written: Result<Written, JoinError>) {
        self.writing = None;
        match written {
            Ok((record, result)) => {
                self.record = Some(record);
                if let Err(error) = result {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "alerts do not survive a restart");
                }
            }
            Err(bug) => error!(error = %bug, "recording alerts ended in a bug of pointsman"),
        }
    }
}

async fn written<T>(writing: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    /// Even with nothing to do it is looked at what is published now and then.
    const LONGEST: Duration = Duration::from_secs(3600);
    let due = due.unwrap_or_else(|| now() + LONGEST);
    tokio::time::sleep_until(due.into()).await;
}

/// The clock of the runtime, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: messages are for people")]
fn wall() -> SystemTime {
    SystemTime::now()
}
