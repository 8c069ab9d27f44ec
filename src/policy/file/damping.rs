//! `damping` of a check.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::health::damping::MOST_CHANGES;
use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;

/// Windows and holds.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// `damping`, as written.
#[derive(Debug, Clone)]
pub(crate) struct DampingEntry {
    pub(crate) changes: Field<NonZeroU32>,
    pub(crate) window: Field<Duration>,
    pub(crate) hold: Field<Duration>,
    pub(crate) max_hold: Field<Duration>,
}

impl DampingEntry {
    pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("`damping` is a mapping, not {}", decode::describe(node));
            let help = "write `damping: {}` for the defaults, or leave it out for none";
            report.error(node.place, message, help);
            return None;
        }
        let mut fields = Fields::of(node, "damping", report)?;
        let entry = Self {
            changes: fields.field("changes", report, |node, report| {
                decode::number(node, 2..=MOST_CHANGES, report).and_then(NonZeroU32::new)
            }),
            window: fields.field("window", report, time),
            hold: fields.field("hold", report, time),
            max_hold: fields.field("max_hold", report, time),
        };
        fields.finish(&[], report);
        let bad = entry.changes.is_bad()
            || [&entry.window, &entry.hold, &entry.max_hold].into_iter().any(Field::is_bad);
        (!bad).then_some(entry)
    }
}

fn time(node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    decode::duration(node, TIMES, report)
}
