//! What is legal but suspicious: things that are true, and that an operator would want to know.

use std::time::Duration;

use crate::ipvs::model::{ServiceConfig, ServiceKey};
use crate::policy::file::PolicyFile;
use crate::policy::file::check::{CheckEntry, KindEntry};
use crate::policy::model::{ChecksNeeded, OnDown, Policy, VirtualService};
use crate::policy::source::{At, Place, Report};
use crate::probe::target::UdpCheck;

/// The largest weight that ipvsadm(8) takes.
const IPVSADM_WEIGHT: u32 = 65_535;

const DAY: u32 = 24 * 60 * 60;

/// How long Linux waits before it sends a lost SYN again.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// Everything suspicious about a policy that is otherwise sound.
pub(super) fn policy(file: &PolicyFile, policy: &Policy, report: &mut Report<'_>) {
    redundancy(file, policy, report);
    checks(file, report);
    needed(file, report);
    weights(file, policy, report);
    persistence(file, policy, report);
    every_port(file, policy, report);
}

fn redundancy(file: &PolicyFile, policy: &Policy, report: &mut Report<'_>) {
    let Some(entries) = file.real_servers.get() else { return };
    if let [only] = entries.value.as_slice() {
        report.lint(only.place, "only one real server: when it is down, nothing is left", "");
    }
    for (entry, server) in entries.value.iter().zip(&policy.real_servers) {
        let is_virtual = |service: &&VirtualService| match service.key {
            ServiceKey::Address { address, .. } => address == server.address,
            ServiceKey::Fwmark { .. } => false,
        };
        if let Some(service) = policy.services.iter().find(is_virtual) {
            let message = format!("a real server with the virtual address of `{}`", service.key);
            let help = "the director would answer itself: write the real server's own address";
            report.lint(entry.place, message, help);
        }
    }
}

fn checks(file: &PolicyFile, report: &mut Report<'_>) {
    let Some(checks) = file.checks.get() else { return };
    let is_agent = |check: &At<CheckEntry>| check.value.kind.is_advisor();
    if let [first, ..] = checks.value.as_slice()
        && checks.value.iter().all(is_agent)
    {
        let message = "no checks but agents: its real servers always count as up";
        report.lint(first.place, message, "an agent advises; add a check that can fail");
    }
    for At { value: entry, .. } in &checks.value {
        one_lost_packet(entry, report);
    }
}

/// What `checks_needed` makes of the checks.
fn needed(file: &PolicyFile, report: &mut Report<'_>) {
    let checks = file.checks.get().map_or(&[][..], |checks| &checks.value);
    let checks: Vec<_> = checks.iter().filter(|check| !check.value.kind.is_advisor()).collect();
    let needed = file.checks_needed.unwrap_or(ChecksNeeded::All).of(checks.len());
    let silent = |check: &&&At<CheckEntry>| {
        matches!(check.value.kind, KindEntry::Udp(UdpCheck { expect: None, .. }))
    };
    let pings = checks.iter().filter(|check| matches!(check.value.kind, KindEntry::Icmp)).count();
    if needed <= checks.iter().filter(silent).count() {
        for check in checks.iter().filter(silent) {
            let message =
                "a udp check without `expect`: a machine that is switched off passes, too";
            report.lint(check.place, message, "add `expect:`, or a check that is answered");
        }
    }
    let Some(written) = file.checks_needed.get() else { return };
    if checks.len() < 2 {
        let message = "`checks_needed` without several checks: it does nothing";
        report.lint(written.place, message, "leave it out, or add checks");
    } else if needed <= pings {
        let message = "a machine that answers a ping is up, whatever its service does";
        report.lint(written.place, message, "ask for more checks, or leave `icmp` out");
    }
}

fn one_lost_packet(entry: &CheckEntry, report: &mut Report<'_>) {
    if !matches!(entry.kind, KindEntry::Http(_) | KindEntry::Tcp(_) | KindEntry::Database(_)) {
        return;
    }
    let fall = entry.fall.get().map(|fall| fall.value.get());
    if let (Some(1), Some(timeout)) = (fall, entry.timeout.get())
        && timeout.value < SYN_AGAIN
    {
        let message = "one lost packet takes a real server down";
        let help = "`fall: 1` needs a timeout above 1s, after which Linux sends a lost SYN again";
        report.lint(timeout.place, message, help);
    }
}

