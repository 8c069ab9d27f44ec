//! Which virtual services are ours, beyond those the policies declare now.
//!
//! The set is recorded so that a service that leaves the policies while nobody runs is still
//! removed by the next run. Pure; [`crate::record`] keeps it on disk. The order that makes a crash
//! harmless: record [`Owned::claim`] → apply → record [`Owned::settle`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ipvs::model::{ServiceKey, Table};
use crate::record::Kind;

use super::desired::Desired;

/// The record of them.
pub const OWNED: Kind = Kind {
    name: "owned",
    key: "services",
    what: "owned services",
    without: "services that left the policies meanwhile stay",
};

/// The virtual services on record as ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owned(BTreeSet<ServiceKey>);

impl Owned {
    /// Whether this service is on record.
    pub fn contains(&self, key: &ServiceKey) -> bool {
        self.0.contains(key)
    }

    /// How many are on record.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is on record.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All on record, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceKey> {
        self.0.iter()
    }

    /// The record to make before a plan is applied: what is on record and all that is declared.
    ///
    /// Recorded first, no service of ours can be in the table without being on record.
    #[must_use]
    pub fn claim(&self, desired: &Desired) -> Self {
        if desired.services.keys().all(|key| self.contains(key)) {
            return self.clone();
        }
        self.0.iter().chain(desired.services.keys()).copied().collect()
    }

    /// The record to make after a plan was applied: without the services that nobody declares any
    /// more and that are gone from the table.
    ///
    /// What is declared stays on record even when it is not in the table.
    #[must_use]
    pub fn settle(&self, desired: &Desired, table: &Table) -> Self {
        let stays =
            |key: &&ServiceKey| desired.services.contains_key(*key) || table.contains_key(*key);
        self.0.iter().filter(stays).copied().collect()
    }
}

impl FromIterator<ServiceKey> for Owned {
    fn from_iter<I: IntoIterator<Item = ServiceKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::ipvs::model::{Scheduler, Service, ServiceConfig, ServiceFlags};
    use crate::reconcile::desired::DesiredService;

    fn config() -> ServiceConfig {
        let scheduler = Scheduler("rr".to_owned());
        ServiceConfig { scheduler, flags: ServiceFlags::default(), persistence: None }
    }

    fn owned(marks: &[u32]) -> Owned {
        keys(marks).collect()
    }

    fn keys(marks: &[u32]) -> impl Iterator<Item = ServiceKey> {
        marks.iter().map(|mark| format!("fwmark://{mark}").parse().unwrap())
    }

    fn desired(marks: &[u32]) -> Desired {
        let service = DesiredService {
            policy: Some(Arc::from("www")),
            config: config(),
            destinations: BTreeMap::new(),
            absent: BTreeMap::new(),
            waits: false,
        };
        Desired {
            services: keys(marks).map(|key| (key, service.clone())).collect(),
            ..Desired::default()
        }
    }

    fn table(marks: &[u32]) -> Table {
        let service = Service::new(config());
        keys(marks).map(|key| (key, service.clone())).collect()
    }

    #[test]
    fn declared_services_are_claimed_before_they_exist() {
        assert_eq!(owned(&[]).claim(&desired(&[1, 2])), owned(&[1, 2]));
        assert_eq!(owned(&[1, 3]).claim(&desired(&[1, 2])), owned(&[1, 2, 3]));
        assert_eq!(owned(&[1, 3]).claim(&desired(&[1])), owned(&[1, 3]));
    }

    #[test]
    fn what_is_neither_declared_nor_there_is_forgotten() {
        // 1 could not be added, 2 is gone, 3 could not be removed, 4 is foreign.
        assert_eq!(owned(&[1, 2, 3]).settle(&desired(&[1]), &table(&[3, 4])), owned(&[1, 3]));
    }
}
