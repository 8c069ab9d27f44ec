//! What holds for destinations.

use pointsman::ipvs::model::{
    Change, Connections, DestinationConfig, Forwarding, Tunnel, TunnelChecksum,
};
use pointsman::ipvs::{Ipvs, IpvsError};

use crate::Case;
use crate::words::{
    all, at, by, key, one, read_destination, read_service, service, thresholds, weight,
};

pub(crate) const CASES: &[Case] = &[
    ("every forwarding method", every_forwarding),
    ("weights and thresholds", numbers),
    ("destinations are edited in place", edited_in_place),
    ("destinations are keyed by address and port", keyed),
    ("families mix in tunnels alone", families),
    ("destinations that are or are not there", there_or_not),
    ("destination content the kernel refuses", refused),
    ("which error comes first", order_of_errors),
];

const WWW: &str = "tcp://192.0.2.1:80";
const ONE: &str = "198.51.100.1:80";

const CHECKSUMS: [TunnelChecksum; 3] =
    [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote];

fn every_forwarding(ipvs: &mut dyn Ipvs) {
    let gue = |checksum| Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum });
    let gre = |checksum| Forwarding::Tunnel(Tunnel::Gre { checksum });
    let mut methods = vec![Forwarding::Masq, Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip)];
    methods.extend(CHECKSUMS.map(gue));
    methods.extend(CHECKSUMS.map(gre));
    // What no policy can name: local node and bypass.
    methods.extend([Forwarding::Other(1), Forwarding::Other(4)]);
    for (name, server) in
        [(WWW, ONE), ("udp://[2001:db8::1]:80", "[2001:db8::2]:80"), ("fwmark://7", ONE)]
    {
        let (name, server) = (key(name), at(server));
        all(ipvs, &[Change::AddService(name, service("rr"))]);
        for method in &methods {
            all(ipvs, &[Change::AddDestination(name, server, by(*method))]);
            let read = read_destination(ipvs, &name, &server);
            assert_eq!(read.config, by(*method));
            assert_eq!(read.connections, Connections::default());
            all(ipvs, &[Change::DeleteDestination(name, server)]);
        }
        all(ipvs, &[Change::AddDestination(name, server, weight(1))]);
        for method in methods.iter().chain(methods.iter().rev()) {
            all(ipvs, &[Change::SetDestination(name, server, by(*method))]);
            assert_eq!(read_destination(ipvs, &name, &server).config, by(*method));
        }
    }
}

fn numbers(ipvs: &mut dyn Ipvs) {
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    let good = [
        weight(0),
        weight(1),
        weight(65_536),
        weight(i32::MAX as u32),
        thresholds(1, 0),
        thresholds(1, 1),
        thresholds(100, 75),
        thresholds(u32::MAX, 0),
        thresholds(u32::MAX, u32::MAX),
    ];
    let bad = [
        weight(i32::MAX as u32 + 1),
        weight(u32::MAX),
        thresholds(0, 1),
        thresholds(9, 10),
        thresholds(0, u32::MAX),
    ];
    for config in good {
        all(ipvs, &[Change::AddDestination(key(WWW), at(ONE), config)]);
        assert_eq!(read_destination(ipvs, &key(WWW), &at(ONE)).config, config);
        for config in bad {
            let set = Change::SetDestination(key(WWW), at(ONE), config);
            assert_eq!(one(ipvs, set), Err(IpvsError::OutOfRange), "{config:?}");
        }
        assert_eq!(read_destination(ipvs, &key(WWW), &at(ONE)).config, config);
        all(ipvs, &[Change::DeleteDestination(key(WWW), at(ONE))]);
    }
    for config in bad {
        let add = Change::AddDestination(key(WWW), at(ONE), config);
        assert_eq!(one(ipvs, add), Err(IpvsError::OutOfRange), "{config:?}");
    }
    assert_eq!(read_service(ipvs, &key(WWW)).destinations.len(), 0);
}

