//! The checks against real and hostile servers on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile;
mod http;
mod local;
mod support;
mod tcp;
mod tls;
