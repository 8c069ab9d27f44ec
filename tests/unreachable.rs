//! Checks by datagrams over a network that fails in every way it can, in a guest with a namespace
//! for each machine: what ICMP says of it, what nobody says, and what the director may not do.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use common::netns::{Machine, Wire};
use common::uml::in_guest;
use pointsman::health::Hysteresis;
use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{Check, CheckKind, Target, TextMatch, Timing, UdpCheck};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

const DEADLINE: Duration = Duration::from_secs(120);

/// The deadline of a probe that must run into it.
const SHORT: Duration = Duration::from_millis(600);
/// The deadline of a probe that must not.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_network_is_told_from_a_real_server() {
    in_guest("a_network_is_told_from_a_real_server", DEADLINE, || {
        let wire = Wire::new();
        let director = wire.machine("director", &["10.0.0.1/24", "2001:db8::1/64"]);
        let router = wire.machine("router", &["10.0.0.2/24", "2001:db8::2/64"]);
        let silent = wire.machine("silent", &["10.0.0.3/24", "2001:db8::3/64"]);
        router.forward();
        for (away, nowhere, forbidden) in [
            ("198.51.100.0/24 via 10.0.0.2", "198.51.100.0/25", "198.51.100.128/25"),
            ("2001:db8:9::/48 via 2001:db8::2", "2001:db8:9::/64", "2001:db8:9:1::/64"),
        ] {
            director.shell(&format!("ip route add {away}"));
            router.shell(&format!("ip route add unreachable {nowhere}"));
            router.shell(&format!("ip route add prohibit {forbidden}"));
        }
        silent.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
        silent.sysctl("net/ipv6/icmp/echo_ignore_all", "1");
        for groups in ["1 0", "0 0"] {
            println!("net.ipv4.ping_group_range = {groups}");
            director.sysctl("net/ipv4/ping_group_range", groups);
            echo(&director);
        }
        datagrams(&director);
        without_privilege(&director);
    });
}

fn echo(director: &Machine) {
    use Reason::{HeadTimeout, Ok, Route, Unreachable};
    for (address, reason, piece) in [
        ("10.0.0.1", Ok, "echo reply"),
        ("10.0.0.2", Ok, "echo reply"),
        ("2001:db8::1", Ok, "echo reply"),
        ("2001:db8::2", Ok, "echo reply"),
        ("10.0.0.3", HeadTimeout, "no echo reply within 600ms"),
        ("2001:db8::3", HeadTimeout, "no echo reply within 600ms"),
        // Nobody has the address: the director's kernel finds out by ARP or neighbour discovery.
        ("10.0.0.99", Unreachable, "no way to 10.0.0.99 (no route to host)"),
        ("2001:db8::99", Unreachable, "no way to 2001:db8::99 (no route to host)"),
        ("198.51.100.1", Unreachable, "no way to 198.51.100.1 (no route to host)"),
        ("198.51.100.129", Unreachable, "no way to 198.51.100.129 (no route to host)"),
        ("2001:db8:9::1", Unreachable, "no way to 2001:db8:9::1 (network is unreachable)"),
        ("2001:db8:9:1::1", Unreachable, "no way to 2001:db8:9:1::1 (permission denied)"),
        ("203.0.113.1", Route, "the director has no route to 203.0.113.1"),
        ("2001:db8:ffff::1", Route, "the director has no route to 2001:db8:ffff::1"),
    ] {
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        expect(director, &target(address, 0, CheckKind::Icmp, timeout), reason, piece);
    }
}

fn datagrams(director: &Machine) {
    use Reason::{HeadTimeout, Ok, Refused, Unreachable};
    let silence = CheckKind::Udp(UdpCheck::default());
    let expected = TextMatch::Contains("pong".to_owned());
    let answer = CheckKind::Udp(UdpCheck { send: b"ping".to_vec(), expect: Some(expected) });
    for kind in [silence, answer.clone()] {
        for (address, reason, piece) in [
            ("10.0.0.2", Refused, "port 9 is closed (connection refused)"),
            ("2001:db8::2", Refused, "port 9 is closed (connection refused)"),
            ("10.0.0.98", Unreachable, "no way to 10.0.0.98"),
            ("198.51.100.1", Unreachable, "no way to 198.51.100.1"),
            ("2001:db8:9:1::1", Unreachable, "no way to 2001:db8:9:1::1"),
        ] {
            expect(director, &target(address, 9, kind.clone(), LONG), reason, piece);
        }
    }
    // What a check without an expectation cannot see, as its lint says.
    let silence = CheckKind::Udp(UdpCheck::default());
    expect(director, &target("10.0.0.97", 9, silence, SHORT), Ok, "not refused");
    expect(director, &target("10.0.0.97", 9, answer, SHORT), HeadTimeout, "no answer within 600ms");
}

/// Neither a group that may use ICMP nor CAP_NET_RAW.
fn without_privilege(director: &Machine) {
    director.sysctl("net/ipv4/ping_group_range", "1 0");
    let outcome = director.within(|| {
        let mut sets = capabilities(None).unwrap();
        // What is only laid down would be taken up again.
        sets.effective.remove(CapabilitySet::NET_RAW);
        sets.permitted.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, sets).unwrap();
        probe(&target("10.0.0.2", 0, CheckKind::Icmp, LONG))
    });
    assert_eq!(outcome.reason, Reason::Denied, "{outcome:?}");
    let piece = "give it CAP_NET_RAW or a group in net.ipv4.ping_group_range";
    assert!(outcome.detail.contains(piece), "{outcome:?}");
}

fn expect(director: &Machine, target: &Target, reason: Reason, piece: &str) {
    let outcome = director.within(|| probe(target));
    println!("{target}: {}", outcome.detail);
    assert_eq!(outcome.reason, reason, "{target}: {outcome:?}");
    assert!(outcome.detail.contains(piece), "{target}: `{}` lacks `{piece}`", outcome.detail);
}

fn probe(target: &Target) -> pointsman::probe::outcome::Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(NetworkProber::new().probe(target))
}

fn target(address: &str, port: u16, kind: CheckKind, timeout: Duration) -> Target {
    let one = NonZeroU32::MIN;
    Target {
        address: SocketAddr::new(address.parse::<IpAddr>().unwrap(), port),
        check: Arc::new(Check::new(kind)),
        timing: Timing {
            damping: None,
            expires: None,
            interval: LONG,
            fast_interval: None,
            timeout,
            hysteresis: Hysteresis { rise: one, fall: one },
        },
    }
}
