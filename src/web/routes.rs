//! The routes: what may be read, and in which words an answer is refused.

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response, sse};
use axum::routing::{MethodRouter, get};

use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use super::metrics::format::Format;
use super::problem::Problem;
use super::reads::Reads;
use super::ready;
use crate::control::explain::{Explanation, Question};
use crate::control::latencies::latencies as latencies_of;
use crate::control::overrides::list;
use crate::control::server::{json, wall};

const OPENAPI: &str = include_str!("../../docs/openapi.json");
const PAGE: &str = include_str!("page.html");
const JSON: &str = "application/json";

/// Everything that can be read. HEAD works wherever GET does.
pub(crate) fn routes(reads: Reads) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, method)| router.route(path, method))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(reads)
}

fn table() -> [(&'static str, MethodRouter<Reads>); 12] {
    [
        ("/", get(page)),
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/ready/{*of}", get(ready_of)),
        ("/v1/status", get(status)),
        ("/v1/explain", get(explain)),
        ("/v1/overrides", get(overrides)),
        ("/v1/latencies", get(latencies)),
        ("/v1/events", get(events)),
        ("/v1/events/stream", get(stream)),
        ("/v1/openapi.json", get(openapi)),
        ("/metrics", get(metrics)),
    ]
}

async fn healthz(State(reads): State<Reads>) -> Response {
    match reads.pulse().await {
        Ok(()) => line(true, "ok"),
        Err(why) => line(false, &why),
    }
}

async fn readyz(State(reads): State<Reads>) -> Result<Response, Problem> {
    let picture = reads.picture().await?;
    let missing = ready::missing(&picture.snapshot, &picture.report);
    Ok(match missing.as_slice() {
        [] => line(true, "ready"),
        missing => line(false, &missing.join("; ")),
    })
}

async fn ready_of(
    State(reads): State<Reads>,
    of: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(of) = of.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let picture = reads.picture().await?;
    let found = ready::find(&of, &picture.snapshot, &picture.report);
    if found.is_empty() {
        let text = format!(
            "no policy in force has the name `{of}` or declares a virtual service `{of}`; write \
             /ready/tcp://192.0.2.1:80 or /ready/POLICY"
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    }
    if picture.report.table.is_none() {
        return Ok(line(false, "the table has not been read yet"));
    }
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    Ok(line(found.iter().all(ready::Readiness::is_ready), &lines.join("\n")))
}

async fn status(State(reads): State<Reads>) -> Result<Response, Problem> {
    Ok(answer(JSON, reads.status_json().await?))
}

async fn explain(
    State(reads): State<Reads>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(question) =
        question.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let picture = reads.picture().await?;
    let explained = Explanation::build(&question, &picture.snapshot, &picture.report, wall())
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))?;
    json(move || explained).await
}

async fn overrides(State(reads): State<Reads>) -> Result<Response, Problem> {
    let picture = reads.picture().await?;
    json(move || list(&picture.snapshot.overrides, &picture.snapshot.policies, wall())).await
}

async fn latencies(State(reads): State<Reads>) -> Result<Response, Problem> {
    let picture = reads.picture().await?;
    json(move || latencies_of(&picture.snapshot)).await
}

async fn metrics(State(reads): State<Reads>, headers: HeaderMap) -> Result<Response, Problem> {
    let accept: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    let picture = reads.picture().await?;
    Ok(answer(format.content_type(), picture.metrics(format).await?))
}

/// The status page; it asks for nothing but what these routes have.
async fn page() -> Response {
    let head = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (head, PAGE).into_response()
}

/// The newest events, the oldest of them first.
async fn events(State(reads): State<Reads>) -> Result<Response, Problem> {
    let recent = reads.control.journal.recent();
    json(move || recent).await
}

/// Events as they come, as server-sent events, until the client's time is up; it asks again.
async fn stream(State(reads): State<Reads>) -> Response {
    let told = BroadcastStream::new(reads.control.journal.listen());
    // What a slow client missed is in the newest events, which it asks for when it comes again.
    let events = told.filter_map(Result::ok).map(|event| sse::Event::default().json_data(&*event));
    let answer = sse::Sse::new(events).keep_alive(sse::KeepAlive::default());
    ([(CACHE_CONTROL, "no-store")], answer).into_response()
}

async fn openapi() -> Response {
    answer(JSON, OPENAPI)
}

async fn not_found(uri: Uri) -> Problem {
    let text = format!("nothing is at {}; /v1/openapi.json says what there is", uri.path());
    Problem::new(StatusCode::NOT_FOUND, text)
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let text = format!("{} takes no {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// One line for people, and a status for programs.
fn line(good: bool, text: &str) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let head = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, head, format!("{text}\n")).into_response()
}

fn answer(kind: &'static str, body: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_route_is_described_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<String> =
            document["paths"].as_object().unwrap().keys().cloned().collect();
        let socket = crate::control::server::table();
        let paths = table().map(|(path, _)| path).into_iter().chain(socket.map(|(path, _)| path));
        let routes: BTreeSet<String> = paths.map(|path| path.replace("{*", "{")).collect();
        assert_eq!(routes, described);
    }
}
