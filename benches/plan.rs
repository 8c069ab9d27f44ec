//! What a plan costs: `desired` and `plan` together, as every pass of the driver runs them.
//!
//! Prints the median and the slowest of many runs. A size is services × 10 destinations, each
//! policy with ten services and ten real servers.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::health::{Health, Hysteresis};
use pointsman::ipvs::model::{
    Connections, Destination, DestinationConfig, DestinationKey, Forwarding, Protocol, Scheduler,
    Service, ServiceConfig, ServiceFlags, ServiceKey, Table,
};
use pointsman::policy::model::{
    DeclaredDestination, OnDown, Policy, PolicySet, RealServer, TargetId, VirtualService,
};
use pointsman::probe::target::{Check, CheckKind, Target, TcpCheck, Timing};
use pointsman::reconcile::desired::{Moment, desired};
use pointsman::reconcile::ownership::Owned;
use pointsman::reconcile::plan::{Plan, plan};
use pointsman::reconcile::standing::Standing;
use pointsman::reconcile::view::HealthView;

const PER_SERVICE: u32 = 10;
const SERVICES_PER_POLICY: u32 = 10;
const RUNS: usize = 101;
const HEALTH_CHANGES: usize = 100;

fn main() {
    println!("{:<34} {:>7} {:>12} {:>12}", "desired + plan", "steps", "median", "slowest");
    for services in [100, 1_000, 5_000] {
        let (mut view, table) = world(services);
        let owned: Owned = table.keys().copied().collect();
        row(&format!("{services} x 10, no-op"), &view, &table, &owned);
        let unknown = HealthView::uniform(Arc::clone(&view.policies), Health::Unknown);
        row(&format!("{services} x 10, no verdicts"), &unknown, &table, &owned);
        // One real server stands in ten services, so ten verdicts change a hundred destinations.
        let real_servers = HEALTH_CHANGES / SERVICES_PER_POLICY as usize;
        let every = view.verdicts.len() / real_servers;
        for verdict in view.verdicts.iter_mut().step_by(every) {
            verdict.health = Health::Down;
            verdict.reason = Some(Arc::from("no response head within 2s (connected in 1ms)"));
        }
        row(&format!("{services} x 10, 100 go down"), &view, &table, &owned);
        row(&format!("{services} x 10, empty kernel"), &view, &Table::new(), &owned);
    }
}

fn row(name: &str, view: &HealthView, table: &Table, owned: &Owned) {
    let mut times = Vec::new();
    let mut steps = 0;
    for _ in 0..RUNS {
        let start = Instant::now();
        let made: Plan = plan(
            black_box(table),
            &desired(black_box(view), table, &Standing::default(), Moment::first(now(), owned)),
            owned,
        );
        times.push(start.elapsed());
        steps = made.steps.len();
        black_box(made);
    }
    times.sort();
    let (median, slowest) = (times[RUNS / 2], times[RUNS - 1]);
    println!("{name:<34} {steps:>7} {:>9.3} ms {:>9.3} ms", ms(median), ms(slowest));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A table that is just as its policies and their health want it.
fn world(services: u32) -> (HealthView, Table) {
    let mut set = PolicySet { hash: "0".repeat(16), ..PolicySet::default() };
    for number in 0..services / SERVICES_PER_POLICY {
        set.policies.push(policy(number, &mut set.targets));
    }
    let mut table = Table::new();
    for service in set.policies.iter().flat_map(|policy| &policy.services) {
        let connections = Connections { active: 7, inactive: 3, persistent: 0 };
        let destinations = service
            .destinations
            .iter()
            .map(|one| (one.key, Destination { connections, ..Destination::new(one.config) }))
            .collect();
        table.insert(service.key, Service { destinations, ..Service::new(service.config.clone()) });
    }
    (HealthView::uniform(Arc::new(set), Health::Up), table)
}

fn policy(number: u32, targets: &mut Vec<Target>) -> Policy {
    let real_servers: Vec<RealServer> = (0..PER_SERVICE)
        .map(|server| {
            let address = address(0x0a00_0000 + number * PER_SERVICE + server);
            targets.push(target(address));
            let id = TargetId(targets.len() as u32 - 1);
            RealServer {
                name: address.to_string(),
                identity: address.to_string(),
                address,
                targets: vec![id],
                needed: 1,
                advisors: Vec::new(),
            }
        })
        .collect();
    let services = (0..SERVICES_PER_POLICY).map(|service| {
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: address(0xc0a8_0000 + number),
            port: 80 + service as u16,
        };
        virtual_service(key, &real_servers)
    });
    Policy {
        name: format!("policy-{number}"),
        origin: format!("policy-{number}.yaml:1"),
        services: services.collect(),
        real_servers: real_servers.clone(),
        on_down: OnDown::Remove,
        health_floor: None,
        sorry_server: None,
    }
}

fn virtual_service(key: ServiceKey, real_servers: &[RealServer]) -> VirtualService {
    let config = ServiceConfig {
        scheduler: Scheduler("wlc".to_owned()),
        flags: ServiceFlags::default(),
        persistence: None,
    };
    let declared = DestinationConfig {
        forwarding: Forwarding::Direct,
        weight: 80,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let destinations = real_servers
        .iter()
        .map(|server| DeclaredDestination {
            key: DestinationKey { address: server.address, port: 80 },
            config: declared,
        })
        .collect();
    VirtualService {
        key,
        config,
        destinations,
        sorry: None,
        drain: Duration::from_secs(60),
        slow_start: Duration::ZERO,
    }
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

fn target(address: IpAddr) -> Target {
    let once = NonZeroU32::MIN;
    Target {
        address: SocketAddr::new(address, 80),
        check: Arc::new(Check::new(CheckKind::Tcp(TcpCheck::default()))),
        timing: Timing {
            interval: Duration::from_secs(5),
            fast_interval: None,
            timeout: Duration::from_secs(2),
            hysteresis: Hysteresis { rise: once, fall: once },
            damping: None,
            expires: None,
        },
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
