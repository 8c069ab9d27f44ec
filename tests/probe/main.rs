//! The checks against real and hostile servers on loopback.

mod hostile;
mod http;
mod support;
mod tcp;
