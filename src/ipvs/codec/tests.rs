use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::ipvs::model::{
    Connections, DestinationConfig, Forwarding, Persistence, Protocol, Rates, Scheduler,
    ServiceConfig, ServiceFlags, Traffic, Tunnel, TunnelChecksum,
};

const HEAD: Head = Head { family: 30, sequence: 7, want: Want::Failure };

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let family = prop_oneof![Just(Family::Inet), Just(Family::Inet6)];
    prop_oneof![
        (protocol(), any::<IpAddr>(), any::<u16>()).prop_map(|(protocol, address, port)| {
            ServiceKey::Address { protocol, address, port }
        }),
        (1u32.., family).prop_map(|(mark, family)| ServiceKey::Fwmark { mark, family }),
    ]
}

fn config(family: Family) -> impl Strategy<Value = ServiceConfig> {
    let prefix = match family {
        Family::Inet => 0u8..=32,
        Family::Inet6 => 1u8..=128,
    };
    let persistence = (1..=rules::MAX_PERSISTENCE_TIMEOUT, prefix, any::<bool>()).prop_map(
        |(timeout, prefix, sip)| Persistence {
            timeout,
            prefix,
            engine: sip.then(|| "sip".to_owned()),
        },
    );
    let flags = any::<[bool; 4]>().prop_map(|[one_packet, fallback, port, sched3]| ServiceFlags {
        one_packet,
        fallback,
        port,
        sched3,
    });
    ("[a-z]{1,15}", flags, proptest::option::of(persistence)).prop_map(
        |(scheduler, flags, persistence)| ServiceConfig {
            scheduler: Scheduler(scheduler),
            flags,
            persistence,
        },
    )
}

fn service() -> impl Strategy<Value = (ServiceKey, ServiceConfig)> {
    key().prop_flat_map(|key| config(key.family()).prop_map(move |config| (key, config)))
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let checksum = || {
        prop_oneof![
            Just(TunnelChecksum::None),
            Just(TunnelChecksum::Full),
            Just(TunnelChecksum::Remote),
        ]
    };
    prop_oneof![
        Just(Forwarding::Masq),
        Just(Forwarding::Direct),
        Just(Forwarding::Other(1)),
        Just(Forwarding::Tunnel(Tunnel::Ipip)),
        (any::<u16>(), checksum())
            .prop_map(|(port, checksum)| Forwarding::Tunnel(Tunnel::Gue { port, checksum })),
        checksum().prop_map(|checksum| Forwarding::Tunnel(Tunnel::Gre { checksum })),
    ]
}

fn destination() -> impl Strategy<Value = (DestinationKey, DestinationConfig)> {
    let key = (any::<IpAddr>(), any::<u16>())
        .prop_map(|(address, port)| DestinationKey { address, port });
    let config = (forwarding(), any::<[u32; 3]>()).prop_map(|(forwarding, numbers)| {
        let [weight, upper_threshold, lower_threshold] = numbers;
        DestinationConfig { forwarding, weight, upper_threshold, lower_threshold }
    });
    (key, config)
}

/// The kernel's answers are built of the same attributes as the commands.
fn object(buffer: &[u8]) -> &[u8] {
    let replies: Vec<_> = replies(buffer).collect::<Result<_, _>>().unwrap();
    let [Reply { sequence: 7, interrupted: false, body: Body::Object(object) }] = replies[..]
    else {
        panic!("not one object: {replies:?}")
    };
    object
}

