//! The `smtp` check.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;

use super::check::{BESIDE, KindEntry};
use super::tls::{TLS_IF_ASKED, TlsSwitch};

/// What an `smtp` check says, but for its port.
#[derive(Debug)]
pub(crate) struct SmtpEntry {
    pub(crate) ehlo: Field<String>,
    pub(crate) starttls: TlsSwitch,
}

impl SmtpEntry {
    pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
        let empty = Node { value: Value::Map(Vec::new()), place: node.place };
        let node = if node.value == Value::Null { &empty } else { node };
        let mut fields = Fields::of(node, "an smtp check", report)?;
        let port = fields.field("port", report, decode::port);
        let entry = Self {
            ehlo: fields.field("ehlo", report, name),
            starttls: TlsSwitch::read(&mut fields, TLS_IF_ASKED, report),
        };
        fields.finish(BESIDE, report);
        Some((KindEntry::Smtp(Box::new(entry)), port))
    }
}

/// A domain, or an address literal in brackets (RFC 5321 section 4.1.1.1).
fn name(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::text(node, report)?;
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if bare.is_empty() || bare.len() > 255 || !bare.chars().all(legal) {
        let message = format!("`{}` is not a name to introduce oneself with", decode::cut(&name));
        let help = "write the director's own name, as `lb1.example.com`";
        report.error(node.place, message, help);
        return None;
    }
    Some(name)
}
