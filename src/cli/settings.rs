//! The settings file: what the flags of `run` say, for whoever does not write flags.
//!
//! Its keys are those flags with `_` for `-`; what begins with `log_` is in the mapping `log`. A value
//! goes through the parser of its flag and becomes the flag's default, so both say the same in the
//! same words, a flag that is given wins, and a new flag is a new key without a word here.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::{self, Cli, Run};
use super::listening;
use crate::policy::decode::{self, Fields};
use crate::policy::guard::Guard;
use crate::policy::load;
use crate::policy::node::{self, Node};
use crate::policy::problem::{Location, Problem, sort};
use crate::policy::source::Report;
use crate::probe::blast_limit::BlastLimit;
use crate::tuning::Tuning;

/// Where the file is unless `--settings` says otherwise; it need not be there.
const DEFAULT: &str = "/etc/pointsman/pointsman.yaml";
/// Flags that are for one run: `yes` is `reload_guard: off`.
const NO_SETTINGS: [&str; 4] = ["settings", "yes", "help", "version"];
/// The mapping of settings about the log, and how their flags begin.
const LOG: (&str, &str) = ("log", "log_");
/// What counts at once when the file changes, see [`tuning`].
const AT_ONCE: [&str; 4] = ["resync", "reload_guard", "blast_limit", "blast_window"];

/// A settings file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Whether somebody named it, so that it has to be there.
    named: bool,
}

/// What it says: the text for each flag, by the flag's name with `_`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<String, String>);

impl File {
    /// The one that was named, or the default.
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self { named: named.is_some(), path: named.unwrap_or_else(|| DEFAULT.into()) }
    }

    /// A problem with it as a whole.
    pub(super) fn problem(&self, message: String) -> Problem {
        Problem::error(Location::whole(self.path.display().to_string()), message)
    }

    /// Reads it; every problem with it otherwise.
    pub(super) fn load(&self) -> Result<Values, Vec<Problem>> {
        let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
        if !self.named && is_missing(&self.path) {
            return Ok(Values::default());
        }
        let source = load::source(&self.path).map_err(|problem| vec![*problem])?;
        let mut report = Report::new(&source);
        let documents = node::parse(&mut report);
        if let Some(second) = documents.get(1) {
            report.error(second.place, "a second document", "one file has one document: join them");
        }
        let values = documents.first().and_then(|document| read(document, &mut report));
        let mut problems = report.finish();
        sort(&mut problems);
        if problems.iter().any(Problem::is_error) {
            Err(problems)
        } else {
            Ok(values.unwrap_or_default())
        }
    }
}

impl Values {
    /// Why `run` would not start with these and no flags, as far as that can be told.
    pub(super) fn objection(&self) -> Option<String> {
        compare(self, self, ["pointsman", "run"].map(Into::into)).err()
    }

    /// A command line with these as defaults.
    pub(super) fn parse(
        &self,
        args: impl IntoIterator<Item = OsString>,
    ) -> clap::error::Result<ArgMatches> {
        let default = |arg: Arg| match self.0.get(key_of(&arg)) {
            Some(text) => arg.default_value(text.clone()),
            None => arg,
        };
        let command = Cli::command().mut_subcommands(|command| command.mut_args(default));
        command.try_get_matches_from(args)
    }
}

/// What `check` calls its paths is what the others call the policies.
fn key_of(arg: &Arg) -> &str {
    match arg.get_id().as_str() {
        "paths" => "policies",
        id => id,
    }
}

/// The flags of `run` that are settings.
fn flags(run: &Command) -> impl Iterator<Item = &Arg> {
    run.get_arguments().filter(|arg| !NO_SETTINGS.contains(&arg.get_id().as_str()))
}

fn run_command() -> Command {
    let mut cli = Cli::command();
    cli.build();
    cli.find_subcommand("run").cloned().unwrap_or_default()
}

