//! What does not fit a check that advises, or one that is asked on the director.

use std::time::Duration;

use crate::policy::decode::Field;
use crate::policy::file::check::CheckEntry;
use crate::policy::source::{Place, Report};
use crate::probe::target::{CheckKind, Timing};

/// Refuses settings beside a check that can do nothing for it; false if there was one.
pub(super) fn fits(
    entry: &CheckEntry,
    kind: &CheckKind,
    timing: Option<Timing>,
    report: &mut Report<'_>,
) -> bool {
    let errors = report.errors();
    let name = kind.name();
    if kind.is_local() {
        let help = "it is asked on the director itself, and not over the network: leave it out";
        for (key, place) in
            [("source", place(&entry.source)), ("interface", place(&entry.interface))]
        {
            refuse(key, place, name, help, report);
        }
    }
    if kind.is_advisor() {
        let help = "an agent advises and has no verdict: leave it out";
        for (key, place) in [
            ("rise", place(&entry.rise)),
            ("fall", place(&entry.fall)),
            ("fast_interval", place(&entry.fast_interval)),
            ("damping", place(&entry.damping)),
        ] {
            refuse(key, place, name, help, report);
        }
        let help = "an agent is asked on the real server's own address: leave it out";
        refuse("via", place(&entry.via), name, help, report);
    }
    match (entry.expires.get(), timing) {
        (Some(expires), _) if !kind.advises() => {
            let help = "it is for how long advice counts: add `weight_from`, or leave it out";
            refuse("expires", Some(expires.place), name, help, report);
        }
        (Some(expires), Some(timing)) => soon(expires.value, expires.place, timing, report),
        _ => {}
    }
    report.errors() == errors
}

/// Advice that expires before it can be said again would come and go.
fn soon(expires: Duration, at: Place, timing: Timing, report: &mut Report<'_>) {
    let least = timing.interval + timing.timeout;
    if expires < least {
        let show = humantime::format_duration;
        let message =
            format!("advice expires after {}, before it can be said again", show(expires));
        let help = format!("write at least an interval and a timeout, {}", show(least));
        report.error(at, message, help);
    }
}

fn refuse(key: &str, at: Option<Place>, name: &str, help: &str, report: &mut Report<'_>) {
    if let Some(at) = at {
        report.error(at, format!("`{key}` beside a check by `{name}`"), help);
    }
}

fn place<T>(field: &Field<T>) -> Option<Place> {
    field.get().map(|at| at.place)
}