fn edited_in_place(ipvs: &mut dyn Ipvs) {
    let gue =
        |port| by(Forwarding::Tunnel(Tunnel::Gue { port, checksum: TunnelChecksum::default() }));
    let two = at("198.51.100.2:80");
    let changes = [
        Change::AddService(key(WWW), service("wrr")),
        Change::AddDestination(key(WWW), at(ONE), weight(1)),
        Change::AddDestination(key(WWW), two, thresholds(7, 5)),
    ];
    all(ipvs, &changes);
    for config in [
        weight(2),
        weight(0),
        weight(2),
        thresholds(10, 0),
        thresholds(10, 5),
        thresholds(0, 0),
        by(Forwarding::Direct),
        gue(1000),
        gue(2000),
        by(Forwarding::Tunnel(Tunnel::Ipip)),
        by(Forwarding::Masq),
    ] {
        all(ipvs, &[Change::SetDestination(key(WWW), at(ONE), config)]);
        assert_eq!(read_destination(ipvs, &key(WWW), &at(ONE)).config, config);
        assert_eq!(read_destination(ipvs, &key(WWW), &two).config, thresholds(7, 5));
    }
}

fn keyed(ipvs: &mut dyn Ipvs) {
    let servers = ["198.51.100.1:0", ONE, "198.51.100.1:8080", "198.51.100.2:80"];
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    for (count, server) in servers.into_iter().enumerate() {
        let config = weight(count as u32);
        all(ipvs, &[Change::AddDestination(key(WWW), at(server), config)]);
    }
    all(ipvs, &[Change::DeleteDestination(key(WWW), at(ONE))]);
    let destinations = read_service(ipvs, &key(WWW)).destinations;
    let weights: Vec<_> =
        destinations.iter().map(|(key, read)| (key.to_string(), read.config.weight)).collect();
    let expected = [("198.51.100.1:0", 0), ("198.51.100.1:8080", 2), ("198.51.100.2:80", 3)];
    assert_eq!(weights, expected.map(|(key, weight)| (key.to_owned(), weight)));
}

fn families(ipvs: &mut dyn Ipvs) {
    let tunnels = [
        Forwarding::Tunnel(Tunnel::Ipip),
        Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None }),
        Forwarding::Tunnel(Tunnel::Gre { checksum: TunnelChecksum::Full }),
    ];
    for (name, server) in [
        (WWW, "[2001:db8::2]:80"),
        ("tcp://[2001:db8::1]:80", ONE),
        ("fwmark://7", "[2001:db8::2]:80"),
        ("fwmark://7/inet6", ONE),
    ] {
        let (name, server) = (key(name), at(server));
        all(ipvs, &[Change::AddService(name, service("rr"))]);
        for forwarding in [Forwarding::Masq, Forwarding::Direct, Forwarding::Other(1)] {
            let result = one(ipvs, Change::AddDestination(name, server, by(forwarding)));
            let Err(IpvsError::Invalid(text)) = result else { panic!("{result:?}") };
            assert!(text.contains("only `tunnel` can cross families"), "{text}");
        }
        for forwarding in tunnels {
            all(ipvs, &[Change::AddDestination(name, server, by(forwarding))]);
            assert_eq!(read_destination(ipvs, &name, &server).config, by(forwarding));
            let result = one(ipvs, Change::SetDestination(name, server, weight(1)));
            assert!(matches!(result, Err(IpvsError::Invalid(_))), "{result:?}");
            all(ipvs, &[Change::DeleteDestination(name, server)]);
        }
    }
}

fn there_or_not(ipvs: &mut dyn Ipvs) {
    let set = |config| Change::SetDestination(key(WWW), at(ONE), config);
    let delete = || Change::DeleteDestination(key(WWW), at(ONE));
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    assert_eq!(one(ipvs, set(weight(1))), Err(IpvsError::NoSuchDestination));
    assert_eq!(one(ipvs, delete()), Err(IpvsError::NoSuchDestination));
    all(ipvs, &[Change::AddDestination(key(WWW), at(ONE), weight(1))]);
    let again = Change::AddDestination(key(WWW), at(ONE), weight(2));
    assert_eq!(one(ipvs, again), Err(IpvsError::Exists));
    assert_eq!(read_destination(ipvs, &key(WWW), &at(ONE)).config, weight(1));
    all(ipvs, &[delete()]);
    assert_eq!(one(ipvs, delete()), Err(IpvsError::NoSuchDestination));
    // Of the other family, so never there.
    let other = Change::DeleteDestination(key(WWW), at("[2001:db8::2]:80"));
    assert_eq!(one(ipvs, other), Err(IpvsError::NoSuchDestination));
}

