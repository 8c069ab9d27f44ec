//! A status as text for people. Pure; deterministic for a given status.

use std::fmt::Write as _;
use std::time::Duration;

use super::alerting::Undelivered;
use super::overrides::OverrideStatus;
use super::status::{DestinationStatus, ServiceStatus, Status};
use crate::count::count;
use crate::health::Health;

const HEADINGS: [&str; 8] =
    ["DESTINATION", "HEALTH", "SINCE", "WEIGHT", "KERNEL", "ACTIVE", "INACTIVE", "WHY"];

/// Lines of one kind that are shown: ten thousand of them would hide the rest.
const MOST_LINES: usize = 10;

/// The whole status; `colour` marks health for terminals.
pub fn render(status: &Status, colour: bool) -> String {
    let mut text = String::new();
    head(&mut text, status, colour);
    for service in &status.services {
        text.push('\n');
        service_lines(&mut text, service, colour);
    }
    text
}

/// The virtual services that lead probes through virtual addresses.
pub fn private(status: &Status) -> String {
    let mut text =
        "\nprivate virtual services, which lead probes through virtual addresses\n".to_owned();
    for one in &status.private {
        let missing = if one.in_kernel { "" } else { "  NOT IN THE TABLE" };
        let _ = writeln!(
            text,
            "  {}  {}  {}  policy {}{missing}",
            one.service, one.destination, one.config, one.policy
        );
    }
    if status.private.is_empty() {
        text.push_str("  none\n");
    }
    text
}

fn head(text: &mut String, status: &Status, colour: bool) {
    let dry_run = if status.dry_run { ", DRY RUN: nothing is written" } else { "" };
    line(
        text,
        "pointsman",
        &format!(
            "{}, pid {}, {} table, running since {}{dry_run}",
            status.version, status.pid, status.ipvs, status.started
        ),
    );
    line(text, "state", &state(status, colour));
    policy_lines(text, status);
    alert_lines(text, status);
    override_lines(text, status);
    table_lines(text, status);
    let probes = &status.probes;
    line(
        text,
        "probes",
        &format!(
            "{}, {} started, {} in flight",
            count(probes.targets, "target"),
            probes.started,
            probes.in_flight
        ),
    );
}

