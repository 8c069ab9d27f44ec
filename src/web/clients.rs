//! Clients of an HTTP server, each within its limits: one request a connection, a deadline on each
//! part, and when there are too many the newest takes the place of the oldest that has not been
//! admitted yet. So neither who holds connections open nor who makes thousands keeps others out.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
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
    running: VecDeque<Client>,
}

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    admission: Admission,
}

/// Comes with each request as an extension, for whoever lets clients in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission(Arc<AtomicBool>);

impl Admission {
    /// The client may ask what it asks: others go first when there are too many.
    pub(crate) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_granted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
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
        self.running.retain(|client| !client.task.is_finished());
        if self.running.len() >= self.most {
            let stranger = self.running.iter().position(|client| !client.admission.is_granted());
            if let Some(client) = self.running.remove(stranger.unwrap_or(0)) {
                client.task.abort();
            }
        }
        let admission = Admission::default();
        let routes = routes.layer(Extension(admission.clone()));
        let task = tokio::spawn(async move {
            match timeout(CLIENT_DEADLINE, exchange(stream, routes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(error = &*error, "a client failed"),
                Err(_) => debug!("a client took too long"),
            }
        });
        self.running.push_back(Client { task: task.abort_handle(), admission });
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Notify;

    use super::*;

    async fn answered(mut stream: DuplexStream) -> bool {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(CLIENT_DEADLINE, read).await.is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    #[tokio::test]
    async fn who_was_admitted_stays_and_the_oldest_stranger_goes() {
        let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go_on));
        let slow = async move |Extension(admission): Extension<Admission>| {
            admission.grant();
            tell.notify_one();
            wait.notified().await;
        };
        let routes = Router::new().route("/slow", get(slow)).route("/", get(async || "here"));
        let mut clients = Clients::new(2);
        let mut connect = || {
            let (client, server) = duplex(4096);
            clients.serve(async { Ok(server) }, routes.clone());
            client
        };
        let mut admitted = connect();
        admitted.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        let strangers: Vec<DuplexStream> = (0..9).map(|_| connect()).collect();
        let mut newest = connect();
        for stranger in strangers {
            assert!(!answered(stranger).await);
        }
        newest.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(answered(newest).await);
        go_on.notify_one();
        assert!(answered(admitted).await);
    }
}
