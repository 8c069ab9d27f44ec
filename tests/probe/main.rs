//! The checks against real and hostile servers on loopback.

mod hostile;
mod http;
mod local;
mod support;
mod tcp;
mod tls;
