//! Sets up where log lines go. `RUST_LOG` chooses the level, `info` by default.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::Failure;
use super::args::{Log, LogFormat};
use super::log_file::LogFile;
use super::log_text::TextFields;

/// Installs the subscriber of this process.
pub(super) fn init(log: &Log) -> Result<(), Failure> {
    let (writer, colour) = match &log.log_file {
        Some(path) => {
            let file = LogFile::open(path, log.log_max_size, log.log_keep).map_err(|error| {
                Failure::text(format!("cannot open the log file {}: {error}", path.display()))
            })?;
            (BoxMakeWriter::new(file), false)
        }
        None => (BoxMakeWriter::new(io::stderr), super::colour(&io::stderr())),
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
        LogFormat::Text => builder.fmt_fields(TextFields).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
