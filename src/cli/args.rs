//! The command line: names, flags, defaults and their help. Nothing here acts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::values::{blast_limit, duration, guard, size, term};
use crate::policy::guard::Guard;
use crate::policy::model::Share;

/// Keeps Linux Virtual Server honest: probes every real server at application level and holds the
/// kernel's IPVS table to exactly what the policies and the probes say.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What flags say by default, see docs/SETTINGS.md [default: /etc/pointsman/pointsman.yaml if
    /// it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage or invalid policy, 3 changes pending (plan --detailed-exitcode), degraded (status, doctor) or not all of it (export)";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: probe, decide, hold the table
    Run(Run),
    /// Show exactly what would change in the live table, and change nothing
    Plan(Plan),
    /// Validate policies offline, with every problem at once
    Check(Check),
    /// Print policies that say what the live table has
    Export(Export),
    /// Print a policy to begin with
    Policy(Policy),
    /// Print the JSON Schema of a policy, for editors
    Schema,
    /// Show services, destinations, health and weights of the running daemon
    Status(Status),
    /// Walk through the status of the running daemon on a terminal, as it changes
    Top(Top),
    /// Take a real server out gently: no new connections, removed when those it has are gone
    Drain(Override),
    /// Take a real server out at once
    Disable(Override),
    /// Give a real server another weight than the policy does
    Weight(Weight),
    /// Take back whatever drain, disable or weight said of a real server
    Enable(Enable),
    /// List what drain, disable and weight said
    Overrides(Ask),
    /// Explain why a real server has the weight it has
    Explain(Explain),
    /// Show what happened: transitions, changes, repairs, reloads, overrides, alarms
    Events(Events),
    /// Show the plan of a reload that is held, and put it in force
    Confirm(Confirm),
    /// Let the verdicts count that the blast-radius limit holds: the failures are real
    Release(Release),
    /// Send a test message to the receivers of alerts
    AlertTest(AlertTest),
    /// Find what on this machine keeps LVS from working, with the command that mends it
    Doctor(Doctor),
    /// Show the whole pipeline at work in this process, without privileges
    Demo(Demo),
}

/// Where the policies are and where the daemon keeps its things.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Directory of policies (every *.yaml and *.yml in it), or one file
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
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

/// Where policies are.
pub(super) const POLICIES: &str = "/etc/pointsman/policies";

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
    /// Hold a reload that would remove more than this share of the virtual services, of the
    /// destinations, or of the destinations of one service, until `pointsman confirm`; `off`: none
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = guard)]
    pub reload_guard: Guard,
    /// Accept every reload, whatever it removes
    #[arg(long, conflicts_with = "reload_guard")]
    pub yes: bool,
    /// Read the whole table and repair drift this often, at least
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub resync: Duration,
    /// Hold the table when more addresses than this turn down within the window: a number, a share
    /// as 50% (of fewer than 10 addresses: all of them, in silence), or off
    #[arg(long, value_name = "LIMIT", default_value = "50%", value_parser = blast_limit)]
    pub blast_limit: Most,
    /// The window of the blast-radius limit
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub blast_window: Duration,
    /// Who may read over HTTP.
    #[command(flatten)]
    pub listen: Listen,
    /// Who is told when something goes wrong [default: /etc/pointsman/alerts.yaml if it is there]
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
    /// Where and how to log.
    #[command(flatten)]
    pub log: Log,
}

/// The HTTP listener.
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// Serve status, health and metrics over HTTP on this address, for reading only
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// File with the token that readers must know; it must not be readable by everybody
    #[arg(long, value_name = "FILE")]
    pub listen_token_file: Option<PathBuf>,
    /// PEM file with the certificate chain for HTTPS
    #[arg(long, value_name = "FILE")]
    pub listen_tls_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE")]
    pub listen_tls_key: Option<PathBuf>,
}

/// How many, `None` for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most(pub Option<Share>);

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
    /// Show also the virtual services that lead probes through virtual addresses
    #[arg(long)]
    pub all: bool,
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
    #[arg(value_name = "PATH", default_value = POLICIES)]
    pub paths: Vec<PathBuf>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

