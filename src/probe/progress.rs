//! How far one attempt got, and what to say when it stops there.
//!
//! The check, the byte counter below it and the deadline above it share one [`Progress`], so that
//! whoever ends the attempt can say where. It does no input or output itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::advice::Heard;
use super::outcome::{Outcome, Phases, Reason};
use super::target::{CheckKind, TextMatch};

/// Timers are up to some milliseconds late on any machine; that is no stall.
const SHORTEST_STALL: Duration = Duration::from_millis(50);

/// Why an attempt ended before it passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Whether nothing was heard in time.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self.reason, Reason::ConnectTimeout | Reason::HeadTimeout)
    }
}

/// Time stamps and byte counts of one attempt.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    connected: Mark,
    tls: Mark,
    first_byte: Mark,
    /// Bytes of the answer so far, head and framing included.
    received: AtomicU64,
    /// Bytes of the body so far.
    body: AtomicU64,
    /// Bytes of the body that were promised, plus one; 0 for no promise.
    promised: AtomicU64,
    /// What is waited for, where the check says so.
    awaited: Mutex<Option<(Reason, &'static str)>>,
    advice: Mutex<Option<Heard>>,
    /// What was said so far, where that tells more than how much it was.
    said: Mutex<String>,
    /// The end of a certificate in seconds since 1970; 0 until one is shown.
    certificate_ends: AtomicU64,
}

/// A moment, in nanoseconds from the start plus one; 0 until it comes.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    fn set(&self, after: Duration) {
        self.0.store(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX - 1) + 1, Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Relaxed).checked_sub(1).map(Duration::from_nanos)
    }
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            connected: Mark::default(),
            tls: Mark::default(),
            first_byte: Mark::default(),
            received: AtomicU64::new(0),
            body: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            awaited: Mutex::new(None),
            advice: Mutex::new(None),
            said: Mutex::default(),
            certificate_ends: AtomicU64::new(0),
        }
    }

    /// What was heard of advice; it goes with the outcome, whatever that will be.
    pub(super) fn advise(&self, heard: Heard) {
        *self.advice.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    /// Names what is waited for from now on, and the reason if it does not come in time.
    pub(super) fn wait_for(&self, reason: Reason, what: &'static str) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some((reason, what));
    }

    /// What was said so far; a deadline quotes it.
    pub(super) fn says(&self, words: String) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    /// How much of `timeout` is left.
    pub(super) fn left(&self, timeout: Duration) -> Duration {
        timeout.saturating_sub(self.start.elapsed())
    }

    pub(super) fn mark_connected(&self) {
        self.connected.set(self.start.elapsed());
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.get().is_some()
    }

    /// The TLS session is made, with a certificate that ends then, in seconds since 1970.
    pub(super) fn mark_tls(&self, certificate_ends: Option<u64>) {
        self.tls.set(self.start.elapsed());
        self.certificate_ends.store(certificate_ends.unwrap_or(0), Relaxed);
    }

    pub(super) fn mark_first_byte(&self) {
        self.first_byte.set(self.start.elapsed());
    }

    pub(super) fn has_first_byte(&self) -> bool {
        self.first_byte.get().is_some()
    }

    /// Counts bytes off the wire and returns their sum.
    pub(super) fn add_received(&self, count: usize) -> u64 {
        let sum = self.received().saturating_add(count as u64);
        self.received.store(sum, Relaxed);
        sum
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(super) fn promise(&self, bytes: Option<u64>) {
        self.promised.store(bytes.map_or(0, |count| count.saturating_add(1)), Relaxed);
    }

    pub(super) fn set_body(&self, count: usize) {
        self.body.store(count as u64, Relaxed);
    }

    /// `12 of 1000 bytes`, or `12 bytes` where nothing was promised.
    pub(super) fn body_text(&self) -> String {
        let count = self.body.load(Relaxed);
        match self.promised.load(Relaxed).checked_sub(1) {
            Some(all) => format!("{count} of {all} bytes"),
            None => bytes(count),
        }
    }

    /// The outcome of the attempt as it stands, ended now.
    pub(super) fn outcome(&self, reason: Reason, detail: String) -> Outcome {
        let phases = Phases {
            connected: self.connected.get(),
            tls: self.tls.get(),
            first_byte: self.first_byte.get(),
            ended: self.start.elapsed(),
        };
        let heard = self.advice.lock().unwrap_or_else(PoisonError::into_inner).take();
        let certificate_ends = Some(self.certificate_ends.load(Relaxed)).filter(|ends| *ends > 0);
        Outcome {
            advice: heard.map(Box::new),
            certificate_ends,
            ..Outcome::new(reason, detail, phases)
        }
    }

    /// What to say when the deadline strikes now.
    ///
    /// A deadline that strikes much too late says that this process did not run, so that an
    /// answer may have lain there unread: the director's trouble, not the real server's.
    pub(super) fn timed_out(&self, kind: &CheckKind, timeout: Duration) -> Failure {
        let late = self.start.elapsed().saturating_sub(timeout);
        if late > (timeout / 2).max(SHORTEST_STALL) {
            let detail = format!(
                "the director was too busy to look: its deadline of {} struck {} late",
                brief(timeout),
                brief(late)
            );
            return Failure::new(Reason::Resources, detail);
        }
        let within = format!("within {}", brief(timeout));
        let awaited = *self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connected) = self.connected.get() else {
            // Datagrams are awaited without a connection.
            if let Some((reason, what)) = awaited {
                let came = self.in_vain();
                return Failure::new(reason, format!("no {what} {within}{came}{}", self.quote()));
            }
            return Failure::new(Reason::ConnectTimeout, format!("not connected {within}"));
        };
        let connected = format!("connected in {}", brief(connected));
        let tls = match kind.tls() {
            Some(_) => match self.tls.get() {
                Some(at) => format!(", TLS session in {}", brief(at)),
                None => {
                    let detail = format!("no TLS session {within} ({connected})");
                    return Failure::new(Reason::TlsTimeout, detail);
                }
            },
            None => String::new(),
        };
        if let Some((reason, what)) = awaited {
            return Failure::new(reason, format!("no {what} {within} ({connected}{tls})"));
        }
        let received = self.received();
        let http = matches!(kind, CheckKind::Http(_) | CheckKind::Http2(_));
        if http && self.has_first_byte() {
            let detail = format!("body not complete {within} ({})", self.body_text());
            return Failure::new(Reason::BodyTimeout, detail);
        }
        let detail = match (kind, received) {
            (_, 0) if http => format!("no response head {within} ({connected}{tls})"),
            (_, _) if http => {
                format!(
                    "response head not complete {within} ({connected}{tls}, {} of it came)",
                    bytes(received)
                )
            }
            (CheckKind::Tcp(tcp), _) if tcp.expect.is_none() => {
                format!("not all of `send` taken {within} ({connected})")
            }
            (_, 0) => format!("nothing heard {within} ({connected})"),
            _ => format!(
                "not heard what was expected {within} ({connected}, {} came)",
                bytes(received)
            ),
        };
        Failure::new(Reason::HeadTimeout, detail)
    }

    /// `: connecting to db7`, or nothing.
    fn quote(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { String::new() } else { format!(": {said}") }
    }

    /// What came although it was not what was waited for.
    fn in_vain(&self) -> String {
        match self.received() {
            0 => String::new(),
            count => format!(" ({} of something else came)", bytes(count)),
        }
    }
}

