//! `checks`: what each entry has besides its protocol, and the `tcp` check.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::{At, Report};
use crate::probe::target::{
    AgentCheck, ExecCheck, FileCheck, Pattern, ProxyProtocol, TcpCheck, TextMatch, UdpCheck,
};

use super::agent;
use super::damping::DampingEntry;
use super::database::{self, DatabaseEntry};
use super::datagram;
use super::dns::DnsEntry;
use super::grpc::GrpcEntry;
use super::http::{HttpEntry, HttpKind};
use super::local;
use super::smtp::SmtpEntry;
use super::tls::{self, TlsSwitch};

/// The protocols that a check can have.
pub(super) const PROTOCOLS: &[&str] = &[
    "http",
    "https",
    "http2",
    "grpc",
    "tls",
    "smtp",
    "tcp",
    "udp",
    "dns",
    "icmp",
    "redis",
    "mysql",
    "postgresql",
    "agent",
    "exec",
    "file",
];

/// Intervals and timeouts: short enough to be of use, long enough not to be an attack.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);

/// The most checks of a policy.
pub(super) const MAX_CHECKS: u32 = 32;

/// The most results in a row that a verdict may need.
const MAX_STREAK: u32 = 1000;

/// The most bytes a `tcp` or `udp` check sends.
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
    pub(crate) damping: Field<DampingEntry>,
    pub(crate) expires: Field<Duration>,
    pub(crate) source: Field<IpAddr>,
    pub(crate) interface: Field<String>,
    pub(crate) proxy_protocol: Field<ProxyProtocol>,
    /// `via: vip`.
    pub(crate) via: Field<()>,
}

impl KindEntry {
    /// Whether it only advises, as an agent.
    pub(crate) fn is_advisor(&self) -> bool {
        matches!(self, Self::Agent(_))
    }
}

/// The protocol of a check.
#[derive(Debug)]
pub(crate) enum KindEntry {
    Http(Box<HttpEntry>),
    Tcp(TcpCheck),
    Udp(UdpCheck),
    Dns(Box<DnsEntry>),
    Icmp,
    Database(DatabaseEntry),
    Tls(Box<TlsSwitch>),
    Grpc(Box<GrpcEntry>),
    Smtp(Box<SmtpEntry>),
    Agent(AgentCheck),
    Exec(Box<ExecCheck>),
    File(FileCheck),
}

/// Reads `checks`; an empty list says that none is meant.
pub(crate) fn read_list(node: &Node, report: &mut Report<'_>) -> Option<Vec<At<CheckEntry>>> {
    if matches!(node.value, Value::Plain(_) | Value::Map(_)) {
        let message = format!("expected a list of checks, found {}", decode::describe(node));
        let help = "begin an entry with a protocol, as `- http:` or `- tcp:`";
        report.error(node.place, message, help);
        return None;
    }
    let nodes = decode::list(node, "checks", report)?;
    if nodes.len() > MAX_CHECKS as usize {
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
                word if PROTOCOLS.contains(&word) => format!("write `- {word}:`, with a colon"),
                _ => format!("begin with one of {}", protocols()),
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
            damping: fields.field("damping", report, DampingEntry::read),
            expires: fields.field("expires", report, time),
            source: fields.field("source", report, decode::address),
            interface: fields.field("interface", report, interface),
            proxy_protocol: fields.field("proxy_protocol", report, proxy_protocol),
            via: fields
                .field("via", report, |node, report| decode::word(node, &[("vip", ())], report)),
        };
        let good = kind.is_some();
        let kind = kind.unwrap_or((KindEntry::Tcp(TcpCheck::default()), Field::Absent));
        let mut entry = entry(kind, &mut fields, report);
        let misspelt = fields.finish(ELSEWHERE, report);
        misspelt.spoil("interval", &mut entry.interval);
        misspelt.spoil("timeout", &mut entry.timeout);
        good.then_some(entry)
    }
}

/// Keys that people write one level too high.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["port", "host", "path", "method", "headers", "expect", "send", "service", "ehlo"],
        "under the protocol, two spaces further in",
    ),
    (tls::TLS_KEYS, "under a protocol with TLS, two spaces further in"),
    (&["starttls"], "under `smtp:`, two spaces further in"),
    (&["status", "body"], "under `expect:` of `http:`"),
    (&["weight_from"], "under the protocol, two spaces further in"),
    (&["command", "user", "environment"], "under `exec:`, two spaces further in"),
    (&["missing"], "under `file:`, two spaces further in"),
    (&["changes", "window", "hold", "max_hold"], "under `damping:`"),
    (&["rcode", "answer"], "under `expect:` of `dns:`"),
];

/// Keys that people write one level too low.
pub(super) const BESIDE: &[(&[&str], &str)] = &[(
    &[
        "interval",
        "timeout",
        "rise",
        "fall",
        "fast_interval",
        "damping",
        "expires",
        "source",
        "interface",
        "proxy_protocol",
        "via",
    ],
    "beside the protocol, not under it: two spaces further out",
)];

