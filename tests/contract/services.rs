//! What holds for virtual services.

use pointsman::ipvs::model::{Change, Scheduler, ServiceFlags, Table};
use pointsman::ipvs::rules::MAX_PERSISTENCE_TIMEOUT;
use pointsman::ipvs::{Ipvs, IpvsError};

use crate::Case;
use crate::words::{all, at, key, one, persistent, read_service, service, table, weight};

pub(crate) const CASES: &[Case] = &[
    ("a new table is empty", |ipvs| assert_eq!(table(ipvs), Table::new())),
    ("every scheduler", every_scheduler),
    ("every kind of key", every_kind_of_key),
    ("every flag", every_flag),
    ("every persistence", every_persistence),
    ("services are edited in place", edited_in_place),
    ("services of one kind are not mixed up", not_mixed_up),
    ("a service goes with its destinations", deleted_with_destinations),
    ("services that are or are not there", there_or_not),
    ("unknown modules", unknown_modules),
    ("service content the kernel would garble", garbled),
];

const WWW: &str = "tcp://192.0.2.1:80";

fn every_scheduler(ipvs: &mut dyn Ipvs) {
    // `twos` is missing in many kernels, that of the guest among them.
    for scheduler in Scheduler::KNOWN.into_iter().filter(|name| *name != "twos") {
        all(ipvs, &[Change::AddService(key(WWW), service(scheduler))]);
        assert_eq!(read_service(ipvs, &key(WWW)).config, service(scheduler));
        all(ipvs, &[Change::DeleteService(key(WWW))]);
    }
    all(ipvs, &[Change::AddService(key(WWW), service("none"))]);
    assert_eq!(read_service(ipvs, &key(WWW)).config, service("none"));
}

fn every_kind_of_key(ipvs: &mut dyn Ipvs) {
    let mut keys = Vec::new();
    for protocol in ["tcp", "udp", "sctp"] {
        for address in ["192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.1:65535", "192.0.2.2:80"] {
            keys.push(key(&format!("{protocol}://{address}")));
        }
    }
    for mark in ["1", "7", "4294967295", "1/inet6", "7/inet6", "4294967295/inet6"] {
        keys.push(key(&format!("fwmark://{mark}")));
    }
    for any_port in ["tcp://192.0.2.1:0", "udp://[2001:db8::1]:0"] {
        keys.push(key(any_port));
    }
    let add = |key| Change::AddService(key, persistent(300, 32, None));
    all(ipvs, &keys.iter().copied().map(add).collect::<Vec<_>>());
    keys.sort();
    assert_eq!(table(ipvs).into_keys().collect::<Vec<_>>(), keys);
}

fn every_flag(ipvs: &mut dyn Ipvs) {
    for scheduler in ["sh", "mh", "rr"] {
        for bits in 0..16u8 {
            let set = |bit: u8| bits & (1 << bit) != 0;
            let flags =
                ServiceFlags { one_packet: set(0), fallback: set(1), port: set(2), sched3: set(3) };
            let mut config = service(scheduler);
            config.flags = flags;
            for name in ["udp://192.0.2.1:53", "udp://[2001:db8::1]:53", "fwmark://9"] {
                all(ipvs, &[Change::AddService(key(name), config.clone())]);
                assert_eq!(read_service(ipvs, &key(name)).config, config);
                all(ipvs, &[Change::DeleteService(key(name))]);
            }
        }
    }
}

fn every_persistence(ipvs: &mut dyn Ipvs) {
    let v4 = (0..=32u8).map(|prefix| ("udp://192.0.2.1:5060", prefix));
    let v6 = (1..=128u8).map(|prefix| ("udp://[2001:db8::1]:5060", prefix));
    let marks = [("fwmark://7", 24), ("fwmark://7/inet6", 64)];
    for (name, prefix) in v4.chain(v6).chain(marks) {
        for (timeout, engine) in [(300, None), (1, Some("sip")), (MAX_PERSISTENCE_TIMEOUT, None)] {
            let config = persistent(timeout, prefix, engine);
            all(ipvs, &[Change::AddService(key(name), config.clone())]);
            assert_eq!(read_service(ipvs, &key(name)).config, config);
            all(ipvs, &[Change::DeleteService(key(name))]);
        }
    }
}

fn edited_in_place(ipvs: &mut dyn Ipvs) {
    let mut flags = service("mh");
    flags.flags.port = true;
    let mut one_packet = service("mh");
    one_packet.flags.one_packet = true;
    let steps = [
        service("wlc"),
        service("mh"),
        flags,
        one_packet,
        persistent(300, 32, None),
        persistent(60, 32, None),
        persistent(60, 24, None),
        persistent(60, 24, Some("sip")),
        persistent(60, 24, None),
        service("none"),
        service("rr"),
    ];
    for name in ["udp://192.0.2.1:80", "udp://[2001:db8::1]:80", "fwmark://7", "fwmark://7/inet6"] {
        let name = key(name);
        let server = at("198.51.100.1:80");
        let server = match name.family() {
            pointsman::ipvs::model::Family::Inet => server,
            pointsman::ipvs::model::Family::Inet6 => at("[2001:db8::2]:80"),
        };
        all(
            ipvs,
            &[
                Change::AddService(name, service("rr")),
                Change::AddDestination(name, server, weight(3)),
            ],
        );
        for config in &steps {
            all(ipvs, &[Change::SetService(name, config.clone())]);
            let read = read_service(ipvs, &name);
            assert_eq!(read.config, *config, "{name}");
            assert_eq!(read.destinations[&server].config, weight(3));
        }
    }
}

