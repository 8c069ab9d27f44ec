//! Probing: what is asked of whom, what came of it, who is due, and the sockets that ask.
//!
//! [`target`] and [`outcome`] are the words, [`engine`] decides who is due and what a result means
//! (pure, time comes in), [`runner`] is the async shell around it. [`network`] asks one question
//! once; one file per check speaks its protocol on a socket we open ourselves.

pub mod advice;
pub mod advising;
mod agent;
pub mod blast_limit;
mod datagram;
mod dialogue;
pub mod dns;
pub mod engine;
mod errands;
mod exec;
mod file;
mod group;
mod grpc;
pub mod histogram;
mod history;
pub mod http;
mod http2;
mod http2_session;
mod http_error;
mod icmp;
pub mod keeper;
pub mod knowledge;
mod log;
mod mysql;
pub mod network;
pub mod outcome;
mod ports;
mod postgresql;
mod program;
mod progress;
mod proxy_protocol;
mod redis;
pub mod runner;
pub mod slot;
mod smtp;
mod socket;
pub mod tally;
pub mod target;
mod tcp;
mod tls;
mod tls_error;
pub mod trust;
mod udp;
mod user;
pub mod via;
mod wire;

use std::future::Future;

use outcome::Outcome;
use target::Target;

/// The network as the runner sees it: one attempt at one target.
///
/// An implementation keeps the target's deadline itself and always answers by then.
pub trait Prober: Send + Sync + 'static {
    /// Probes once.
    fn probe(&self, target: &Target) -> impl Future<Output = Outcome> + Send;
}
