//! The daemon has as many descriptors and ports as its probes need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Case, Finding, Severity};
use crate::probe::target::Target;

/// Descriptors that are not for probes.
const RESERVED: u64 = 64;
/// Seconds in TIME_WAIT (TCP_TIMEWAIT_LEN).
const TIME_WAIT: f64 = 60.0;

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    if case.policies.targets.is_empty() {
        return Vec::new();
    }
    [files(case), ports(case)].into_iter().flatten().collect()
}

/// At worst every real server hangs, and every probe lasts as long as it may.
fn files(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "open-files";
    let limit = case.facts.process.as_ref()?.open_files?;
    let at_once: f64 = case.policies.targets.iter().map(occupied).sum();
    let need = at_once.ceil() as u64 + RESERVED;
    let is = format!("{limit}, for {need} at most");
    Some(match need > limit {
        true => Finding::new(Severity::Warning, ID, "open files")
            .is(is)
            .should(format!("LimitNOFILE={} in the unit", need.next_power_of_two()))
            .why("when many real servers hang, probes of the others wait for a free descriptor")
            .run("systemctl edit pointsman"),
        false => Finding::ok(ID, "open files", is),
    })
}

/// How many probes of a target that hangs are in flight, on average.
fn occupied(target: &Target) -> f64 {
    let interval = shortest(target);
    (target.timing.timeout.as_secs_f64() / interval.as_secs_f64()).min(1.0)
}

fn shortest(target: &Target) -> Duration {
    let timing = target.timing;
    timing.fast_interval.map_or(timing.interval, |fast| fast.min(timing.interval))
}

/// A connection to one address and port keeps a port of ours for a minute after its end.
fn ports(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "ports";
    const RANGE: &str = "net.ipv4.ip_local_port_range";
    const REUSE: &str = "net.ipv4.tcp_tw_reuse";
    let range: Vec<u32> =
        case.facts.sysctl(RANGE)?.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let [low, high] = range[..] else { return None };
    let have = high.saturating_sub(low) + 1;
    let mut rates: BTreeMap<SocketAddr, f64> = BTreeMap::new();
    for target in case.policies.targets.iter().filter(|it| it.check.kind.is_over_tcp()) {
        *rates.entry(target.address).or_default() += shortest(target).as_secs_f64().recip();
    }
    let (address, rate) = rates.iter().max_by(|one, other| one.1.total_cmp(other.1))?;
    let need = (rate * TIME_WAIT).ceil() as u64;
    let is = format!("{have}, for {need} at most to {address}");
    if need <= have.into() || case.facts.number(REUSE) == Some(1) {
        return Some(Finding::ok(ID, "local ports", is));
    }
    Some(
        Finding::new(Severity::Warning, ID, "local ports")
            .is(is)
            .should(format!("more ports in {RANGE}, or {REUSE} 1"))
            .why("probes without a port cannot be sent; a connection keeps its port for a minute")
            .run(case.facts.set(REUSE, 1)),
    )
}
