//! Random changes from a small world, most of them wrong in some way.

use pointsman::ipvs::model::{
    Change, DestinationConfig, DestinationKey, Forwarding, Persistence, Scheduler, ServiceConfig,
    ServiceFlags, ServiceKey, Tunnel, TunnelChecksum,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::words::{at, key};

const SERVICES: [&str; 8] = [
    "tcp://192.0.2.1:80",
    "tcp://192.0.2.1:443",
    "udp://192.0.2.1:80",
    "sctp://[2001:db8::1]:0",
    "tcp://[2001:db8::1]:80",
    "fwmark://7",
    "fwmark://7/inet6",
    "fwmark://4294967295",
];

const DESTINATIONS: [&str; 8] = [
    "198.51.100.1:80",
    "198.51.100.1:0",
    "198.51.100.2:80",
    "224.0.0.1:80",
    "[2001:db8::1]:80",
    "[2001:db8::2]:0",
    "[fe80::1]:80",
    "127.0.0.1:80",
];

const SCHEDULERS: [&str; 12] =
    ["rr", "wrr", "lc", "wlc", "lblc", "dh", "sh", "sed", "mh", "none", "nonsense", ""];

/// A source of changes; the same seed makes the same ones.
pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn changes(&mut self, count: usize) -> Vec<Change> {
        (0..count).map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Change {
        let service = self.service_key();
        match self.0.random_range(0..20) {
            0..4 => Change::AddService(service, self.service_config()),
            4..7 => Change::SetService(service, self.service_config()),
            7 => Change::DeleteService(service),
            8..13 => Change::AddDestination(service, self.server(), self.destination_config()),
            13..17 => Change::SetDestination(service, self.server(), self.destination_config()),
            _ => Change::DeleteDestination(service, self.server()),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).unwrap()
    }

    fn service_key(&mut self) -> ServiceKey {
        key(self.pick(&SERVICES))
    }

    fn server(&mut self) -> DestinationKey {
        at(self.pick(&DESTINATIONS))
    }

    fn service_config(&mut self) -> ServiceConfig {
        let [one_packet, fallback, port, sched3] = self.0.random();
        let engine = self.pick(&[None, None, None, Some("sip"), Some("nonsense")]);
        let persistence = Persistence {
            timeout: self.pick(&[1, 60, 300, 86_400, 0, u32::MAX]),
            prefix: self.pick(&[1, 24, 32, 32, 0, 64, 128, 129]),
            engine: engine.map(str::to_owned),
        };
        ServiceConfig {
            scheduler: Scheduler(self.pick(&SCHEDULERS).to_owned()),
            flags: ServiceFlags { one_packet, fallback, port, sched3 },
            persistence: self.0.random_bool(0.4).then_some(persistence),
        }
    }

    fn destination_config(&mut self) -> DestinationConfig {
        let checksum =
            self.pick(&[TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]);
        let port = self.pick(&[6080, 65_535, 0]);
        DestinationConfig {
            forwarding: self.pick(&[
                Forwarding::Masq,
                Forwarding::Direct,
                Forwarding::Other(1),
                Forwarding::Tunnel(Tunnel::Ipip),
                Forwarding::Tunnel(Tunnel::Gue { port, checksum }),
                Forwarding::Tunnel(Tunnel::Gre { checksum }),
            ]),
            weight: self.pick(&[0, 1, 80, 80, i32::MAX as u32, u32::MAX]),
            upper_threshold: self.pick(&[0, 0, 10, u32::MAX]),
            lower_threshold: self.pick(&[0, 0, 0, 5, 20]),
        }
    }
}