fn read(document: &Node, report: &mut Report<'_>) -> Option<Values> {
    let run = run_command();
    let (log, others): (Vec<&Arg>, Vec<&Arg>) =
        flags(&run).partition(|arg| arg.get_id().as_str().starts_with(LOG.1));
    let mut values = BTreeMap::new();
    let mut fields = Fields::of(document, "the settings file", report)?;
    for arg in others {
        let id = arg.get_id().as_str();
        let value = fields.field(id, report, |node, report| value(arg, node, report));
        values.extend(value.get().map(|text| (id.to_owned(), text.value.clone())));
    }
    if let Some((_, node)) = fields.node(LOG.0) {
        let mut fields = Fields::of(node, "`log`", report)?;
        for arg in &log {
            let id = arg.get_id().as_str();
            let key = id.trim_start_matches(LOG.1);
            let value = fields.field(key, report, |node, report| value(arg, node, report));
            values.extend(value.get().map(|text| (id.to_owned(), text.value.clone())));
        }
        fields.finish(&[], report);
    }
    let in_log: Vec<&str> = log.iter().map(|arg| arg.get_id().as_str()).collect();
    let elsewhere = [
        (&in_log[..], "under `log`, without `log_`"),
        (&["yes", "settings"], "on the command line"),
    ];
    fields.finish(&elsewhere, report);
    Some(Values(values))
}

/// A value as its flag takes it.
fn value(arg: &Arg, node: &Node, report: &mut Report<'_>) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return decode::boolean(node, report).map(|value| value.to_string());
    }
    let text = decode::text(node, report)?;
    // What a relative path means would depend on the command and on where it is typed.
    if arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() && !text.starts_with('/') {
        let message = format!("expected an absolute path, found {}", decode::describe(node));
        report.error(node.place, message, "");
        return None;
    }
    let flag = format!("--{}={text}", arg.get_long()?);
    match Cli::command().try_get_matches_from(["pointsman", "run", &flag]) {
        Ok(_) => Some(text),
        Err(error) => {
            let (message, help) = wrong(&error, node);
            report.error(node.place, message, help);
            None
        }
    }
}

/// What the flag's parser says, and what to write instead.
fn wrong(error: &clap::Error, node: &Node) -> (String, String) {
    let found = decode::describe(node);
    if let Some(ContextValue::Strings(words)) = error.get(ContextKind::ValidValue) {
        let list: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        return (format!("expected one of {}, found {found}", list.join(", ")), String::new());
    }
    match error.source() {
        Some(reason) if reason.to_string().starts_with('`') => (reason.to_string(), String::new()),
        Some(reason) => (format!("{found}: {reason}"), String::new()),
        None => (format!("{found} cannot be used here"), String::new()),
    }
}

/// What counts at once.
pub(super) fn tuning(args: &Run) -> Tuning {
    Tuning {
        resync: args.resync,
        guard: if args.yes { Guard::Off } else { args.reload_guard },
        blast_limit: BlastLimit { most: args.blast_limit.0, window: args.blast_window },
    }
}

/// `run` as it would start now, and the settings in which that differs from how it was started and
/// that count after a restart only, as the file writes them; or why it would not start.
pub(super) fn compare(
    started: &Values,
    now: &Values,
    arguments: impl IntoIterator<Item = OsString> + Clone,
) -> Result<(Run, Vec<String>), String> {
    let said = |error: clap::Error| error.to_string();
    let before = started.parse(arguments.clone()).map_err(said)?;
    let after = now.parse(arguments).map_err(said)?;
    let run = run_of(&after).map_err(said)?.ok_or("another command")?;
    listening::wanted(&run.listen)?;
    let raw = |matches: &ArgMatches, id: &str| -> Option<Vec<OsString>> {
        let values = matches.subcommand()?.1.get_raw(id)?;
        Some(values.map(Into::into).collect())
    };
    let command = run_command();
    let ids = flags(&command).map(|arg| arg.get_id().as_str());
    let other = ids.filter(|id| !AT_ONCE.contains(id) && raw(&before, id) != raw(&after, id));
    Ok((run, other.map(written).collect()))
}

fn run_of(matches: &ArgMatches) -> clap::error::Result<Option<Run>> {
    Ok(match Cli::from_arg_matches(matches)?.command {
        args::Command::Run(run) => Some(run),
        _ => None,
    })
}

/// `log_keep` as `log: keep`.
fn written(id: &str) -> String {
    match id.strip_prefix(LOG.1) {
        Some(key) => format!("{}: {key}", LOG.0),
        None => id.to_owned(),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
