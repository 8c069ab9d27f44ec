//! The operator's side of the daemon: who asks, which real server is meant, and the overrides that
//! outlive a restart.
//!
//! [`names`] is pure. [`overriding`] is the task that keeps the overrides and their record;
//! commands reach it through [`crate::control`].

pub mod names;
pub mod overriding;
pub mod peer;
