//! The real network behind [`Prober`]: one attempt at one target, with one hard deadline.
//!
//! Owns the deadline and the order of phases; opening the socket and speaking a protocol are the
//! rooms beside it. Nothing outlives an attempt: no task is spawned, and dropping the future at
//! the deadline closes the socket. (A program that is still running is ended by a task of its own.)
//! No environment variable is read, so no proxy either.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::errands::Errands;
use super::outcome::{Outcome, Reason};
use super::progress::{Failure, Progress};
use super::socket::Origin;
use super::target::{Check, CheckKind, Target, Via};
use super::via::{self, Open, Ways};
use super::{
    Prober, agent, dns, exec, file, grpc, http, http2, icmp, mysql, postgresql, proxy_protocol,
    redis, smtp, socket, tcp, tls, udp,
};
use crate::health::OutcomeKind;
use crate::ipvs::model::Forwarding;

/// Probes real servers over the network of the process's network namespace.
///
/// Needs a tokio runtime with input/output and time enabled. One is enough for any number of
/// targets; it can be shared and used concurrently.
#[derive(Debug, Default)]
pub struct NetworkProber {
    configs: tls::Configs,
    ways: Ways,
    programs: Errands,
    files: Errands,
}

impl NetworkProber {
    /// A prober.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that can also go through virtual addresses, once the table has the ways.
    pub fn through(open: watch::Receiver<Arc<Open>>) -> Self {
        Self { ways: Ways::new(open), ..Self::default() }
    }

    /// One attempt without a deadline; the text says what passed.
    async fn attempt(
        &self,
        target: &Target,
        origin: &Origin<'_>,
        progress: &Progress,
    ) -> Result<String, Failure> {
        let (address, configs) = (target.asked_at(), &self.configs);
        let stream = || connect(target, origin, progress);
        // Boxed is what is large, so that plain probes do not carry the room for it.
        match &target.check.kind {
            CheckKind::Http(http) => match &http.tls {
                None => http::ask(stream().await?, http, address, progress).await,
                Some(tls) => {
                    let stream = stream().await?;
                    Box::pin(http::ask_over_tls(stream, http, tls, address, configs, progress))
                        .await
                }
            },
            CheckKind::Http2(http) => {
                Box::pin(http2::ask(stream().await?, http, address, configs, progress)).await
            }
            CheckKind::Grpc(grpc) => {
                Box::pin(grpc::ask(stream().await?, grpc, address, configs, progress)).await
            }
            CheckKind::Tls(tls) => {
                Box::pin(tls::ask(stream().await?, tls, address, configs, progress)).await
            }
            CheckKind::Smtp(smtp) => {
                let timeout = target.timing.timeout;
                Box::pin(smtp::ask(stream().await?, smtp, timeout, configs, progress)).await
            }
            CheckKind::Tcp(tcp) => tcp::exchange(stream().await?, tcp, progress).await,
            CheckKind::Udp(udp) => Box::pin(udp::ask(target, udp, origin, progress)).await,
            CheckKind::Dns(dns) => Box::pin(dns::ask(target, dns, origin, progress)).await,
            CheckKind::Icmp => Box::pin(icmp::ask(target, origin, progress)).await,
            CheckKind::Agent(check) => agent::exchange(stream().await?, check, progress).await,
            CheckKind::Exec(check) => {
                Box::pin(exec::ask(target, check, &self.programs, progress)).await
            }
            CheckKind::File(check) => file::ask(target, check, &self.files, progress).await,
            CheckKind::Redis => redis::exchange(stream().await?, progress).await,
            CheckKind::Mysql(mysql) => {
                Box::pin(mysql::exchange(stream().await?, mysql, progress)).await
            }
            CheckKind::Postgresql(postgresql) => {
                Box::pin(postgresql::exchange(stream().await?, postgresql, progress)).await
            }
        }
    }

    /// The same within the deadline.
    async fn ask(
        &self,
        target: &Target,
        origin: &Origin<'_>,
        progress: &Progress,
    ) -> Result<String, Failure> {
        let whole = target.timing.timeout;
        match timeout(progress.left(whole), self.attempt(target, origin, progress)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(progress.timed_out(&target.check.kind, whole)),
        }
    }

    /// The same through a virtual address, once the table has the way.
    async fn ask_through(
        &self,
        via: Via,
        target: &Target,
        progress: &Progress,
    ) -> Result<String, Failure> {
        let whole = target.timing.timeout;
        let origin = self.ways.origin(via, target, whole / 2).await?;
        let was_late = progress.left(whole) < whole.mul_f64(WHOLE);
        let silence = match self.ask(target, &origin, progress).await {
            Err(failure) if failure.is_silence() => failure,
            result => {
                return result.map_err(|failure| through(via, failure));
            }
        };
        let deaf = match progress.is_connected() {
            true => None,
            false => self.ways.deaf(via, target.address.ip()),
        };
        let late = || was_late.then(|| via::too_late(via, &silence));
        Err(deaf.or_else(late).unwrap_or_else(|| through(via, silence)))
    }
}

/// Who had less of its time than this share was not given its time.
const WHOLE: f64 = 0.9;

/// What is the real server's fault happened on the way to it.
///
/// A real server answers a tunnel that it does not unpack with an ICMP error, which the kernel hands
/// on: to the socket that is a closed port.
fn through(via: Via, failure: Failure) -> Failure {
    if failure.reason.kind() != OutcomeKind::Fail {
        return failure;
    }
    let or_tunnel = match (via.forwarding, failure.reason) {
        (Forwarding::Tunnel(_), Reason::Refused) => {
            ", or the real server does not unpack the tunnel"
        }
        _ => "",
    };
    Failure { detail: format!("through {}: {}{or_tunnel}", via.vip, failure.detail), ..failure }
}

/// The connection that a check over TCP begins with.
async fn connect(
    target: &Target,
    origin: &Origin<'_>,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    let mut stream = socket::connect(target.asked_at(), origin).await?;
    progress.mark_connected();
    if let Some(version) = target.check.proxy_protocol {
        proxy_protocol::announce(&mut stream, version).await?;
    }
    Ok(stream)
}

impl Prober for NetworkProber {
    async fn probe(&self, target: &Target) -> Outcome {
        let progress = Progress::new();
        let Check { source, interface, via, .. } = &*target.check;
        let result = match via {
            Some(via) => Box::pin(self.ask_through(*via, target, &progress)).await,
            None => {
                let interface = interface.as_deref();
                let origin = Origin { source: *source, interface, led: None };
                self.ask(target, &origin, &progress).await
            }
        };
        match result {
            Ok(detail) => progress.outcome(Reason::Ok, detail),
            Err(failure) => progress.outcome(failure.reason, failure.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::target::TcpCheck;

    /// Thousands may wait for an answer at a time.
    #[test]
    fn a_probe_that_waits_is_small() {
        let check = Check::new(CheckKind::Tcp(TcpCheck::default()));
        let target = Target::once("127.0.0.1:80".parse().unwrap(), check);
        let prober = NetworkProber::new();
        let size = size_of_val(&prober.probe(&target));
        assert!(size <= 2048, "{size} bytes");
    }
}
