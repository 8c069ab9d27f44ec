//! hyper's errors as reasons: what the real server did, in plain words.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::http::HEAD_LIMIT;
use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes};
use super::socket::kernel_words;
use super::tls_error;
use super::wire::LONGEST;

/// What was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    Head,
    Body,
}

/// Why an exchange broke.
pub(super) fn explain(error: &hyper::Error, during: During, progress: &Progress) -> Failure {
    let place = place(during, progress);
    if let Some(io) = find_io(error) {
        return explain_io(io, during, &place, progress);
    }
    if error.is_parse_too_large() {
        let detail =
            format!("a response head of more than {} KiB or 100 headers", HEAD_LIMIT / 1024);
        return Failure::new(Reason::HeadSize, detail);
    }
    if error.is_incomplete_message() {
        return Failure::new(Reason::Closed, format!("closed {place}"));
    }
    if error.is_parse() {
        return Failure::new(Reason::Protocol, format!("not an HTTP/1.1 answer: {error}"));
    }
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(Reason::Protocol, format!("{error}{cause} {place}"))
}

/// How far the answer had come.
pub(super) fn place(during: During, progress: &Progress) -> String {
    match during {
        During::Head => match progress.received() {
            0 => "before an answer".to_owned(),
            count => format!("{} into the response head", bytes(count)),
        },
        During::Body => format!("after {} of body", progress.body_text()),
    }
}

fn find_io(error: &hyper::Error) -> Option<&io::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = cause.source();
    }
    None
}

/// Why the stream below an exchange broke.
pub(super) fn explain_io(
    error: &io::Error,
    during: During,
    place: &str,
    progress: &Progress,
) -> Failure {
    if progress.received() > LONGEST {
        let reason = if during == During::Head { Reason::HeadSize } else { Reason::BodySize };
        return Failure::new(reason, format!("more than {} KiB without an end", LONGEST / 1024));
    }
    if let Some(tls) = tls_error::inner(error) {
        return Failure::new(Reason::Tls, format!("{} ({place})", tls_error::session(tls)));
    }
    // h2 keeps the kind of an error and its words, not its number.
    match (Errno::from_io_error(error), error.kind()) {
        (_, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            Failure::new(Reason::Reset, format!("reset {place}"))
        }
        (_, ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            Failure::new(Reason::Unreachable, format!("{} {place}", kernel_words(error)))
        }
        (Some(Errno::NOMEM | Errno::NOBUFS), _) => {
            Failure::new(Reason::Resources, format!("{} {place}", kernel_words(error)))
        }
        (None, ErrorKind::UnexpectedEof) => {
            let detail = format!("the body ended after {}", progress.body_text());
            Failure::new(Reason::Closed, detail)
        }
        (None, _) => Failure::new(Reason::Protocol, format!("{error} {place}")),
        (Some(_), _) => Failure::new(Reason::Closed, format!("{} {place}", kernel_words(error))),
    }
}
