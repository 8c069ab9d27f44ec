//! Who else writes to the table, and what is in it that no policy declares.

use std::collections::BTreeSet;

use super::{Case, Finding, Severity, some};
use crate::count::count;
use crate::doctor::facts::Daemon;

/// Programs that write to the table or take packets before it sees them, and how.
const OTHERS: [(&str, Severity, &str); 9] = [
    ("ldirectord", Severity::Warning, "it writes to the table"),
    ("mon", Severity::Note, "its alerts may write to the table"),
    ("surealived", Severity::Warning, "it writes to the table"),
    ("seesaw_ncc", Severity::Warning, "it writes to the table"),
    ("gorb", Severity::Warning, "it writes to the table"),
    ("merlin", Severity::Warning, "it writes to the table"),
    (
        "keepalived",
        Severity::Note,
        "it writes to the table if its configuration has a virtual_server",
    ),
    (
        "kube-proxy",
        Severity::Note,
        "in ipvs mode it removes virtual services of others; ipvs.excludeCIDRs keeps it from ours",
    ),
    ("cilium-agent", Severity::Note, "its programs may take packets before IPVS sees them"),
];

/// The interface that kube-proxy makes in ipvs mode.
const KUBE: &str = "kube-ipvs0";

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = OTHERS
        .iter()
        .filter_map(|(name, severity, why)| other(case, name, *severity, why))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("other-writer", "other writers", "none of those known runs"));
    }
    findings.extend(ourselves(case));
    findings.extend(repairs(case));
    findings.extend(foreign(case));
    findings
}

fn other(case: &Case<'_>, name: &str, severity: Severity, why: &str) -> Option<Finding> {
    let process = case.facts.running(&[name])?;
    let balances = case.facts.keepalived_balances.filter(|_| name == "keepalived");
    let (severity, why) = match balances {
        Some(false) => return None,
        Some(true) => {
            (Severity::Warning, "its configuration has virtual_server blocks: take them out")
        }
        None => (severity, why),
    };
    let kube = name == "kube-proxy" && case.facts.wires().any(|it| it.name == KUBE);
    let severity = if kube { Severity::Warning } else { severity };
    let finding = Finding::new(severity, "other-writer", name)
        .is(format!("running, pid {}", process.pid))
        .should("one writer for each virtual service")
        .why(why);
    Some(match severity {
        Severity::Warning if !kube && balances.is_none() => {
            finding.run(format!("systemctl disable --now {name}"))
        }
        _ => finding,
    })
}

/// Another daemon holds the table, on a socket of its own.
fn ourselves(case: &Case<'_>) -> Option<Finding> {
    let known = match case.facts.daemon {
        Daemon::Running { pid, .. } => Some(pid),
        Daemon::Absent(_) => None,
        // Who does not tell is the one.
        Daemon::Silent(_) => return None,
    };
    let holder = case.facts.table_holder.filter(|holder| Some(*holder) != known)?;
    Some(
        Finding::new(Severity::Note, "second-daemon", "pointsman")
            .is(format!("pid {holder} holds the table"))
            .should("asked on its own socket")
            .why("it does not answer on this one; name its socket with --socket"),
    )
}

/// Somebody who is not known keeps changing what policies declare.
fn repairs(case: &Case<'_>) -> Option<Finding> {
    let Daemon::Running { repairs: count @ 1.., .. } = case.facts.daemon else { return None };
    Some(
        Finding::new(Severity::Warning, "drift", "IPVS table")
            .is(format!("{} since the daemon started", self::count(count, "repair")))
            .should("left to the daemon")
            .why("somebody else changes what policies declare: a script, another tool, a hand")
            .run("pointsman events --since 1day | grep repair"),
    )
}

fn foreign(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "undeclared";
    const SUBJECT: &str = "IPVS table";
    let table = &case.facts.ipvs.as_ref().ok()?.table;
    if case.facts.bad_policies.is_some() {
        return None;
    }
    let declared: BTreeSet<_> = case.services().map(|(_, service)| service.key).collect();
    let foreign: Vec<_> =
        table.keys().filter(|key| !declared.contains(key) && !key.is_private()).collect();
    if foreign.is_empty() {
        return Some(Finding::ok(ID, SUBJECT, "only what policies declare"));
    }
    Some(
        Finding::new(Severity::Note, ID, SUBJECT)
            .is(format!(
                "has {} that no policy declares: {}",
                count(foreign.len(), "virtual service"),
                some(&foreign)
            ))
            .should("only what somebody looks after")
            .why("they are left alone, and nobody here probes their real servers")
            .run(case.facts.here("ipvsadm -Ln")),
    )
}
