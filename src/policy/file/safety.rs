//! What keeps users from noticing: drain, slow start, the health floor, the sorry server.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::decode::{self, Field, Fields};
use crate::policy::model::Share;
use crate::policy::node::{Node, Value};
use crate::policy::source::{At, Report};

use super::check::{self, CheckEntry};
use super::server::RealServerEntry;

/// Drain deadlines; 0 is at once.
const DEADLINES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
/// Ramps: below a second nobody could tell, and above an hour nobody would wait.
const RAMPS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The keys of a policy that are about its safety.
#[derive(Debug)]
pub(crate) struct SafetySettings {
    pub(crate) drain: Field<Duration>,
    pub(crate) slow_start: Field<Duration>,
    pub(crate) health_floor: Field<FloorEntry>,
    pub(crate) sorry_server: Field<SorryEntry>,
}

/// `health_floor`.
#[derive(Debug, Clone)]
pub(crate) struct FloorEntry {
    pub(crate) min_up: At<Share>,
    pub(crate) at_floor: Field<AtFloorWord>,
    pub(crate) return_at: Field<Share>,
}

/// What happens at the floor, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtFloorWord {
    Keep,
    Withdraw,
}

/// `sorry_server`: a real server with checks of its own.
#[derive(Debug)]
pub(crate) struct SorryEntry {
    pub(crate) server: RealServerEntry,
    pub(crate) checks: Field<Vec<At<CheckEntry>>>,
}

impl SafetySettings {
    pub(crate) fn read(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Self {
        Self {
            drain: fields.field("drain", report, drain),
            slow_start: fields
                .field("slow_start", report, |node, report| decode::duration(node, RAMPS, report)),
            health_floor: fields.field("health_floor", report, FloorEntry::read),
            sorry_server: fields.field("sorry_server", report, SorryEntry::read),
        }
    }
}

fn drain(node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("`drain` is a mapping, not {}", decode::describe(node));
        report.error(node.place, message, "write `drain: { deadline: 60s }`; 0s: at once");
        return None;
    }
    let mut fields = Fields::of(node, "drain", report)?;
    let mut deadline =
        fields.field("deadline", report, |node, report| decode::duration(node, DEADLINES, report));
    fields.finish(&[], report).spoil("deadline", &mut deadline);
    if deadline.is_absent() {
        report.error(node.place, "`drain` without `deadline`", "write `drain: { deadline: 60s }`");
    }
    deadline.get().map(|deadline| deadline.value)
}

impl FloorEntry {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, "health_floor", report)?;
        let mut min_up = fields.field("min_up", report, share);
        let words = [("keep", AtFloorWord::Keep), ("withdraw", AtFloorWord::Withdraw)];
        let at_floor =
            fields.field("at_floor", report, |node, report| decode::word(node, &words, report));
        let return_at = fields.field("return_at", report, share);
        fields.finish(&[], report).spoil("min_up", &mut min_up);
        if min_up.is_absent() {
            let help = "write `min_up: 50%`, or a number of real servers";
            report.error(node.place, "`health_floor` without `min_up`", help);
        }
        if at_floor.is_bad() || return_at.is_bad() {
            return None;
        }
        Some(Self { min_up: min_up.get()?.clone(), at_floor, return_at })
    }
}

impl SorryEntry {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let server = RealServerEntry::read(node, report)?;
            return Some(Self { server, checks: Field::Absent });
        }
        let mut fields = Fields::of(node, "a sorry server", report)?;
        let checks = fields.field("checks", report, check::read_list);
        let server = RealServerEntry::from_fields(fields, node, report);
        if checks.is_bad() {
            return None;
        }
        Some(Self { server: server?, checks })
    }
}

/// `2` or `50%`.
fn share(node: &Node, report: &mut Report<'_>) -> Option<Share> {
    let text = match &node.value {
        Value::Plain(text) | Value::Text(text) => text.trim(),
        _ => "",
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let found = match text.strip_suffix('%') {
        Some(percent) => number(percent.trim_end())
            .filter(|percent| (1..=100).contains(percent))
            .and_then(|percent| u8::try_from(percent).ok())
            .map(Share::Percent),
        None => number(text).filter(|count| *count > 0).map(Share::Count),
    };
    if found.is_none() {
        let message = format!(
            "expected a number of real servers or a share of them, found {}",
            decode::describe(node)
        );
        report.error(node.place, message, "write `2`, or `50%` (1% to 100%)");
    }
    found
}
