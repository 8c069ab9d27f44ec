//! Log lines as entries of the systemd journal, so that `journalctl -p warning` and
//! `journalctl POINTSMAN_REAL_SERVER=192.0.2.10:80` find what they should.
//!
//! The journal's native protocol: one datagram with a line `NAME=value` for each field. An entry the
//! journal does not take is lost, as is a log line elsewhere; the thread of the log waits for it, and
//! nobody else.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::fstat;
use rustix::stdio::stderr;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::log_text::Line;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Before the names of our fields.
const PREFIX: &str = "POINTSMAN_";

/// The way to the journal: each write is an entry.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if it is what standard error goes to.
    pub(super) fn behind_stderr() -> Option<Self> {
        let named = std::env::var("JOURNAL_STREAM").ok()?;
        let stat = fstat(stderr()).ok()?;
        // systemd.exec(5): the device and inode of the stream.
        if named != format!("{}:{}", stat.st_dev, stat.st_ino) {
            return None;
        }
        Self::open(Path::new(SOCKET)).ok()
    }

    fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // One that is too large for it, or that finds it restarting.
        let _ = self.0.send(entry);
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry;

impl<S, N> FormatEvent<S, N> for Entry
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let priority = priority(*event.metadata().level());
        writeln!(writer, "PRIORITY={priority}\nSYSLOG_IDENTIFIER=pointsman\nMESSAGE={line}")?;
        for (name, value) in line.fields() {
            writeln!(writer, "{PREFIX}{}={value}", name.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

/// As syslog(3) counts them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn an_entry_has_a_priority_a_message_and_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_nonblocking(true).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Entry)
            .with_writer(Mutex::new(Journal::open(&path).unwrap()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                real_server = "192.0.2.10:80",
                reason = "says no\nPRIORITY=0",
                "transition"
            );
            tracing::info!(reason = "x".repeat(10 << 20), "too large for any datagram");
            tracing::info!("ready");
        });
        let mut buffer = [0; 4096];
        let mut next = || {
            let length = journald.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let expected = "PRIORITY=4\nSYSLOG_IDENTIFIER=pointsman\n\
             MESSAGE=transition real_server=192.0.2.10:80 reason=\"says no\\nPRIORITY=0\"\n\
             POINTSMAN_REAL_SERVER=192.0.2.10:80\nPOINTSMAN_REASON=says no\\nPRIORITY=0\n";
        assert_eq!(next(), expected);
        assert_eq!(next(), "PRIORITY=6\nSYSLOG_IDENTIFIER=pointsman\nMESSAGE=ready\n");
    }
}
