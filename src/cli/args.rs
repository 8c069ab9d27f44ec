//! The command line: names, flags, defaults and their help. Nothing here acts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps Linux Virtual Server honest: probes every real server at application level and holds the
/// kernel's IPVS table to exactly what the policies and the probes say.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage or invalid policy, 3 changes pending (plan --detailed-exitcode) or degraded (status)";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: probe, decide, hold the table
    Run(Run),
    /// Show exactly what would change in the live table, and change nothing
    Plan(Plan),
    /// Validate policies offline, with every problem at once
    Check(Check),
    /// Show services, destinations, health and weights of the running daemon
    Status(Status),
    /// Show the whole pipeline at work in this process, without privileges
    Demo(Demo),
}

/// Where the policies are and where the daemon keeps its things.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Directory of policies (every *.yaml and *.yml in it), or one file
    #[arg(long, value_name = "DIR", default_value = "/etc/pointsman/policies")]
    pub policies: PathBuf,
    /// The table to work on
    #[arg(long, value_enum, value_name = "TABLE", default_value_t = Table::Kernel)]
    pub ipvs: Table,
    /// Directory for what must survive a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pointsman")]
    pub state_dir: PathBuf,
    /// Network namespace to work in, by its name in /run/netns
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
}

/// Which implementation of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// The kernel's, over netlink; needs CAP_NET_ADMIN
    Kernel,
    /// One in this process, for trying things out
    Memory,
}

/// The socket of the daemon.
#[derive(Debug, Clone, Args)]
pub struct Socket {
    /// Unix socket of the daemon
    #[arg(long, value_name = "PATH", default_value = "/run/pointsman/pointsman.sock")]
    pub socket: PathBuf,
}

/// `pointsman run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Paths and table.
    #[command(flatten)]
    pub common: Common,
    /// The socket to listen on.
    #[command(flatten)]
    pub socket: Socket,
    /// Probe and plan for real, but write nothing to the table or the state directory
    #[arg(long)]
    pub dry_run: bool,
    /// Read the whole table and repair drift this often, at least
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub resync: Duration,
    /// Where and how to log.
    #[command(flatten)]
    pub log: Log,
}

/// Where and how to log.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Log to this file instead of standard error
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<PathBuf>,
    /// Start a new log file at this size
    #[arg(long, value_name = "SIZE", default_value = "10MiB", value_parser = size)]
    pub log_max_size: u64,
    /// Keep this many old log files, as PATH.1 (the newest), PATH.2, …
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub log_keep: u32,
    /// Format of log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Format of an answer on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `pointsman plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Paths and table.
    #[command(flatten)]
    pub common: Common,
    /// Where to ask for health.
    #[command(flatten)]
    pub socket: Socket,
    /// Take every real server to be so, instead of asking the daemon or probing now
    #[arg(long, value_enum, value_name = "HEALTH")]
    pub assume: Option<Assume>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
    /// Exit with 3 when changes are pending
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// Health to plan with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Assume {
    /// Every real server is fit
    Up,
    /// No real server has a verdict yet: the table keeps what it has
    Unknown,
}

/// `pointsman check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Directories or files to check
    #[arg(value_name = "PATH", default_value = "/etc/pointsman/policies")]
    pub paths: Vec<PathBuf>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

/// `pointsman status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
    /// Show it again every two seconds until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// `pointsman demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How long the demonstration lasts
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub length: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration such as `30s` or `5m`"))?;
    if duration < Duration::from_millis(100) || duration > Duration::from_secs(86_400) {
        return Err("must be from 100ms to 1day".to_owned());
    }
    Ok(duration)
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("", 1),
    ];
    let help = || format!("`{text}` is not a size from 1KiB to 1024GiB; write `10MiB`");
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim(), unit)))
        .ok_or_else(help)?;
    let number: u64 = number.parse().map_err(|_| help())?;
    number.checked_mul(*unit).filter(|bytes| (1 << 10..=1 << 40).contains(bytes)).ok_or_else(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2 G"), Ok(2 << 30));
        for wrong in ["", "0", "-1MiB", "1.5MiB", "99999999999999999999G", "10MB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "30", "0s", "2days", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
