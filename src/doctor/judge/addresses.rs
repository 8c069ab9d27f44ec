//! Packets to the virtual addresses are for this machine.

use std::net::IpAddr;

use super::{Case, Finding, Severity, some};
use crate::doctor::facts::{Facts, Interface, Seen};
use crate::ipvs::model::ServiceKey;

/// Programs that move addresses between machines.
pub(super) const MOVERS: [&str; 4] = ["keepalived", "pacemakerd", "ucarp", "vrrpd"];

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = match &case.facts.interfaces {
        Err(reason) => vec![Finding::unseen("virtual-address", "virtual addresses", reason)],
        Ok(_) => held(case),
    };
    findings.extend(alone(case));
    findings.extend(marks(case));
    findings
}

fn held(case: &Case<'_>) -> Vec<Finding> {
    let addresses = case.addresses().into_iter();
    addresses.map(|(address, policy)| virtual_address(case.facts, address, policy)).collect()
}

fn virtual_address(facts: &Facts, address: IpAddr, policy: &str) -> Finding {
    const ID: &str = "virtual-address";
    let subject = address.to_string();
    match facts.holder(address) {
        Some(Interface { name, up: true, .. }) => {
            return Finding::ok(ID, subject, format!("on {name}"));
        }
        Some(_) if facts.is_local(address) => {}
        Some(Interface { name, .. }) => {
            return Finding::new(Severity::Error, ID, subject)
                .is(format!("on {name}, which is down"))
                .should("on an interface that is up")
                .why(format!(
                    "so it is no address of this machine: policy {policy} gets no packets"
                ))
                .run(facts.here(&format!("ip link set {name} up")));
        }
        None => {}
    }
    if facts.is_local(address) {
        return Finding::ok(ID, subject, "a local route makes it this machine's");
    }
    let mover = facts.running(&MOVERS);
    let absent = |severity| Finding::new(severity, ID, subject.clone()).is("not on this machine");
    match mover {
        Some(mover) => absent(Severity::Note)
            .should(format!("where {} puts it", mover.name))
            .why(format!("policy {policy} serves it here only while this machine holds it")),
        None => absent(Severity::Error)
            .should("an address of this machine")
            .why(format!(
                "IPVS sees only packets that are for this machine: policy {policy} gets none"
            ))
            .run(facts.here(&format!(
                "ip addr add {} dev {}",
                whole(address),
                place(facts, address)
            ))),
    }
}

/// Whoever answers ARP for a virtual address gets its clients.
fn alone(case: &Case<'_>) -> Vec<Finding> {
    const ID: &str = "answers-alone";
    let judge = |(address, others): (&IpAddr, &Seen<Vec<String>>)| {
        let subject = format!("ARP for {address}");
        match others {
            Err(reason) => Finding::unseen(ID, subject, reason)
                .should("answered by this machine alone"),
            Ok(others) if others.is_empty() => {
                Finding::ok(ID, subject, "answered by this machine alone")
            }
            Ok(others) => Finding::new(Severity::Error, ID, subject)
                .is(format!("also answered by {}", some(others)))
                .should("answered by this machine alone")
                .why("clients that hear the other one first go past IPVS and past every probe; if it \
                      is a real server, it must keep quiet about the address")
                .run_on_real_servers(
                    "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
                ),
        }
    };
    case.facts.also_answered.iter().map(judge).collect()
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// The interface on whose network the address is, else that of the default route, else any.
fn place(facts: &Facts, address: IpAddr) -> &str {
    let found = facts.way_to(address).map(|it| it.name.as_str());
    let first = || facts.wires().find(|it| it.up).map(|it| it.name.as_str());
    found.or(facts.default_route.as_deref()).or_else(first).unwrap_or("lo")
}

/// Who sets firewall marks cannot be seen without speaking the firewall's own language.
fn marks(case: &Case<'_>) -> Option<Finding> {
    let mut marks: Vec<ServiceKey> = case.services().map(|(_, service)| service.key).collect();
    marks.retain(|key| matches!(key, ServiceKey::Fwmark { .. }));
    if marks.is_empty() {
        return None;
    }
    Some(
        Finding::unseen("firewall-mark", some(&marks), "firewall rules are not read")
            .should("a rule in PREROUTING (mangle) that sets the mark, on packets for this machine")
            .why("without the mark no packet is the service's")
            .run(case.facts.here("nft list ruleset")),
    )
}
