//! The command line as its user meets it: the binary from outside, with a table in memory, real
//! HTTP servers on loopback and directories of its own for each test.

mod advice;
mod alerts;
mod backend;
mod bad_input;
mod check;
mod daemon;
mod demo;
mod doctor;
mod events;
mod explain;
mod export;
mod held;
mod hostile;
mod mail;
mod overrides;
mod plan;
mod privileges;
mod reload;
mod run;
mod scratch;
mod settings;
mod status;
mod systemd;
mod tls_backend;
mod top;
mod usage;
mod verdicts;
