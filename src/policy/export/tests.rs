//! What is exported is what was there: no plan against the table has anything to do.

use std::sync::Arc;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::health::Health;
use crate::ipvs::memory;
use crate::ipvs::model::{Change, DestinationKey, Scheduler, ServiceFlags};
use crate::policy::model::PolicySet;
use crate::reconcile::desired::{Moment, desired};
use crate::reconcile::ownership::Owned;
use crate::reconcile::plan::plan;
use crate::reconcile::standing::Standing;
use crate::reconcile::view::HealthView;

const SERVICES: [&str; 12] = [
    "tcp://192.0.2.1:80",
    "tcp://192.0.2.1:443",
    "tcp://192.0.2.2:80",
    "tcp://192.0.2.1:0",
    "udp://192.0.2.1:53",
    "sctp://192.0.2.1:132",
    "tcp://[2001:db8::]:80",
    "udp://[2001:db8::1]:53",
    "fwmark://7",
    "fwmark://8",
    "fwmark://7/inet6",
    "tcp://[::ffff:192.0.2.1]:80",
];
const SERVERS: [&str; 7] = [
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.3",
    "2001:db8::",
    "2001:db8::a",
    "2001:db8:1:2:3:4:5:6",
    "10.0.0.1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_after_an_export_is_empty(table in tables()) {
        let export = export(&table);
        let set = loaded(&export.yaml);
        let declared: Vec<ServiceKey> =
            set.policies.iter().flat_map(|it| &it.services).map(|it| it.key).collect();
        for key in table.keys() {
            let left_out = export.left_out.iter().any(|(left_out, _)| left_out == key);
            prop_assert_ne!(left_out, declared.contains(key), "{}", key);
            prop_assert!(left_out || sayable(key, &table[key]), "{}", key);
            prop_assert!(!left_out || !sayable(key, &table[key]), "{:?}", export.left_out);
        }
        for health in [Health::Up, Health::Unknown] {
            let view = HealthView::uniform(Arc::new(set.clone()), health);
            let owned: Owned = declared.iter().copied().collect();
            let moment = Moment::first(now(), &owned);
            let wanted = desired(&view, &table, &Standing::default(), moment);
            prop_assert_eq!(plan(&table, &wanted, &owned).steps, vec![], "{}", export.yaml);
        }
    }
}

/// What the documentation of policies says of the universe above.
fn sayable(key: &ServiceKey, service: &Service) -> bool {
    let (protocol, own) = match key {
        ServiceKey::Address { protocol, port, .. } => (Some(protocol.to_string()), *port),
        ServiceKey::Fwmark { .. } => (None, 0),
    };
    let datagrams = protocol.is_none_or(|protocol| protocol == "udp");
    let config = &service.config;
    let flags = config.flags;
    let engine = config.persistence.as_ref().is_some_and(|it| it.engine.is_some());
    let every_port = matches!(key, ServiceKey::Address { port: 0, .. });
    let settings = config.scheduler.is_known()
        && !flags.sched3
        && (config.scheduler.has_flags() || !(flags.fallback || flags.port))
        && (datagrams || !(flags.one_packet || engine))
        && (!every_port || config.persistence.is_some());
    let mapped = key.to_string().contains("::ffff:");
    let destinations = service.destinations.iter().all(|(destination, found)| {
        let port = match found.config.forwarding {
            Forwarding::Masq => destination.port == own || destination.port != 0,
            Forwarding::Direct | Forwarding::Tunnel(_) => destination.port == own,
            Forwarding::Other(_) => false,
        };
        let checksum = !matches!(
            found.config.forwarding,
            Forwarding::Tunnel(Tunnel::Gre { checksum: TunnelChecksum::Remote })
        );
        port && checksum
    });
    settings && !mapped && destinations && !service.destinations.is_empty()
}

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn now() -> Instant {
    Instant::now()
}

fn loaded(yaml: &str) -> PolicySet {
    if yaml.is_empty() {
        return PolicySet::default();
    }
    read_text(yaml).unwrap_or_else(|problem| panic!("{problem}\n{yaml}"))
}

/// Tables that the kernel would have: what it refuses is not in them.
fn tables() -> impl Strategy<Value = Table> {
    let service = (select(&SERVICES[..]), service_configs(), vec(destinations(), 0..5));
    // The same again, as services often are.
    let repeat = any::<prop::sample::Index>();
    vec((service, proptest::option::of(repeat)), 0..6).prop_map(|services| {
        let mut table = Table::new();
        for (index, ((key, config, destinations), repeat)) in services.iter().enumerate() {
            let (config, destinations) = match repeat {
                Some(of) if index > 0 => {
                    let ((_, config, destinations), _) = &services[of.index(index)];
                    (config, destinations)
                }
                _ => (config, destinations),
            };
            let key: ServiceKey = key.parse().unwrap();
            let _ = memory::apply(&mut table, &Change::AddService(key, config.clone()));
            let own = match key {
                ServiceKey::Address { port, .. } => port,
                ServiceKey::Fwmark { .. } => 0,
            };
            for (address, port, config) in destinations {
                let at =
                    DestinationKey { address: address.parse().unwrap(), port: port.unwrap_or(own) };
                let _ = memory::apply(&mut table, &Change::AddDestination(key, at, *config));
            }
        }
        table
    })
}

