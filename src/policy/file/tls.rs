//! The keys of TLS, wherever it is spoken, and the `tls` check.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;

use super::check::{BESIDE, KindEntry};

/// The keys of [`TlsEntry`].
pub(super) const TLS_KEYS: &[&str] = &["server_name", "verify", "ca_file", "min_days"];

/// Whom to ask for and whom to trust.
#[derive(Debug)]
pub(crate) struct TlsEntry {
    pub(crate) server_name: Field<String>,
    pub(crate) verify: Field<bool>,
    pub(crate) ca_file: Field<String>,
    pub(crate) min_days: Field<u32>,
}

/// When TLS is spoken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TlsWhen {
    /// The key that says so, if there is one.
    pub(crate) key: Option<&'static str>,
    /// What holds without it.
    pub(crate) default: bool,
}

pub(super) const TLS_ALWAYS: TlsWhen = TlsWhen { key: None, default: true };
pub(super) const TLS_UNLESS_OFF: TlsWhen = TlsWhen { key: Some("tls"), default: true };
pub(super) const TLS_IF_ASKED: TlsWhen = TlsWhen { key: Some("starttls"), default: false };

/// TLS, and whether it is spoken at all.
#[derive(Debug)]
pub(crate) struct TlsSwitch {
    pub(crate) when: TlsWhen,
    pub(crate) on: Field<bool>,
    pub(crate) entry: TlsEntry,
}

impl TlsSwitch {
    pub(super) fn read(fields: &mut Fields<'_>, when: TlsWhen, report: &mut Report<'_>) -> Self {
        let on = match when.key {
            Some(key) => fields.field(key, report, decode::boolean),
            None => Field::Absent,
        };
        Self { when, on, entry: TlsEntry::read(fields, report) }
    }
}

impl TlsEntry {
    fn read(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Self {
        Self {
            server_name: fields.field("server_name", report, server_name),
            verify: fields.field("verify", report, decode::boolean),
            ca_file: fields.field("ca_file", report, |node, report| {
                let path = decode::text(node, report)?;
                if path.is_empty() {
                    report.error(node.place, "an empty path", "leave the key out");
                    return None;
                }
                Some(path)
            }),
            min_days: fields
                .field("min_days", report, |node, report| decode::number(node, 1..=3650, report)),
        }
    }

    /// The first of its keys that is there.
    pub(crate) fn first_key(&self) -> Option<(&'static str, crate::policy::source::Place)> {
        let place = |field: Option<crate::policy::source::Place>, key| Some((key, field?));
        place(self.server_name.get().map(|at| at.place), "server_name")
            .or_else(|| place(self.verify.get().map(|at| at.place), "verify"))
            .or_else(|| place(self.ca_file.get().map(|at| at.place), "ca_file"))
            .or_else(|| place(self.min_days.get().map(|at| at.place), "min_days"))
    }
}

/// A `tls` check, which may be empty.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    let empty = Node { value: Value::Map(Vec::new()), place: node.place };
    let node = if node.value == Value::Null { &empty } else { node };
    let mut fields = Fields::of(node, "a tls check", report)?;
    let port = fields.field("port", report, decode::port);
    let tls = TlsSwitch::read(&mut fields, TLS_ALWAYS, report);
    fields.finish(BESIDE, report);
    Some((KindEntry::Tls(Box::new(tls)), port))
}

/// A name or an address that a certificate can carry.
fn server_name(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::text(node, report)?;
    let parsed = tokio_rustls::rustls::pki_types::ServerName::try_from(name.as_str());
    if parsed.is_err() {
        let message = format!("`{}` is not a name a certificate can carry", decode::cut(&name));
        report.error(node.place, message, "write a DNS name or an IP address, without a port");
        return None;
    }
    Some(name)
}
