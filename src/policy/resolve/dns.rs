//! The question of a `dns` check.

use domain::base::iana::{Rcode, Rtype};

use crate::policy::decode::Field;
use crate::policy::file::dns::DnsEntry;
use crate::probe::dns::{Answer, DnsCheck, Transport};

pub(super) fn resolve(entry: &DnsEntry) -> Option<DnsCheck> {
    let DnsEntry { name, record_type, transport, expect, .. } = entry;
    if record_type.is_bad() || transport.is_bad() {
        return None;
    }
    let (rcodes, answer) = match expect {
        Field::Bad => return None,
        Field::Absent => (None, None),
        Field::Is(expect) if expect.value.rcodes.is_bad() || expect.value.answer.is_bad() => {
            return None;
        }
        Field::Is(expect) => (expect.value.rcodes.get(), expect.value.answer.get()),
    };
    Some(DnsCheck {
        name: name.get()?.value.clone(),
        record_type: record_type.unwrap_or(Rtype::A),
        transport: transport.unwrap_or(Transport::Udp),
        rcodes: rcodes.map_or(vec![Rcode::NOERROR], |rcodes| rcodes.value.clone()),
        answer: answer.map_or(Answer::Any, |answer| answer.value.clone()),
    })
}
