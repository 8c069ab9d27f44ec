//! The `grpc` check.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;

use super::check::{BESIDE, KindEntry};
use super::http::authority;
use super::tls::{TLS_UNLESS_OFF, TlsSwitch};

/// The longest name of a service.
const MAX_SERVICE: usize = 1024;

/// What a `grpc` check says, but for its port.
#[derive(Debug)]
pub(crate) struct GrpcEntry {
    pub(crate) service: Field<String>,
    pub(crate) host: Field<String>,
    pub(crate) tls: TlsSwitch,
}

impl GrpcEntry {
    pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
        let empty = Node { value: Value::Map(Vec::new()), place: node.place };
        let node = if node.value == Value::Null { &empty } else { node };
        let mut fields = Fields::of(node, "a grpc check", report)?;
        let port = fields.field("port", report, decode::port);
        let entry = Self {
            service: fields.field("service", report, service),
            host: fields.field("host", report, authority),
            tls: TlsSwitch::read(&mut fields, TLS_UNLESS_OFF, report),
        };
        fields.finish(BESIDE, report);
        Some((KindEntry::Grpc(Box::new(entry)), port))
    }
}

/// A name as `package.Service`; any text is one.
fn service(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::text(node, report)?;
    if name.len() > MAX_SERVICE || name.chars().any(char::is_control) {
        let message = format!("`{}` cannot name a service", decode::cut(&name));
        let help = format!("write a name of at most {MAX_SERVICE} bytes, as `package.Service`");
        report.error(node.place, message, help);
        return None;
    }
    Some(name)
}
