//! Plans from the outside: golden scenarios, and properties that hold for every table, policy and
//! health.

mod golden;
mod properties;
mod scenario;
mod world;
