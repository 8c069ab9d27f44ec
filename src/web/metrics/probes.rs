//! Metrics of health: real servers, their checks, and what holds verdicts.

use super::Source;
use super::format::{Kind, Labels, Page};
use super::process::flag;
use crate::health::Health;
use crate::policy::model::{Policy, RealServer, TargetId};
use crate::probe::slot::Slot;

pub(super) fn write(source: &Source<'_>, page: &mut Page) {
    real_servers(source, page);
    by_policy(source, page);
    checks(source, page);
    probing(source, page);
    holds(source, page);
}

fn servers<'a>(source: &Source<'a>) -> impl Iterator<Item = (&'a Policy, &'a RealServer, Labels)> {
    let policies = &source.snapshot.policies.policies;
    policies.iter().flat_map(|policy| {
        policy.real_servers.iter().map(move |server| {
            let address = server.address.to_string();
            let labels = Labels::of(&[
                ("policy", &policy.name),
                ("real_server", &server.name),
                ("address", &address),
            ]);
            (policy, server, labels)
        })
    })
}

fn real_servers(source: &Source<'_>, page: &mut Page) {
    let snapshot = source.snapshot;
    let help =
        "1 if the real server is up by its checks, 0 if it is down; absent without a verdict";
    let mut family = page.family(Kind::Gauge, "pointsman_real_server_up", help);
    for (_, server, labels) in servers(source) {
        match snapshot.view.real_server(server).health {
            Health::Up => family.sample(&labels, 1),
            Health::Down => family.sample(&labels, 0),
            Health::Unknown => {}
        }
    }
    let help = "Since when the verdict on the real server stands, in seconds since 1970";
    let name = "pointsman_real_server_verdict_timestamp_seconds";
    let mut family = page.family(Kind::Gauge, name, help);
    for (_, server, labels) in servers(source) {
        let verdict = snapshot.view.real_server(server);
        if let (Health::Up | Health::Down, Some(since)) = (verdict.health, verdict.since) {
            family.sample(&labels, source.unix(since));
        }
    }
}

fn by_policy(source: &Source<'_>, page: &mut Page) {
    let view = &source.snapshot.view;
    let policies = &source.snapshot.policies.policies;
    let help = "Real servers of the policy with this verdict";
    let mut family = page.family(Kind::Gauge, "pointsman_real_servers", help);
    for policy in policies {
        let labels = Labels::of(&[("policy", &policy.name)]);
        for (health, word) in
            [(Health::Up, "up"), (Health::Down, "down"), (Health::Unknown, "unknown")]
        {
            let is = |server: &&RealServer| view.real_server(server).health == health;
            let count = policy.real_servers.iter().filter(is).count();
            family.sample(&labels.and("health", word), count);
        }
    }
    let help = "1 while the health floor has withdrawn all real servers of the policy";
    let mut family = page.family(Kind::Gauge, "pointsman_floor_withdrawn", help);
    for policy in policies.iter().filter(|policy| policy.health_floor.is_some()) {
        let is = source.report.desired.standing.withdrawn.contains(&policy.name);
        family.sample(&Labels::of(&[("policy", &policy.name)]), flag(is));
    }
    let help = "1 if the sorry server of the policy is fit, 0 if not; absent without a verdict";
    let mut family = page.family(Kind::Gauge, "pointsman_sorry_server_up", help);
    for policy in policies {
        let labels = Labels::of(&[("policy", &policy.name)]);
        match policy.sorry_server.as_ref().map(|it| view.real_server(it).health) {
            Some(Health::Up) => family.sample(&labels, 1),
            Some(Health::Down) => family.sample(&labels, 0),
            Some(Health::Unknown) | None => {}
        }
    }
}

fn checks(source: &Source<'_>, page: &mut Page) {
    let set = &source.snapshot.policies;
    let slots = &source.snapshot.slots;
    let all: Vec<(Labels, &Slot)> = servers(source)
        .flat_map(|(_, server, labels)| {
            let labelled = |(id, name): (TargetId, String)| {
                (labels.and("check", &name), &slots[id.0 as usize])
            };
            set.check_names(server).into_iter().map(labelled).collect::<Vec<_>>()
        })
        .collect();
    let help = "1 if the check of the real server passes its rise and fall, 0 if it is down; absent without a verdict";
    let mut family = page.family(Kind::Gauge, "pointsman_check_up", help);
    for (labels, slot) in &all {
        match slot.state.health {
            Health::Up => family.sample(labels, 1),
            Health::Down => family.sample(labels, 0),
            Health::Unknown => {}
        }
    }
    let help = "When the certificate ends that was shown last, in seconds since 1970";
    let name = "pointsman_certificate_expiry_timestamp_seconds";
    let mut family = page.family(Kind::Gauge, name, help);
    for (labels, slot) in &all {
        if let Some(ends) = slot.certificate_ends {
            family.sample(labels, ends);
        }
    }
    let help = "Probes that ended for this reason; `ok` passed";
    let mut family = page.family(Kind::Counter, "pointsman_probes", help);
    for (labels, slot) in &all {
        // `ok` is there from the start, the others from their first time on.
        let seen = slot.tally.reasons().enumerate().filter(|(index, (_, n))| *index == 0 || *n > 0);
        for (_, (reason, count)) in seen {
            family.sample(&labels.and("reason", reason.name()), count);
        }
    }
    let help = "Changes of the verdict to this one";
    let mut family = page.family(Kind::Counter, "pointsman_transitions", help);
    for (labels, slot) in &all {
        family.sample(&labels.and("to", "up"), slot.tally.to_up);
        family.sample(&labels.and("to", "down"), slot.tally.to_down);
    }
}

fn probing(source: &Source<'_>, page: &mut Page) {
    let snapshot = source.snapshot;
    let help = "How long probes took that passed or failed";
    let mut family = page.family(Kind::Histogram, "pointsman_probe_duration_seconds", help);
    for latency in &snapshot.latencies {
        let labels = Labels::of(&[("policy", &latency.policy), ("check", &latency.check)]);
        family.histogram(&labels, &latency.histogram);
    }
    let help = "How much later than due probes started";
    page.family(Kind::Histogram, "pointsman_probe_lateness_seconds", help)
        .histogram(&Labels::default(), &snapshot.lateness);
    let help = "Distinct targets; what asks the same of the same address is one";
    page.single(Kind::Gauge, "pointsman_probe_targets", help, snapshot.slots.len());
    let help = "Probes in flight";
    page.single(Kind::Gauge, "pointsman_probes_in_flight", help, snapshot.in_flight);
}

fn holds(source: &Source<'_>, page: &mut Page) {
    let snapshot = source.snapshot;
    let alarm = &snapshot.view.alarm;
    let help = "1 while the blast-radius limit holds the table";
    page.single(Kind::Gauge, "pointsman_blast_limit_active", help, flag(alarm.is_some()));
    let help = "Targets that are down and count as what they were, also after the limit";
    let held = snapshot.view.verdicts.iter().filter(|verdict| verdict.held.is_some()).count();
    page.single(Kind::Gauge, "pointsman_blast_limit_held_targets", help, held);
    let help = "Targets that flap damping holds down";
    let damped = snapshot.slots.iter().filter(|slot| slot.state.is_held(snapshot.now)).count();
    page.single(Kind::Gauge, "pointsman_damping_held_targets", help, damped);
}
