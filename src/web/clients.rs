//! Clients of an HTTP server, each within its limits: one request a connection, a deadline on each
//! part, and when there are too many the newest takes the place of the oldest.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

/// How long a client may take to say what it wants, and before that to speak TLS.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take altogether.
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 << 10;
/// Before accepting again when the system refused.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections being served, the oldest first.
#[derive(Debug)]
pub(crate) struct Clients {
    most: usize,
    running: VecDeque<AbortHandle>,
}

impl Clients {
    /// Room for so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, running: VecDeque::new() }
    }

    /// Serves one in a task of its own, once its stream is there.
    pub(crate) fn serve<S>(
        &mut self,
        stream: impl Future<Output = io::Result<S>> + Send + 'static,
        routes: Router,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.running.retain(|client| !client.is_finished());
        while self.running.len() >= self.most {
            if let Some(oldest) = self.running.pop_front() {
                oldest.abort();
            }
        }
        let client = tokio::spawn(async move {
            match timeout(CLIENT_DEADLINE, exchange(stream, routes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(error = &*error, "a client failed"),
                Err(_) => debug!("a client took too long"),
            }
        });
        self.running.push_back(client.abort_handle());
    }
}

async fn exchange<S>(
    stream: impl Future<Output = io::Result<S>>,
    routes: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = timeout(REQUEST_DEADLINE, stream).await??;
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_DEADLINE)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await?;
    Ok(())
}
