//! The `http`, `https` and `http2` checks.

use hyper::header::{HeaderName, HeaderValue};

use crate::policy::decode::{self, Field, Fields, describe};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;
use crate::probe::target::{TextMatch, WeightFrom};

use super::check::{BESIDE, KindEntry, text_matches};
use super::tls::{TLS_ALWAYS, TLS_KEYS, TLS_UNLESS_OFF, TlsSwitch};

/// The protocols that ask one HTTP question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpKind {
    Http,
    Https,
    Http2,
}

/// What one of them says, but for its port.
#[derive(Debug)]
pub(crate) struct HttpEntry {
    pub(crate) kind: HttpKind,
    pub(crate) tls: Option<TlsSwitch>,
    pub(crate) method: Field<String>,
    pub(crate) path: Field<String>,
    pub(crate) host: Field<String>,
    pub(crate) headers: Field<Vec<(String, String)>>,
    pub(crate) expect: Field<ExpectEntry>,
    pub(crate) weight_from: Field<WeightFrom>,
}

/// `expect` of an http check.
#[derive(Debug, Clone)]
pub(crate) struct ExpectEntry {
    pub(crate) status: Field<Vec<(u16, u16)>>,
    pub(crate) body: Field<Vec<TextMatch>>,
    pub(crate) headers: Field<Vec<(String, TextMatch)>>,
}

impl HttpEntry {
    pub(super) fn read(
        node: &Node,
        kind: HttpKind,
        report: &mut Report<'_>,
    ) -> Option<(KindEntry, Field<u16>)> {
        let empty = Node { value: Value::Map(Vec::new()), place: node.place };
        let node = if node.value == Value::Null { &empty } else { node };
        let (what, tls) = match kind {
            HttpKind::Http => ("an http check", None),
            HttpKind::Https => ("an https check", Some(TLS_ALWAYS)),
            HttpKind::Http2 => ("an http2 check", Some(TLS_UNLESS_OFF)),
        };
        let mut fields = Fields::of(node, what, report)?;
        let port = fields.field("port", report, decode::port);
        let entry = Self {
            method: fields.field("method", report, method),
            path: fields.field("path", report, path),
            host: match kind {
                HttpKind::Http2 => fields.field("host", report, authority),
                HttpKind::Http | HttpKind::Https => fields.field("host", report, host),
            },
            headers: fields
                .field("headers", report, |node, report| request_headers(node, kind, report)),
            expect: fields.field("expect", report, ExpectEntry::read),
            weight_from: fields.field("weight_from", report, weight_from),
            tls: tls.map(|when| TlsSwitch::read(&mut fields, when, report)),
            kind,
        };
        let mut elsewhere = BESIDE.to_vec();
        elsewhere.push((&["status", "body"], "under `expect:`"));
        if tls.is_none() {
            elsewhere.push((TLS_KEYS, "in an `https:` check"));
        }
        fields.finish(&elsewhere, report);
        Some((KindEntry::Http(Box::new(entry)), port))
    }
}

impl ExpectEntry {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, "`expect`", report)?;
        let entry = Self {
            status: fields.field("status", report, statuses),
            body: fields.field("body", report, text_matches),
            headers: fields.field("headers", report, response_headers),
        };
        fields.finish(&[], report);
        Some(entry)
    }
}

