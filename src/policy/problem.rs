//! What is wrong with a policy, where, and what to write instead.
//!
//! The public form of everything the stages find. Plain data that serialises, and its rendering
//! for people. Problems never abort a stage: each one is collected and all are shown at once.

use crate::count::count as counted;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policies cannot be used.
    Error,
    /// Legal, but suspicious.
    Lint,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The file, or the directory, as it was named to us.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// In characters from 1; 0 when the file as a whole is meant.
    pub column: u32,
    /// How many characters of the line are meant, at least 1.
    pub len: u32,
}

/// The source line a location is on, cut down to a width that can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// Text of the line, without control characters.
    pub text: String,
    /// Where in the text the location begins, in characters from 0.
    pub offset: u32,
}

/// One thing that is wrong or suspicious.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// What is wrong, a lowercase fragment in one line.
    pub message: String,
    /// What to write instead, a lowercase fragment in one line.
    pub help: Option<String>,
    /// The source line, when there is one.
    pub snippet: Option<Snippet>,
}

impl Location {
    /// A file or directory as a whole.
    pub fn whole(file: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, len: 1 }
    }
}

impl fmt::Display for Location {
    /// `file:line:column`, or the file alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file))?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ":{line}:{}", self.column),
        }
    }
}

impl Problem {
    /// An error without help or snippet; control characters become visible and what is overlong
    /// is cut.
    pub fn error(location: Location, message: impl AsRef<str>) -> Self {
        Self {
            severity: Severity::Error,
            location,
            message: shorten(&printable(message.as_ref())),
            help: None,
            snippet: None,
        }
    }

    /// The same problem as a lint.
    #[must_use]
    pub fn as_lint(self) -> Self {
        Self { severity: Severity::Lint, ..self }
    }

    /// The same problem with help; an empty text is none.
    #[must_use]
    pub fn with_help(self, help: impl AsRef<str>) -> Self {
        let help = shorten(&printable(help.as_ref()));
        Self { help: Some(help).filter(|help| !help.is_empty()), ..self }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem for a terminal or a log, in the manner of rustc, ending in a line feed.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let (word, code) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Lint => ("lint", "1;33"),
        };
        let gutter = match self.location.line {
            0 => 1,
            line => line.to_string().len(),
        };
        let mut out = format!("{}: {}\n", paint.with(code, word), paint.with("1", &self.message));
        out += &format!("{:gutter$}{} {}\n", "", paint.with("1;34", "-->"), self.location);
        let bar = paint.with("1;34", "|");
        if let Some(snippet) = &self.snippet {
            let number = paint.with("1;34", &format!("{:>gutter$}", self.location.line));
            let pad = " ".repeat(snippet.offset as usize);
            let shown = snippet.text.chars().count().saturating_sub(snippet.offset as usize);
            let carets = "^".repeat((self.location.len as usize).clamp(1, shown.max(1)));
            let carets = paint.with(code, &carets);
            out += &format!("{:gutter$} {bar}\n{number} {bar} {}\n", "", snippet.text);
            out += &format!("{:gutter$} {bar} {pad}{carets}\n", "");
        }
        if let Some(help) = &self.help {
            let equals = paint.with("1;34", "=");
            out += &format!("{:gutter$} {equals} {}: {help}\n", "", paint.with("1", "help"));
        }
        out
    }

    fn sort_key(&self) -> (&Location, Severity, &str) {
        (&self.location, self.severity, &self.message)
    }
}

impl fmt::Display for Problem {
    /// In one line, for logs: `file:line:column: message (help)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Sorts by file, line, column, severity and text, and drops what is said twice.
pub fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    problems.dedup();
}

/// All problems with a blank line between them, and a last line that counts them; nothing at all
/// when there are none.
pub fn render_all(problems: &[Problem], colour: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for problem in problems {
        out += &problem.render(colour);
        out.push('\n');
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let count = |number: usize, word| (number > 0).then(|| counted(number, word));
    let counts = [count(errors, "error"), count(problems.len() - errors, "lint")];
    out += &counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    out.push('\n');
    out
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The text with tabs as spaces and other control characters replaced, so that a policy cannot
/// steer the terminal or forge a log line.
pub(super) fn printable(text: &str) -> String {
    let safe = |c: char| match c {
        '\t' => ' ',
        // Bidirectional overrides and isolates reorder what is shown.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(safe).collect()
}

/// Cuts what nobody would read.
fn shorten(text: &str) -> String {
    const MOST: usize = 400;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        let location = Location { file: "a.yaml".to_owned(), line: 12, column: 3, len: 4 };
        Problem {
            snippet: Some(Snippet { text: "  wieght: 80".to_owned(), offset: 2 }),
            ..Problem::error(location, "unknown key `wieght`").with_help("did you mean `weight`?")
        }
    }

    #[test]
    fn rendered_like_rustc() {
        let expected = "\
error: unknown key `wieght`
  --> a.yaml:12:3
   |
12 |   wieght: 80
   |   ^^^^
   = help: did you mean `weight`?
";
        assert_eq!(problem().render(false), expected);
        let coloured = problem().render(true);
        assert!(coloured.starts_with("\x1b[1;31merror\x1b[0m: "), "{coloured}");
        assert_eq!(
            problem().to_string(),
            "a.yaml:12:3: unknown key `wieght` (did you mean `weight`?)"
        );
    }

    #[test]
    fn a_whole_file_has_no_line() {
        let problem = Problem::error(Location::whole("policies"), "no such directory").as_lint();
        assert_eq!(problem.render(false), "lint: no such directory\n --> policies\n");
    }

    #[test]
    fn text_from_a_policy_cannot_steer_the_terminal() {
        let location = Location::whole("a\n\x1b[2J.yaml");
        let problem = Problem::error(location, "bad\x1b]0;x\x07 \u{202e}name\nerror: forged");
        let rendered = problem.render(false);
        assert_eq!(rendered.lines().count(), 2);
        assert!(!rendered.replace('\n', "").contains(char::is_control), "{rendered:?}");
        assert!(Problem::error(Location::whole("a"), "x".repeat(5000)).message.len() < 500);
    }

    #[test]
    fn sorted_once_and_counted() {
        let lint = problem().as_lint();
        let first = Problem::error(Location::whole("a.yaml"), "empty");
        let mut problems = vec![lint.clone(), problem(), first.clone(), problem()];
        sort(&mut problems);
        assert_eq!(problems, [first, problem(), lint]);
        assert!(render_all(&problems, false).ends_with("\n\n2 errors, 1 lint\n"));
        assert_eq!(render_all(&[], false), "");
    }

    #[test]
    fn survives_json() {
        let json = serde_json::to_string(&problem()).unwrap();
        assert!(json.contains(r#""severity":"error""#), "{json}");
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem());
    }
}