fn weights(file: &PolicyFile, policy: &Policy, report: &mut Report<'_>) {
    let Some(service) = policy.services.first() else { return };
    let weights: Vec<u32> = service.destinations.iter().map(|one| one.config.weight).collect();
    let entries = file.real_servers.get().map_or(&[][..], |entries| &entries.value);
    let shared = file.server_settings.weight.get().map(|weight| weight.place);
    let place = |index: usize| -> Place {
        let own = entries.get(index).map(|entry| &entry.value.settings.weight);
        let own = own.and_then(|weight| weight.get()).map(|weight| weight.place);
        own.or(shared).unwrap_or(file.place)
    };
    if weights.iter().all(|weight| *weight == 0) {
        let help = "weight 0 takes no new connections: write 1 or more";
        report.lint(place(0), "every real server has weight 0", help);
    }
    for (index, weight) in weights.iter().enumerate() {
        if *weight > IPVSADM_WEIGHT {
            let message = format!("weight {weight} is more than ipvsadm(8) can save and restore");
            report.lint(place(index), message, format!("write at most {IPVSADM_WEIGHT}"));
        }
    }
    let differs = |weight: &u32| *weight != 0 && *weight != weights[0];
    let Some(other) = weights.iter().position(differs).filter(|_| weights[0] != 0) else { return };
    let ignores =
        |config: &ServiceConfig| matches!(config.scheduler.0.as_str(), "rr" | "lc" | "dh");
    if let Some(service) = policy.services.iter().find(|service| ignores(&service.config)) {
        let scheduler = &service.config.scheduler;
        let message = format!(
            "weights differ, but scheduler `{scheduler}` of `{}` treats all but 0 alike",
            service.key
        );
        let help = match scheduler.0.as_str() {
            "dh" => "use another scheduler, such as `mh`".to_owned(),
            _ => format!("use `w{scheduler}`"),
        };
        report.lint(place(other), message, help);
    }
}

fn persistence(file: &PolicyFile, policy: &Policy, report: &mut Report<'_>) {
    let entries = file.services.get().map_or(&[][..], |entries| &entries.value);
    let shared = file.service_settings.persistence.get().map(|one| one.place);
    for (service, entry) in policy.services.iter().zip(entries) {
        let Some(persistence) = &service.config.persistence else { continue };
        let own = entry.value.settings.persistence.get().map(|one| one.place);
        let place = own.or(shared).unwrap_or(file.place);
        if persistence.timeout > DAY {
            let help =
                "each client is remembered that long: load stays uneven after a server returns";
            report.lint(place, "persistence of more than a day", help);
        }
        if policy.on_down == OnDown::Quiesce {
            let place = file.on_down.get().map_or(place, |on_down| on_down.place);
            let message = "persistent clients keep going to a server that is down";
            let help =
                "set sysctl net.ipv4.vs.expire_quiescent_template=1, or use `on_down: remove`";
            report.lint(place, message, help);
        }
    }
}

/// A persistent service of port 0 passes the client's port on, whatever the destination says
/// (`ip_vs_sched_persist` in the kernel).
fn every_port(file: &PolicyFile, policy: &Policy, report: &mut Report<'_>) {
    let entries = file.services.get().map_or(&[][..], |entries| &entries.value);
    for (service, entry) in policy.services.iter().zip(entries) {
        let every = matches!(service.key, ServiceKey::Address { port: 0, .. });
        let with_port = service.destinations.iter().find(|one| one.key.port != 0);
        if let (true, Some(destination)) = (every, with_port) {
            let message = format!(
                "`{}` takes every port and keeps it: the port of `{}` has no effect",
                service.key, destination.key
            );
            report.lint(entry.place, message, "leave the port of the real server out");
        }
    }
}
