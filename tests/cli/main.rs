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
mod held;
mod hostile;
mod overrides;
mod plan;
mod reload;
mod run;
mod scratch;
mod status;
mod top;
mod usage;
mod verdicts;
