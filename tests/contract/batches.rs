//! What holds for many changes at once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use pointsman::ipvs::model::{Change, DestinationKey, Table};
use pointsman::ipvs::{Ipvs, IpvsError};

use crate::Case;
use crate::words::{all, at, key, read_service, service, table, weight};

pub(crate) const CASES: &[Case] = &[
    ("no changes have no results", |ipvs| assert_eq!(ipvs.execute(&[]), [])),
    ("changes are executed in order", in_order),
    ("a failure does not stop the ones after it", failures_between),
    ("a thousand failures are all reported", all_failures),
    ("many destinations read back", many_destinations),
    ("many services read back", many_services),
];

const WWW: &str = "tcp://192.0.2.1:80";

fn server(number: u32) -> DestinationKey {
    let base = u32::from(Ipv4Addr::new(10, 0, 0, 1));
    DestinationKey { address: Ipv4Addr::from(base + number).into(), port: 80 }
}

fn in_order(ipvs: &mut dyn Ipvs) {
    let (www, one) = (key(WWW), at("198.51.100.1:80"));
    let changes = [
        Change::AddService(www, service("rr")),
        Change::AddDestination(www, one, weight(1)),
        Change::DeleteDestination(www, one),
        Change::AddDestination(www, one, weight(2)),
        Change::SetDestination(www, one, weight(3)),
        Change::SetService(www, service("wlc")),
        Change::DeleteService(www),
        Change::AddService(www, service("sh")),
        Change::AddDestination(www, one, weight(4)),
    ];
    all(ipvs, &changes);
    let read = read_service(ipvs, &www);
    assert_eq!(read.config, service("sh"));
    assert_eq!(read.destinations[&one].config, weight(4));
}

fn failures_between(ipvs: &mut dyn Ipvs) {
    let www = key(WWW);
    all(ipvs, &[Change::AddService(www, service("rr"))]);
    // The first and the last of every batch of 200 and some between fail, each in its own way.
    let expected = |number: u32| match number {
        0 | 199 | 200 | 399 | 599 => Err(IpvsError::OutOfRange),
        1 | 201 | 598 => Err(IpvsError::NoSuchDestination),
        2 | 450 => Err(IpvsError::NoSuchService),
        3 | 398 => Err(IpvsError::Invalid(
            "a persistence timeout is 1 to 2678400 seconds, not 0".to_owned(),
        )),
        _ => Ok(()),
    };
    let changes: Vec<Change> = (0..600)
        .map(|number| match expected(number) {
            Err(IpvsError::OutOfRange) => {
                Change::AddDestination(www, server(number), weight(u32::MAX))
            }
            Err(IpvsError::NoSuchDestination) => Change::DeleteDestination(www, server(number)),
            Err(IpvsError::NoSuchService) => Change::DeleteService(key("fwmark://1")),
            Err(_) => Change::SetService(www, crate::words::persistent(0, 32, None)),
            Ok(()) => Change::AddDestination(www, server(number), weight(number)),
        })
        .collect();
    let results = ipvs.execute(&changes);
    assert_eq!(results, (0..600).map(expected).collect::<Vec<_>>());
    let read: BTreeSet<_> = read_service(ipvs, &www).destinations.into_keys().collect();
    assert_eq!(read, (0..600).filter(|n| expected(*n).is_ok()).map(server).collect());
}

fn all_failures(ipvs: &mut dyn Ipvs) {
    let changes: Vec<Change> =
        (0..1000).map(|n| Change::AddDestination(key(WWW), server(n), weight(1))).collect();
    assert_eq!(ipvs.execute(&changes), vec![Err(IpvsError::NoSuchService); 1000]);
    assert_eq!(table(ipvs), Table::new());
}

fn many_destinations(ipvs: &mut dyn Ipvs) {
    let www = key(WWW);
    let mut changes = vec![Change::AddService(www, service("rr"))];
    changes.extend((0..1500).map(|n| Change::AddDestination(www, server(n), weight(n))));
    all(ipvs, &changes);
    let destinations = read_service(ipvs, &www).destinations;
    assert_eq!(destinations.len(), 1500);
    for number in 0..1500 {
        assert_eq!(destinations[&server(number)].config, weight(number));
    }
}

fn many_services(ipvs: &mut dyn Ipvs) {
    let mut changes = Vec::new();
    for mark in 1..=500 {
        let name = key(&format!("fwmark://{mark}"));
        changes.push(Change::AddService(name, service("wlc")));
        changes.push(Change::AddDestination(name, at("198.51.100.1:0"), weight(mark)));
    }
    all(ipvs, &changes);
    let table = table(ipvs);
    assert_eq!(table.len(), 500);
    for mark in 1..=500 {
        let read = &table[&key(&format!("fwmark://{mark}"))];
        assert_eq!(read.destinations[&at("198.51.100.1:0")].config, weight(mark));
    }
}
