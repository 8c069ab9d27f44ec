//! An explanation as text for people. Pure; deterministic for a given explanation.

use std::fmt::Write as _;

use super::advising::AdvisorStatus;
use super::columns::{align, row};
use super::explain::{CheckExplained, DestinationExplained, Explanation};
use super::status::short;
use super::text::age;
use crate::health::OutcomeKind;
use crate::probe::outcome::Outcome;

/// The whole explanation.
pub fn render(explanation: &Explanation) -> String {
    let it = explanation;
    let mut text =
        format!("{} of policy {} ({}): {}\n", it.real_server, it.policy, it.origin, it.health);
    match &it.r#override {
        Some(said) => line(&mut text, "override", &said.line()),
        None => line(&mut text, "override", "none"),
    }
    if let Some(floor) = &it.floor {
        let state = if floor.withdrawn { "; ALL ARE WITHDRAWN" } else { "" };
        let words = format!(
            "{} of {} up, {} needed, else {}{state}",
            floor.up, floor.of, floor.needed, floor.at_floor
        );
        line(&mut text, "floor", &words);
    }
    if it.checks.is_empty() {
        line(&mut text, "checks", "none: it always counts as up");
    }
    if let Some(quorum) = &it.quorum {
        line(&mut text, "checks", &quorum.to_string());
    }
    for check in &it.checks {
        text.push('\n');
        check_lines(&mut text, check);
    }
    for advisor in &it.advisors {
        text.push('\n');
        advisor_lines(&mut text, advisor);
    }
    text.push('\n');
    destinations(&mut text, &it.destinations);
    text
}

fn check_lines(text: &mut String, check: &CheckExplained) {
    let status = &check.status;
    let _ = writeln!(
        text,
        "{}: {} for {} (since {})",
        status.check,
        status.health,
        age(status.since_seconds),
        status.since
    );
    match (&status.last, status.last_ago) {
        (Some(last), Some(ago)) => {
            line(text, "last probe", &format!("{} ago: {}", age(ago), attempt(last)));
        }
        _ => line(text, "last probe", "none yet"),
    }
    for earlier in &check.earlier {
        line(
            text,
            "before it",
            &format!("{} ago: {}", age(earlier.ago), attempt(&earlier.outcome)),
        );
    }
    if let Some(advice) = &status.advice {
        line(text, "advice", &advice.to_string());
    }
    if let Some(certificate) = &status.certificate {
        line(text, "TLS", &certificate.to_string());
    }
    line(text, "next", &check.next);
    let (rise, fall, interval) = (check.rise, check.fall, check.interval);
    line(text, "asked", &format!("every {interval} s at most; rise {rise}, fall {fall}"));
}

fn advisor_lines(text: &mut String, advisor: &AdvisorStatus) {
    let _ = writeln!(text, "{}: advises, and has no verdict", advisor.advisor);
    match (&advisor.last, advisor.last_ago) {
        (Some(last), Some(ago)) => {
            line(text, "last asked", &format!("{} ago: {}", age(ago), attempt(last)));
        }
        _ => line(text, "last asked", "not yet"),
    }
    if let Some(advice) = &advisor.advice {
        line(text, "advice", &advice.to_string());
    }
}

/// `pass, status 200; connected 1ms, answer 3ms, ended 3ms`.
fn attempt(outcome: &Outcome) -> String {
    let kind = match outcome.kind {
        OutcomeKind::Pass => "pass",
        OutcomeKind::Fail => "FAIL",
        OutcomeKind::Inconclusive => "INCONCLUSIVE (the director could not ask)",
    };
    let phases = &outcome.phases;
    let phases = [
        ("connected", phases.connected),
        ("TLS", phases.tls),
        ("answer", phases.first_byte),
        ("ended", Some(phases.ended)),
    ];
    let reached = phases.iter().filter_map(|(name, at)| Some(format!("{name} {}", short((*at)?))));
    format!("{kind}, {}; {}", outcome.detail, reached.collect::<Vec<_>>().join(", "))
}

fn destinations(text: &mut String, destinations: &[DestinationExplained]) {
    let heading =
        row(["VIRTUAL SERVICE", "DESTINATION", "WANTED", "KERNEL", "ACTIVE", "INACTIVE", "WEIGHT"]);
    let weight = |weight: Option<u32>| weight.map_or("-".to_owned(), |weight| weight.to_string());
    let rows = destinations.iter().map(|it| {
        let (status, connections) = (&it.status, &it.status.connections);
        row([
            &it.service.to_string(),
            &status.destination.to_string(),
            &weight(status.weight_wanted),
            &weight(status.weight_kernel),
            &connections.active.to_string(),
            &connections.inactive.to_string(),
            &composition(it),
        ])
    });
    let lines = align(&[heading].into_iter().chain(rows).collect::<Vec<_>>());
    let _ = writeln!(text, "{}", lines.join("\n"));
    let mut whys: Vec<&str> = destinations.iter().map(|it| it.status.why.as_str()).collect();
    whys.dedup();
    for why in whys {
        line(text, "why", why);
    }
}

/// `80 configured × ramp 40% × advice 75%, override -`, or why there is no weight.
fn composition(destination: &DestinationExplained) -> String {
    let configured = destination.configured;
    let Some(wanted) = destination.status.weight_wanted else {
        return format!("{configured} configured, not in the table");
    };
    let parts = destination.parts.as_ref();
    let ramp_percent = parts.and_then(|it| it.ramp_percent);
    let advised = parts.and_then(|it| it.advised.as_deref());
    let overridden = parts.and_then(|it| it.overridden);
    let ramp = ramp_percent.map_or("-".to_owned(), |percent| format!("{percent}%"));
    let asked = advised.unwrap_or("-");
    let said = overridden.map_or("-".to_owned(), |weight| weight.to_string());
    let quiesced = wanted == 0 && configured > 0 && advised.is_none() && overridden.is_none();
    let now = if quiesced { "; takes no new connections" } else { "" };
    format!("{configured} configured × ramp {ramp} × advice {asked}, override {said}{now}")
}

fn line(text: &mut String, title: &str, content: &str) {
    let _ = writeln!(text, "  {title:<10} {content}");
}
