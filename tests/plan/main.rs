//! Plans from the outside: golden scenarios, and properties that hold for every table, policy and
//! health.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod world;
