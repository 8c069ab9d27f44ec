//! The `udp` and `icmp` checks.

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;
use crate::probe::target::UdpCheck;

use super::check::{BESIDE, KindEntry, payload, text_match};

pub(super) fn read_udp(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    if node.value == Value::Null {
        return Some((KindEntry::Udp(UdpCheck::default()), Field::Absent));
    }
    let mut fields = Fields::of(node, "a udp check", report)?;
    let port = fields.field("port", report, decode::port);
    let send = fields.field("send", report, payload);
    let expect = fields.field("expect", report, text_match);
    fields.finish(BESIDE, report);
    if send.is_bad() || expect.is_bad() {
        return None;
    }
    let expect = expect.get().map(|expect| expect.value.clone());
    Some((KindEntry::Udp(UdpCheck { send: send.unwrap_or(Vec::new()), expect }), port))
}

pub(super) fn read_icmp(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
    if let Value::Map(entries) = &node.value
        && let Some((key, _)) = entries.iter().find(|(key, _)| key.value == "port")
    {
        report.error(key.place, "a port in an icmp check", "ICMP has no ports: leave it out");
        return None;
    }
    if node.value != Value::Null {
        Fields::of(node, "an icmp check", report)?.finish(BESIDE, report);
    }
    Some((KindEntry::Icmp, Field::Absent))
}
