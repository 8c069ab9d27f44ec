//! The commands. Standard output carries the answer, standard error everything else.

mod alert_test;
pub mod args;
mod check;
mod confirm;
mod demo;
mod doctor;
mod events;
mod explain;
mod export;
mod journal;
mod listening;
mod log_text;
mod logging;
mod open;
mod overrides;
mod plan;
mod policy_new;
mod release;
mod run;
mod schema;
mod settings;
mod settings_follower;
mod status;
mod top;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{FromArgMatches, Parser};

use crate::policy::problem::Problem;
use args::{Cli, Command, Policy, PolicyCommand};
use settings::{File, Values};

/// How a command ends. These numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something failed; standard error says what.
    Failed = 1,
    /// Wrong usage or invalid policies. Nothing was touched.
    Usage = 2,
    /// `plan --detailed-exitcode`: changes are pending. `status`, `doctor`: something needs an
    /// operator. `export`: something is left out.
    Pending = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Parses the arguments and runs the command they name.
pub fn main() -> ExitCode {
    let ended = with_settings(Cli::parse()).and_then(command);
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            complain(&format!("pointsman: {}", failure.message));
            failure.exit.into()
        }
    }
}

/// The command line, with what the settings file says where it is silent.
fn with_settings(cli: Cli) -> Result<(Cli, FromFile), Failure> {
    let file = File::new(cli.settings.clone());
    let values = match file.load() {
        Ok(values) => values,
        Err(problems) if matches!(cli.command, Command::Check(_) | Command::Demo(_)) => {
            return Ok((cli, FromFile { file, values: Values::default(), problems }));
        }
        Err(problems) => {
            open::complain_of(&problems);
            let message =
                format!("invalid settings in {}: nothing was touched", file.path.display());
            return Err(Failure { exit: Exit::Usage, message });
        }
    };
    let objection = values.objection().filter(|_| matches!(cli.command, Command::Check(_)));
    let problems = objection.map(|why| file.problem(why)).into_iter().collect();
    let matches = values.parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((cli, FromFile { file, values, problems }))
}

fn command((cli, settings): (Cli, FromFile)) -> Result<Exit, Failure> {
    match cli.command {
        Command::Run(args) => run::run(args, settings),
        Command::Plan(args) => plan::plan(&args),
        Command::Check(args) => check::check(&args, settings.problems),
        Command::Export(args) => export::export(&args),
        Command::Policy(Policy { command: PolicyCommand::New { name } }) => {
            policy_new::policy_new(name.as_deref())
        }
        Command::Schema => schema::schema(),
        Command::Status(args) => status::status(&args),
        Command::Top(args) => top::top(args),
        Command::Drain(args) => overrides::drain(args),
        Command::Disable(args) => overrides::disable(args),
        Command::Weight(args) => overrides::weight(args),
        Command::Enable(args) => overrides::enable(args),
        Command::Overrides(args) => overrides::list(&args),
        Command::Explain(args) => explain::explain(args),
        Command::Events(args) => events::events(&args),
        Command::Confirm(args) => confirm::confirm(&args),
        Command::Release(args) => release::release(&args),
        Command::AlertTest(args) => alert_test::alert_test(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Demo(args) => demo::demo(&args),
    }
}

/// The settings file as it was read.
struct FromFile {
    file: File,
    values: Values,
    /// Why it says nothing.
    problems: Vec<Problem>,
}

/// Why a command ended early, ready to print.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// An error with everything that caused it.
    fn new(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { exit: Exit::Failed, message }
    }

    fn text(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }
}

/// Prints an answer; false if the reader has gone away (`| head`), which is no failure.
fn answer(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::text(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints to standard error; if that is gone there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether to colour what goes to this stream: on a terminal, unless `NO_COLOR` is set.
fn colour(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The runtime of a command: one thread is enough for everything but the driver.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::text(format!("cannot start the runtime: {error}")))
}

/// Pretty JSON with a line end.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    ended(serde_json::to_string_pretty(value))
}

/// For whom `sudo` runs this command. The daemon believes it of root only.
fn acts_for() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

/// JSON in one line.
fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    ended(serde_json::to_string(value))
}

fn ended(json: serde_json::Result<String>) -> Result<String, Failure> {
    json.map(|text| text + "\n")
        .map_err(|error| Failure::text(format!("cannot write JSON: {error}")))
}
