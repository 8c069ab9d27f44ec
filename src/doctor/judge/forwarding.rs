//! Packets get to real servers and their answers back to clients, as far as that is decided here;
//! what is decided on the real servers is said.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Case, Finding, Severity, some};
use crate::ipvs::model::{Family, Forwarding};

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let masq = case.families(|it| it == Forwarding::Masq);
    if masq.contains(&Family::Inet) {
        findings.extend(routes(case, "net.ipv4.ip_forward"));
        findings.extend(redirects(case));
    }
    if masq.contains(&Family::Inet6) {
        findings.extend(routes(case, "net.ipv6.conf.all.forwarding"));
    }
    if !masq.is_empty() {
        findings.push(gateway(case));
    }
    findings.extend(reverse_path(case));
    findings.extend(probes_through(case));
    findings.extend(quiet(case));
    findings
}

/// The answers of real servers pass through as any other forwarded packet.
fn routes(case: &Case<'_>, name: &str) -> Option<Finding> {
    let why = "with masq the answers of real servers pass through this machine, and it drops what it does not forward";
    case.on(Severity::Error, "forwarding", name, why)
}

/// A redirect tells a real server to answer a client on its own network directly, past the NAT.
fn redirects(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "redirects";
    let name = |interface: &str| format!("net.ipv4.conf.{}.send_redirects", dotless(interface));
    let all = case.facts.number(&name("all"))?;
    let sends = |interface: &str| all != 0 || case.facts.number(&name(interface)) == Some(1);
    let on: Vec<&str> =
        case.facts.wires().map(|it| it.name.as_str()).filter(|it| sends(it)).collect();
    if on.is_empty() {
        return Some(Finding::ok(ID, "redirects", "not sent"));
    }
    let off = on.iter().chain(&["all"]).map(|it| format!("{}=0", name(it)));
    let command = format!("sysctl -w {}", off.collect::<Vec<_>>().join(" "));
    Some(
        Finding::new(Severity::Note, ID, some(&on))
            .is("sends ICMP redirects")
            .should("none where clients and real servers share a network")
            .why("a real server behind masq that follows one answers its client past the NAT")
            .run(case.facts.here(&command)),
    )
}

/// An interface in the name of a sysctl: there its dots are slashes (sysctl(8)).
fn dotless(interface: &str) -> String {
    interface.replace('.', "/")
}

fn gateway(case: &Case<'_>) -> Finding {
    let addresses = case.facts.wires().flat_map(|it| &it.addresses).filter(|(it, _)| match it {
        IpAddr::V4(_) => true,
        IpAddr::V6(it) => !it.is_unicast_link_local(),
    });
    let virtual_ones = case.addresses();
    let own = addresses.map(|(address, _)| address).filter(|it| !virtual_ones.contains_key(it));
    let own: Vec<&IpAddr> = own.collect();
    let ours = if own.is_empty() { String::new() } else { format!(" ({})", some(&own)) };
    Finding::unseen("way-back", "masq", "it is decided on the real servers")
        .should(format!("their way to clients leads through this machine{ours}"))
        .why("an answer that does not pass here keeps the real server's address, and clients drop it")
        .run_on_real_servers("ip route show default")
}

/// Strict reverse path filtering drops packets that another interface would answer.
fn reverse_path(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "rp-filter";
    let name = |interface: &str| format!("net.ipv4.conf.{}.rp_filter", dotless(interface));
    let value = |interface: &str| case.facts.number(&name(interface));
    let all = value("all")?;
    let wires: Vec<&str> =
        case.facts.wires().filter(|it| it.up).map(|it| it.name.as_str()).collect();
    // The larger of the two counts (ip-sysctl.rst).
    let strict = |it: &&str| value(it).is_some_and(|own| own.max(all) == 1);
    let strict: Vec<&str> = wires.iter().copied().filter(strict).collect();
    // With one way in and out, every packet comes in where its answer would go out.
    if strict.is_empty() || wires.len() < 2 {
        return Some(Finding::ok(ID, "rp_filter", "drops nothing here"));
    }
    let loose = strict.iter().map(|it| format!("{}=2", name(it))).collect::<Vec<_>>().join(" ");
    Some(
        Finding::new(Severity::Note, ID, some(&strict))
            .is("rp_filter 1 (strict)")
            .should("2 where clients come in by another interface than their route leads to")
            .why("such packets are dropped without a word")
            .run(case.facts.here(&format!("sysctl -w {loose}"))),
    )
}

/// What answers a probe `via: vip` comes from an address that this machine holds itself.
fn probes_through(case: &Case<'_>) -> Vec<Finding> {
    const ID: &str = "accept-local";
    let past = case.policies.targets.iter().filter_map(|target| {
        let via = target.check.via.filter(|via| via.answers_past() && via.vip.is_ipv4())?;
        case.facts.holder(via.vip.ip())?;
        Some(case.facts.way_to(target.address.ip())?.name.as_str())
    });
    let interfaces: BTreeSet<&str> = past.collect();
    let judge = |interface: &str| {
        let name = |of: &str| format!("net.ipv4.conf.{}.accept_local", dotless(of));
        let own = case.facts.number(&name(interface))?;
        // Either of the two is enough (ip-sysctl.rst).
        if own != 0 || case.facts.number(&name("all"))? != 0 {
            return Some(Finding::ok(ID, name(interface), "1"));
        }
        Some(
            Finding::new(Severity::Error, ID, name(interface))
                .is("0")
                .should("1")
                .why(
                    "the answer to a probe `via: vip` comes from the virtual address, which this \
                     machine holds and takes for forged: such checks say nothing about anybody",
                )
                .run(case.facts.set(&name(interface), 1)),
        )
    };
    interfaces.into_iter().filter_map(judge).collect()
}

/// Real servers that answer clients themselves hold the virtual address without saying so.
fn quiet(case: &Case<'_>) -> Option<Finding> {
    let direct = case.families(|it| it == Forwarding::Direct);
    let tunnel = case.families(|it| matches!(it, Forwarding::Tunnel(_)));
    let subject = match (direct.is_empty(), tunnel.is_empty()) {
        (true, true) => return None,
        (false, true) => "direct",
        (true, false) => "tunnel",
        (false, false) => "direct and tunnel",
    };
    let unpack = match tunnel.is_empty() {
        true => "",
        false => ", and an interface that unpacks the tunnel with rp_filter 0",
    };
    Some(
        Finding::unseen("quiet-address", subject, "it is decided on the real servers")
            .should(format!("the virtual address on their lo, arp_ignore 1, arp_announce 2{unpack}"))
            .why("without the address they drop the packets; with it and ARP they take the clients away from this machine")
            .run_on_real_servers(
                "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            ),
    )
}