/// `1 byte`, `12 bytes`.
pub(super) fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// A duration for people, at most two or three digits: `340us`, `1.2ms`, `45ms`, `2s`, `12.5s`.
pub(super) fn brief(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (whole, unit) = match micros {
        0..1_000 => return format!("{micros}us"),
        1_000..1_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let tenths = (micros * 10 + whole / 2) / whole;
    if tenths.is_multiple_of(10) || (unit == "ms" && tenths >= 100) {
        format!("{}{unit}", (tenths + 5) / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

/// The beginning of what a server said, printable and short enough for one log line.
pub(super) fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 60;
    let escaped = text[..text.len().min(LONGEST)].escape_ascii();
    format!("\"{escaped}\"{}", if text.len() > LONGEST { "…" } else { "" })
}

/// The condition after a verb: `contain "alive"`, `match /up [0-9]+/`.
pub(super) fn wanted(condition: &TextMatch) -> String {
    match condition {
        TextMatch::Contains(text) => format!("contain {text:?}"),
        TextMatch::Regex(pattern) => format!("match /{}/", pattern.source()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_brief() {
        for (micros, text) in [
            (0, "0us"),
            (340, "340us"),
            (1_000, "1ms"),
            (1_240, "1.2ms"),
            (9_990, "10ms"),
            (45_400, "45ms"),
            (250_000, "250ms"),
            (999_999, "1000ms"),
            (1_500_000, "1.5s"),
            (2_000_000, "2s"),
            (12_340_000, "12.3s"),
        ] {
            assert_eq!(brief(Duration::from_micros(micros)), text, "{micros} us");
        }
    }

    #[test]
    fn excerpts_fit_on_a_line() {
        assert_eq!(excerpt(b"ok\r\n\0"), r#""ok\r\n\x00""#);
        assert_eq!(excerpt(&[b'a'; 61]), format!("\"{}\"…", "a".repeat(60)));
    }
}
