//! Sets up where log lines go: to a file, or to standard error, or to the journal if that is where
//! standard error goes. `RUST_LOG` chooses the level, `info` by default.
//!
//! A thread of its own writes them: a terminal, pipe or disk that stalls costs log lines, never
//! probes. Beyond [`WAITING_LINES`] the newest are lost until there is room again.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::args::{Log, LogFormat};
use super::complain;
use super::journal::{Entry, Journal};
use super::log_text::TextFields;
use crate::bounded_file::BoundedFile;

/// Lines that may wait to be written.
const WAITING_LINES: usize = 20_000;

/// Installs the subscriber of this process. Dropping the guard writes what waits, for at most a
/// second. A file that cannot be opened is complained of, and standard error takes its place.
pub(super) fn init(log: &Log) -> WorkerGuard {
    let queue = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log");
    let file = log.log_file.as_ref().and_then(|path| {
        let lost = |text: &str| complain(&format!("pointsman: log {text}"));
        let file = BoundedFile::open(path, log.log_max_size, log.log_keep, lost);
        let complaint = |error: &io::Error| {
            let path = path.display();
            complain(&format!("pointsman: cannot open the log file {path}: {error}; logging here"));
        };
        file.inspect_err(complaint).ok()
    });
    let to_journal = file.is_none() && log.log_format == LogFormat::Text;
    let journal = to_journal.then(Journal::behind_stderr).flatten();
    let is_journal = journal.is_some();
    let ((writer, guard), colour) = match file {
        Some(file) => (queue.finish(file), false),
        None => match journal {
            Some(journal) => (queue.finish(journal), false),
            None => (queue.finish(io::stderr()), super::colour(&io::stderr())),
        },
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colour)
        // The default complains with `eprintln!`, which panics once nobody reads standard error.
        .log_internal_errors(false)
        .with_writer(writer);
    match log.log_format {
        LogFormat::Text if is_journal => builder.event_format(Entry).init(),
        LogFormat::Text => builder.fmt_fields(TextFields).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    guard
}
