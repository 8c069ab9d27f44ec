//! What reads are answered from: one picture of the daemon, shared by all who ask within a second.
//!
//! A picture costs the runner a copy of its slots, the driver a read of the table, and megabytes
//! of JSON with ten thousand real servers. So it is made once for any number of clients, and what
//! is written from it is written once, off the threads that serve and probe.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::http::StatusCode;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinError;

use super::metrics::format::Format;
use super::metrics::{self, Source};
use super::problem::Problem;
use crate::control::server::{Control, wall};
use crate::control::status::{Policies, Status};
use crate::probe::runner::{Query, Snapshot};
use crate::reconcile::driver::Report;

/// How old a picture may be.
const AGE: Duration = Duration::from_secs(1);
/// The driver passes once in a resync time at least; a pass itself may take some time.
const PASS: Duration = Duration::from_secs(30);

/// Answers reads.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    pub(super) control: Control,
    /// `None`: whoever asks gets a picture of its own.
    shared: Option<Arc<Mutex<Option<Arc<Picture>>>>>,
}

/// One moment of the daemon and what was written from it.
#[derive(Debug)]
pub(crate) struct Picture {
    taken: Instant,
    wall: SystemTime,
    pub(super) control: Control,
    pub(super) snapshot: Snapshot,
    pub(super) report: Arc<Report>,
    pub(super) policies: Policies,
    status: OnceCell<Arc<Status>>,
    json: OnceCell<Bytes>,
    text: OnceCell<Bytes>,
    openmetrics: OnceCell<Bytes>,
}

impl Reads {
    /// A fresh picture for everybody.
    pub(crate) fn fresh(control: Control) -> Self {
        Self { control, shared: None }
    }

    /// One picture a second.
    pub(crate) fn shared(control: Control) -> Self {
        Self { control, shared: Some(Arc::default()) }
    }

    pub(super) async fn picture(&self) -> Result<Arc<Picture>, Problem> {
        let Some(shared) = &self.shared else { return self.take().await };
        // Whoever comes first takes it, the others wait for that.
        let mut last = shared.lock().await;
        match &*last {
            Some(picture) if now().saturating_duration_since(picture.taken) < AGE => {
                Ok(Arc::clone(picture))
            }
            _ => {
                let picture = self.take().await?;
                *last = Some(Arc::clone(&picture));
                Ok(picture)
            }
        }
    }

    /// The status as JSON. Who has a picture of its own asks for nothing else of it, so that what it
    /// is made from goes before the text is written.
    pub(super) async fn status_json(&self) -> Result<Bytes, Problem> {
        if self.shared.is_some() {
            return self.picture().await?.json().await;
        }
        let (snapshot, report) = self.control.moment().await?;
        let (facts, policies) =
            (Arc::clone(&self.control.facts), self.control.policies.borrow().clone());
        let write = move || {
            let status = Status::build(&facts, &snapshot, &report, policies, wall());
            drop((snapshot, report));
            serde_json::to_vec(&status).map(Bytes::from).unwrap_or_default()
        };
        tokio::task::spawn_blocking(write).await.map_err(broken)
    }

    async fn take(&self) -> Result<Arc<Picture>, Problem> {
        let (snapshot, report) = self.control.moment().await?;
        Ok(Arc::new(Picture {
            taken: now(),
            wall: wall(),
            control: self.control.clone(),
            snapshot,
            report,
            policies: self.control.policies.borrow().clone(),
            status: OnceCell::new(),
            json: OnceCell::new(),
            text: OnceCell::new(),
            openmetrics: OnceCell::new(),
        }))
    }

    /// Whether the loops turn, without a picture.
    pub(super) async fn pulse(&self) -> Result<(), String> {
        self.control.ask(Query::Pulse).await.map_err(|problem| problem.error)?;
        let passed = self.control.reports.borrow().passed_at.unwrap_or(self.control.facts.since);
        let (ago, most) = (
            now().saturating_duration_since(passed),
            self.control.facts.tuning.borrow().resync + PASS,
        );
        if ago <= most {
            return Ok(());
        }
        Err(format!(
            "the reconciler has not finished a pass for {} s; it may wait for the kernel",
            ago.as_secs()
        ))
    }
}

impl Picture {
    pub(super) async fn status(self: &Arc<Self>) -> Result<Arc<Status>, Problem> {
        let build = |it: &Self| {
            let (facts, policies) = (&it.control.facts, it.policies.clone());
            Arc::new(Status::build(facts, &it.snapshot, &it.report, policies, it.wall))
        };
        self.once(&self.status, build).await.cloned()
    }

    pub(super) async fn json(self: &Arc<Self>) -> Result<Bytes, Problem> {
        let status = self.status().await?;
        let write =
            move |_: &Self| serde_json::to_vec(&*status).map(Bytes::from).unwrap_or_default();
        self.once(&self.json, write).await.cloned()
    }

    pub(super) async fn metrics(self: &Arc<Self>, format: Format) -> Result<Bytes, Problem> {
        let status = self.status().await?;
        let write = move |it: &Self| {
            let source = Source {
                facts: &it.control.facts,
                snapshot: &it.snapshot,
                report: &it.report,
                policies: &it.policies,
                status: &status,
                wall: it.wall,
            };
            Bytes::from(metrics::render(source, format))
        };
        let cell = match format {
            Format::Text => &self.text,
            Format::OpenMetrics => &self.openmetrics,
        };
        self.once(cell, write).await.cloned()
    }

    /// Fills a cell, unless it is full, on a thread for such work.
    async fn once<'a, T: Send + 'static>(
        self: &'a Arc<Self>,
        cell: &'a OnceCell<T>,
        build: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<&'a T, Problem> {
        let built = async {
            let picture = Arc::clone(self);
            tokio::task::spawn_blocking(move || build(&picture)).await
        };
        cell.get_or_try_init(|| built).await.map_err(broken)
    }
}

fn broken(_: JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer")
}

/// The clock of the runtime.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
