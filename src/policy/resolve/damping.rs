//! Flap damping: its defaults, and what they demand of each other and of the check.

use std::time::Duration;

use crate::health::damping::Damping;
use crate::policy::decode::Field;
use crate::policy::file::damping::DampingEntry;
use crate::policy::source::{At, Place, Report};
use crate::probe::target::Timing;

/// The damping of a check, if there is any; the timing is the check's without it, `None` where it is
/// in doubt.
pub(super) fn resolve(
    written: &Field<DampingEntry>,
    timing: Option<Timing>,
    report: &mut Report<'_>,
) -> Option<Damping> {
    let At { value: entry, place } = written.get()?;
    let default = Damping::default();
    let hold = entry.hold.unwrap_or(default.hold);
    let damping = Damping {
        changes: entry.changes.unwrap_or(default.changes),
        window: entry.window.unwrap_or(default.window),
        hold,
        max_hold: entry.max_hold.unwrap_or(default.max_hold.max(hold)),
    };
    if let Some(max_hold) = entry.max_hold.get().filter(|max_hold| max_hold.value < hold) {
        let show = humantime::format_duration;
        let message = format!(
            "the longest hold {} is shorter than the first, {}",
            show(max_hold.value),
            show(hold)
        );
        report.error(max_hold.place, message, "holds grow from `hold` to `max_hold`");
    }
    if let Some(timing) = timing {
        too_short(damping, timing, *place, report);
    }
    Some(damping)
}

/// A window in which not so many changes can happen damps nothing.
fn too_short(damping: Damping, timing: Timing, place: Place, report: &mut Report<'_>) {
    // The shortest time from one change to the next but one, when every streak is at full speed.
    let fastest = timing.fast_interval.unwrap_or(timing.interval).mul_f64(0.9);
    let cycle = (timing.hysteresis.rise.get() + timing.hysteresis.fall.get()).saturating_sub(2);
    let both = fastest.saturating_mul(cycle) + timing.interval.mul_f64(0.9) * 2;
    let least = both.saturating_mul(damping.changes.get() - 1) / 2;
    if least >= damping.window {
        let changes = damping.changes;
        let least = humantime::format_duration(Duration::from_secs(least.as_secs()));
        let message = format!("{changes} changes take {least} or more, longer than the window");
        let help = "write fewer `changes` or a longer `window`";
        report.lint(place, message, help);
    }
}
