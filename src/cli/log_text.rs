//! The text form of a log line: the message, then its fields as `name=value`.
//!
//! What the message says already is not said again: `service=…` beside a change that names its
//! service is for the JSON form only. Control characters become visible, so that what a real
//! server or a file says cannot forge a line or steer a terminal.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes message and fields of a log line.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        write!(writer, "{line}")
    }
}

/// Whether a message names this address or virtual service.
fn says(message: &str, value: &str) -> bool {
    let mut words = message.split_whitespace().map(|word| word.trim_end_matches([':', ';']));
    value.contains(':') && words.any(|word| word == value)
}

/// The message and the fields of a log line, without control characters.
#[derive(Debug, Default)]
pub(super) struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (name, value) in &self.fields {
            if !says(&self.message, value) {
                write!(f, " {name}={}", Quoted(value))?;
            }
        }
        Ok(())
    }
}

impl Line {
    /// Names and values, in the order they were logged.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = visible(value),
            name => self.fields.push((name, visible(value))),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A value in quotes if it would be ambiguous without them.
struct Quoted<'v>(&'v str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0.contains([' ', '"', '=']) {
            write!(f, "\"{}\"", self.0.replace('"', "\\\""))
        } else {
            f.write_str(self.0)
        }
    }
}

fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(TextFields)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn says_nothing_twice() {
        let text = logged(|| {
            tracing::info!(
                service = "tcp://192.0.2.1:80",
                number = 80,
                "+ tcp://192.0.2.1:80: weight 80"
            );
        });
        assert_eq!(text, " INFO + tcp://192.0.2.1:80: weight 80 number=80\n");
    }

    #[test]
    fn quotes_what_needs_it_and_shows_control_characters() {
        let text = logged(|| {
            tracing::warn!(policy = "www", reason = "says \"no\"\n\x1b[2J", empty = "", "turned");
        });
        let expected =
            " WARN turned policy=www reason=\"says \\\"no\\\"\\n\\u{1b}[2J\" empty=\"\"\n";
        assert_eq!(text, expected);
    }
}
