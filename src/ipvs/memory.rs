//! A table in memory with the kernel's rules and errors, for tests, the demo and rehearsals.
//!
//! The contract suite holds it to what a real kernel answers, down to which of two errors comes
//! first. What it cannot know are the kernel's own addresses and which modules it has: it takes
//! any destination of a plausible address and every scheduler of mainline Linux.

use super::model::{
    Change, Destination, DestinationConfig, DestinationKey, Service, ServiceConfig, ServiceKey,
    Table,
};
use super::{Ipvs, IpvsError, rules};

/// A table of virtual services that lives in this process.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    table: Table,
}

impl Memory {
    /// A table with this content.
    pub fn new(table: Table) -> Self {
        Self { table }
    }
}

impl Ipvs for Memory {
    fn table(&mut self) -> Result<Table, IpvsError> {
        Ok(self.table.clone())
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        changes.iter().map(|change| apply(&mut self.table, change)).collect()
    }
}

/// Applies one change to a table as the kernel would.
///
/// # Errors
/// Those of the kernel; the table is then as before.
pub fn apply(table: &mut Table, change: &Change) -> Result<(), IpvsError> {
    rules::sendable(change)?;
    match change {
        Change::AddService(key, config) => {
            if table.contains_key(key) {
                return Err(IpvsError::Exists);
            }
            modules(config)?;
            table.insert(*key, Service::new(config.clone()));
        }
        Change::SetService(key, config) => {
            let service = service(table, key)?;
            modules(config)?;
            service.config = config.clone();
        }
        Change::DeleteService(key) => {
            table.remove(key).ok_or(IpvsError::NoSuchService)?;
        }
        Change::AddDestination(key, address, config) => {
            let service = service(table, key)?;
            check(key, address, config)?;
            if service.destinations.contains_key(address) {
                return Err(IpvsError::Exists);
            }
            refuse(rules::not_unicast(address))?;
            service.destinations.insert(*address, Destination::new(*config));
        }
        Change::SetDestination(key, address, config) => {
            let service = service(table, key)?;
            check(key, address, config)?;
            destination(service, address)?.config = *config;
        }
        Change::DeleteDestination(key, address) => {
            let service = service(table, key)?;
            service.destinations.remove(address).ok_or(IpvsError::NoSuchDestination)?;
        }
    }
    Ok(())
}

fn service<'t>(table: &'t mut Table, key: &ServiceKey) -> Result<&'t mut Service, IpvsError> {
    table.get_mut(key).ok_or(IpvsError::NoSuchService)
}

fn destination<'t>(
    service: &'t mut Service,
    key: &DestinationKey,
) -> Result<&'t mut Destination, IpvsError> {
    service.destinations.get_mut(key).ok_or(IpvsError::NoSuchDestination)
}

/// The scheduler first, as in the kernel; `none` is its word for a service without one.
fn modules(config: &ServiceConfig) -> Result<(), IpvsError> {
    if !config.scheduler.is_known() && config.scheduler.0 != "none" {
        return Err(rules::no_scheduler(&config.scheduler));
    }
    match config.persistence.as_ref().and_then(|p| p.engine.as_deref()) {
        None | Some("sip") => Ok(()),
        Some(engine) => Err(rules::no_engine(engine)),
    }
}

fn check(
    service: &ServiceKey,
    key: &DestinationKey,
    config: &DestinationConfig,
) -> Result<(), IpvsError> {
    refuse(rules::mixed_families(service, key, config))?;
    let thresholds_cross = config.lower_threshold > config.upper_threshold;
    if config.weight > i32::MAX as u32 || thresholds_cross {
        return Err(IpvsError::OutOfRange);
    }
    refuse(rules::no_tunnel_port(config))
}

fn refuse(reason: Option<String>) -> Result<(), IpvsError> {
    reason.map_or(Ok(()), |reason| Err(IpvsError::Invalid(reason)))
}
