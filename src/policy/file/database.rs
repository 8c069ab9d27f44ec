//! The `redis`, `mysql` and `postgresql` checks.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;

use super::check::{BESIDE, KindEntry};

/// A check of a database, but for its port.
#[derive(Debug)]
pub(crate) enum DatabaseEntry {
    Redis,
    Mysql { user: Field<String> },
    Postgresql { user: Field<String>, database: Field<String> },
}

pub(super) fn read_redis(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    read(node, "a redis check", report, |_, _| DatabaseEntry::Redis)
}

pub(super) fn read_mysql(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    read(node, "a mysql check", report, |fields, report| DatabaseEntry::Mysql {
        user: fields.field("user", report, identifier),
    })
}

pub(super) fn read_postgresql(
    node: &Node,
    report: &mut Report<'_>,
) -> Option<(KindEntry, Field<u16>)> {
    read(node, "a postgresql check", report, |fields, report| DatabaseEntry::Postgresql {
        user: fields.field("user", report, identifier),
        database: fields.field("database", report, identifier),
    })
}

fn read(
    node: &Node,
    what: &'static str,
    report: &mut Report<'_>,
    keys: impl FnOnce(&mut Fields<'_>, &mut Report<'_>) -> DatabaseEntry,
) -> Option<(KindEntry, Field<u16>)> {
    let empty = Node { value: Value::Map(Vec::new()), place: node.place };
    let node = if node.value == Value::Null { &empty } else { node };
    let mut fields = Fields::of(node, what, report)?;
    let port = fields.field("port", report, decode::port);
    let entry = keys(&mut fields, report);
    let mut elsewhere = BESIDE.to_vec();
    elsewhere.push((&["password"], "nowhere: probes log in without one, and being denied passes"));
    fields.finish(&elsewhere, report);
    Some((KindEntry::Database(entry), port))
}

/// A name as the protocols carry it: up to a zero byte, and at most as long as either server takes.
fn identifier(node: &Node, report: &mut Report<'_>) -> Option<String> {
    const LONGEST: usize = 63;
    let name = decode::text(node, report)?;
    if name.is_empty() || name.len() > LONGEST || name.contains(char::is_control) {
        let message = format!("`{}` is not a name a server knows", decode::cut(&name));
        report.error(node.place, message, format!("write 1 to {LONGEST} bytes in one line"));
        return None;
    }
    Some(name)
}
