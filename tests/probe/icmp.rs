//! The ICMP check against this kernel; `tests/unreachable.rs` has the network in between.

use std::net::IpAddr;

use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{CheckKind, Target};

use crate::support::{LONG, expect, probe, target};

fn icmp(address: &str) -> Target {
    target((address.parse::<IpAddr>().unwrap(), 0).into(), CheckKind::Icmp, LONG)
}

/// Whether this process may use ICMP at all: without it, being told so is what is tested.
fn denied() -> bool {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
    let bounds: Vec<u32> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
    let group = rustix::process::getegid().as_raw();
    !(bounds[0]..=bounds[1]).contains(&group) && !has_raw()
}

/// CAP_NET_RAW is bit 13 of the effective capabilities (capabilities(7)).
fn has_raw() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() >> 13 & 1 == 1
}

fn expect_reply(address: &str, outcome: &Outcome) {
    if denied() {
        expect(address, outcome, Reason::Denied, "net.ipv4.ping_group_range");
    } else {
        expect(address, outcome, Reason::Ok, "echo reply");
    }
}

#[tokio::test]
async fn this_machine_replies() {
    for address in ["127.0.0.1", "127.1.2.3", "::1"] {
        expect_reply(address, &probe(&icmp(address)).await);
    }
}

#[tokio::test]
async fn many_at_once_get_their_own_replies() {
    let ask = |host: u8| {
        let address = format!("127.0.1.{host}");
        tokio::spawn(async move { (probe(&icmp(&address)).await, address) })
    };
    let tasks: Vec<_> = (1..=40).map(ask).collect();
    for task in tasks {
        let (outcome, address) = task.await.unwrap();
        expect_reply(&address, &outcome);
    }
}
