//! Checks against the real thing: Debian's servers, started by the test on loopback.
//!
//! Where they must run (`CI` or `POINTSMAN_REQUIRE_SERVERS` is set) a missing program is a
//! failure; elsewhere it is said loudly that a test was not run.

#![expect(clippy::unwrap_used, reason = "a test")]

mod ask;
mod dns;
mod grpc;
mod haproxy;
mod mysql;
mod nginx;
mod postgresql;
mod program;
mod redis;
mod smtp;
