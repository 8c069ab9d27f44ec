//! The real network behind [`Prober`]: one attempt at one target, with one hard deadline.
//!
//! Owns the deadline and the order of phases; opening the socket and speaking a protocol are the
//! rooms beside it. Nothing outlives an attempt: no task is spawned, and dropping the future at
//! the deadline closes the socket. (A program that is still running is ended by a task of its own.)
//! No environment variable is read, so no proxy either.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::errands::Errands;
use super::outcome::{Outcome, Reason};
use super::progress::{Failure, Progress};
use super::target::{Check, CheckKind, Target, Via};
use super::via::{Open, Ways};
use super::{
    Prober, agent, dns, exec, file, grpc, http, http2, icmp, mysql, postgresql, proxy_protocol,
    redis, smtp, socket, tcp, tls, udp,
};
use crate::health::OutcomeKind;

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
    async fn attempt(&self, target: &Target, progress: &Progress) -> Result<String, Failure> {
        let configs = &self.configs;
        let address = target.check.via.map_or(target.address, |via| via.vip);
        let stream = || self.connect(target, progress);
        // Boxed is what is large, so that plain probes do not carry the room for it.
        match &target.check.kind {
            CheckKind::Http(http) if http.tls.is_none() => {
                http::exchange(stream().await?, http, address, progress).await
            }
            CheckKind::Http(http) => {
                Box::pin(http::ask(stream().await?, http, address, configs, progress)).await
            }
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
            CheckKind::Udp(udp) => Box::pin(udp::ask(target, udp, progress)).await,
            CheckKind::Dns(dns) => Box::pin(dns::ask(target, dns, progress)).await,
            CheckKind::Icmp => Box::pin(icmp::ask(target, progress)).await,
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

    /// The connection that a check over TCP begins with.
    async fn connect(&self, target: &Target, progress: &Progress) -> Result<TcpStream, Failure> {
        let Check { source, interface, proxy_protocol, via, .. } = &*target.check;
        let mut stream = match via {
            None => socket::connect(target.address, *source, interface.as_deref(), None).await?,
            Some(via) => Box::pin(self.connect_via(*via, target)).await?,
        };
        progress.mark_connected();
        if let Some(version) = proxy_protocol {
            proxy_protocol::announce(&mut stream, *version).await?;
        }
        Ok(stream)
    }

    async fn connect_via(&self, via: Via, target: &Target) -> Result<TcpStream, Failure> {
        let patience = target.timing.timeout / 2;
        let start = self.ways.start(via, target.address.ip(), patience).await?;
        let source = target.check.source.unwrap_or(start);
        socket::connect(via.vip, Some(source), None, Some(via.mark)).await
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
            Err(failure) => {
                let is_theirs = failure.reason.kind() == OutcomeKind::Fail;
                let detail = match target.check.via.filter(|_| is_theirs) {
                    Some(via) => format!("through {}: {}", via.vip, failure.detail),
                    None => failure.detail,
                };
                progress.outcome(failure.reason, detail)
            }
        }
    }
}