fn not_mixed_up(ipvs: &mut dyn Ipvs) {
    let near = ["tcp://192.0.2.1:80", "udp://192.0.2.1:80", "fwmark://7", "fwmark://7/inet6"];
    for (count, name) in near.into_iter().enumerate() {
        let mut config = service("rr");
        config.flags.fallback = count % 2 == 0;
        all(ipvs, &[Change::AddService(key(name), config)]);
    }
    all(ipvs, &[Change::SetService(key("fwmark://7/inet6"), service("wlc"))]);
    all(ipvs, &[Change::AddDestination(key("fwmark://7"), at("198.51.100.1:0"), weight(1))]);
    all(ipvs, &[Change::DeleteService(key("udp://192.0.2.1:80"))]);
    let table = table(ipvs);
    assert_eq!(table.len(), 3);
    assert_eq!(table[&key("fwmark://7/inet6")].config, service("wlc"));
    assert_eq!(table[&key("fwmark://7/inet6")].destinations.len(), 0);
    assert_eq!(table[&key("fwmark://7")].destinations.len(), 1);
    assert_eq!(table[&key("tcp://192.0.2.1:80")].destinations.len(), 0);
}

fn deleted_with_destinations(ipvs: &mut dyn Ipvs) {
    let changes = [
        Change::AddService(key(WWW), service("rr")),
        Change::AddDestination(key(WWW), at("198.51.100.1:80"), weight(1)),
        Change::DeleteService(key(WWW)),
        Change::AddService(key(WWW), service("rr")),
    ];
    all(ipvs, &changes);
    assert_eq!(read_service(ipvs, &key(WWW)).destinations.len(), 0);
}

fn there_or_not(ipvs: &mut dyn Ipvs) {
    let server = at("198.51.100.1:80");
    for name in ["tcp://192.0.2.1:80", "tcp://[2001:db8::1]:80", "fwmark://7", "fwmark://7/inet6"] {
        let name = key(name);
        for change in [
            Change::SetService(name, service("rr")),
            Change::DeleteService(name),
            Change::AddDestination(name, server, weight(1)),
            Change::SetDestination(name, server, weight(1)),
            Change::DeleteDestination(name, server),
            // A missing service is found out first.
            Change::SetService(name, service("nonsense")),
            Change::AddDestination(name, server, weight(u32::MAX)),
        ] {
            assert_eq!(one(ipvs, change.clone()), Err(IpvsError::NoSuchService), "{change:?}");
        }
        all(ipvs, &[Change::AddService(name, service("rr"))]);
        for config in [service("rr"), service("wlc"), service("nonsense")] {
            assert_eq!(one(ipvs, Change::AddService(name, config)), Err(IpvsError::Exists));
        }
        assert_eq!(read_service(ipvs, &name).config, service("rr"));
    }
}

fn unknown_modules(ipvs: &mut dyn Ipvs) {
    let scheduler = IpvsError::NoModuleFor {
        what: "scheduler",
        name: "nonsense".to_owned(),
        module: "ip_vs_nonsense".to_owned(),
    };
    let engine = IpvsError::NoModuleFor {
        what: "persistence engine",
        name: "nonsense".to_owned(),
        module: "ip_vs_pe_nonsense".to_owned(),
    };
    let mut both = persistent(300, 32, Some("nonsense"));
    both.scheduler = Scheduler("nonsense".to_owned());
    let kinds = [
        (service("nonsense"), scheduler.clone()),
        (persistent(300, 32, Some("nonsense")), engine),
        (both, scheduler),
    ];
    for (config, error) in &kinds {
        let result = one(ipvs, Change::AddService(key(WWW), config.clone()));
        assert_eq!(result.as_ref(), Err(error));
    }
    assert_eq!(table(ipvs), Table::new());
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    for (config, error) in &kinds {
        let result = one(ipvs, Change::SetService(key(WWW), config.clone()));
        assert_eq!(result.as_ref(), Err(error));
        assert_eq!(read_service(ipvs, &key(WWW)).config, service("rr"));
    }
}

fn garbled(ipvs: &mut dyn Ipvs) {
    let six = "tcp://[2001:db8::1]:80";
    for (name, config) in [
        (WWW, persistent(0, 32, None)),
        (WWW, persistent(MAX_PERSISTENCE_TIMEOUT + 1, 32, None)),
        (WWW, persistent(300, 33, None)),
        (six, persistent(300, 0, None)),
        (six, persistent(300, 129, None)),
    ] {
        let result = one(ipvs, Change::AddService(key(name), config.clone()));
        assert!(matches!(result, Err(IpvsError::Invalid(_))), "{config:?}: {result:?}");
    }
    for name in ["", "sixteen-letters-", "r\0r"] {
        let result = one(ipvs, Change::AddService(key(WWW), service(name)));
        assert!(matches!(result, Err(IpvsError::NoModuleFor { .. })), "{name:?}: {result:?}");
    }
    assert_eq!(table(ipvs), Table::new());
}
