//! Metrics of the daemon: its build, policies and operators, and its work on the table.

use super::format::{Kind, Labels, Page};
use super::{Source, unix};
use crate::reconcile::overrides::Action;

pub(super) fn write(source: &Source<'_>, page: &mut Page) {
    start(source, page);
    policies(source, page);
    operators(source, page);
    work(source, page);
}

fn start(source: &Source<'_>, page: &mut Page) {
    let facts = source.facts;
    let build = Labels::of(&[
        ("version", env!("CARGO_PKG_VERSION")),
        ("ipvs", &facts.ipvs),
        ("dry_run", if facts.dry_run { "true" } else { "false" }),
    ]);
    page.family(Kind::Info, "pointsman_build", "Version of the daemon and what it works on")
        .sample(&build, 1);
    let help = "When the daemon started, in seconds since 1970";
    page.single(Kind::Gauge, "pointsman_start_timestamp_seconds", help, unix(facts.started));
    let help = "Things that need an operator, as `pointsman status` lists them";
    page.single(Kind::Gauge, "pointsman_troubles", help, source.status.degraded.len());
}

fn policies(source: &Source<'_>, page: &mut Page) {
    let policies = source.policies;
    page.family(Kind::Info, "pointsman_policy_set", "Hash of the policies in force")
        .sample(&Labels::of(&[("hash", &policies.hash)]), 1);
    let help = "Policies in force";
    page.single(Kind::Gauge, "pointsman_policies", help, source.snapshot.policies.policies.len());
    let help = "Reloads since the start, by what became of them";
    let mut family = page.family(Kind::Counter, "pointsman_reloads", help);
    for (outcome, count) in [
        ("accepted", policies.reloads),
        ("refused", policies.reloads_refused),
        ("held", policies.reloads_held),
    ] {
        family.sample(&Labels::of(&[("outcome", outcome)]), count);
    }
    let help = "When the policies in force were loaded, in seconds since 1970";
    let loaded = humantime::parse_rfc3339(&policies.loaded).map(unix).unwrap_or_default();
    page.single(Kind::Gauge, "pointsman_reload_success_timestamp_seconds", help, loaded);
    let help = "1 while the newest policies on disk are refused and older ones in force";
    page.single(Kind::Gauge, "pointsman_reload_refused", help, flag(policies.refused.is_some()));
    let help = "1 while the newest policies on disk, or what the start would remove, wait for a confirmation";
    let is_held = policies.held.is_some() || source.report.guarded.is_some();
    page.single(Kind::Gauge, "pointsman_reload_held", help, flag(is_held));
}

fn operators(source: &Source<'_>, page: &mut Page) {
    let overrides = &source.snapshot.overrides;
    let mut family = page.family(Kind::Gauge, "pointsman_overrides", "Overrides of operators");
    let word = |action: &Action| match action {
        Action::Disable => "disable",
        Action::Drain => "drain",
        Action::Weight(_) => "weight",
    };
    for action in ["disable", "drain", "weight"] {
        let count = overrides.iter().filter(|(_, _, it)| word(&it.action) == action).count();
        family.sample(&Labels::of(&[("action", action)]), count);
    }
}

fn work(source: &Source<'_>, page: &mut Page) {
    let (report, totals) = (source.report, source.report.totals);
    for (name, help, value) in [
        (
            "pointsman_table_changes",
            "Changes of the table that the kernel executed",
            totals.changes,
        ),
        (
            "pointsman_table_repairs",
            "Those that undid what somebody else had changed",
            totals.repairs,
        ),
        ("pointsman_table_refusals", "Changes that the kernel refused", totals.refused),
        (
            "pointsman_table_failed_reads",
            "Passes that could not read the table",
            totals.failed_reads,
        ),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    let help = "Changes that are wanted and not in the table";
    page.single(Kind::Gauge, "pointsman_table_pending_changes", help, report.pending);
    let help = "1 while the table cannot be read or what is owned cannot be recorded";
    page.single(Kind::Gauge, "pointsman_table_error", help, flag(report.error.is_some()));
    let help = "Virtual services in the table that no policy declares and nobody owned: left alone";
    page.single(Kind::Gauge, "pointsman_table_foreign_services", help, report.plan.foreign.len());
    let help = "When the table was last read, in seconds since 1970";
    page.family(Kind::Gauge, "pointsman_table_read_timestamp_seconds", help)
        .optional(report.read_at.map(|at| source.unix(at)));
    let help = "When the reconciler last finished a pass, in seconds since 1970";
    page.family(Kind::Gauge, "pointsman_table_pass_timestamp_seconds", help)
        .optional(report.passed_at.map(|at| source.unix(at)));
}

/// 1 for true.
pub(super) fn flag(is: bool) -> u8 {
    is.into()
}
