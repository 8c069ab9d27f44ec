//! From policies and health to an exact table: desired state, difference, plan, application.
//!
//! `desired(view, observed)` says what should be, `plan` orders the difference into steps that are
//! safe to be cut anywhere, `apply` executes them without further choices. All but `apply`, the
//! store of owned services and the driver are pure.

pub mod apply;
pub mod desired;
pub mod diff;
pub mod driver;
pub(crate) mod fitness;
pub mod floor;
pub mod json;
pub mod names;
pub mod overrides;
pub mod ownership;
pub mod plan;
pub mod ramp;
pub mod render;
pub mod standing;
pub mod view;
pub mod why;
pub mod wording;
