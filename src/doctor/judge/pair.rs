//! Two directors: who of them works, and what they tell each other.

use super::{Case, Finding, Severity, addresses::MOVERS};

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(sync(case));
    findings.extend(backup_only(case));
    findings.extend(sloppy(case));
    findings
}

/// Whether a virtual address of the policies is here.
fn works(case: &Case<'_>) -> bool {
    case.addresses().into_keys().any(|address| case.facts.is_local(address))
}

/// Whether (a master, a backup) thread runs.
fn threads(case: &Case<'_>) -> Option<(bool, bool)> {
    let sync = &case.facts.ipvs.as_ref().ok()?.sync;
    Some((sync.iter().any(|it| it.master), sync.iter().any(|it| !it.master)))
}

fn sync(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "sync";
    const SUBJECT: &str = "connection synchronisation";
    let sync = &case.facts.ipvs.as_ref().ok()?.sync;
    Some(match threads(case)? {
        (false, true) if works(case) => Finding::new(Severity::Warning, ID, SUBJECT)
            .is("backup only, on a machine that holds a virtual address")
            .should("master as well")
            .why("the other director does not hear of connections made here and drops them when it takes over")
            .run(case.facts.here(&format!(
                "ipvsadm --start-daemon master --mcast-interface {} --syncid {}",
                sync.first()?.interface,
                sync.first()?.sync_id
            ))),
        (false, false) => Finding::ok(ID, SUBJECT, "not in use"),
        _ => {
            let roles = sync.iter().map(|it| {
                let role = if it.master { "master" } else { "backup" };
                format!("{role} on {}, id {}", it.interface, it.sync_id)
            });
            Finding::ok(ID, SUBJECT, roles.collect::<Vec<_>>().join("; "))
        }
    })
}

/// With it a backup thread keeps IPVS from working at all.
fn backup_only(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.backup_only";
    const ID: &str = "backup-only";
    let on = case.facts.number(NAME)? != 0;
    let (_, backup) = threads(case)?;
    Some(match on && backup && works(case) {
        true => Finding::new(Severity::Error, ID, NAME)
            .is("1, with a backup thread on a machine that holds a virtual address")
            .should("0, or no backup thread")
            .why("this director passes nothing on while its backup thread runs")
            .run(case.facts.set(NAME, 0)),
        false => Finding::ok(ID, NAME, if on { "1" } else { "0" }),
    })
}

/// Only with it a director goes on with a TCP connection whose beginning it has not seen.
fn sloppy(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "net.ipv4.vs.sloppy_tcp";
    const ID: &str = "sloppy-tcp";
    if case.facts.number(NAME)? != 0 {
        return Some(Finding::ok(ID, NAME, "1"));
    }
    let (master, backup) = threads(case).unwrap_or_default();
    let synchronised = master || backup;
    let persistent = case.services().any(|(_, it)| it.config.persistence.is_some());
    let only_templates =
        persistent && case.facts.number("net.ipv4.vs.sync_persist_mode") == Some(1);
    let needs =
        Finding::new(Severity::Note, ID, NAME).is("0").should("1").run(case.facts.set(NAME, 1));
    if synchronised && only_templates {
        return Some(needs.why(
            "with sync_persist_mode 1 connections of persistent services are not synchronised: the director that takes over drops them",
        ));
    }
    let mover = case.facts.running(&MOVERS).filter(|_| !synchronised)?;
    Some(needs.why(format!(
        "{} moves addresses here and connections are not synchronised: the director that takes over drops them",
        mover.name
    )))
}