proptest! {
    #[test]
    fn services_read_back_as_written((key, config) in service()) {
        let mut buffer = Vec::new();
        put_change(&mut buffer, HEAD, &Change::AddService(key, config.clone())).unwrap();
        prop_assert_eq!(buffer.len() % 4, 0);
        prop_assert_eq!(super::service(object(&buffer)), Ok(Some((key, Service::new(config)))));
    }

    #[test]
    fn destinations_read_back_as_written(service in key(), (key, config) in destination()) {
        let mut buffer = Vec::new();
        put_change(&mut buffer, HEAD, &Change::SetDestination(service, key, config)).unwrap();
        let read = super::destination(object(&buffer), service.family());
        prop_assert_eq!(read, Ok(Some((key, Destination::new(config)))));
    }

    #[test]
    fn a_cut_answer_is_an_error_or_less((key, config) in service(), cut in any::<prop::sample::Index>()) {
        let mut buffer = Vec::new();
        put_change(&mut buffer, HEAD, &Change::AddService(key, config)).unwrap();
        let cut = cut.index(buffer.len());
        let read: Vec<_> = replies(&buffer[..cut]).collect();
        prop_assert!(matches!(&read[..], [] | [Err(IpvsError::Netlink(_))]));
        // The same with the length mended, so that the cut is met further in.
        let whole = object(&buffer);
        let cut = cut.min(whole.len());
        let _ = super::service(&whole[..cut]);
    }

    #[test]
    fn noise_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn a_damaged_answer_is_never_a_panic(
        (service, config) in service(),
        (key, destination) in destination(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut buffer = Vec::new();
        put_change(&mut buffer, HEAD, &Change::AddService(service, config)).unwrap();
        let change = Change::AddDestination(service, key, destination);
        put_change(&mut buffer, HEAD, &change).unwrap();
        for (at, byte) in damage {
            let at = at.index(buffer.len());
            buffer[at] = byte;
        }
        read_everything(&buffer);
    }
}

fn read_everything(bytes: &[u8]) {
    read_object(bytes);
    for reply in replies(bytes) {
        if let Ok(Reply { body: Body::Object(object), .. }) = reply {
            read_object(object);
        }
    }
}

fn read_object(bytes: &[u8]) {
    let _ = family(bytes);
    let _ = super::service(bytes);
    let _ = super::destination(bytes, Family::Inet);
    let _ = super::destination(bytes, Family::Inet6);
}

fn nest(fill: impl FnOnce(&mut Request<'_>)) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut request = Request::new(&mut buffer, HEAD, NEW_SERVICE);
    fill(&mut request);
    request.finish();
    object(&buffer).to_vec()
}

#[test]
fn what_the_kernel_adds_is_dropped() {
    let object = nest(|request| {
        request.nest(ATTR_SERVICE, |nest| {
            nest.put_u16(1, AF_INET);
            nest.put_u32(5, 9);
            nest.put_text(6, "wlc");
            nest.put(7, &[2u32.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
            nest.put_u32(8, 360);
            nest.put(9, &[255, 255, 255, 0]);
        });
    });
    let (key, service) = service_in(&object).unwrap();
    assert_eq!(key, ServiceKey::Fwmark { mark: 9, family: Family::Inet });
    let config = service.config;
    assert_eq!(config.flags, ServiceFlags::default());
    assert_eq!(config.persistence, None);
}

fn service_in(object: &[u8]) -> Option<(ServiceKey, Service)> {
    super::service(object).unwrap()
}

#[test]
fn kinds_without_a_name_are_passed_over() {
    for (family, protocol) in [(AF_INET, 41), (77, 6)] {
        let object = nest(|request| {
            request.nest(ATTR_SERVICE, |nest| {
                nest.put_u16(1, family);
                nest.put_u16(2, protocol);
                nest.put(3, &[192, 0, 2, 1]);
                nest.put(4, &[0, 80]);
                nest.put_text(6, "rr");
            });
        });
        assert_eq!(service_in(&object), None);
    }
}

#[test]
fn a_destination_without_family_has_the_one_of_its_service() {
    let object = nest(|request| {
        request.nest(ATTR_DEST, |nest| {
            nest.put(1, &[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            nest.put(2, &[0, 80]);
            nest.put_u32(3, 3);
            nest.put_u32(7, 11);
            nest.put_u32(8, 12);
            nest.put_u32(9, 13);
        });
    });
    let (key, destination) = super::destination(&object, Family::Inet).unwrap().unwrap();
    assert_eq!(key, "192.0.2.1:80".parse().unwrap());
    assert_eq!(destination.config.forwarding, Forwarding::Direct);
    let connections = Connections { active: 11, inactive: 12, persistent: 13 };
    assert_eq!(destination.connections, connections);
}

#[test]
fn tunnels_no_policy_can_name_are_a_number() {
    for (kind, flags) in [(9u8, 0u16), (1, 3)] {
        let object = nest(|request| {
            request.nest(ATTR_DEST, |nest| {
                nest.put(1, &[192, 0, 2, 1]);
                nest.put(2, &[0, 80]);
                nest.put_u32(3, 2);
                nest.put(13, &[kind]);
                nest.put_u16(15, flags);
            });
        });
        let (_, destination) = super::destination(&object, Family::Inet).unwrap().unwrap();
        assert_eq!(destination.config.forwarding, Forwarding::Other(2));
    }
}

#[test]
fn what_the_kernel_would_garble_is_not_sent() {
    let key: ServiceKey = "tcp://192.0.2.1:80".parse().unwrap();
    let key6: ServiceKey = "tcp://[2001:db8::1]:80".parse().unwrap();
    let config = |timeout, prefix| ServiceConfig {
        scheduler: Scheduler("rr".to_owned()),
        flags: ServiceFlags::default(),
        persistence: Some(Persistence { timeout, prefix, engine: None }),
    };
    let mut long = config(300, 32);
    long.scheduler.0 = "averyveryverylongname".to_owned();
    let mut nul = config(300, 32);
    nul.persistence.as_mut().unwrap().engine = Some("s\0p".to_owned());
    for (change, says) in [
        (Change::AddService(key, config(0, 32)), "timeout"),
        (Change::SetService(key, config(u32::MAX, 32)), "timeout"),
        (Change::AddService(key, config(300, 33)), "0 to 32, not 33"),
        (Change::AddService(key6, config(300, 0)), "1 to 128, not 0"),
        (Change::AddService(key, long), "no scheduler `averyveryverylongname`"),
        (Change::AddService(key, nul), "no persistence engine"),
    ] {
        let mut buffer = Vec::new();
        let error = put_change(&mut buffer, HEAD, &change).unwrap_err();
        assert!(error.to_string().contains(says), "{change:?}: {error}");
        assert!(buffer.is_empty());
    }
}

/// The kernel's two nests, the narrow one first. Rates come last; those of packets, 7 and 8, are of
/// no interest.
fn put_traffic(nest: &mut Request<'_>, wide: u64) {
    nest.nest(10, |nest| {
        (1..=3).for_each(|kind| nest.put_u32(kind, 7));
        (4..=5).for_each(|kind| nest.put(kind, &1_000u64.to_ne_bytes()));
        (6..=10).for_each(|kind| nest.put_u32(kind, u32::from(kind)));
    });
    nest.nest(12, |nest| {
        (1..=3).for_each(|kind| nest.put(kind, &wide.to_ne_bytes()));
        (4..=5).for_each(|kind| nest.put(kind, &1_000u64.to_ne_bytes()));
        (6..=9).for_each(|kind| nest.put(kind, &u64::from(kind).to_ne_bytes()));
        nest.put(10, &wide.to_ne_bytes());
    });
}

#[test]
fn traffic_is_read_with_64_bits_where_there_are_so_many() {
    let counted = |wide| Traffic {
        connections: wide,
        packets_in: wide,
        packets_out: wide,
        bytes_in: 1_000,
        bytes_out: 1_000,
        rates: Some(Rates { connections: 6, bytes_in: 9, bytes_out: wide }),
    };
    let wide = (1 << 32) + 7;
    let object = nest(|request| {
        request.nest(ATTR_SERVICE, |nest| {
            nest.put_u16(1, AF_INET);
            nest.put_u32(5, 9);
            nest.put_text(6, "wlc");
            put_traffic(nest, wide);
        });
    });
    assert_eq!(service_in(&object).unwrap().1.traffic, counted(wide));
    let object = nest(|request| {
        request.nest(ATTR_DEST, |nest| {
            nest.put(1, &[192, 0, 2, 1]);
            nest.put(2, &[0, 80]);
            put_traffic(nest, wide);
        });
    });
    let (_, destination) = super::destination(&object, Family::Inet).unwrap().unwrap();
    assert_eq!(destination.traffic, counted(wide));
    let old = nest(|request| {
        request.nest(ATTR_DEST, |nest| {
            nest.put(1, &[192, 0, 2, 1]);
            nest.put(2, &[0, 80]);
            nest.nest(10, |nest| (1..=3).for_each(|kind| nest.put_u32(kind, 7)));
        });
    });
    let (_, destination) = super::destination(&old, Family::Inet).unwrap().unwrap();
    assert_eq!((destination.traffic.packets_out, destination.traffic.rates), (7, None));
}
