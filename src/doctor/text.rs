//! Findings as text for people. Pure; deterministic.

use crate::count::count as counted;
use std::fmt::Write as _;

use super::finding::{Finding, Machine, Severity};

/// Longest line of prose.
const WIDTH: usize = 96;
/// Findings of one kind that are shown: hundreds of them would hide the rest.
const MOST: usize = 10;
/// Room for the word before a line.
const INDENT: usize = 10;

/// All findings that matter and the number of the rest; `all` of them with the rest, `colour` for
/// terminals.
pub fn render(findings: &[Finding], all: bool, colour: bool) -> String {
    let mut text = String::new();
    let matters = |alike: &&[Finding]| all || alike[0].severity != Severity::Ok;
    let kind = |one: &Finding, next: &Finding| (one.severity, one.id) == (next.severity, next.id);
    for findings in findings.chunk_by(kind).filter(matters) {
        let most = if all { findings.len() } else { MOST.min(findings.len()) };
        for finding in &findings[..most] {
            block(&mut text, finding, colour);
        }
        if most < findings.len() {
            let more = findings.len() - most;
            let _ = writeln!(text, "… and {more} more [{}]; --all shows them\n", findings[0].id);
        }
    }
    if all && !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    let _ = writeln!(text, "{}", summary(findings));
    if findings.iter().any(is_lasting) {
        text.push_str("`sysctl -w` and `ip addr add` last until the next boot; /etc/sysctl.d and the network's own\nconfiguration are for good.\n");
    }
    text
}

/// Whether its command changes something that a boot undoes.
fn is_lasting(finding: &Finding) -> bool {
    let command = finding.command.as_deref().unwrap_or_default();
    finding.severity != Severity::Ok
        && (command.contains("sysctl -w ") || command.contains("ip addr add "))
}

fn block(text: &mut String, finding: &Finding, colour: bool) {
    let (word, code) = match finding.severity {
        Severity::Error => ("error", 31),
        Severity::Warning => ("warning", 33),
        Severity::Note => ("note", 36),
        Severity::Ok => ("ok", 32),
    };
    let word = paint(&format!("{word:<9}"), code, colour);
    if finding.severity == Severity::Ok {
        let _ = writeln!(text, "{word} {}: {}", finding.subject, finding.is);
        return;
    }
    let _ = writeln!(text, "{word} {} [{}]", finding.subject, finding.id);
    let run = match finding.run_on {
        Machine::Director => "run",
        Machine::RealServer => "run there",
    };
    line(text, "is", &wrap(&finding.is));
    line(text, "should be", &wrap(&finding.should));
    line(text, "because", &wrap(&finding.why));
    if let Some(command) = &finding.command {
        // On one line, whatever its length, to be copied.
        line(text, run, std::slice::from_ref(command));
    }
    text.push('\n');
}

fn line(text: &mut String, word: &str, lines: &[String]) {
    for (number, line) in lines.iter().enumerate() {
        let word = if number == 0 { word } else { "" };
        let _ = writeln!(text, "{word:<9} {line}");
    }
}

/// Lines of whole words; none of nothing.
fn wrap(prose: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in prose.split_whitespace() {
        match lines.last_mut() {
            Some(line) if INDENT + line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1 error, 2 warnings, 3 notes; 14 more are as they should be`.
fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|it| it.severity == severity).count();
    let parts =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let parts = parts.map(|(severity, noun)| (count(severity), noun));
    let wrong = parts.iter().filter(|(count, _)| *count > 0);
    let wrong: Vec<_> = wrong.map(|(count, noun)| counted(*count, noun)).collect();
    let well = count(Severity::Ok);
    match wrong.is_empty() {
        true => format!("ok: {well} of {well} as they should be"),
        false => format!("{}; {well} of {} as they should be", wrong.join(", "), findings.len()),
    }
}

fn paint(text: &str, code: u8, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hundreds_of_a_kind_do_not_hide_the_rest() {
        let missing =
            |host| Finding::new(Severity::Error, "virtual-address", format!("192.0.2.{host}"));
        let mut findings: Vec<Finding> = (1..=12).map(missing).collect();
        findings.push(Finding::new(Severity::Warning, "daemon", "daemon"));
        let text = render(&findings, false, false);
        assert!(text.contains("192.0.2.10 ") && !text.contains("192.0.2.11 "), "{text}");
        assert!(text.contains("\n… and 2 more [virtual-address]; --all shows them\n\nwarning "));
        let all = render(&findings, true, true);
        assert!(
            all.contains("\x1b[31merror    \x1b[0m 192.0.2.12 ") && !all.contains('…'),
            "{all}"
        );
    }

    #[test]
    fn words_stay_whole() {
        let long = "x".repeat(WIDTH);
        let prose = format!("{} {long}", "a b ".repeat(30));
        let lines = wrap(&prose);
        assert!(lines[0].chars().count() + INDENT <= WIDTH && lines.last() == Some(&long));
        assert_eq!(lines.join(" "), prose.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(wrap("").is_empty());
    }
}
