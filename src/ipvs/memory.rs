//! A table in memory with the kernel's rules and errors, for tests, the demo and rehearsals.

use super::model::{
    Change, Connections, Destination, DestinationConfig, DestinationKey, Service, ServiceKey, Table,
};
use super::{Ipvs, IpvsError};

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
    match change {
        Change::AddService(key, config) => {
            if table.contains_key(key) {
                return Err(IpvsError::Exists);
            }
            table
                .insert(*key, Service { config: config.clone(), destinations: Default::default() });
        }
        Change::SetService(key, config) => {
            service(table, key)?.config = config.clone();
        }
        Change::DeleteService(key) => {
            table.remove(key).ok_or(IpvsError::NoSuchService)?;
        }
        Change::AddDestination(key, destination, config) => {
            let service = service(table, key)?;
            check(config)?;
            if service.destinations.contains_key(destination) {
                return Err(IpvsError::Exists);
            }
            let new = Destination { config: *config, connections: Connections::default() };
            service.destinations.insert(*destination, new);
        }
        Change::SetDestination(key, address, config) => {
            let service = service(table, key)?;
            check(config)?;
            destination(service, address)?.config = *config;
        }
        Change::DeleteDestination(key, destination) => {
            let service = service(table, key)?;
            service.destinations.remove(destination).ok_or(IpvsError::NoSuchDestination)?;
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

fn check(config: &DestinationConfig) -> Result<(), IpvsError> {
    let thresholds_cross = config.lower_threshold > config.upper_threshold;
    if config.weight > i32::MAX as u32 || thresholds_cross {
        return Err(IpvsError::OutOfRange);
    }
    Ok(())
}
