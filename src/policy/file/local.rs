//! The `exec` and `file` checks: what is asked on the director itself.

use std::collections::BTreeMap;

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;
use crate::probe::target::{ExecCheck, FileCheck};

use super::check::{BESIDE, KindEntry};

/// The most bytes of a command line, an environment or a path.
const LONGEST: usize = 4096;
/// What begins the names of the facts that a program is told.
const OURS: &str = "POINTSMAN_";

pub(super) fn read_exec(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    let mut fields = Fields::of(node, "an exec check", report)?;
    let port = fields.field("port", report, decode::port);
    let mut command = fields.field("command", report, command);
    let user = fields.field("user", report, user);
    let environment = fields.field("environment", report, environment);
    let weight_from = fields.field("weight_from", report, |node, report| {
        decode::word(node, &[("exit_status", true)], report)
    });
    fields.finish(BESIDE, report).spoil("command", &mut command);
    if command.is_absent() {
        let help = "add `command: [/path/to/program, argument]`";
        report.error(node.place, "an exec check without a command", help);
    }
    if user.is_bad() || environment.is_bad() || weight_from.is_bad() {
        return None;
    }
    if let Some(root) = user.get().filter(|user| user.value == "root" || user.value == "0") {
        let help = "whoever can change it, or what it calls, is root here: name another user";
        report.lint(root.place, "the program runs as root", help);
    }
    let check = ExecCheck {
        command: command.get()?.value.clone(),
        user: user.get().map(|user| user.value.clone()),
        environment: environment.unwrap_or(BTreeMap::new()),
        weight_from_status: weight_from.unwrap_or(false),
    };
    Some((KindEntry::Exec(Box::new(check)), port))
}

/// The program and its arguments, one by one: no shell reads them.
fn command(node: &Node, report: &mut Report<'_>) -> Option<Vec<String>> {
    if let Value::Plain(text) | Value::Text(text) = &node.value {
        let words: Vec<&str> = text.split_whitespace().collect();
        let message = "a command is a list: no shell takes it apart";
        report.error(node.place, message, format!("write `[{}]`", decode::cut(&words.join(", "))));
        return None;
    }
    let parts = decode::entries(node, "words of a command", report, decode::text)?;
    let all: usize = parts.iter().map(|part| part.value.len() + 1).sum();
    let first = parts.first()?;
    if !first.value.starts_with('/') {
        let message = format!("`{}` is not an absolute path", decode::cut(&first.value));
        let help = "write the whole path of the program: it is not looked for";
        report.error(first.place, message, help);
        return None;
    }
    if all > LONGEST || parts.iter().any(|part| part.value.contains('\0')) {
        let message = format!("a command of more than {LONGEST} bytes, or with a zero byte in it");
        report.error(node.place, message, "write a program that knows the rest");
        return None;
    }
    Some(parts.into_iter().map(|part| part.value).collect())
}

fn user(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::text(node, report)?;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-@\\$".contains(letter);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        let message = format!("`{}` is not the name of a user", decode::cut(&name));
        report.error(node.place, message, "write a name or a number, such as `nobody`");
        return None;
    }
    Some(name)
}

fn environment(node: &Node, report: &mut Report<'_>) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("expected a mapping of variables, found {}", decode::describe(node));
        report.error(node.place, message, "write `environment: { NAME: value }`");
        return None;
    };
    let (mut found, mut good) = (BTreeMap::new(), true);
    for (key, node) in entries {
        let name = key.value.as_str();
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(letter)
        {
            let message = format!("`{}` is not the name of a variable", decode::cut(name));
            report.error(key.place, message, "use letters, digits and `_`");
            good = false;
        } else if name.starts_with(OURS) {
            let message = format!("`{}` is said by the probe", decode::cut(name));
            report.error(
                key.place,
                message,
                format!("use a name that does not begin with `{OURS}`"),
            );
            good = false;
        }
        match decode::text(node, report) {
            Some(value) if value.contains('\0') || value.len() > LONGEST => {
                let message = format!("a value of more than {LONGEST} bytes, or with a zero byte");
                report.error(node.place, message, "");
                good = false;
            }
            Some(value) => drop(found.insert(name.to_owned(), value)),
            None => good = false,
        }
    }
    good.then_some(found)
}

pub(super) fn read_file(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    let mut fields = Fields::of(node, "a file check", report)?;
    let mut path = fields.field("path", report, path);
    let missing = fields.field("missing", report, |node, report| {
        decode::word(node, &[("pass", false), ("fail", true)], report)
    });
    let mut elsewhere = BESIDE.to_vec();
    elsewhere.push((&["port"], "nowhere: a file has none"));
    fields.finish(&elsewhere, report).spoil("path", &mut path);
    if path.is_absent() {
        let help = "add `path: /run/pointsman/{address}.state`";
        report.error(node.place, "a file check without a path", help);
    }
    let path = path.get()?.value.clone();
    let missing_fails = missing.get().is_some_and(|missing| missing.value);
    let check = FileCheck { path, missing_fails };
    (!missing.is_bad()).then_some((KindEntry::File(check), Field::Absent))
}

fn path(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let path = decode::text(node, report)?;
    let plain = path.replace(crate::probe::target::ADDRESS, "");
    let (message, help) = if !path.starts_with('/') {
        ("is not an absolute path", "begin with `/`")
    } else if plain.contains(['{', '}']) {
        ("has braces in it", "`{address}` is the only word that is replaced")
    } else if path.len() > LONGEST || path.contains('\0') {
        ("is no path", "")
    } else {
        return Some(path);
    };
    report.error(node.place, format!("`{}` {message}", decode::cut(&path)), help);
    None
}
