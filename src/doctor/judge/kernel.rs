//! The kernel has IPVS, with every scheduler and engine that policies name, and lets us use it.

use std::collections::BTreeMap;

use super::{Case, Finding, IPVS, Severity};
use crate::doctor::facts::Daemon;
use crate::probe::target::{CheckKind, Target};

/// Bits of capability sets (capability.h).
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![module(case, "ip-vs", "IPVS", "ip_vs", "every virtual service")];
    findings.extend(needed(case));
    findings.extend(table(case));
    findings.extend(sysctls(case));
    findings.extend(capability(case));
    findings.extend(icmp(case));
    findings
}

/// Modules that services name, each with the first of them.
fn needed(case: &Case<'_>) -> Vec<Finding> {
    let mut modules = BTreeMap::new();
    for (_, service) in case.services() {
        let scheduler = format!("scheduler {}", service.config.scheduler);
        let module = format!("ip_vs_{}", service.config.scheduler);
        modules.entry((scheduler, module)).or_insert(service.key);
        let engine = service.config.persistence.as_ref().and_then(|it| it.engine.as_ref());
        if let Some(engine) = engine {
            let key = (format!("persistence engine {engine}"), format!("ip_vs_pe_{engine}"));
            modules.entry(key).or_insert(service.key);
        }
    }
    let judge = |((subject, name), service): (&(String, String), _)| {
        let id = if subject.starts_with("scheduler") { "scheduler" } else { "engine" };
        module(case, id, subject, name, &format!("{service}"))
    };
    modules.iter().map(judge).collect()
}

/// A module is there, or the kernel can load it when it is asked for it.
fn module(case: &Case<'_>, id: &'static str, subject: &str, name: &str, user: &str) -> Finding {
    let modules = &case.facts.modules;
    let load = format!("modprobe {name}");
    let should = format!("module {name} loaded, or built in");
    let why = format!("without it the kernel refuses {user}");
    let absent =
        |severity| Finding::new(severity, id, subject).should(should.clone()).why(why.clone());
    if modules.present.contains(name) || in_use(case, subject, name) {
        return Finding::ok(id, subject, "in the kernel");
    }
    if modules.locked {
        return absent(Severity::Error)
            .is("not in the kernel, and kernel.modules_disabled keeps it out until a reboot");
    }
    match &modules.loadable {
        Ok(loadable) if !loadable.contains(name) => absent(Severity::Error)
            .is(format!("neither in the kernel nor in /lib/modules/{}", case.facts.release))
            .run(load),
        Ok(_) if name == "ip_vs" => absent(Severity::Error).is("not loaded").run(load),
        Ok(_) => Finding::ok(id, subject, "the kernel loads it when it is asked for it"),
        Err(_) if name == "ip_vs" => absent(Severity::Error).is("not loaded").run(load),
        Err(reason) => Finding::unseen(id, subject, &format!("not loaded, and {reason}"))
            .should(should)
            .why(why)
            .run(load),
    }
}

/// What the table uses is there, whatever the lists of modules say.
fn in_use(case: &Case<'_>, subject: &str, name: &str) -> bool {
    let Ok(ipvs) = &case.facts.ipvs else { return false };
    let mut schedulers = ipvs.table.values().map(|service| &service.config.scheduler.0);
    name == "ip_vs" || schedulers.any(|it| subject == format!("scheduler {it}"))
}

fn table(case: &Case<'_>) -> Option<Finding> {
    let reason = case.facts.ipvs.as_ref().err()?;
    if !case.facts.modules.present.contains("ip_vs") {
        return None;
    }
    Some(
        Finding::unseen("ipvs-unseen", "IPVS table", reason)
            .should("readable")
            .why("timeouts, synchronisation and what others put there stay unseen"),
    )
}

/// The module brings them, but not into every network namespace (those of containers).
fn sysctls(case: &Case<'_>) -> Option<Finding> {
    let facts = case.facts;
    let seen = facts.sysctls.keys().any(|name| name.starts_with(IPVS));
    if seen || !facts.modules.present.contains("ip_vs") {
        return None;
    }
    let reason = "/proc/sys/net/ipv4/vs is not there, or empty";
    Some(
        Finding::unseen("ipvs-sysctls", "net.ipv4.vs", reason)
            .should("as it is in the first network namespace")
            .why("what becomes of connections to real servers that are gone is not known"),
    )
}

fn capability(case: &Case<'_>) -> Option<Finding> {
    const SUBJECT: &str = "CAP_NET_ADMIN";
    let Daemon::Running { pid, .. } = case.facts.daemon else { return None };
    let Some(process) = &case.facts.process else {
        let reason = format!("the daemon's process (pid {pid}) is not to be seen from here");
        return Some(Finding::unseen("cap-net-admin", SUBJECT, &reason));
    };
    let has = process.capabilities >> NET_ADMIN & 1 == 1;
    Some(match has {
        true => Finding::ok("cap-net-admin", SUBJECT, format!("the daemon (pid {pid}) has it")),
        false => Finding::new(Severity::Error, "cap-net-admin", SUBJECT)
            .is(format!("the daemon (pid {pid}) does not have it"))
            .should("in its permitted set")
            .why("the kernel lets nobody else read or change the table; AmbientCapabilities= of the unit grants it")
            .run("systemctl edit pointsman"),
    })
}

/// An echo request needs a group that may send some, or CAP_NET_RAW.
fn icmp(case: &Case<'_>) -> Option<Finding> {
    const RANGE: &str = "net.ipv4.ping_group_range";
    let asks = |target: &&Target| matches!(target.check.kind, CheckKind::Icmp);
    let target = case.policies.targets.iter().find(asks)?;
    let process = case.facts.process.as_ref()?;
    let raw = process.capabilities >> NET_RAW & 1 == 1;
    let range: Vec<u32> = case
        .facts
        .sysctl(RANGE)
        .map(|range| range.split_whitespace().filter_map(|it| it.parse().ok()).collect())
        .unwrap_or_default();
    let in_range = |group: &u32| matches!(range[..], [low, high] if (low..=high).contains(group));
    Some(match raw || process.groups.iter().any(in_range) {
        true => Finding::ok("icmp", "ICMP checks", "allowed"),
        false => Finding::new(Severity::Error, "icmp", "ICMP checks")
            .is(format!("no CAP_NET_RAW, and {RANGE} has no group of the daemon"))
            .should("one of the two")
            .why(format!("{target} cannot be asked"))
            .run(case.facts.set(RANGE, "\"0 2147483647\"")),
    })
}
