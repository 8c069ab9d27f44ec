//! The HTTP listener as its readers meet it: a real daemon with a table in memory.

#[path = "../cli/backend.rs"]
mod backend;
#[path = "../cli/daemon.rs"]
#[expect(dead_code, reason = "shared with the tests of the command line")]
mod daemon;
#[path = "../cli/scratch.rs"]
#[expect(dead_code, reason = "shared with the tests of the command line")]
mod scratch;
#[path = "../cli/tls_backend.rs"]
#[expect(dead_code, reason = "shared with the tests of the command line")]
mod tls_backend;

mod access;
mod browser;
mod hostile;
mod http;
mod metric_values;
mod metrics;
mod openapi;
mod page;
mod routes;
mod samples;
