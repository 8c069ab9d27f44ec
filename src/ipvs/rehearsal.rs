//! A dry run: reads a real table, keeps every write to itself.
//!
//! What was written is kept as the state each touched object was left in, and laid over the inner
//! table on every read. So a caller sees its own writes, and a second plan is empty, whatever
//! others do to the inner table meanwhile. The inner table is never written.

use std::collections::BTreeMap;

use super::memory;
use super::model::{
    Change, Destination, DestinationConfig, DestinationKey, Service, ServiceConfig, ServiceKey,
    Table,
};
use super::{Ipvs, IpvsError};

/// An inner table with writes laid over it in memory.
#[derive(Debug)]
pub struct Rehearsal<I> {
    inner: I,
    overlay: BTreeMap<ServiceKey, Touched>,
}

impl<I: Ipvs> Rehearsal<I> {
    /// A rehearsal on this table, with nothing written yet.
    pub fn new(inner: I) -> Self {
        Self { inner, overlay: BTreeMap::new() }
    }
}

impl<I: Ipvs> Ipvs for Rehearsal<I> {
    fn table(&mut self) -> Result<Table, IpvsError> {
        let mut table = self.inner.table()?;
        for (key, touched) in &self.overlay {
            touched.lay_over(&mut table, key);
        }
        Ok(table)
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        let mut table = match self.table() {
            Ok(table) => table,
            Err(error) => return vec![Err(error); changes.len()],
        };
        changes
            .iter()
            .map(|change| {
                memory::apply(&mut table, change)?;
                self.record(change);
                Ok(())
            })
            .collect()
    }
}

/// What the writes have left a virtual service in.
#[derive(Debug, Default)]
struct Touched {
    service: Fate,
    /// `None` is deleted.
    destinations: BTreeMap<DestinationKey, Option<DestinationConfig>>,
}

#[derive(Debug, Default)]
enum Fate {
    /// Only destinations of it were written.
    #[default]
    Untouched,
    /// Settings replaced, destinations kept.
    Set(ServiceConfig),
    /// Added, so that none of the inner table's destinations are in it.
    Added(ServiceConfig),
    Deleted,
}

impl<I> Rehearsal<I> {
    fn record(&mut self, change: &Change) {
        let touched = self.overlay.entry(*change.service()).or_default();
        match change {
            Change::AddService(_, config) => {
                *touched = Touched { service: Fate::Added(config.clone()), ..Default::default() };
            }
            Change::SetService(_, config) => {
                let config = config.clone();
                touched.service = match touched.service {
                    Fate::Added(_) => Fate::Added(config),
                    _ => Fate::Set(config),
                };
            }
            Change::DeleteService(_) => {
                *touched = Touched { service: Fate::Deleted, ..Default::default() };
            }
            Change::AddDestination(_, key, config) | Change::SetDestination(_, key, config) => {
                touched.destinations.insert(*key, Some(*config));
            }
            Change::DeleteDestination(_, key) => {
                touched.destinations.insert(*key, None);
            }
        }
    }
}