/// `body`, or `{ header: X-Weight }`.
fn weight_from(node: &Node, report: &mut Report<'_>) -> Option<WeightFrom> {
    if !matches!(node.value, Value::Map(_)) {
        let body = node.value == Value::Plain("body".to_owned());
        if !body {
            let message = format!("expected where the weight is, found {}", describe(node));
            report.error(node.place, message, "write `{ header: X-Weight }`, or `body`");
        }
        return body.then_some(WeightFrom::Body);
    }
    let mut fields = Fields::of(node, "`weight_from`", report)?;
    let mut header = fields.field("header", report, |node, report| {
        let name = decode::text(node, report)?;
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{}` is not the name of a header", decode::cut(&name));
            report.error(node.place, message, "use letters, digits and `-`");
            return None;
        }
        Some(name.to_lowercase())
    });
    fields.finish(&[], report).spoil("header", &mut header);
    if header.is_absent() {
        let help = "write `{ header: X-Weight }`, or `body`";
        report.error(node.place, "where does the answer say its weight?", help);
    }
    header.get().map(|header| WeightFrom::Header(header.value.clone()))
}

fn method(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let method = decode::text(node, report)?;
    let upper = method.to_uppercase();
    let usual = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];
    if method == "CONNECT" || hyper::Method::from_bytes(method.as_bytes()).is_err() {
        let message = format!("`{}` is not a method a probe can use", decode::cut(&method));
        report.error(node.place, message, "write `GET`, `HEAD` or another method");
        return None;
    }
    if method != upper && usual.contains(&upper.as_str()) {
        let message = format!("method `{method}`: methods are told apart by case");
        report.error(node.place, message, format!("write `{upper}`"));
        return None;
    }
    Some(method)
}

fn path(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let path = decode::text(node, report)?;
    let shown = decode::cut(&path);
    let (message, help) = if !path.starts_with('/') {
        match path.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
            Some((_, rest)) => (
                format!("`{shown}` is a URL, not a path"),
                format!("write `path: /{}`, and the name under `host`", decode::cut(rest)),
            ),
            None => {
                (format!("path `{shown}` does not begin with `/`"), format!("write `/{shown}`"))
            }
        }
    } else if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        (
            format!("path `{shown}` has a character that cannot be sent: `{bad}`"),
            "write it percent-encoded, as `%20` for a space".to_owned(),
        )
    } else if path.parse::<hyper::http::uri::PathAndQuery>().is_err() || path.len() > 4096 {
        (format!("`{shown}` is not a path"), String::new())
    } else {
        return Some(path);
    };
    report.error(node.place, message, help);
    None
}

fn host(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let host = decode::text(node, report)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%!$&'()*+;=,".contains(c);
    if host.is_empty() || !host.chars().all(legal) {
        let message = format!("`{}` is not a host", decode::cut(&host));
        let help = if host.contains("://") || host.contains('/') {
            "write the name alone, without protocol and path"
        } else if !host.is_ascii() {
            "write the name as DNS has it (`xn--…`)"
        } else {
            "write a name, or a name and a port, as `www.example.com`"
        };
        report.error(node.place, message, help);
        return None;
    }
    Some(host)
}

/// A host that HTTP/2 can carry as `:authority`.
pub(super) fn authority(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let host = host(node, report)?;
    if host.parse::<hyper::http::uri::Authority>().is_err() {
        let message = format!("`{}` is not a host", decode::cut(&host));
        report.error(node.place, message, "write a name, or a name and a port");
        return None;
    }
    Some(host)
}

fn request_headers(
    node: &Node,
    kind: HttpKind,
    report: &mut Report<'_>,
) -> Option<Vec<(String, String)>> {
    /// Set by the probe itself.
    const OURS: [(&str, &str); 5] = [
        ("host", "use `host:`"),
        ("connection", "leave it out"),
        ("content-length", "leave it out"),
        ("transfer-encoding", "leave it out"),
        ("upgrade", "leave it out"),
    ];
    /// Those of one connection, which HTTP/2 has none of (RFC 9113 section 8.2.2).
    const NOT_IN_HTTP2: [&str; 3] = ["keep-alive", "proxy-connection", "te"];
    headers(node, report, |node, name, report| {
        if kind == HttpKind::Http2 && NOT_IN_HTTP2.contains(&name.to_lowercase().as_str()) {
            report.error(node.place, format!("HTTP/2 has no header `{name}`"), "leave it out");
            return None;
        }
        if let Some((_, help)) = OURS.iter().find(|(ours, _)| *ours == name.to_lowercase()) {
            report.error(node.place, format!("header `{name}` is set by the probe"), help);
            return None;
        }
        let value = decode::text(node, report)?;
        if HeaderValue::from_str(&value).is_err() || !value.is_ascii() {
            let message = format!("header `{name}` has a value that cannot be sent");
            report.error(node.place, message, "use visible ASCII characters in one line");
            return None;
        }
        Some(vec![(name.to_owned(), value)])
    })
}

fn response_headers(node: &Node, report: &mut Report<'_>) -> Option<Vec<(String, TextMatch)>> {
    headers(node, report, |node, name, report| {
        let matches = text_matches(node, report)?;
        Some(matches.into_iter().map(|text| (name.to_lowercase(), text)).collect())
    })
}

/// A mapping of header names; `None` when any entry is wrong.
fn headers<T>(
    node: &Node,
    report: &mut Report<'_>,
    mut getter: impl FnMut(&Node, &str, &mut Report<'_>) -> Option<Vec<T>>,
) -> Option<Vec<T>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("expected a mapping of headers, found {}", describe(node));
        report.error(node.place, message, "write `headers: { Name: value }`");
        return None;
    };
    let mut seen: Vec<String> = Vec::new();
    let mut found = Some(Vec::new());
    for (key, node) in entries {
        let name = key.value.as_str();
        let lower = name.to_lowercase();
        let read = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{}` is not the name of a header", decode::cut(name));
            report.error(key.place, message, "use letters, digits and `-`");
            None
        } else if seen.contains(&lower) {
            report.error(
                key.place,
                format!("header `{name}` is written twice"),
                "keep one of them",
            );
            None
        } else {
            getter(node, name, report)
        };
        seen.push(lower);
        match (&mut found, read) {
            (Some(found), Some(read)) => found.extend(read),
            _ => found = None,
        }
    }
    found
}

/// A list of numbers and ranges, or one of them; sorted and without overlap, so that equal
/// questions compare equal.
fn statuses(node: &Node, report: &mut Report<'_>) -> Option<Vec<(u16, u16)>> {
    let mut ranges = match &node.value {
        Value::List(nodes) if nodes.is_empty() => {
            report.error(node.place, "an empty list of statuses", "write `[200-399]`");
            return None;
        }
        Value::List(nodes) => {
            let read: Vec<_> = nodes.iter().map(|node| status(node, report)).collect();
            read.into_iter().collect::<Option<Vec<_>>>()?
        }
        _ => vec![status(node, report)?],
    };
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    Some(merged)
}

fn status(node: &Node, report: &mut Report<'_>) -> Option<(u16, u16)> {
    let written = match &node.value {
        Value::Plain(text) | Value::Text(text) => text.as_str(),
        _ => "",
    };
    let (low, high) = written.split_once('-').unwrap_or((written, written));
    let code = |text: &str| {
        let digits = text.trim();
        let plain = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|code| plain && (100..=999).contains(code))
    };
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => return Some((low, high)),
        (Some(low), Some(high)) => {
            let message = format!("status range `{low}-{high}` is empty");
            report.error(node.place, message, format!("write `{high}-{low}`"));
        }
        _ => {
            let class = written.as_bytes().first().filter(|byte| (b'1'..=b'5').contains(byte));
            let help = match class {
                Some(class) if written[1..].eq_ignore_ascii_case("xx") => {
                    let class = char::from(*class);
                    format!("write `{class}00-{class}99`")
                }
                _ => "write a status from 100 to 999, or a range such as `200-399`".to_owned(),
            };
            report.error(node.place, format!("expected a status, found {}", describe(node)), help);
        }
    }
    None
}
