//! Who else writes to the table, and what is in it that no policy declares.

use std::collections::BTreeSet;

use super::{Case, Finding, Severity, some};
use crate::count::count;
use crate::doctor::facts::{Daemon, OtherProcess};

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
    findings.extend(foreign(case));
    findings
}

fn other(case: &Case<'_>, name: &str, severity: Severity, why: &str) -> Option<Finding> {
    let process = case.facts.running(&[name])?;
    let kube = name == "kube-proxy" && case.facts.wires().any(|it| it.name == KUBE);
    let severity = if kube { Severity::Warning } else { severity };
    let finding = Finding::new(severity, "other-writer", name)
        .is(format!("running, pid {}", process.pid))
        .should("one writer for each virtual service")
        .why(why);
    Some(match severity {
        Severity::Warning if !kube => finding.run(format!("systemctl disable --now {name}")),
        _ => finding,
    })
}

/// Two daemons undo each other's work.
fn ourselves(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "second-daemon";
    let (known, silent) = match case.facts.daemon {
        Daemon::Running { pid, .. } => (Some(pid), false),
        Daemon::Absent(_) => (None, false),
        Daemon::Silent(_) => (None, true),
    };
    let others = case.facts.processes.iter().filter(|it| it.pointsman && Some(it.pid) != known);
    let others: Vec<&OtherProcess> = others.collect();
    // Who does not tell is one of them.
    if others.len() <= usize::from(silent) {
        return None;
    }
    let pids: Vec<u32> = others.iter().map(|it| it.pid).collect();
    let finding = |severity| {
        Finding::new(severity, ID, "pointsman").is(format!("also runs as pid {}", some(&pids)))
    };
    Some(match (known, &pids[..]) {
        (None, [_]) => finding(Severity::Note)
            .should("asked on its own socket")
            .why("it does not answer on this one; name its socket with --socket"),
        _ => finding(Severity::Error)
            .should("one daemon")
            .why("two daemons undo each other's changes")
            .run(format!("kill {}", pids[0])),
    })
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
