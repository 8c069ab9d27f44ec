//! The `agent` check.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;
use crate::probe::target::AgentCheck;

use super::check::{BESIDE, KindEntry, payload};

pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    let empty = Node { value: Value::Map(Vec::new()), place: node.place };
    let node = if node.value == Value::Null { &empty } else { node };
    let mut fields = Fields::of(node, "an agent check", report)?;
    let mut port = fields.field("port", report, decode::port);
    let send = fields.field("send", report, payload);
    fields.finish(BESIDE, report).spoil("port", &mut port);
    if port.is_absent() {
        let help = "add the port that the agent listens on, such as `port: 9000`";
        report.error(node.place, "an agent check without a port", help);
    }
    let good = port.get().is_some() && !send.is_bad();
    good.then(|| (KindEntry::Agent(AgentCheck { send: send.unwrap_or(Vec::new()) }), port))
}
