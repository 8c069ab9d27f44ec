//! The commands' end of the daemon's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

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
/// No daemon, no permission, or no answer that can be understood within ten seconds.
pub async fn get<T: DeserializeOwned>(socket: &Path, resource: &str) -> Result<T, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::NoDaemon(socket.to_owned(), error),
    })?;
    let no_answer = |what: String| ClientError::NoAnswer { path: socket.to_owned(), what };
    match tokio::time::timeout(DEADLINE, exchange(stream, resource)).await {
        Err(_) => Err(no_answer(format!("nothing came within {} s", DEADLINE.as_secs()))),
        Ok(Err(error)) => Err(no_answer(error.to_string())),
        Ok(Ok(body)) => serde_json::from_slice(&body)
            .map_err(|error| no_answer(format!("{error}; is it another version of pointsman?"))),
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
    resource: &str,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(resource).header("host", "pointsman").body(Empty::<Bytes>::new())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("{status} {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
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
