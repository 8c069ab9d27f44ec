//! Who is told what goes wrong, and that it is over: by mail, webhook or command.
//!
//! What is wrong is derived from what the tasks publish ([`problem`]), compared with what was wrong
//! before, and collected per receiver ([`collect`]) so that twenty real servers of one rack are one
//! message. Messages wait in a queue on disk ([`queue`]) until their receiver takes them
//! ([`deliver`]). All but the delivery is pure; nothing here is ever waited for by a probe.

pub mod collect;
pub mod config;
pub mod deliver;
pub mod file;
pub mod message;
pub mod problem;
pub mod queue;
pub mod task;