/// `pointsman export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The table to read; that in memory is the running daemon's
    #[arg(long, value_enum, value_name = "TABLE", default_value_t = Table::Kernel)]
    pub ipvs: Table,
    /// Network namespace to work in, by its name in /run/netns
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Whom to ask for a table in memory.
    #[command(flatten)]
    pub socket: Socket,
}

/// `pointsman policy`.
#[derive(Debug, Args)]
pub struct Policy {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands of `pointsman policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print a policy with comments, to fill in
    New {
        /// Its name; without one it has that of its file
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
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
    /// Show also the virtual services that lead probes through virtual addresses
    #[arg(long)]
    pub all: bool,
}

/// `pointsman top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
    /// Ask the daemon this often
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub interval: Duration,
}

/// A question to the daemon.
#[derive(Debug, Args)]
pub struct Ask {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

/// Which real server.
#[derive(Debug, Args)]
pub struct Which {
    /// Name of the policy
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// The real server: its name in the policy, its address, or a destination as `status` shows it
    #[arg(value_name = "REAL_SERVER")]
    pub real_server: String,
}

/// How long, and why.
#[derive(Debug, Args)]
pub struct Terms {
    /// End by itself after this time, 1s to 366days [default: until taken back]
    #[arg(long = "for", value_name = "DURATION", value_parser = term)]
    pub length: Option<Duration>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `pointsman drain` and `pointsman disable`.
#[derive(Debug, Args)]
pub struct Override {
    /// Which real server.
    #[command(flatten)]
    pub which: Which,
    /// How long, and why.
    #[command(flatten)]
    pub terms: Terms,
    /// How to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// `pointsman weight`.
#[derive(Debug, Args)]
pub struct Weight {
    /// Which real server.
    #[command(flatten)]
    pub which: Which,
    /// 0 to 2147483647; 0 takes no new connections
    #[arg(value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(..=i64::from(i32::MAX)))]
    pub weight: u32,
    /// How long, and why.
    #[command(flatten)]
    pub terms: Terms,
    /// How to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// `pointsman enable`.
#[derive(Debug, Args)]
pub struct Enable {
    /// Which real server.
    #[command(flatten)]
    pub which: Which,
    /// How to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// `pointsman explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Which real server.
    #[command(flatten)]
    pub which: Which,
    /// How to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// `pointsman events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Directory for what must survive a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pointsman")]
    pub state_dir: PathBuf,
    /// The table they are about
    #[arg(long, value_enum, value_name = "TABLE", default_value_t = Table::Kernel)]
    pub ipvs: Table,
    /// Network namespace they are about
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// How far back; all that are kept if longer ago than the first
    #[arg(long, value_name = "DURATION", default_value = "1day", value_parser = term)]
    pub since: Duration,
    /// Go on with those to come, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Format of the answer; json is one object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

/// `pointsman confirm`.
#[derive(Debug, Args)]
pub struct Confirm {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `pointsman release`.
#[derive(Debug, Args)]
pub struct Release {
    /// How to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// `pointsman alert-test`.
#[derive(Debug, Args)]
pub struct AlertTest {
    /// Only to these receivers; all of them by default
    #[arg(value_name = "RECEIVER")]
    pub receivers: Vec<String>,
    /// The file that names them [default: /etc/pointsman/alerts.yaml]
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
}

/// `pointsman doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Directory of policies, or one file: what they need is looked for
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    pub policies: PathBuf,
    /// Directory of the daemon for what must survive a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pointsman")]
    pub state_dir: PathBuf,
    /// The daemon to ask.
    #[command(flatten)]
    pub socket: Socket,
    /// Network namespace to look at, by its name in /run/netns
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Format of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
    /// Show also what is as it should be
    #[arg(long)]
    pub all: bool,
}

/// `pointsman demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How long the demonstration lasts
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub length: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
