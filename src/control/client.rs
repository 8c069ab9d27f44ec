//! The commands' end of the daemon's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::web::problem::Problem;

/// The daemon answers from memory; longer means that it hangs.
const DEADLINE: Duration = Duration::from_secs(10);
/// Room for the status of a hundred thousand destinations.
const LARGEST_ANSWER: usize = 256 << 20;

/// Why the daemon did not answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no daemon answers on {} ({}): start one with `pointsman run`, or name its socket with --socket",
        .0.display(),
        why_absent(.1)
    )]
    NoDaemon(PathBuf, io::Error),
    /// The socket belongs to somebody else.
    #[error("not permitted to use {}: run as root or as the user or group that owns it", .0.display())]
    Denied(PathBuf),
    /// It accepted the connection and then said nothing useful.
    #[error("the daemon on {} did not answer: {what}", .path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        what: String,
    },
    /// It does not do what was asked, and says why.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// Whether there is simply no daemon, so that a command may do without one.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoDaemon(..))
    }
}

/// Gets one resource from the daemon on this socket.
///
/// # Errors
/// No daemon, no permission, a refusal, or no answer that can be understood within ten seconds.
pub async fn get<T: DeserializeOwned>(socket: &Path, resource: &str) -> Result<T, ClientError> {
    ask(socket, Request::get(resource), Bytes::new()).await
}

/// Asks the daemon on this socket for something to be done, or with a question as JSON.
///
/// # Errors
/// As [`get`].
pub async fn post<T: DeserializeOwned>(
    socket: &Path,
    resource: &str,
    body: &impl Serialize,
) -> Result<T, ClientError> {
    let body = serde_json::to_vec(body).map_err(|error| ClientError::Refused(error.to_string()))?;
    ask(socket, Request::post(resource), body.into()).await
}

async fn ask<T: DeserializeOwned>(
    socket: &Path,
    request: Builder,
    body: Bytes,
) -> Result<T, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::NoDaemon(socket.to_owned(), error),
    })?;
    let no_answer = |what: String| ClientError::NoAnswer { path: socket.to_owned(), what };
    let (status, body) = match tokio::time::timeout(DEADLINE, exchange(stream, request, body)).await
    {
        Err(_) => return Err(no_answer(format!("nothing came within {} s", DEADLINE.as_secs()))),
        Ok(Err(error)) => return Err(no_answer(error.to_string())),
        Ok(Ok(answer)) => answer,
    };
    let text = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.error.into(),
        Err(_) => String::from_utf8_lossy(&body),
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&body)
            .map_err(|error| no_answer(format!("{error}; is it another version of pointsman?"))),
        StatusCode::SERVICE_UNAVAILABLE => Err(no_answer(format!("{status} {text}"))),
        _ if text.is_empty() => {
            Err(no_answer(format!("{status}; is it another version of pointsman?")))
        }
        _ => Err(ClientError::Refused(text.into_owned())),
    }
}

fn why_absent(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    }
}

async fn exchange(
    stream: UnixStream,
    request: Builder,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = request.header("host", "pointsman").body(Full::new(body))?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}
