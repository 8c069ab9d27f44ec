//! What others may read over HTTP: status, health, metrics.
//!
//! [`routes`] is served twice: on the control socket, and on the listener of `run --listen`, which
//! has a thread of its own, so that no client and no TLS handshake can delay a probe. [`reads`]
//! makes one picture of the daemon for all who ask within a second; [`ready`] and [`metrics`] are
//! made from it and pure. [`access`] says who may ask, [`clients`] how long and how many at once.
//! Nothing here changes anything.

pub mod access;
pub(crate) mod clients;
pub mod listener;
pub mod metrics;
pub mod problem;
pub(crate) mod reads;
pub mod ready;
pub(crate) mod routes;
mod secrets;
