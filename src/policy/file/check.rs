//! `checks`: what each entry has besides its protocol, and the `tcp` check.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::{At, Report};
use crate::probe::target::{Pattern, TcpCheck, TextMatch};

use super::http::HttpEntry;

/// Intervals and timeouts: short enough to be of use, long enough not to be an attack.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);

/// The most checks of a policy.
const MAX_CHECKS: usize = 32;

/// The most results in a row that a verdict may need.
const MAX_STREAK: u32 = 1000;

/// The most bytes a `tcp` check sends.
const MAX_SEND: usize = 4096;

/// An entry of `checks`.
#[derive(Debug)]
pub(crate) struct CheckEntry {
    pub(crate) kind: KindEntry,
    pub(crate) port: Field<u16>,
    pub(crate) interval: Field<Duration>,
    pub(crate) fast_interval: Field<Duration>,
    pub(crate) timeout: Field<Duration>,
    pub(crate) rise: Field<NonZeroU32>,
    pub(crate) fall: Field<NonZeroU32>,
    pub(crate) source: Field<IpAddr>,
    pub(crate) interface: Field<String>,
}

/// The protocol of a check.
#[derive(Debug)]
pub(crate) enum KindEntry {
    Http(Box<HttpEntry>),
    Tcp(TcpCheck),
}

/// Reads `checks`; an empty list says that none is meant.
pub(crate) fn read_list(node: &Node, report: &mut Report<'_>) -> Option<Vec<At<CheckEntry>>> {
    if matches!(node.value, Value::Plain(_) | Value::Map(_)) {
        let message = format!("expected a list of checks, found {}", decode::describe(node));
        let help = "begin an entry with `- http:`, `- https:` or `- tcp:`";
        report.error(node.place, message, help);
        return None;
    }
    let nodes = decode::list(node, "checks", report)?;
    if nodes.len() > MAX_CHECKS {
        let message = format!("{} checks, more than {MAX_CHECKS}", nodes.len());
        report.error(node.place, message, "each one is asked of every real server: keep a few");
        return None;
    }
    let read = |node: &Node| Some(At { value: CheckEntry::read(node, report)?, place: node.place });
    Some(nodes.iter().filter_map(read).collect())
}

impl CheckEntry {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        if let Value::Plain(word) | Value::Text(word) = &node.value {
            let message = format!("expected a check, found `{}`", decode::cut(word));
            let help = match word.as_str() {
                "http" | "https" | "tcp" => format!("write `- {word}:`, with a colon"),
                _ => "begin with `http:`, `https:` or `tcp:`".to_owned(),
            };
            report.error(node.place, message, help);
            return None;
        }
        let mut fields = Fields::of(node, "a check", report)?;
        let kind = read_kind(&mut fields, node, report);
        let entry = |(kind, port), fields: &mut Fields<'_>, report: &mut Report<'_>| Self {
            kind,
            port,
            interval: fields.field("interval", report, time),
            fast_interval: fields.field("fast_interval", report, time),
            timeout: fields.field("timeout", report, time),
            rise: fields.field("rise", report, streak),
            fall: fields.field("fall", report, streak),
            source: fields.field("source", report, decode::address),
            interface: fields.field("interface", report, interface),
        };
        let good = kind.is_some();
        let kind = kind.unwrap_or((KindEntry::Tcp(TcpCheck::default()), Field::Absent));
        let entry = entry(kind, &mut fields, report);
        fields.finish(ELSEWHERE, report);
        good.then_some(entry)
    }
}

/// Keys that people write one level too high.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["port", "host", "path", "method", "headers", "expect", "send", "verify", "server_name"],
        "under `http:`, `https:` or `tcp:`, two spaces further in",
    ),
    (&["ca_file", "min_days"], "under `https:`, two spaces further in"),
    (&["status", "body"], "under `expect:` of `http:`"),
];

/// Keys that people write one level too low.
pub(super) const BESIDE: &[(&[&str], &str)] = &[(
    &["interval", "timeout", "rise", "fall", "fast_interval", "source", "interface"],
    "beside the protocol, not under it: two spaces further out",
)];