fn read_kind(
    fields: &mut Fields<'_>,
    node: &Node,
    report: &mut Report<'_>,
) -> Option<(KindEntry, Field<u16>)> {
    let found: Vec<_> = PROTOCOLS
        .iter()
        .copied()
        .filter_map(|name| fields.node(name).map(|(key, node)| (name, key, node)))
        .collect();
    match found.as_slice() {
        [] => {
            let help = format!("add one of {}", protocols());
            report.error(node.place, "a check without a protocol", help);
            None
        }
        [(name, _, node)] => match *name {
            "http" => HttpEntry::read(node, HttpKind::Http, report),
            "https" => HttpEntry::read(node, HttpKind::Https, report),
            "http2" => HttpEntry::read(node, HttpKind::Http2, report),
            "grpc" => GrpcEntry::read(node, report),
            "tls" => tls::read(node, report),
            "smtp" => SmtpEntry::read(node, report),
            "udp" => datagram::read_udp(node, report),
            "dns" => DnsEntry::read(node, report),
            "icmp" => datagram::read_icmp(node, report),
            "redis" => database::read_redis(node, report),
            "mysql" => database::read_mysql(node, report),
            "postgresql" => database::read_postgresql(node, report),
            "agent" => agent::read(node, report),
            "exec" => local::read_exec(node, report),
            "file" => local::read_file(node, report),
            _ => read_tcp(node, report),
        },
        [_, (name, key, _), ..] => {
            let message = format!("a second protocol, `{name}`, in one check");
            report.error(key.place, message, format!("begin a new entry: `- {name}:`"));
            None
        }
    }
}

/// The protocols as a sentence lists them.
fn protocols() -> String {
    PROTOCOLS.iter().map(|name| format!("`{name}:`")).collect::<Vec<_>>().join(", ")
}

fn read_tcp(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    if node.value == Value::Null {
        return Some((KindEntry::Tcp(TcpCheck::default()), Field::Absent));
    }
    let mut fields = Fields::of(node, "a tcp check", report)?;
    let mut port = fields.field("port", report, decode::port);
    let send = fields.field("send", report, payload);
    let expect = fields.field("expect", report, text_match);
    fields.finish(BESIDE, report).spoil("port", &mut port);
    if send.is_bad() || expect.is_bad() {
        return None;
    }
    let expect = expect.get().map(|expect| expect.value.clone());
    Some((KindEntry::Tcp(TcpCheck { send: send.unwrap_or(Vec::new()), expect }), port))
}

/// What to send: text, or a mapping of `hex` for bytes that no text has.
pub(super) fn payload(node: &Node, report: &mut Report<'_>) -> Option<Vec<u8>> {
    let bytes = if matches!(node.value, Value::Map(_)) {
        let mut fields = Fields::of(node, "what to send", report)?;
        let mut bytes = fields.field("hex", report, hex);
        fields.finish(&[], report).spoil("hex", &mut bytes);
        if bytes.is_absent() {
            report.error(node.place, "nothing to send", "write the text itself, or `hex:`");
        }
        bytes.get()?.value.clone()
    } else {
        decode::text(node, report)?.into_bytes()
    };
    if bytes.len() > MAX_SEND {
        report.error(node.place, format!("more than {MAX_SEND} bytes to send"), "");
        return None;
    }
    Some(bytes)
}

fn hex(node: &Node, report: &mut Report<'_>) -> Option<Vec<u8>> {
    let written = decode::text(node, report)?;
    let digits: Vec<char> = written.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        [high, low] => u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    if bytes.is_none() {
        let message = format!("`{}` is not a row of bytes", decode::cut(&written));
        report.error(node.place, message, "write two hexadecimal digits for each, as `00 ff 1b`");
    }
    bytes
}

/// One condition on what comes back.
pub(super) fn text_match(node: &Node, report: &mut Report<'_>) -> Option<TextMatch> {
    let matches = text_matches(node, report)?;
    if matches.len() > 1 {
        let help = "write both as one regular expression";
        report.error(node.place, "`contains` and `regex` together", help);
        return None;
    }
    matches.into_iter().next()
}

/// Text that must appear, or a mapping of `contains` and `regex`.
pub(super) fn text_matches(node: &Node, report: &mut Report<'_>) -> Option<Vec<TextMatch>> {
    if !matches!(node.value, Value::Map(_)) {
        return contains(node, report).map(|text| vec![text]);
    }
    let mut fields = Fields::of(node, "what to expect", report)?;
    let mut found =
        [fields.field("contains", report, contains), fields.field("regex", report, regex)];
    let misspelt = fields.finish(&[], report);
    for (key, field) in ["contains", "regex"].into_iter().zip(&mut found) {
        misspelt.spoil(key, field);
    }
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

fn proxy_protocol(node: &Node, report: &mut Report<'_>) -> Option<ProxyProtocol> {
    decode::word(node, &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)], report)
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
