//! pointsman keeps Linux Virtual Server honest.
//!
//! ```text
//! policies/*.yaml → PolicySet ──┬─ targets → Engine (rise/fall) ⇄ Prober
//!                               └──────────────→ HealthView (policies + verdicts)
//!                                                     │
//!    kernel → Ipvs::table → observed ──→ desired(view, observed)
//!                              └──→ plan(observed, desired, owned) → apply
//! ```
//!
//! Rooms: [`policy`] (YAML to a validated model), [`health`] (the state machine), [`probe`] (who
//! is asked what and when), [`reconcile`] (difference, plan, application), [`ipvs`] (the kernel's
//! table), [`events`] (what happened), [`doctor`] (what is wrong with the machine). Time, randomness,
//! kernel and network come in from outside; what decides is pure.

// Tests outside may unwrap, so this is not a lint of the whole package.
#![warn(clippy::unwrap_used)]

pub mod alerts;
pub mod bounded_file;
pub mod cli;
pub mod control;
mod count;
pub mod daemon;
pub mod doctor;
pub mod events;
pub mod health;
pub mod ipvs;
pub mod notify;
pub mod operator;
pub mod policy;
pub mod privileges;
pub mod probe;
pub mod reconcile;
pub mod record;
pub mod regular_file;
pub mod source;
pub mod top;
pub mod tuning;
pub mod web;
