//! The `dns` check.

use std::str::FromStr as _;

use domain::base::Name;
use domain::base::iana::{Rcode, Rtype};

use crate::policy::decode::{self, Field, Fields};
use crate::policy::node::{Node, Value};
use crate::policy::source::Report;
use crate::probe::dns::{Answer, Transport, plain};

use super::check::{BESIDE, KindEntry, text_matches};

/// What a `dns` check says, but for its port.
#[derive(Debug)]
pub(crate) struct DnsEntry {
    pub(crate) name: Field<Name<Vec<u8>>>,
    pub(crate) record_type: Field<Rtype>,
    pub(crate) transport: Field<Transport>,
    pub(crate) expect: Field<ExpectEntry>,
}

/// `expect` of a dns check.
#[derive(Debug)]
pub(crate) struct ExpectEntry {
    pub(crate) rcodes: Field<Vec<Rcode>>,
    pub(crate) answer: Field<Answer>,
}

/// Records that can be asked for.
const TYPES: &[(&str, Rtype)] = &[
    ("A", Rtype::A),
    ("AAAA", Rtype::AAAA),
    ("ANY", Rtype::ANY),
    ("CAA", Rtype::CAA),
    ("CNAME", Rtype::CNAME),
    ("DNSKEY", Rtype::DNSKEY),
    ("HTTPS", Rtype::HTTPS),
    ("MX", Rtype::MX),
    ("NAPTR", Rtype::NAPTR),
    ("NS", Rtype::NS),
    ("PTR", Rtype::PTR),
    ("SOA", Rtype::SOA),
    ("SRV", Rtype::SRV),
    ("SVCB", Rtype::SVCB),
    ("TXT", Rtype::TXT),
];

/// Response codes of RFC 1035 and RFC 2136.
const RCODES: &[(&str, Rcode)] = &[
    ("NOERROR", Rcode::NOERROR),
    ("FORMERR", Rcode::FORMERR),
    ("SERVFAIL", Rcode::SERVFAIL),
    ("NXDOMAIN", Rcode::NXDOMAIN),
    ("NOTIMP", Rcode::NOTIMP),
    ("REFUSED", Rcode::REFUSED),
    ("NOTAUTH", Rcode::NOTAUTH),
];

impl DnsEntry {
    pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<(KindEntry, Field<u16>)> {
        let empty = Node { value: Value::Map(Vec::new()), place: node.place };
        let node = if node.value == Value::Null { &empty } else { node };
        let mut fields = Fields::of(node, "a dns check", report)?;
        let port = fields.field("port", report, decode::port);
        let mut entry = Self {
            name: fields.field("name", report, name),
            record_type: fields
                .field("type", report, |node, report| decode::word(node, TYPES, report)),
            transport: fields.field("transport", report, |node, report| {
                decode::word(node, &[("udp", Transport::Udp), ("tcp", Transport::Tcp)], report)
            }),
            expect: fields.field("expect", report, ExpectEntry::read),
        };
        let mut elsewhere = BESIDE.to_vec();
        elsewhere.push((&["rcode", "answer"], "under `expect:`"));
        fields.finish(&elsewhere, report).spoil("name", &mut entry.name);
        if entry.name.is_absent() {
            report.error(node.place, "a dns check without a name", "add `name:`, as `example.com`");
        }
        Some((KindEntry::Dns(Box::new(entry)), port))
    }
}

impl ExpectEntry {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, "`expect`", report)?;
        let entry = Self {
            rcodes: fields.field("rcode", report, rcodes),
            answer: fields.field("answer", report, answer),
        };
        fields.finish(&[], report);
        Some(entry)
    }
}

fn name(node: &Node, report: &mut Report<'_>) -> Option<Name<Vec<u8>>> {
    let written = decode::text(node, report)?;
    if let Ok(address) = written.parse() {
        let message = format!("`{written}` is an address, not a name of DNS");
        let help = match Name::<Vec<u8>>::reverse_from_addr(address) {
            Ok(name) => format!("the name that `PTR` is asked for is `{name}`"),
            Err(_) => String::new(),
        };
        report.error(node.place, message, help);
        return None;
    }
    let read = if written.is_empty() { None } else { Name::from_str(&written).ok() };
    if read.is_none() {
        let message = format!("`{}` is not a name of DNS", decode::cut(&written));
        let help = if written.is_ascii() {
            "write it as `www.example.com`, or `.` for the root"
        } else {
            "write it as DNS has it (`xn--…`)"
        };
        report.error(node.place, message, help);
    }
    read
}

/// A code or a list of them; sorted, so that equal questions compare equal.
fn rcodes(node: &Node, report: &mut Report<'_>) -> Option<Vec<Rcode>> {
    let mut codes = match &node.value {
        Value::List(nodes) => several(node, nodes, report, code)?,
        _ => vec![code(node, report)?],
    };
    codes.sort_unstable();
    codes.dedup();
    Some(codes)
}

fn code(node: &Node, report: &mut Report<'_>) -> Option<Rcode> {
    decode::word(node, RCODES, report)
}

/// A record's data, a list of them, or conditions on the text of the answer.
fn answer(node: &Node, report: &mut Report<'_>) -> Option<Answer> {
    match &node.value {
        Value::Map(_) => text_matches(node, report).map(Answer::Matches),
        Value::List(nodes) => {
            let mut records = several(node, nodes, report, record)?;
            records.sort_unstable();
            records.dedup();
            Some(Answer::Records(records))
        }
        _ => record(node, report).map(|record| Answer::Records(vec![record])),
    }
}

fn record(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let data = plain(&decode::text(node, report)?);
    if data.is_empty() {
        report.error(node.place, "an empty record", "leave it out");
        return None;
    }
    Some(data)
}

/// All entries of a list that has any, or `None` when one of them is wrong.
fn several<T>(
    list: &Node,
    nodes: &[Node],
    report: &mut Report<'_>,
    getter: impl Fn(&Node, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if nodes.is_empty() {
        report.error(list.place, "an empty list", "leave the key out");
        return None;
    }
    let read: Vec<_> = nodes.iter().map(|node| getter(node, report)).collect();
    read.into_iter().collect()
}