fn read_kind(
    fields: &mut Fields<'_>,
    node: &Node,
    report: &mut Report<'_>,
) -> Option<(KindEntry, Field<u16>)> {
    let found: Vec<_> = ["http", "https", "tcp"]
        .into_iter()
        .filter_map(|name| fields.node(name).map(|(key, node)| (name, key, node)))
        .collect();
    match found.as_slice() {
        [] => {
            report.error(
                node.place,
                "a check without a protocol",
                "add one of `http:`, `https:` and `tcp:`",
            );
            None
        }
        [(name, _, node)] => match *name {
            "tcp" => read_tcp(node, report),
            name => HttpEntry::read(node, name == "https", report),
        },
        [_, (name, key, _), ..] => {
            let message = format!("a second protocol, `{name}`, in one check");
            report.error(key.place, message, format!("begin a new entry: `- {name}:`"));
            None
        }
    }
}

fn read_tcp(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    if node.value == Value::Null {
        return Some((KindEntry::Tcp(TcpCheck::default()), Field::Absent));
    }
    let mut fields = Fields::of(node, "a tcp check", report)?;
    let port = fields.field("port", report, decode::port);
    let send = fields.field("send", report, |node, report| {
        let bytes = decode::text(node, report)?.into_bytes();
        if bytes.len() > MAX_SEND {
            report.error(node.place, format!("more than {MAX_SEND} bytes to send"), "");
            return None;
        }
        Some(bytes)
    });
    let expect = fields.field("expect", report, |node, report| {
        let matches = text_matches(node, report)?;
        if matches.len() > 1 {
            let help = "write both as one regular expression";
            report.error(node.place, "`contains` and `regex` together", help);
            return None;
        }
        matches.into_iter().next()
    });
    fields.finish(BESIDE, report);
    if send.is_bad() || expect.is_bad() {
        return None;
    }
    let expect = expect.get().map(|expect| expect.value.clone());
    Some((KindEntry::Tcp(TcpCheck { send: send.unwrap_or(Vec::new()), expect }), port))
}

/// Text that must appear, or a mapping of `contains` and `regex`.
pub(super) fn text_matches(node: &Node, report: &mut Report<'_>) -> Option<Vec<TextMatch>> {
    if !matches!(node.value, Value::Map(_)) {
        return contains(node, report).map(|text| vec![text]);
    }
    let mut fields = Fields::of(node, "what to expect", report)?;
    let found = [fields.field("contains", report, contains), fields.field("regex", report, regex)];
    fields.finish(&[], report);
    if found.iter().all(Field::is_absent) {
        let help = "write the text itself, or `contains:` or `regex:`";
        report.error(node.place, "nothing to expect", help);
    }
    if found.iter().any(Field::is_bad) {
        return None;
    }
    let matches: Vec<_> =
        found.iter().filter_map(|field| field.get().map(|at| at.value.clone())).collect();
    (!matches.is_empty()).then_some(matches)
}

fn contains(node: &Node, report: &mut Report<'_>) -> Option<TextMatch> {
    let text = decode::text(node, report)?;
    if text.is_empty() {
        report.error(node.place, "empty text is in everything", "leave the key out");
        return None;
    }
    Some(TextMatch::Contains(text))
}

fn regex(node: &Node, report: &mut Report<'_>) -> Option<TextMatch> {
    let source = decode::text(node, report)?;
    match Pattern::new(&source) {
        Ok(pattern) => Some(TextMatch::Regex(pattern)),
        Err(error) => {
            // The explanation draws the expression over several lines; its last one says why.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim();
            let why = why.trim_start_matches("error: ");
            let help = "the syntax is that of the Rust `regex` crate; single quotes keep `\\`";
            report.error(node.place, format!("not a regular expression: {why}"), help);
            None
        }
    }
}

fn time(node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    decode::duration(node, TIMES, report)
}

fn streak(node: &Node, report: &mut Report<'_>) -> Option<NonZeroU32> {
    decode::number(node, 1..=MAX_STREAK, report).and_then(NonZeroU32::new)
}

fn interface(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::text(node, report)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if name.is_empty() || name.len() > 15 || name.contains(bad) || name == "." || name == ".." {
        let message = format!("`{}` is not the name of an interface", decode::cut(&name));
        report.error(node.place, message, "write it as `ip link` does, such as `eth0`");
        return None;
    }
    Some(name)
}
