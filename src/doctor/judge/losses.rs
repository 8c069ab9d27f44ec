//! What throws packets away on purpose.

use super::{Case, Finding, Severity};

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let defences = [
        ("drop-packet", "drop_packet", "a share of all packets to virtual services is dropped"),
        ("drop-entry", "drop_entry", "connections that are being made are forgotten at random"),
        ("secure-tcp", "secure_tcp", "TCP states are those meant for a flood of SYNs"),
    ];
    let defences = defences.into_iter().filter_map(|(id, name, why)| defence(case, id, name, why));
    defences.chain(tracked(case)).collect()
}

/// 0 is off, 1 on demand, 2 on demand and at work now, 3 always at work (ipvs-sysctl.rst).
fn defence(case: &Case<'_>, id: &'static str, name: &str, why: &str) -> Option<Finding> {
    let name = format!("net.ipv4.vs.{name}");
    let trouble = |is: &str| Finding::new(Severity::Warning, id, &name).is(is).why(why);
    Some(match case.facts.number(&name)? {
        2 => trouble("2: memory is short")
            .should("1, which it is again by itself once there is memory")
            .run("free -m"),
        3 => trouble("3: always").should("1 at most").run(case.facts.set(&name, 1)),
        mode => Finding::ok(id, &name, mode.to_string()),
    })
}

/// A full table of connections drops new ones, those of IPVS and those of probes.
fn tracked(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "conntrack-full";
    const MOST: &str = "net.netfilter.nf_conntrack_max";
    let count = case.facts.number("net.netfilter.nf_conntrack_count")?;
    let most = case.facts.number(MOST).filter(|most| *most > 0)?;
    let is = format!("{count} of {most} entries");
    Some(match count.saturating_mul(10) >= most.saturating_mul(9) {
        true => Finding::new(Severity::Warning, ID, MOST)
            .is(is)
            .should("room to spare")
            .why("when it is full new connections are dropped, probes too")
            // The limit is the same in every network namespace and is set in the first one.
            .run(format!("sysctl -w {MOST}={}", most.saturating_mul(2))),
        false => Finding::ok(ID, MOST, is),
    })
}
