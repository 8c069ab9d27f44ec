//! The real network behind [`Prober`]: one attempt at one target, with one hard deadline.
//!
//! Owns the deadline and the order of phases; opening the socket and speaking a protocol are the
//! rooms beside it. Nothing outlives an attempt: no task is spawned, and dropping the future at
//! the deadline closes the socket. No environment variable is read, so no proxy either.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::outcome::{Outcome, Reason};
use super::progress::{Failure, Progress};
use super::target::{CheckKind, HttpCheck, Target, TlsCheck};
use super::{Prober, http, socket, tcp, tls};

/// Probes real servers over the network of the process's network namespace.
///
/// Needs a tokio runtime with input/output and time enabled. One is enough for any number of
/// targets; it can be shared and used concurrently.
#[derive(Debug, Default)]
pub struct NetworkProber {
    configs: tls::Configs,
}

impl NetworkProber {
    /// A prober.
    pub fn new() -> Self {
        Self::default()
    }

    /// One attempt without a deadline; the text says what passed.
    async fn attempt(&self, target: &Target, progress: &Progress) -> Result<String, Failure> {
        let check = &target.check;
        let stream =
            socket::connect(target.address, check.source, check.interface.as_deref()).await?;
        progress.mark_connected();
        match &check.kind {
            CheckKind::Http(http) => match &http.tls {
                None => http::exchange(stream, http, target.address, progress).await,
                // Boxed, so that plain probes do not carry the room for a TLS session.
                Some(tls) => {
                    Box::pin(self.https(stream, http, tls, target.address, progress)).await
                }
            },
            CheckKind::Tcp(tcp) => tcp::exchange(stream, tcp, progress).await,
        }
    }

    async fn https(
        &self,
        stream: TcpStream,
        check: &HttpCheck,
        tls: &TlsCheck,
        address: SocketAddr,
        progress: &Progress,
    ) -> Result<String, Failure> {
        let name = tls::server_name(check, tls, address).map_err(http::nothing_asked)?;
        let mut session = tls::handshake(stream, name, tls, &self.configs, progress).await?;
        let result = http::exchange(&mut session, check, address, progress).await;
        tls::say_goodbye(&mut session).await;
        result
    }
}

impl Prober for NetworkProber {
    async fn probe(&self, target: &Target) -> Outcome {
        let progress = Progress::new();
        let timeout = target.timing.timeout;
        let result = match tokio::time::timeout(timeout, self.attempt(target, &progress)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(progress.timed_out(&target.check.kind, timeout)),
        };
        match result {
            Ok(detail) => progress.outcome(Reason::Ok, detail),
            Err(failure) => progress.outcome(failure.reason, failure.detail),
        }
    }
}
