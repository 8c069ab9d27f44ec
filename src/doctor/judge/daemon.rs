//! The daemon runs, is well, and can keep what it knows.

use super::{Case, Finding, Severity, some};
use crate::count::count;
use crate::doctor::facts::{Daemon, DirectoryState};

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let findings = [policies(case), running(case), degraded(case), readable(case), state(case)];
    findings.into_iter().flatten().collect()
}

/// The daemon of the shipped unit has a user of its own, and reads what everybody may read.
fn readable(case: &Case<'_>) -> Option<Finding> {
    let closed = &case.facts.for_root_only;
    if closed.is_empty() || case.facts.process.as_ref().is_some_and(|process| process.user == 0) {
        return None;
    }
    Some(
        Finding::new(Severity::Warning, "readable", some(closed))
            .is("readable by root only")
            .should("readable by everybody; passwords belong into files of their own")
            .why("the daemon of the shipped unit is a user of its own, and does not start without them")
            .run(format!("chmod o+r {}", closed.join(" "))),
    )
}

fn policies(case: &Case<'_>) -> Option<Finding> {
    let bad = case.facts.bad_policies.as_ref()?;
    Some(
        Finding::new(Severity::Error, "policies", "policies")
            .is(format!("{} in {}", count(bad.problems, "problem"), bad.path))
            .should("policies that can be used")
            .why("the daemon does not start with them, and what they need here is not known")
            .run(format!("pointsman check {}", bad.path)),
    )
}

fn running(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "daemon";
    Some(match &case.facts.daemon {
        Daemon::Silent(reason) => Finding::unseen(ID, "daemon", reason),
        Daemon::Absent(reason) => Finding::new(Severity::Warning, ID, "daemon")
            .is(reason)
            .should("running")
            .why("nobody probes, and nobody holds the table to the policies")
            .run("systemctl start pointsman"),
        Daemon::Running { pid, dry_run: true, .. } => Finding::new(Severity::Warning, ID, "daemon")
            .is(format!("pid {pid} rehearses (--dry-run)"))
            .should("without --dry-run")
            .why("it writes nothing to the table"),
        Daemon::Running { pid, ipvs, .. } if ipvs != "kernel" => {
            Finding::new(Severity::Warning, ID, "daemon")
                .is(format!("pid {pid} works on a table in {ipvs}"))
                .should("--ipvs kernel")
                .why("no packet is sent anywhere by it")
        }
        Daemon::Running { pid, .. } => Finding::ok(ID, "daemon", format!("running, pid {pid}")),
    })
}

fn degraded(case: &Case<'_>) -> Option<Finding> {
    let Daemon::Running { degraded, .. } = &case.facts.daemon else { return None };
    if degraded.is_empty() {
        return None;
    }
    Some(
        Finding::new(Severity::Warning, "degraded", "daemon")
            .is(degraded.join("; "))
            .should("nothing that needs an operator")
            .why("the status has the details")
            .run("pointsman status"),
    )
}

fn state(case: &Case<'_>) -> Option<Finding> {
    const ID: &str = "state-dir";
    let state = &case.facts.state;
    let trouble = |is: &str| Finding::new(Severity::Error, ID, &state.path).is(is);
    Some(match &state.state {
        DirectoryState::Missing => Finding::ok(ID, &state.path, "the daemon makes it"),
        DirectoryState::NotADirectory => trouble("not a directory")
            .should("a directory")
            .why("what is owned and what is known cannot be recorded"),
        DirectoryState::Directory { writable: false, .. } => {
            Finding::unseen(ID, &state.path, "this user may not write there")
                .should("writable for the daemon")
                .why("run doctor as the daemon's user, or as root")
        }
        DirectoryState::Directory { volatile: Some(how), .. } => Finding::new(
            Severity::Warning,
            ID,
            &state.path,
        )
        .is(how)
        .should("on a file system that survives a boot")
        .why(
            "after a boot every verdict and every override is forgotten, and what the daemon owns",
        ),
        DirectoryState::Directory { .. } => Finding::ok(ID, &state.path, "writable, and on disk"),
    })
}