fn refused(ipvs: &mut dyn Ipvs) {
    let six = "tcp://[2001:db8::1]:80";
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    all(ipvs, &[Change::AddService(key(six), service("rr"))]);
    for (name, server) in [
        (WWW, "0.0.0.0:80"),
        (WWW, "255.255.255.255:80"),
        (WWW, "224.0.0.1:80"),
        (WWW, "239.255.255.255:80"),
        (six, "[::]:80"),
        (six, "[ff02::1]:80"),
        (six, "[fe80::1]:80"),
        (six, "[::ffff:192.0.2.1]:80"),
    ] {
        let result = one(ipvs, Change::AddDestination(key(name), at(server), weight(1)));
        let Err(IpvsError::Invalid(text)) = result else { panic!("{server}: {result:?}") };
        assert!(text.contains("is not the unicast address"), "{text}");
    }
    for (name, server) in [
        (WWW, "127.0.0.1:80"),
        (WWW, "0.0.0.1:80"),
        (WWW, "240.0.0.1:80"),
        (WWW, "169.254.0.1:80"),
        (six, "[::1]:80"),
        (six, "[fc00::1]:80"),
        (six, "[::192.0.2.1]:80"),
        (six, "[64:ff9b::1]:80"),
    ] {
        let result = one(ipvs, Change::AddDestination(key(name), at(server), weight(1)));
        assert_eq!(result, Ok(()), "{server}");
    }
    let bad = Forwarding::Tunnel(Tunnel::Gue { port: 0, checksum: TunnelChecksum::None });
    all(ipvs, &[Change::AddDestination(key(WWW), at(ONE), weight(1))]);
    for change in [
        Change::AddDestination(key(WWW), at("198.51.100.2:80"), by(bad)),
        Change::SetDestination(key(WWW), at(ONE), by(bad)),
    ] {
        let result = one(ipvs, change);
        let Err(IpvsError::Invalid(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("a gue tunnel needs a port"), "{text}");
    }
}

fn order_of_errors(ipvs: &mut dyn Ipvs) {
    let heavy = |forwarding| DestinationConfig { weight: u32::MAX, ..by(forwarding) };
    let gue = Forwarding::Tunnel(Tunnel::Gue { port: 0, checksum: TunnelChecksum::None });
    let (here, gone, six, nobody) =
        (at(ONE), at("198.51.100.9:80"), at("[2001:db8::2]:80"), at("0.0.0.0:80"));
    all(ipvs, &[Change::AddService(key(WWW), service("rr"))]);
    all(ipvs, &[Change::AddDestination(key(WWW), here, weight(1))]);
    let add = |key_, config| Change::AddDestination(key(WWW), key_, config);
    let set = |key_, config| Change::SetDestination(key(WWW), key_, config);
    for (change, expected) in [
        (add(six, heavy(Forwarding::Masq)), "only `tunnel`"),
        (set(six, heavy(Forwarding::Masq)), "only `tunnel`"),
        (add(six, heavy(gue)), "out of range"),
        (add(here, heavy(Forwarding::Masq)), "out of range"),
        (set(gone, heavy(Forwarding::Masq)), "out of range"),
        (add(here, by(gue)), "gue tunnel needs a port"),
        (set(gone, by(gue)), "gue tunnel needs a port"),
        (add(nobody, by(gue)), "gue tunnel needs a port"),
        (set(nobody, weight(1)), "no such destination"),
    ] {
        let error = one(ipvs, change.clone()).unwrap_err().to_string();
        assert!(error.contains(expected), "{change:?}: {error}");
    }
}
