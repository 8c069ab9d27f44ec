//! What came of one attempt: pass, fail or inconclusive, why, and how far it got.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Heard;
use crate::health::OutcomeKind;

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it means to the counters.
    pub kind: OutcomeKind,
    /// Why, as one of a bounded set of words.
    pub reason: Reason,
    /// Why, for people: a lowercase fragment such as
    /// `no response head within 2s (connected in 1ms)`.
    pub detail: String,
    /// When each phase ended, from the start of the attempt.
    pub phases: Phases,
    /// What the real server advised, where the check listens to that. It is no part of the outcome
    /// as it is shown.
    #[serde(skip)]
    pub advice: Option<Box<Heard>>,
    /// The end of validity of the certificate that was shown, in seconds since 1970. Likewise.
    #[serde(skip)]
    pub certificate_ends: Option<u64>,
}

/// Why a probe ended as it did. Bounded, so that it can label a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Pass: as expected.
    Ok,
    /// Fail: the port is closed.
    Refused,
    /// Fail: the connection was reset.
    Reset,
    /// Fail: no way to the real server (ARP, ICMP host unreachable).
    Unreachable,
    /// Fail: not connected by the deadline.
    ConnectTimeout,
    /// Fail: no TLS session by the deadline.
    TlsTimeout,
    /// Fail: connected, but no complete answer head (or first expected bytes) by the deadline.
    HeadTimeout,
    /// Fail: the body was not complete by the deadline.
    BodyTimeout,
    /// Fail: closed before the answer was complete.
    Closed,
    /// Fail: the TLS handshake failed.
    Tls,
    /// Fail: the certificate is not trusted or not for this name.
    Certificate,
    /// Fail: the certificate expires too soon.
    Expiry,
    /// Fail: not the protocol that was asked.
    Protocol,
    /// Fail: the head is larger than we read.
    HeadSize,
    /// Fail: the body is larger than we read.
    BodySize,
    /// Fail: the status of the answer (HTTP, gRPC, an SMTP reply, a DNS response code, an error of a
    /// database, the end of a program, the word in a file) is not one of those expected.
    Status,
    /// Fail: a response header is missing or does not match.
    Header,
    /// Fail: the body, or what a TCP peer said, does not match.
    Content,
    /// Inconclusive: no descriptor, port, memory or buffer on the director.
    Resources,
    /// Inconclusive: the director has no route, or not the source address or interface.
    Route,
    /// Inconclusive: a firewall rule or missing privilege on the director.
    Denied,
    /// Inconclusive: what the policy names is not to be had on the director: a program, a file, a
    /// user.
    Setup,
    /// Inconclusive: stopped before its end by a reload or shutdown.
    Cancelled,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 23] = [
        Self::Ok,
        Self::Refused,
        Self::Reset,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::TlsTimeout,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::Closed,
        Self::Tls,
        Self::Certificate,
        Self::Expiry,
        Self::Protocol,
        Self::HeadSize,
        Self::BodySize,
        Self::Status,
        Self::Header,
        Self::Content,
        Self::Resources,
        Self::Route,
        Self::Denied,
        Self::Setup,
        Self::Cancelled,
    ];

    /// Its word, as JSON and metrics have it. A new one belongs into [`Self::ALL`] too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsTimeout => "tls_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Closed => "closed",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Expiry => "expiry",
            Self::Protocol => "protocol",
            Self::HeadSize => "head_size",
            Self::BodySize => "body_size",
            Self::Status => "status",
            Self::Header => "header",
            Self::Content => "content",
            Self::Resources => "resources",
            Self::Route => "route",
            Self::Denied => "denied",
            Self::Setup => "setup",
            Self::Cancelled => "cancelled",
        }
    }

    /// What an attempt that ended so means to the counters.
    pub fn kind(self) -> OutcomeKind {
        match self {
            Self::Ok => OutcomeKind::Pass,
            Self::Resources | Self::Route | Self::Denied | Self::Setup | Self::Cancelled => {
                OutcomeKind::Inconclusive
            }
            _ => OutcomeKind::Fail,
        }
    }
}

/// How far an attempt got: the time from its start to the end of each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// The TCP connection was made.
    pub connected: Option<Duration>,
    /// The TLS session was made.
    pub tls: Option<Duration>,
    /// The first byte of the answer came (http: its head was complete).
    pub first_byte: Option<Duration>,
    /// The attempt ended, whatever came of it.
    pub ended: Duration,
}

impl Outcome {
    /// An outcome whose kind follows from its reason.
    pub fn new(reason: Reason, detail: impl Into<String>, phases: Phases) -> Self {
        let (kind, detail) = (reason.kind(), detail.into());
        Self { kind, reason, detail, phases, advice: None, certificate_ends: None }
    }

    /// Whether it failed because nothing at all came from the real server, not even a refusal.
    pub fn is_silence(&self) -> bool {
        let Phases { connected, first_byte, .. } = self.phases;
        match self.reason {
            Reason::Unreachable | Reason::ConnectTimeout => true,
            Reason::HeadTimeout => connected.is_none() && first_byte.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_its_place_and_has_its_word() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
