//! The daemon's end of the socket: resources built from what the tasks publish, and the way to the
//! operator's orders ([`super::operations`]).
//!
//! A client can cost one of a few places for a few seconds and nothing else: one request a
//! connection, a deadline on each, and the newest client takes the place of the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::debug;

use super::operations;
use super::status::{Facts, Policies, Status};
use super::{KnownHealth, PlanInput};
use crate::health::Health;
use crate::ipvs::model::ServiceKey;
use crate::operator::overriding::Order;
use crate::operator::peer::Peer;
use crate::probe::runner::{Query, Snapshot};
use crate::reconcile::driver::{Confirm, Refresh, Report};
use crate::reconcile::standing::Clocks;
use crate::source::Ask;

/// How long a resource waits for the tasks; they answer in milliseconds unless the kernel hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Clients at once; each costs a descriptor that probes cannot have.
const MOST_CLIENTS: usize = 32;
/// How long a client may take to say what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take altogether.
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);
/// The largest body a client may send, in bytes.
const LARGEST_REQUEST: usize = 16 << 10;
/// Before accepting again when the system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handles on the tasks of the daemon.
#[derive(Debug, Clone)]
pub struct Control {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// To the probe runner.
    pub queries: mpsc::Sender<Query>,
    /// To the driver.
    pub refreshes: mpsc::Sender<Refresh>,
    /// To the policy source.
    pub asks: mpsc::Sender<Ask>,
    /// To the driver: what is held at the start may go.
    pub confirms: mpsc::Sender<Confirm>,
    /// To the keeper of overrides.
    pub orders: mpsc::Sender<Order>,
    /// From the driver.
    pub reports: watch::Receiver<Arc<Report>>,
    /// From the policy source.
    pub policies: watch::Receiver<Policies>,
}

/// A failure to answer, as HTTP.
pub(super) type Unavailable = (StatusCode, &'static str);

/// Serves the socket for ever.
pub async fn serve(listener: UnixListener, control: Control) {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/plan-input", get(plan_input))
        .route("/v1/overrides", get(operations::overrides).post(operations::order))
        .route("/v1/explain", post(operations::explain))
        .route("/v1/held", get(operations::held).post(operations::confirm))
        .route("/v1/release", post(operations::release))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .with_state(control);
    let mut clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => clients.serve(stream, routes.clone()),
            Err(error) => {
                debug!(%error, "cannot accept on the control socket; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Connections being served, the oldest first.
#[derive(Debug, Default)]
struct Clients(VecDeque<AbortHandle>);

impl Clients {
    fn serve(&mut self, stream: UnixStream, routes: Router) {
        self.0.retain(|client| !client.is_finished());
        while self.0.len() >= MOST_CLIENTS {
            if let Some(oldest) = self.0.pop_front() {
                oldest.abort();
            }
        }
        // Asked now, as it was when the connection was made.
        let peer = Peer { uid: stream.peer_cred().ok().map(|credentials| credentials.uid()) };
        let routes = routes.layer(Extension(peer));
        let exchange = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_DEADLINE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        let client = tokio::spawn(async move {
            match tokio::time::timeout(CLIENT_DEADLINE, exchange).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a client of the control socket failed"),
                Err(_) => debug!("a client of the control socket took too long"),
            }
        });
        self.0.push_back(client.abort_handle());
    }
}

async fn status(State(control): State<Control>) -> Result<Response, Unavailable> {
    let (snapshot, report) = control.moment().await?;
    let policies = control.policies.borrow().clone();
    json(move || Status::build(&control.facts, &snapshot, &report, policies, wall())).await
}

async fn plan_input(State(control): State<Control>) -> Result<Response, Unavailable> {
    let (snapshot, report) = control.moment().await?;
    let kernel = control.facts.ipvs == "kernel";
    let policies = control.policies.borrow().path.clone();
    json(move || {
        let table = if kernel { None } else { report.table.as_deref().cloned() };
        PlanInput { table, ..known(policies, &snapshot, &report) }
    })
    .await
}

/// What a plan needs, but for the table.
pub(super) fn known(policies: String, snapshot: &Snapshot, report: &Report) -> PlanInput {
    PlanInput {
        pid: std::process::id(),
        policies,
        health: known_health(snapshot),
        overrides: snapshot.overrides.as_ref().clone(),
        standing: report.desired.standing.record(Clocks { now: snapshot.now, wall: wall() }),
        owned: report.owned.iter().copied().collect::<Vec<ServiceKey>>(),
        table: None,
    }
}

/// Builds and writes an answer off the thread that probes: ten thousand real servers are some
/// megabytes of JSON.
pub(super) async fn json<T: Serialize>(
    build: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Unavailable> {
    const BROKEN: Unavailable = (StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer");
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&build())).await;
    let body = written.map_err(|_| BROKEN)?.map_err(|_| BROKEN)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

impl Control {
    /// What is known of health, and of the table after a fresh read.
    pub(super) async fn moment(&self) -> Result<(Snapshot, Arc<Report>), Unavailable> {
        let snapshot = self.snapshot().await?;
        self.refresh().await;
        Ok((snapshot, Arc::clone(&self.reports.borrow())))
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot, Unavailable> {
        self.ask(Query::Snapshot).await
    }

    /// Asks the prober, which answers in milliseconds.
    pub(super) async fn ask<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, Unavailable> {
        const SILENT: Unavailable = (StatusCode::SERVICE_UNAVAILABLE, "the prober does not answer");
        let (sender, answer) = oneshot::channel();
        let exchange = async {
            self.queries.send(query(sender)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(PATIENCE, exchange).await.ok().flatten().ok_or(SILENT)
    }

    /// Has the table read anew. If that hangs, the last report has to do; its age is shown.
    async fn refresh(&self) {
        let (refresh, done) = oneshot::channel();
        let exchange = async {
            if self.refreshes.send(refresh).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, exchange).await;
    }
}

/// Two targets may ask the same at different paces: the one that is down speaks for both.
fn known_health(snapshot: &Snapshot) -> BTreeMap<String, KnownHealth> {
    let mut known: BTreeMap<String, KnownHealth> = BTreeMap::new();
    for (target, verdict) in snapshot.policies.targets.iter().zip(&snapshot.view.verdicts) {
        let ago = |since| snapshot.now.saturating_duration_since(since).as_secs_f64();
        let health = KnownHealth {
            health: verdict.health,
            reason: verdict.reason.as_deref().map(str::to_owned),
            since_ago: verdict.since.map(ago),
            held: verdict.held,
            advice: verdict.advice.clone(),
        };
        let entry = known.entry(target.key()).or_insert_with(|| health.clone());
        if health.health == Health::Down {
            *entry = health;
        }
    }
    known
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: status shows wall-clock times")]
pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}