impl Touched {
    fn lay_over(&self, table: &mut Table, key: &ServiceKey) {
        match &self.service {
            Fate::Untouched => {}
            Fate::Deleted => {
                table.remove(key);
            }
            Fate::Set(config) => {
                let empty = || Service::new(config.clone());
                table.entry(*key).or_insert_with(empty).config = config.clone();
            }
            Fate::Added(config) => {
                table.insert(*key, Service::new(config.clone()));
            }
        }
        // Gone from the inner table: what was written into it is gone with it.
        let Some(service) = table.get_mut(key) else { return };
        for (address, config) in &self.destinations {
            match config {
                None => {
                    service.destinations.remove(address);
                }
                Some(config) => {
                    let new = Destination::new(*config);
                    service.destinations.entry(*address).or_insert(new).config = *config;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::memory::Memory;
    use crate::ipvs::model::{Forwarding, Scheduler, ServiceFlags};

    fn service(scheduler: &str) -> ServiceConfig {
        ServiceConfig {
            scheduler: Scheduler(scheduler.to_owned()),
            flags: ServiceFlags::default(),
            persistence: None,
        }
    }

    fn weight(weight: u32) -> DestinationConfig {
        DestinationConfig {
            forwarding: Forwarding::Direct,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    fn key(text: &str) -> ServiceKey {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DestinationKey {
        text.parse().unwrap()
    }

    /// One service with two destinations.
    fn inner() -> Memory {
        let mut memory = Memory::default();
        let www = key("tcp://192.0.2.1:80");
        let results = memory.execute(&[
            Change::AddService(www, service("rr")),
            Change::AddDestination(www, at("10.0.0.1:80"), weight(1)),
            Change::AddDestination(www, at("10.0.0.2:80"), weight(1)),
        ]);
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        memory
    }

    /// Every kind of change, and its result with the rehearsal next to that without.
    fn script() -> Vec<Change> {
        let (www, dns) = (key("tcp://192.0.2.1:80"), key("udp://192.0.2.1:53"));
        vec![
            Change::AddService(dns, service("wlc")),
            Change::AddDestination(dns, at("10.0.0.3:53"), weight(5)),
            Change::SetService(dns, service("sh")),
            Change::AddService(www, service("wlc")),
            Change::SetService(www, service("wlc")),
            Change::SetDestination(www, at("10.0.0.1:80"), weight(7)),
            Change::DeleteDestination(www, at("10.0.0.2:80")),
            Change::DeleteDestination(www, at("10.0.0.2:80")),
            Change::AddDestination(www, at("10.0.0.2:80"), weight(2)),
            Change::SetDestination(dns, at("10.0.0.9:53"), weight(5)),
            Change::DeleteService(www),
            Change::AddDestination(www, at("10.0.0.1:80"), weight(1)),
            Change::AddService(www, service("mh")),
            Change::AddDestination(www, at("10.0.0.4:80"), weight(1)),
        ]
    }

    #[test]
    fn answers_and_reads_as_the_real_thing() {
        // In one go, and with a read of the inner table before every change.
        for size in [1, script().len()] {
            let mut real = inner();
            let mut rehearsal = Rehearsal::new(inner());
            for changes in script().chunks(size) {
                assert_eq!(rehearsal.execute(changes), real.execute(changes));
                assert_eq!(rehearsal.table(), real.table());
            }
            assert_eq!(rehearsal.inner.table(), inner().table());
        }
    }

    #[test]
    fn edits_by_others_show_unless_written_over() {
        let www = key("tcp://192.0.2.1:80");
        let mut rehearsal = Rehearsal::new(inner());
        rehearsal.execute(&[Change::SetDestination(www, at("10.0.0.1:80"), weight(7))]);
        let results = rehearsal.inner.execute(&[
            Change::SetDestination(www, at("10.0.0.1:80"), weight(9)),
            Change::SetDestination(www, at("10.0.0.2:80"), weight(9)),
            Change::AddService(key("fwmark://7"), service("rr")),
        ]);
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        let table = rehearsal.table().unwrap();
        assert_eq!(table[&www].destinations[&at("10.0.0.1:80")].config, weight(7));
        assert_eq!(table[&www].destinations[&at("10.0.0.2:80")].config, weight(9));
        assert!(table.contains_key(&key("fwmark://7")));
    }

    #[test]
    fn a_service_deleted_by_others_can_be_added_again() {
        let www = key("tcp://192.0.2.1:80");
        let mut rehearsal = Rehearsal::new(inner());
        rehearsal.execute(&[Change::SetDestination(www, at("10.0.0.1:80"), weight(7))]);
        assert_eq!(rehearsal.inner.execute(&[Change::DeleteService(www)]), [Ok(())]);
        assert_eq!(rehearsal.table(), Ok(Table::new()));
        let results = rehearsal.execute(&[
            Change::AddService(www, service("rr")),
            Change::AddDestination(www, at("10.0.0.1:80"), weight(7)),
        ]);
        assert_eq!(results, [Ok(()), Ok(())]);
        let table = rehearsal.table().unwrap();
        assert_eq!(table[&www].destinations.len(), 1);
        // Nor does it matter that the others put it back, with something else in it.
        let results = rehearsal.inner.execute(&[
            Change::AddService(www, service("wlc")),
            Change::AddDestination(www, at("10.0.0.5:80"), weight(1)),
        ]);
        assert_eq!(results, [Ok(()), Ok(())]);
        assert_eq!(rehearsal.table(), Ok(table));
    }
}
