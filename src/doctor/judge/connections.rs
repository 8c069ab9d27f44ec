//! What becomes of connections when real servers leave, and for how long they are remembered.

use super::{Case, Finding, Severity, some};
use crate::ipvs::model::{Forwarding, Protocol, ServiceKey, Timeouts};
use crate::policy::model::OnDown;

/// Seconds; shorter than this ordinary pauses of users end connections.
const SHORT: u32 = 60;

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(nodest(case));
    findings.extend(templates(case));
    findings.extend(reuse(case));
    findings.extend(conntrack(case));
    if let Ok(ipvs) = &case.facts.ipvs {
        findings.push(idle(case, ipvs.timeouts));
        findings.extend(fin(case, ipvs.timeouts));
    }
    findings
}

/// Without it the kernel drops packets to a destination that is gone (ip_vs_in).
fn nodest(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.expire_nodest_conn";
    let keys = |on_down: OnDown| {
        let services = case.services().filter(move |(policy, _)| policy.on_down == on_down);
        services.map(|(_, service)| (service.key, service.config.flags.one_packet))
    };
    let cut: Vec<_> = keys(OnDown::Cut).map(|(key, _)| key).collect();
    let is_udp = |key| matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
    let removed = keys(OnDown::Remove).filter(|(key, one_packet)| is_udp(*key) && !one_packet);
    let udp: Vec<_> = removed.map(|(key, _)| key).collect();
    let (severity, why) = if !cut.is_empty() {
        let why = format!(
            "`on_down: cut` of {} does not cut: packets to a real server that is gone are dropped without a word",
            some(&cut)
        );
        (Severity::Error, why)
    } else if !udp.is_empty() {
        let why = format!(
            "a client of {} that keeps its port is sent nowhere for as long as IPVS remembers the real server that is gone",
            some(&udp)
        );
        (Severity::Warning, why)
    } else {
        let why = "connections to a real server that was removed hang rather than end";
        (Severity::Note, why.to_owned())
    };
    case.on(severity, "expire-nodest", NAME, &why)
}

/// Templates lead known clients to destinations of weight 0.
fn templates(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.expire_quiescent_template";
    let persistent = || case.services().filter(|(_, it)| it.config.persistence.is_some());
    let quiesced: Vec<_> = persistent()
        .filter(|(policy, _)| policy.on_down == OnDown::Quiesce)
        .map(|(_, it)| it.key)
        .collect();
    let drained: Vec<_> =
        persistent().filter(|(_, it)| !it.drain_of_one().is_zero()).map(|(_, it)| it.key).collect();
    let (severity, why) = match (quiesced.is_empty(), drained.is_empty()) {
        (true, true) => return None,
        (false, _) => (
            Severity::Warning,
            format!(
                "known clients of {} keep going to a real server that is down",
                some(&quiesced)
            ),
        ),
        (true, false) => (
            Severity::Note,
            format!("known clients of {} keep coming to a real server that drains", some(&drained)),
        ),
    };
    case.on(severity, "expire-template", NAME, &why)
}

/// What happens to a new connection from a port that an old one had (ipvs-sysctl.rst).
fn reuse(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.conn_reuse_mode";
    const ID: &str = "conn-reuse";
    let mode = case.facts.number(NAME)?;
    // Until Linux 5.9 it dropped the SYN for the sake of the conntrack entry.
    let drops = case.facts.kernel_before(5, 9)
        && case.facts.number("net.ipv4.vs.conntrack").is_some_and(|it| it != 0);
    let trouble = |severity, should: u8| {
        Finding::new(severity, ID, NAME)
            .is(mode.to_string())
            .should(should.to_string())
            .run(case.facts.set(NAME, should))
    };
    Some(match mode {
        0 if drops => Finding::ok(ID, NAME, "0: no SYN waits for its conntrack entry"),
        0 => trouble(Severity::Warning, 1).why(
            "a new connection from a port that was used before goes to the real server of the old one, also if that drains or is down",
        ),
        _ if drops => trouble(Severity::Warning, 0).why(format!(
            "with net.ipv4.vs.conntrack Linux before 5.9 (this is {}) drops the first SYN from a port that was used before, and such clients wait a second, unless the fix was taken over",
            case.facts.release
        )),
        _ => Finding::ok(ID, NAME, mode.to_string()),
    })
}

/// Firewall rules see connections of IPVS only with its conntrack entries.
fn conntrack(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.conntrack";
    const WHY: &str = "rules that rewrite (SNAT, MASQUERADE) or match the state of connections do not see those of masq";
    let masq = !case.families(|it| it == Forwarding::Masq).is_empty();
    if !masq || !case.facts.modules.present.contains("nf_nat") {
        return None;
    }
    let finding = case.on(Severity::Note, "conntrack", NAME, WHY)?;
    Some(match finding.severity {
        Severity::Note => finding.should("1 if the NAT rules of this machine are meant for them"),
        _ => finding,
    })
}

fn idle(case: &Case<'_>, timeouts: Timeouts) -> Finding {
    const ID: &str = "idle-timeout";
    const WHY: &str = "a TCP connection without a packet for so long is forgotten, and its next packet is refused";
    let seconds = timeouts.tcp;
    let is = format!("{seconds} s");
    match seconds < SHORT {
        true => Finding::new(Severity::Warning, ID, "idle TCP connections")
            .is(is)
            .should("longer than applications are silent, 900 s by default")
            .why(WHY)
            .run(case.facts.here("ipvsadm --set 900 0 0")),
        false => Finding::ok(ID, "idle TCP connections", is).why(WHY),
    }
}

/// IPVS sees one half of a connection under direct and tunnel, and waits after its FIN.
fn fin(case: &Case<'_>, timeouts: Timeouts) -> Option<Finding> {
    const ID: &str = "fin-timeout";
    const SUBJECT: &str = "closed TCP connections";
    let half = |it: Forwarding| matches!(it, Forwarding::Direct | Forwarding::Tunnel(_));
    let mut drains: Vec<_> = case
        .services()
        .filter(|(_, it)| it.destinations.iter().any(|one| half(one.config.forwarding)))
        .filter(|(_, it)| matches!(it.key, ServiceKey::Address { protocol: Protocol::Tcp, .. }))
        .map(|(_, it)| it.drain_of_one().as_secs())
        .filter(|drain| *drain > 0)
        .collect();
    drains.sort_unstable();
    let shortest = *drains.first()?;
    let is = format!("remembered for {} s", timeouts.tcp_fin);
    if u64::from(timeouts.tcp_fin) <= shortest {
        return Some(Finding::ok(ID, SUBJECT, is));
    }
    let shorter = (shortest / 4).max(1);
    Some(
        Finding::new(Severity::Note, ID, SUBJECT)
            .is(is)
            .should(format!("shorter than the deadline of `drain`, {shortest} s"))
            .why("under direct and tunnel they count as connections, so that a drain lasts until its deadline")
            .run(case.facts.here(&format!("ipvsadm --set 0 {shorter} 0"))),
    )
}
