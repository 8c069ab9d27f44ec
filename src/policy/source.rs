//! A policy file in memory: its text, places in it, and the collector of problems with it.
//!
//! Pure: bytes come from `load`. Everything that points into a file points through here, so a
//! place becomes a location and a snippet in one way only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::problem::{Location, Problem, Snippet, printable};

/// The largest policy file, in bytes.
pub(crate) const MAX_FILE: usize = 16 * 1024 * 1024;

/// Problems of one file that are kept; the rest is counted.
const MAX_PROBLEMS: usize = 200;

/// Characters of a source line that are shown.
const SNIPPET_WIDTH: usize = 100;

/// Where something is in its file: line and column from 1, length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) len: u32,
}

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// The text of one policy file.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    /// Byte offset of the start of each line, made when first needed.
    lines: OnceLock<Vec<u32>>,
}

impl Source {
    /// Takes the bytes of a file; refuses what is too large or not UTF-8.
    pub(crate) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Box<Problem>> {
        let shown = path.display().to_string();
        if bytes.len() > MAX_FILE {
            return Err(Box::new(
                Problem::error(Location::whole(shown), "larger than 16 MiB")
                    .with_help("split it: every *.yaml and *.yml of the directory is read"),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text, lines: OnceLock::new() }),
            Err(error) => Err(Box::new(not_utf8(shown, error.as_bytes()))),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The whole line, counted from 1; empty past the end.
    pub(crate) fn line(&self, number: u32) -> &str {
        let lines = self.lines.get_or_init(|| line_starts(&self.text));
        let index = (number as usize).saturating_sub(1);
        let Some(&start) = lines.get(index) else { return "" };
        let end = lines.get(index + 1).map_or(self.text.len(), |end| *end as usize);
        self.text[start as usize..end].trim_end_matches(['\r', '\n'])
    }

    pub(crate) fn location(&self, place: Place) -> Location {
        let Place { line, column, len } = place;
        Location { file: self.path.display().to_string(), line, column, len: len.max(1) }
    }

    fn snippet(&self, place: Place) -> Snippet {
        let line = self.line(place.line);
        let column = place.column.saturating_sub(1) as usize;
        let skipped = column.saturating_sub(SNIPPET_WIDTH / 2);
        let length = line.chars().take(SNIPPET_WIDTH + 1).count();
        let skipped = if length <= SNIPPET_WIDTH { 0 } else { skipped };
        let text: String = line.chars().skip(skipped).take(SNIPPET_WIDTH).collect();
        let offset = u32::try_from(column - skipped).unwrap_or(0);
        Snippet { text: printable(text.trim_end()), offset }
    }
}

/// Byte offsets after each line break (`\n`, `\r\n` or `\r`), and 0; a file is small enough.
fn line_starts(text: &str) -> Vec<u32> {
    let bytes = text.as_bytes();
    let ends = |at: &usize| {
        bytes[*at] == b'\n' || (bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
    };
    let after = (0..bytes.len()).filter(ends).map(|at| u32::try_from(at + 1).unwrap_or(u32::MAX));
    std::iter::once(0).chain(after).collect()
}

fn not_utf8(file: String, bytes: &[u8]) -> Problem {
    let valid = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let starts = line_starts(&before);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let column = before[starts.last().map_or(0, |start| *start as usize)..].chars().count() + 1;
    let location = Location { file, line: count(starts.len()), column: count(column), len: 1 };
    Problem::error(location, "not UTF-8").with_help("save the file as UTF-8 text")
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Report<'s> {
    source: &'s Source,
    problems: Vec<Problem>,
    uncounted: usize,
    /// Places whose value is unknown: nothing more is said about them.
    settled: BTreeSet<Place>,
}

impl<'s> Report<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, problems: Vec::new(), uncounted: 0, settled: BTreeSet::new() }
    }

    pub(crate) fn source(&self) -> &'s Source {
        self.source
    }

    /// How many errors were found so far.
    pub(crate) fn errors(&self) -> usize {
        self.uncounted + self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// Nothing more is to be said about the value at a place.
    pub(crate) fn settle(&mut self, at: Place) {
        self.settled.insert(at);
    }

    /// What is wrong at a place, and what to write instead (may be empty).
    pub(crate) fn error(&mut self, at: Place, message: impl AsRef<str>, help: impl AsRef<str>) {
        if self.settled.contains(&at) {
            return;
        }
        if self.problems.len() >= MAX_PROBLEMS {
            self.uncounted += 1;
            return;
        }
        let problem = self.problem(at, message.as_ref(), help.as_ref());
        self.keep(problem);
    }

    /// What is legal but suspicious.
    pub(crate) fn lint(&mut self, at: Place, message: impl AsRef<str>, help: impl AsRef<str>) {
        if self.problems.len() < MAX_PROBLEMS {
            let problem = self.problem(at, message.as_ref(), help.as_ref());
            self.keep(problem.as_lint());
        }
    }

    /// Everything that was found, in the order found.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        if self.uncounted > 0 {
            let message =
                format!("{} more errors than the {MAX_PROBLEMS} shown here", self.uncounted);
            let location = Location::whole(self.source.path.display().to_string());
            self.problems.push(Problem::error(location, message));
        }
        self.problems
    }

    fn problem(&self, at: Place, message: &str, help: &str) -> Problem {
        let snippet = Some(self.source.snippet(at)).filter(|snippet| !snippet.text.is_empty());
        let problem = Problem::error(self.source.location(at), message).with_help(help);
        Problem { snippet, ..problem }
    }

    /// Several services may lead to the same complaint about one real server.
    fn keep(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}
