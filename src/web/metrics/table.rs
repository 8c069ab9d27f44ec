//! Metrics of the table: virtual services, destinations, and what they serve.

use super::Source;
use super::format::{Family, Kind, Labels, Page};
use super::process::flag;
use crate::control::status::{DestinationStatus, ServiceStatus};
use crate::ipvs::model::{Destination, Service, Traffic};
use crate::reconcile::desired::Why;
use crate::web::ready::Readiness;

const OF_SERVICE: [&str; 3] =
    ["pointsman_service_new_connections", "pointsman_service_packets", "pointsman_service_bytes"];
const OF_DESTINATION: [&str; 3] = [
    "pointsman_destination_new_connections",
    "pointsman_destination_packets",
    "pointsman_destination_bytes",
];

pub(super) fn write(source: &Source<'_>, page: &mut Page) {
    services(source, page);
    let all = destinations(source);
    weights(&all, page);
    let counted = |one: &One<'_>| one.in_table.map(|it| (it.traffic, it.passes_back()));
    for counter in Counter::all(OF_DESTINATION) {
        let mut family = page.family(Kind::Counter, counter.name, counter.help);
        for one in &all {
            if let Some((traffic, passes_back)) = counted(one) {
                counter.write(&mut family, &one.labels, &traffic, passes_back);
            }
        }
    }
}

fn services(source: &Source<'_>, page: &mut Page) {
    let table = source.report.table.as_deref();
    let in_table = |it: &ServiceStatus| table.and_then(|table| table.get(&it.service));
    let all: Vec<(Labels, &ServiceStatus, Option<&Service>)> =
        source.status.services.iter().map(|it| (of_service(it), it, in_table(it))).collect();
    let help = "1 if the virtual service is in the table";
    let mut family = page.family(Kind::Gauge, "pointsman_service_in_table", help);
    for (labels, _, service) in &all {
        family.sample(labels, flag(service.is_some()));
    }
    readiness(source, page);
    let help = "1 while the sorry server answers for the virtual service";
    let mut family = page.family(Kind::Gauge, "pointsman_service_sorry", help);
    for (labels, status, _) in &all {
        let desired = source.report.desired.services.get(&status.service);
        let is = desired
            .is_some_and(|it| it.destinations.values().any(|one| matches!(one.why, Why::Sorry)));
        family.sample(labels, flag(is));
    }
    let help =
        "Destinations of the virtual service that the health floor keeps although they are down";
    let mut family = page.family(Kind::Gauge, "pointsman_service_kept_destinations", help);
    for (labels, status, _) in &all {
        let desired = source.report.desired.services.get(&status.service);
        let kept = desired.map_or(0, |it| {
            it.destinations.values().filter(|one| matches!(one.why, Why::Kept(_))).count()
        });
        family.sample(labels, kept);
    }
    for counter in Counter::all(OF_SERVICE) {
        let mut family = page.family(Kind::Counter, counter.name, counter.help);
        for (labels, _, service) in &all {
            if let Some(service) = service {
                counter.write(&mut family, labels, &service.traffic, service.passes_back());
            }
        }
    }
}

fn readiness(source: &Source<'_>, page: &mut Page) {
    let policies = &source.snapshot.policies.policies;
    let pairs = policies.iter().flat_map(|it| it.services.iter().map(move |one| (it, one)));
    let all: Vec<(Labels, Readiness)> = pairs
        .map(|(policy, service)| {
            let key = service.key.to_string();
            let labels = Labels::of(&[("service", &key), ("policy", &policy.name)]);
            (labels, Readiness::of(policy, service, source.snapshot, source.report))
        })
        .collect();
    let mut write = |name, help, number: fn(&Readiness) -> usize| {
        let mut family = page.family(Kind::Gauge, name, help);
        for (labels, readiness) in &all {
            family.sample(labels, number(readiness));
        }
    };
    let help = "Real servers of the virtual service that take connections and are not down";
    write("pointsman_service_taking_real_servers", help, |it| it.taking);
    let help = "As many must for `/ready` to say 200: the health floor, 1 at least";
    write("pointsman_service_needed_real_servers", help, |it| it.needed);
    let help = "Real servers that its policy declares";
    write("pointsman_service_declared_real_servers", help, |it| it.of);
}

/// The labels of a virtual service; one that has left the policies has an empty one.
fn of_service(service: &ServiceStatus) -> Labels {
    let policy = service.policy.as_deref().unwrap_or_default();
    Labels::of(&[("service", &service.service.to_string()), ("policy", policy)])
}

/// One destination with its labels.
struct One<'a> {
    labels: Labels,
    status: &'a DestinationStatus,
    in_table: Option<&'a Destination>,
}

fn destinations<'a>(source: &Source<'a>) -> Vec<One<'a>> {
    let table = source.report.table.as_deref();
    let mut all = Vec::new();
    for service in &source.status.services {
        let of_service = of_service(service);
        let in_table = table.and_then(|table| table.get(&service.service));
        for status in &service.destinations {
            let labels = of_service
                .and("destination", &status.destination.to_string())
                .and("real_server", status.real_server.as_deref().unwrap_or_default());
            let in_table = in_table.and_then(|it| it.destinations.get(&status.destination));
            all.push(One { labels, status, in_table });
        }
    }
    all
}

fn weights(all: &[One<'_>], page: &mut Page) {
    let help = "The weight that the destination should have now; absent if it should not be there";
    let mut family = page.family(Kind::Gauge, "pointsman_destination_weight_wanted", help);
    for one in all {
        if let Some(weight) = one.status.weight_wanted {
            family.sample(&one.labels, weight);
        }
    }
    let help = "The weight of the destination in the table; absent if it is not there";
    let mut family = page.family(Kind::Gauge, "pointsman_destination_weight", help);
    for one in all {
        if let Some(weight) = one.status.weight_kernel {
            family.sample(&one.labels, weight);
        }
    }
    let help = "Connections in the kernel's table of connections: `active` ones are established";
    let mut family = page.family(Kind::Gauge, "pointsman_destination_connections", help);
    for one in all.iter().filter(|one| one.in_table.is_some()) {
        let connections = one.status.connections;
        family.sample(&one.labels.and("state", "active"), connections.active);
        family.sample(&one.labels.and("state", "inactive"), connections.inactive);
    }
}

/// A counter of the kernel's.
struct Counter {
    name: &'static str,
    help: &'static str,
    /// From clients, and to them; without a direction the first alone.
    read: fn(&Traffic) -> (u64, Option<u64>),
}

impl Counter {
    /// Of connections, packets and bytes, by these names.
    fn all([connections, packets, bytes]: [&'static str; 3]) -> [Self; 3] {
        [
            Self {
                name: connections,
                help: "Connections that the kernel has scheduled",
                read: |it| (it.connections, None),
            },
            Self {
                name: packets,
                help: "Packets that the kernel has counted: `in` from clients, `out` to them with forwarding masq",
                read: |it| (it.packets_in, Some(it.packets_out)),
            },
            Self {
                name: bytes,
                help: "Bytes that the kernel has counted: `in` from clients, `out` to them with forwarding masq",
                read: |it| (it.bytes_in, Some(it.bytes_out)),
            },
        ]
    }

    fn write(&self, family: &mut Family<'_>, labels: &Labels, traffic: &Traffic, back: bool) {
        match (self.read)(traffic) {
            (count, None) => family.sample(labels, count),
            (into, Some(out)) => {
                family.sample(&labels.and("direction", "in"), into);
                if back {
                    family.sample(&labels.and("direction", "out"), out);
                }
            }
        }
    }
}
