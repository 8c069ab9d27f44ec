//! The daemon's end of the socket: resources built from what the tasks publish, and the way to the
//! operator's orders ([`super::operations`]).
//!
//! What can be read here is what the listener serves too ([`crate::web`]), from a fresh look at the
//! table; a client can cost one of a few places for a few seconds and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::operations;
use super::status::{Facts, Policies};
use super::{KnownHealth, PlanInput};
use crate::events::Journal;
use crate::health::Health;
use crate::ipvs::model::ServiceKey;
use crate::operator::overriding::Order;
use crate::operator::peer::Peer;
use crate::probe::runner::{Query, Snapshot};
use crate::reconcile::driver::{Confirm, Refresh, Report};
use crate::reconcile::standing::Clocks;
use crate::source::Ask;
use crate::web::clients::{ACCEPT_PAUSE, Clients};
use crate::web::problem::Problem;
use crate::web::reads::Reads;
use crate::web::routes::routes;

/// How long a resource waits for the tasks; they answer in milliseconds unless the kernel hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Clients at once; each costs a descriptor that probes cannot have.
const MOST_CLIENTS: usize = 32;
/// The largest body a client may send, in bytes.
const LARGEST_REQUEST: usize = 16 << 10;

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
    /// What happens.
    pub journal: Journal,
}

/// Serves the socket for ever.
pub async fn serve(listener: UnixListener, control: Control) {
    let own = table().into_iter();
    let routes = own
        .fold(Router::new(), |router, (path, method)| router.route(path, method))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .with_state(control.clone())
        .merge(routes(Reads::fresh(control)));
    let mut clients = Clients::new(MOST_CLIENTS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Asked now, as it was when the connection was made.
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                let routes = routes.clone().layer(Extension(Peer { uid }));
                clients.serve(async { Ok(stream) }, routes);
            }
            Err(error) => {
                debug!(%error, "cannot accept on the control socket; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What is on the socket beside what all readers have.
pub(crate) fn table() -> [(&'static str, MethodRouter<Control>); 4] {
    [
        ("/v1/plan-input", get(plan_input)),
        ("/v1/overrides", post(operations::order)),
        ("/v1/held", get(operations::held).post(operations::confirm)),
        ("/v1/release", post(operations::release)),
    ]
}

async fn plan_input(State(control): State<Control>) -> Result<Response, Problem> {
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
        names: report.names.clone(),
        owned: report.owned.iter().copied().collect::<Vec<ServiceKey>>(),
        table: None,
    }
}

/// Builds and writes an answer off the thread that probes: ten thousand real servers are some
/// megabytes of JSON.
pub(crate) async fn json<T: Serialize>(
    build: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Problem> {
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&build())).await;
    let body = written.ok().and_then(Result::ok).ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer")
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

impl Control {
    /// What is known of health, and of the table after a fresh read.
    pub(crate) async fn moment(&self) -> Result<(Snapshot, Arc<Report>), Problem> {
        let snapshot = self.snapshot().await?;
        self.refresh().await;
        Ok((snapshot, Arc::clone(&self.reports.borrow())))
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot, Problem> {
        self.ask(Query::Snapshot).await
    }

    /// Asks the prober, which answers in milliseconds.
    pub(crate) async fn ask<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, Problem> {
        let (sender, answer) = oneshot::channel();
        let exchange = async {
            self.queries.send(query(sender)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(PATIENCE, exchange).await.ok().flatten().ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the prober does not answer")
        })
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
            unadvised: verdict.unadvised,
        };
        let entry = known.entry(target.key()).or_insert_with(|| health.clone());
        if health.health == Health::Down {
            *entry = health;
        }
    }
    known
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: status shows wall-clock times")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
