//! Somebody else edits the table without a pause while real servers come and go.

use std::sync::atomic::{AtomicBool, Ordering};

use pointsman::ipvs::Ipvs;
use pointsman::ipvs::model::{
    Change, DestinationConfig, DestinationKey, Forwarding, Scheduler, ServiceConfig, ServiceFlags,
    ServiceKey,
};
use pointsman::ipvs::netlink::Netlink;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clock::{PATIENCE, SLACK, rest, until};
use crate::daemon::{Daemon, Policies, policy, status};
use crate::observer::{Lines, direct};
use crate::server::Mode;
use crate::site::Site;

const HTTP: &str = "tcp://202.96.128.166:80";
const HTTPS: &str = "tcp://202.96.128.166:443";
const THEIRS: &str = "fwmark://9";

/// Nothing ends, health is told as ever, and when they stop the table is ours again.
pub(crate) fn edits_never_stop() {
    let site = Site::new();
    site.by_hand("-A -t 203.0.113.9:99 -s sh -b sh-port -p 333 -M 255.255.255.0");
    let foreign = site.table.lines();
    let all = site.addresses();
    let text = policy(&[HTTP, HTTPS], "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &["--resync", "200ms"]);
    let everything: Lines = direct(&[HTTP, HTTPS], 80, &all).union(&foreign).cloned().collect();
    site.table.until_exactly("all in", PATIENCE, &everything);

    let stop = AtomicBool::new(false);
    let edits = std::thread::scope(|scope| {
        let busy = scope.spawn(|| site.director.within(|| edit_until(&stop)));
        site.servers[3].turn(Mode::Hang);
        daemon.until_log("a verdict in the turmoil", |line| line.field("to") == "down");
        site.servers[3].turn(Mode::Serve);
        let came_back = |daemon: &Daemon| daemon.transitions().len() == all.len() + 2;
        until("another", PATIENCE, || came_back(&daemon).then_some(()));
        stop.store(true, Ordering::SeqCst);
        busy.join().unwrap()
    });
    // One service of theirs is left over, which is not ours to remove.
    let mut left = everything;
    left.insert(format!("{THEIRS} rr"));
    site.table.until_exactly("ours again", SLACK, &left);
    let table = status().table;
    println!(
        "  {edits} edits by others; {} changes, {} repairs",
        table.changes, table.drift_repaired
    );
    assert!(table.drift_repaired > 0);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Edits our services and one more at random; how many edits the kernel took. The one more is
/// there at the end.
fn edit_until(stop: &AtomicBool) -> usize {
    let mut kernel = Netlink::open().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut edits = 0;
    while !stop.load(Ordering::SeqCst) {
        // Half of them make no sense, which the kernel says.
        let results = kernel.execute(&[edit(&mut random)]);
        edits += results.iter().filter(|result| result.is_ok()).count();
        rest();
    }
    let theirs = THEIRS.parse().unwrap();
    kernel.execute(&[Change::DeleteService(theirs)]);
    assert_eq!(kernel.execute(&[Change::AddService(theirs, service("rr"))]), [Ok(())]);
    edits
}

fn edit(random: &mut StdRng) -> Change {
    let (key, port) = [(HTTP, 80), (HTTPS, 443), (THEIRS, 80)][random.random_range(0..3)];
    let key: ServiceKey = key.parse().unwrap();
    let destination = format!("192.168.16.{}:{port}", random.random_range(230..238));
    let destination: DestinationKey = destination.parse().unwrap();
    let config = DestinationConfig {
        forwarding: Forwarding::Direct,
        weight: random.random_range(0..100),
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let service = service(["rr", "wlc"][random.random_range(0..2)]);
    match random.random_range(0..6) {
        0 => Change::AddService(key, service),
        1 => Change::SetService(key, service),
        2 => Change::DeleteService(key),
        3 => Change::AddDestination(key, destination, config),
        4 => Change::SetDestination(key, destination, config),
        _ => Change::DeleteDestination(key, destination),
    }
}

fn service(scheduler: &str) -> ServiceConfig {
    let scheduler = Scheduler(scheduler.to_owned());
    ServiceConfig { scheduler, flags: ServiceFlags::default(), persistence: None }
}
