//! Policies: from YAML files to a model that cannot be wrong.
//!
//! Stages: bytes → `node` (a tree with positions) → `file` (mirrors the YAML) → `resolve` →
//! [`model`]. Each stage collects every [`problem`] it finds. Reading files is [`load`], noticing
//! that they changed is [`watch`]; everything else is pure.

pub(crate) mod decode;
pub mod export;
mod file;
mod fingerprint;
pub mod guard;
pub mod load;
pub mod model;
pub(crate) mod node;
pub mod problem;
mod resolve;
pub mod schema;
pub(crate) mod source;
pub mod starter;
pub mod watch;

pub(crate) use decode::closest;

#[cfg(test)]
mod tests;
