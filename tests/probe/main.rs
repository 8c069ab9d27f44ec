//! The checks against real and hostile servers on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod databases;
mod datagrams;
mod dns;
mod exec;
mod file;
mod frames;
mod grpc;
mod handshake;
mod hostile;
mod http;
mod http2;
mod icmp;
mod local;
mod proxy_protocol;
mod smtp;
mod support;
mod tcp;
mod tls;
