//! Short words for long types.

use pointsman::ipvs::model::{
    Change, Destination, DestinationConfig, DestinationKey, Forwarding, Persistence, Scheduler,
    Service, ServiceConfig, ServiceFlags, ServiceKey, Table,
};
use pointsman::ipvs::{Ipvs, IpvsError};

pub(crate) fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> DestinationKey {
    text.parse().unwrap()
}

pub(crate) fn service(scheduler: &str) -> ServiceConfig {
    ServiceConfig {
        scheduler: Scheduler(scheduler.to_owned()),
        flags: ServiceFlags::default(),
        persistence: None,
    }
}

pub(crate) fn persistent(timeout: u32, prefix: u8, engine: Option<&str>) -> ServiceConfig {
    let engine = engine.map(str::to_owned);
    ServiceConfig { persistence: Some(Persistence { timeout, prefix, engine }), ..service("rr") }
}

pub(crate) fn weight(weight: u32) -> DestinationConfig {
    DestinationConfig {
        forwarding: Forwarding::Masq,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

pub(crate) fn by(forwarding: Forwarding) -> DestinationConfig {
    DestinationConfig { forwarding, ..weight(1) }
}

pub(crate) fn thresholds(upper: u32, lower: u32) -> DestinationConfig {
    DestinationConfig { upper_threshold: upper, lower_threshold: lower, ..weight(1) }
}

/// Executes one change.
pub(crate) fn one(ipvs: &mut dyn Ipvs, change: Change) -> Result<(), IpvsError> {
    let mut results = ipvs.execute(std::slice::from_ref(&change));
    assert_eq!(results.len(), 1, "{change:?}");
    results.remove(0)
}

/// Executes changes that must all succeed.
pub(crate) fn all(ipvs: &mut dyn Ipvs, changes: &[Change]) {
    let results = ipvs.execute(changes);
    assert_eq!(results.len(), changes.len());
    for (change, result) in changes.iter().zip(results) {
        assert_eq!(result, Ok(()), "{change:?}");
    }
}

/// The whole table, without the rates: a kernel measures them, and a table in memory has none.
pub(crate) fn table(ipvs: &mut dyn Ipvs) -> Table {
    let mut table = ipvs.table().unwrap();
    for service in table.values_mut() {
        service.traffic.rates = None;
        service.destinations.values_mut().for_each(|it| it.traffic.rates = None);
    }
    table
}

pub(crate) fn read_service(ipvs: &mut dyn Ipvs, key: &ServiceKey) -> Service {
    table(ipvs).remove(key).unwrap_or_else(|| panic!("{key} is not there"))
}

pub(crate) fn read_destination(
    ipvs: &mut dyn Ipvs,
    service: &ServiceKey,
    key: &DestinationKey,
) -> Destination {
    read_service(ipvs, service)
        .destinations
        .remove(key)
        .unwrap_or_else(|| panic!("{key} is not in {service}"))
}

/// Empties a table.
pub(crate) fn clear(ipvs: &mut dyn Ipvs) {
    let deletes: Vec<Change> = table(ipvs).into_keys().map(Change::DeleteService).collect();
    all(ipvs, &deletes);
    assert_eq!(table(ipvs), Table::new());
}
