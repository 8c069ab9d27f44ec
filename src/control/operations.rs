//! What operators ask of the daemon: overrides, an explanation, the reload that is held.
//!
//! Bodies are JSON and small. Who asks is what the kernel says of the socket's other end. What
//! cannot be done is answered with a status of 4xx or 5xx and one sentence ([`Problem`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use super::overrides::{Request, answer};
use super::server::{Control, PATIENCE, json, known, wall};
use super::{Confirmation, HeldPlan, Release, Released};
use crate::health::Health;
use crate::ipvs::model::Table;
use crate::operator::overriding::{Done, Order, OrderError, Wish};
use crate::operator::peer::Peer;
use crate::policy::guard::Removal;
use crate::policy::model::{PolicySet, RealServer};
use crate::probe::runner::{Query, Snapshot};
use crate::reconcile::desired::{Moment, desired};
use crate::reconcile::driver::Report;
use crate::reconcile::json::PlanJson;
use crate::reconcile::names::Names;
use crate::reconcile::overrides::Action;
use crate::reconcile::plan::plan;
use crate::reconcile::render::render;
use crate::source::{Ask, ConfirmError};
use crate::web::problem::Problem;

fn refusal<E: std::fmt::Display>(status: StatusCode) -> impl Fn(E) -> Problem {
    move |error| Problem::new(status, error.to_string())
}

/// Sets or removes an override; answered when it is on record.
pub(super) async fn order(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response, Problem> {
    let request: Request = read(&body)?;
    request.check().map_err(refusal(StatusCode::BAD_REQUEST))?;
    let by = name(peer, request.acts_for).await;
    let wish = match request.action {
        None => Wish::Remove,
        Some(action) => {
            let length = request.seconds.map(Duration::from_secs);
            Wish::Set { action, length, reason: request.reason }
        }
    };
    let (policy, real_server) = (request.policy, request.real_server);
    let done = exchange(&control.orders, |answer| Order { policy, real_server, by, wish, answer })
        .await
        .ok_or_else(silent("the record; it may yet be done, see `pointsman overrides`"))?
        .map_err(undone)?;
    let others = control.snapshot().await.ok().map(|snapshot| others_in_service(&snapshot, &done));
    json(move || answer(&done, others, wall())).await
}

/// The plan of the reload that is held, against a table read just now.
pub(super) async fn held(State(control): State<Control>) -> Result<Response, Problem> {
    let set = exchange(&control.asks, Ask::Held).await.ok_or_else(silent("the policies"))?;
    let (snapshot, report) = control.moment().await?;
    let at_start = report.guarded.is_some().then(|| Arc::clone(&snapshot.policies));
    let set =
        set.or(at_start).ok_or(ConfirmError::NothingHeld).map_err(refusal(StatusCode::CONFLICT))?;
    let now = tokio::time::Instant::now().into_std();
    if report.table.is_none() {
        let text = "the table could not be read yet; see `pointsman status`";
        return Err(Problem::new(StatusCode::CONFLICT, text.to_owned()));
    }
    json(move || held_plan(&set, &snapshot, &report, now)).await
}

fn held_plan(set: &Arc<PolicySet>, snapshot: &Snapshot, report: &Report, now: Instant) -> HeldPlan {
    let empty = Table::new();
    let table = report.table.as_deref().unwrap_or(&empty);
    let (view, _) = known(String::new(), snapshot, report).view(Arc::clone(set), now);
    let desired =
        desired(&view, table, &report.desired.standing, Moment::first(now, &report.owned));
    let plan = plan(table, &desired, &report.owned);
    let names = Names::after(&report.names, set);
    HeldPlan {
        hash: set.hash.clone(),
        removal: match &report.guarded {
            Some(removal) if set.hash == snapshot.policies.hash => removal.to_string(),
            _ => Removal::between(&snapshot.policies, set).to_string(),
        },
        text: render(&plan, &names, false),
        plan: serde_json::to_value(PlanJson::of(&plan, &names)).unwrap_or_default(),
    }
}

pub(super) async fn confirm(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Confirmation { hash, acts_for } = read(&body)?;
    let by = name(peer, acts_for).await;
    let in_force = control.policies.borrow().hash == hash;
    if in_force && control.reports.borrow().guarded.is_some() {
        info!(hash, by, "held start confirmed");
        exchange(&control.confirms, |answer| answer)
            .await
            .ok_or_else(silent("the reconciler; it may yet be done, see `pointsman status`"))?;
    } else {
        exchange(&control.asks, |answer| Ask::Confirm { hash, by, answer })
            .await
            .ok_or_else(silent("the policies"))?
            .map_err(refusal(StatusCode::CONFLICT))?;
    }
    let policies = control.policies.borrow().clone();
    json(move || policies).await
}

/// Answered when the table is as the verdicts that were held demand.
pub(super) async fn release(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Release { acts_for } = read(&body)?;
    let by = name(peer, acts_for).await;
    let held = control.ask(|answer| Query::Release { by, answer }).await?;
    let (snapshot, _) = control.moment().await?;
    let targets = snapshot.slots.len();
    json(move || Released { held: (held > 0).then_some(held), targets }).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("not a request of this version of pointsman: {error}");
        Problem::new(StatusCode::BAD_REQUEST, text)
    })
}

/// The user's name is read from disk.
async fn name(peer: Peer, acts_for: Option<String>) -> String {
    let named = tokio::task::spawn_blocking(move || peer.name(acts_for.as_deref()));
    named.await.unwrap_or_else(|_| "unknown user".to_owned())
}

/// Asks a task and waits for its answer, within limits.
async fn exchange<T, A>(
    task: &mpsc::Sender<T>,
    question: impl FnOnce(oneshot::Sender<A>) -> T,
) -> Option<A> {
    let (sender, receiver) = oneshot::channel();
    let asked = async {
        task.send(question(sender)).await.ok()?;
        receiver.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

fn silent(what: &'static str) -> impl FnOnce() -> Problem {
    let seconds = PATIENCE.as_secs();
    move || {
        let text = format!("nothing came within {seconds} s of {what}");
        Problem::new(StatusCode::GATEWAY_TIMEOUT, text)
    }
}

fn undone(error: OrderError) -> Problem {
    let status = match error {
        OrderError::Name(_) => StatusCode::NOT_FOUND,
        OrderError::Record(_) | OrderError::Lost => StatusCode::INSUFFICIENT_STORAGE,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Problem::new(status, text)
}

/// How many other real servers of the policy are up and not taken out by operators.
fn others_in_service(snapshot: &Snapshot, done: &Done) -> usize {
    let view = &snapshot.view;
    let of_policy = snapshot.policies.policies.iter().filter(|it| it.name == done.policy);
    let others = of_policy
        .flat_map(|policy| &policy.real_servers)
        .filter(|server| server.identity != done.identity);
    let takes = |of: &RealServer| match snapshot
        .overrides
        .get(&done.policy, &of.identity)
        .map(|it| it.action)
    {
        None | Some(Action::Weight(1..)) => true,
        Some(Action::Drain | Action::Disable | Action::Weight(0)) => false,
    };
    others
        .filter(|server| takes(server))
        .filter(|server| view.real_server(server).effective() == Health::Up)
        .count()
}
