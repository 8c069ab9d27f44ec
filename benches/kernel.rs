//! How fast a real kernel's table is read and edited, in a guest: `cargo bench --bench kernel`.
//!
//! Boots the guest itself and runs itself again inside. A guest is slower than hardware at
//! entering its kernel, so what is printed is an upper bound. Prints one line of a table each.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::uml::{Guest, available, is_guest};
use pointsman::ipvs::Ipvs;
use pointsman::ipvs::model::{
    Change, DestinationConfig, DestinationKey, Forwarding, Scheduler, ServiceConfig, ServiceFlags,
    ServiceKey,
};
use pointsman::ipvs::netlink::Netlink;

const SERVICES: u32 = 1000;
const DESTINATIONS: u32 = 10;

fn main() -> ExitCode {
    if is_guest() {
        measure();
        return ExitCode::SUCCESS;
    }
    // Without `--bench` this is `cargo test --benches`, which only wants to know that it starts.
    if !std::env::args().any(|arg| arg == "--bench") || !available("the kernel benchmark") {
        return ExitCode::SUCCESS;
    }
    let myself = std::env::current_exe().unwrap();
    // One processor for the guest's kernel and its processes, which are those of the host.
    let output = Guest::new(myself).deadline(Duration::from_secs(120)).processor(0).run();
    if output.status == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure() {
    let mut kernel = Netlink::open().unwrap();
    let www = service(0);
    run(&mut kernel, &[Change::AddService(www, config())]);
    run(&mut kernel, &(0..100).map(|n| add(www, n)).collect::<Vec<_>>());

    println!("| in the kernel of a guest | median | fastest | slowest | runs |");
    println!("|---|---:|---:|---:|---:|");
    let mut round = 0;
    line("100 weights set, one batch", 201, || {
        round += 1;
        let edits: Vec<Change> = (0..100)
            .map(|n| Change::SetDestination(www, destination(n), weight(1 + round % 2)))
            .collect();
        time(|| run(&mut kernel, &edits))
    });
    line("100 weights set, one by one", 51, || {
        round += 1;
        let edits: Vec<Change> = (0..100)
            .map(|n| Change::SetDestination(www, destination(n), weight(1 + round % 2)))
            .collect();
        time(|| edits.iter().for_each(|edit| run(&mut kernel, std::slice::from_ref(edit))))
    });
    line("100 destinations removed and added, one batch", 51, || {
        let edits: Vec<Change> = (0..50)
            .flat_map(|n| [Change::DeleteDestination(www, destination(n)), add(www, n)])
            .collect();
        time(|| run(&mut kernel, &edits))
    });
    run(&mut kernel, &[Change::DeleteService(www)]);

    let fill: Vec<Change> = (0..SERVICES)
        .flat_map(|number| {
            let key = service(number);
            std::iter::once(Change::AddService(key, config()))
                .chain((0..DESTINATIONS).map(move |n| add(key, n)))
        })
        .collect();
    line("1,000 services × 10 destinations added", 1, || time(|| run(&mut kernel, &fill)));
    line("1,000 services × 10 destinations read", 11, || {
        time(|| assert_eq!(kernel.table().unwrap().len(), SERVICES as usize))
    });
}

fn run(kernel: &mut Netlink, changes: &[Change]) {
    let results = kernel.execute(changes);
    assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn line(what: &str, runs: usize, mut run: impl FnMut() -> Duration) {
    let mut times: Vec<Duration> = (0..runs).map(|_| run()).collect();
    times.sort();
    let show = |time: Duration| {
        if time < Duration::from_millis(1) {
            format!("{} µs", time.as_micros())
        } else {
            format!("{:.1} ms", time.as_secs_f64() * 1e3)
        }
    };
    let (median, fastest, slowest) = (times[runs / 2], times[0], times[runs - 1]);
    println!("| {what} | {} | {} | {} | {runs} |", show(median), show(fastest), show(slowest));
}

fn service(number: u32) -> ServiceKey {
    ServiceKey::Fwmark { mark: number + 1, family: pointsman::ipvs::model::Family::Inet }
}

fn config() -> ServiceConfig {
    ServiceConfig {
        scheduler: Scheduler("wlc".to_owned()),
        flags: ServiceFlags::default(),
        persistence: None,
    }
}

fn destination(number: u32) -> DestinationKey {
    let address = std::net::Ipv4Addr::from(0x0a00_0001 + number);
    DestinationKey { address: address.into(), port: 80 }
}

fn weight(weight: u32) -> DestinationConfig {
    DestinationConfig {
        forwarding: Forwarding::Direct,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add(service: ServiceKey, number: u32) -> Change {
    Change::AddDestination(service, destination(number), weight(1))
}