fn service_configs() -> impl Strategy<Value = ServiceConfig> {
    let schedulers = select(vec!["wlc", "wlc", "rr", "sh", "mh", "none"]);
    let rarely = || proptest::bool::weighted(0.1);
    let flags = (rarely(), proptest::bool::weighted(0.2), rarely(), proptest::bool::weighted(0.02));
    let engine = proptest::option::weighted(0.2, Just("sip".to_owned()));
    let timeout = prop_oneof![1..=2_678_400u32, Just(300)];
    let prefix = select(vec![1u8, 24, 32, 64, 128]);
    let persistence = proptest::option::weighted(0.4, (timeout, prefix, engine));
    (schedulers, flags, persistence).prop_map(|(scheduler, flags, persistence)| ServiceConfig {
        scheduler: Scheduler(scheduler.to_owned()),
        flags: ServiceFlags {
            one_packet: flags.0,
            fallback: flags.1,
            port: flags.2,
            sched3: flags.3,
        },
        persistence: persistence.map(|(timeout, prefix, engine)| Persistence {
            timeout,
            prefix,
            engine,
        }),
    })
}

fn destinations() -> impl Strategy<Value = (&'static str, Option<u16>, DestinationConfig)> {
    let checksums =
        || select(vec![TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]);
    let forwarding = prop_oneof![
        4 => Just(Forwarding::Direct),
        4 => Just(Forwarding::Masq),
        1 => Just(Forwarding::Tunnel(Tunnel::Ipip)),
        1 => (1..=u16::MAX, checksums())
            .prop_map(|(port, checksum)| Forwarding::Tunnel(Tunnel::Gue { port, checksum })),
        1 => checksums().prop_map(|checksum| Forwarding::Tunnel(Tunnel::Gre { checksum })),
        1 => select(vec![1, 4]).prop_map(Forwarding::Other),
    ];
    let weight = select(vec![0, 1, 1, 80, 2_147_483_647]);
    let thresholds = select(vec![(0, 0), (0, 0), (0, 0), (10, 0), (u32::MAX, 7)]);
    let config =
        (forwarding, weight, thresholds).prop_map(|(forwarding, weight, (upper, lower))| {
            DestinationConfig { forwarding, weight, upper_threshold: upper, lower_threshold: lower }
        });
    let port = select(vec![None, None, None, Some(8080), Some(80), Some(0)]);
    (select(&SERVERS[..]), port, config)
}

#[test]
fn equal_services_share_a_policy() {
    let mut table = Table::new();
    let mut add = |service: &str, destinations: &[(&str, u32)]| {
        let key: ServiceKey = service.parse().unwrap();
        let scheduler = Scheduler("wlc".to_owned());
        let config = ServiceConfig { scheduler, flags: ServiceFlags::default(), persistence: None };
        memory::apply(&mut table, &Change::AddService(key, config)).unwrap();
        for (at, weight) in destinations {
            let config = DestinationConfig {
                forwarding: Forwarding::Masq,
                weight: *weight,
                upper_threshold: 0,
                lower_threshold: 0,
            };
            let change = Change::AddDestination(key, at.parse().unwrap(), config);
            memory::apply(&mut table, &change).unwrap();
        }
    };
    add("tcp://192.0.2.1:80", &[("10.0.0.1:80", 80), ("10.0.0.2:80", 80), ("10.0.0.3:80", 0)]);
    add(
        "tcp://192.0.2.1:443",
        &[("10.0.0.1:8443", 80), ("10.0.0.2:8443", 80), ("10.0.0.3:8443", 0)],
    );
    add("tcp://192.0.2.2:80", &[("10.0.0.1:80", 80), ("10.0.0.1:81", 80)]);
    add("tcp://192.0.2.3:80", &[]);
    let export = export(&table);
    let expected = "\
# The IPVS table as policies, written by `pointsman export`.
#
# Left out, and left alone by the daemon:
#   tcp://192.0.2.3:80: an empty list of real servers
---
name: tcp-192.0.2.1-80
virtual_services:
  - tcp://192.0.2.1:80
  - { service: \"tcp://192.0.2.1:443\", port: 8443 }
scheduler: wlc
forwarding: masq
weight: 80
real_servers:
  - 10.0.0.1
  - 10.0.0.2
  - { address: 10.0.0.3, weight: 0 }
# Add a check: without one every real server counts as up. For example
#   - http: { path: /healthz }
checks: []
---
name: tcp-192.0.2.2-80
virtual_services:
  - tcp://192.0.2.2:80
scheduler: wlc
forwarding: masq
weight: 80
real_servers:
  - 10.0.0.1
  - 10.0.0.1:81
# Add a check: without one every real server counts as up. For example
#   - http: { path: /healthz }
checks: []
";
    assert_eq!(export.yaml, expected);
    assert_eq!(export.left_out.len(), 1);
}

#[test]
fn an_empty_table_is_no_policy() {
    assert_eq!(export(&Table::new()), Export { yaml: String::new(), left_out: Vec::new() });
}