/// `ok: 4 real servers up`, or what needs an operator.
fn state(status: &Status, colour: bool) -> String {
    let (code, text) = match status.degraded.as_slice() {
        [] => (32, format!("ok: {} up", count(status.count(Health::Up), "real server"))),
        troubles => (31, format!("DEGRADED: {}", troubles.join("; "))),
    };
    let unknown = match status.count(Health::Unknown) {
        0 => String::new(),
        unknown => format!("; {unknown} without a verdict yet"),
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m{unknown}") } else { text + &unknown }
}

fn policy_lines(text: &mut String, status: &Status) {
    let policies = &status.policies;
    line(
        text,
        "policies",
        &format!(
            "{} from {}, in force since {}, {}",
            count(policies.count, "policy"),
            policies.path,
            policies.loaded,
            count(policies.reloads, "reload")
        ),
    );
    if let Some(refused) = &policies.refused {
        line(text, "", &format!("REFUSED at {}, the last good ones stay in force:", refused.at));
        let all = format!("pointsman check {}", policies.path);
        some(text, "  ", &refused.problems, &all);
    }
    if let Some(held) = &policies.held {
        let (at, removal) = (&held.at, &held.removal);
        line(text, "", &format!("HELD since {at}, the ones before it stay in force:"));
        line(text, "", &format!("  newer policies would remove {removal}"));
        line(text, "", "  `pointsman confirm` shows their plan and puts them in force");
    }
}

fn alert_lines(text: &mut String, status: &Status) {
    if !status.alerts_refused.is_empty() {
        line(text, "alerts", "REFUSED, the last good file stays in force:");
        some(text, "  ", &status.alerts_refused, "pointsman alert-test");
    }
    for one in &status.alerts_undelivered {
        let Undelivered { receiver, since, reason, waiting } = one;
        let waiting = match waiting {
            0 => "given up".to_owned(),
            some => format!("{some} to be told"),
        };
        let told = format!("NOT DELIVERED to {receiver} since {since}: {reason} ({waiting})");
        line(text, "alerts", &told);
    }
}

fn override_lines(text: &mut String, status: &Status) {
    let Some((first, others)) = status.overrides.split_first() else { return };
    line(text, "overrides", &first.line());
    let others: Vec<String> = others.iter().map(OverrideStatus::line).collect();
    some(text, "", &others, "pointsman overrides");
}

fn table_lines(text: &mut String, status: &Status) {
    let table = &status.table;
    let read = table.read_ago.map_or("never read".to_owned(), |ago| format!("read {ago:.1} s ago"));
    line(
        text,
        "table",
        &format!(
            "{read}, {}, {}, {} refused",
            count(table.changes, "change"),
            count(table.drift_repaired, "repair"),
            table.refused
        ),
    );
    if let Some(error) = &table.error {
        line(text, "", &format!("ERROR: {error}"));
    }
    let all = "--output json";
    some(text, "pending: ", &table.pending, all);
    some(text, "held: ", &table.held, all);
    some(text, "not ours, left alone: ", &table.foreign, all);
}

/// One line each for the first few, and where the others are to be seen.
fn some<T: std::fmt::Display>(text: &mut String, label: &str, items: &[T], all: &str) {
    for item in items.iter().take(MOST_LINES) {
        line(text, "", &format!("{label}{item}"));
    }
    if let Some(more @ 1..) = items.len().checked_sub(MOST_LINES) {
        line(text, "", &format!("{label}… and {more} more, see `{all}`"));
    }
}

fn service_lines(text: &mut String, service: &ServiceStatus, colour: bool) {
    let missing = if service.in_kernel { "" } else { "  NOT IN THE TABLE" };
    let _ =
        writeln!(text, "{}  {}  {}{missing}", service.service, service.config, service.origin());
    let rows: Vec<[String; 8]> = service.destinations.iter().map(row).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    columns(text, &HEADINGS.map(str::to_owned), &widths, None);
    for (row, destination) in rows.iter().zip(&service.destinations) {
        columns(text, row, &widths, colour.then_some(destination.health));
    }
}

fn row(destination: &DestinationStatus) -> [String; 8] {
    let weight = |weight: Option<u32>| weight.map_or("-".to_owned(), |weight| weight.to_string());
    [
        destination.label(),
        if destination.real_server.is_some() { destination.health.to_string() } else { "-".into() },
        destination.since.map_or("-".to_owned(), age),
        weight(destination.weight_wanted),
        weight(destination.weight_kernel),
        destination.connections.active.to_string(),
        destination.connections.inactive.to_string(),
        destination.why.clone(),
    ]
}

/// The health column, the second, is the one in colour.
fn columns(text: &mut String, cells: &[String; 8], widths: &[usize; 8], health: Option<Health>) {
    let mut line = String::from(" ");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padded = format!("{cell:<width$}");
        let _ = match health.filter(|_| column == 1) {
            Some(health) => write!(line, " \x1b[{}m{padded}\x1b[0m", code(health)),
            None => write!(line, " {padded}"),
        };
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn code(health: Health) -> u8 {
    match health {
        Health::Up => 32,
        Health::Down => 31,
        Health::Unknown => 33,
    }
}

fn line(text: &mut String, title: &str, content: &str) {
    let _ = writeln!(text, "{}", format!("{title:<10} {content}").trim_end());
}

/// `45s`, `12m 3s`, `3h 20m`, `5days 2h`: the two largest units.
pub(crate) fn age(seconds: f64) -> String {
    let whole = Duration::from_secs(Duration::from_secs_f64(seconds.max(0.0)).as_secs());
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "pid": 7, "dry_run": true, "ipvs": "kernel",
            "started": "2026-01-02T03:04:05Z",
            "degraded": ["1 change refused by the kernel", "newer policies refused"],
            "alerts_refused": ["alerts.yaml:3:5: unknown key `wiat`"],
            "alerts_undelivered": [{
                "receiver": "admin", "since": "2026-01-02T03:07:00Z", "waiting": 3,
                "reason": "192.0.2.25:25: Connection refused",
            }],
            "policies": {
                "path": "/etc/pointsman/policies", "hash": "1f", "count": 1, "reloads": 1,
                "loaded": "2026-01-02T03:05:00Z",
                "refused": { "at": "2026-01-02T03:06:00Z", "problems": ["www.yaml:5:1: no"] },
            },
            "table": {
                "read_ago": 1.25, "changes": 3, "drift_repaired": 1, "refused": 2,
                "pending": ["+ tcp://192.0.2.1:80: wlc; declared: no such scheduler"],
                "held": (1..=12).map(|host| format!("10.0.0.{host}: no verdict")).collect::<Vec<_>>(),
                "error": "cannot read the IPVS table: busy",
                "foreign": ["udp://192.0.2.53:53"],
            },
            "probes": { "targets": 1, "in_flight": 0, "started": 9, "lateness": [] },
            "services": [{
                "service": "tcp://192.0.2.1:80", "policy": "www", "config": "wlc",
                "in_kernel": false,
                "destinations": [{
                    "destination": "10.0.0.1:80", "real_server": null, "health": "unknown",
                    "since": null, "weight_wanted": null, "weight_kernel": 5,
                    "connections": { "active": 1, "inactive": 2, "persistent": 0 },
                    "why": "not declared by the policy",
                }],
            }],
            "real_servers": [],
        }))
        .unwrap()
    }

    #[test]
    fn everything_that_can_be_wrong_has_a_line() {
        let text = render(&status(), false);
        let expected = "\
pointsman  0.1.0, pid 7, kernel table, running since 2026-01-02T03:04:05Z, DRY RUN: nothing is written
state      DEGRADED: 1 change refused by the kernel; newer policies refused
policies   1 policy from /etc/pointsman/policies, in force since 2026-01-02T03:05:00Z, 1 reload
           REFUSED at 2026-01-02T03:06:00Z, the last good ones stay in force:
             www.yaml:5:1: no
alerts     REFUSED, the last good file stays in force:
             alerts.yaml:3:5: unknown key `wiat`
alerts     NOT DELIVERED to admin since 2026-01-02T03:07:00Z: 192.0.2.25:25: Connection refused (3 to be told)
table      read 1.2 s ago, 3 changes, 1 repair, 2 refused
           ERROR: cannot read the IPVS table: busy
           pending: + tcp://192.0.2.1:80: wlc; declared: no such scheduler
           held: 10.0.0.1: no verdict
";
        assert!(text.starts_with(expected), "{text}");
        let expected = "
           held: 10.0.0.10: no verdict
           held: … and 2 more, see `--output json`
           not ours, left alone: udp://192.0.2.53:53
probes     1 target, 9 started, 0 in flight

tcp://192.0.2.1:80  wlc  policy www  NOT IN THE TABLE
  DESTINATION  HEALTH  SINCE  WEIGHT  KERNEL  ACTIVE  INACTIVE  WHY
  10.0.0.1:80  -       -      -       5       1       2         not declared by the policy
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn only_health_and_state_are_coloured() {
        let text = render(&status(), true);
        assert!(text.contains("\x1b[31mDEGRADED"), "{text}");
        assert!(text.contains("\x1b[33m-     "), "{text}");
        assert_eq!(text.matches("\x1b[0m").count(), 2, "{text}");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0.2, "0s"),
            (45.9, "45s"),
            (723.0, "12m 3s"),
            (12_001.0, "3h 20m"),
            (440_000.0, "5days 2h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
