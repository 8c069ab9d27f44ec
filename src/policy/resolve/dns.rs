//! The question of a `dns` check.

use std::net::IpAddr;

use domain::base::iana::{Rcode, Rtype};

use crate::policy::decode::Field;
use crate::policy::file::dns::DnsEntry;
use crate::policy::source::{At, Report};
use crate::probe::dns::{Answer, DnsCheck, Transport};

pub(super) fn resolve(entry: &DnsEntry, report: &mut Report<'_>) -> Option<DnsCheck> {
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
    if let Some(answer) = answer {
        can_hold(record_type.unwrap_or(Rtype::A), answer, report)?;
    }
    Some(DnsCheck {
        name: name.get()?.value.clone(),
        record_type: record_type.unwrap_or(Rtype::A),
        transport: transport.unwrap_or(Transport::Udp),
        rcodes: rcodes.map_or(vec![Rcode::NOERROR], |rcodes| rcodes.value.clone()),
        answer: answer.map_or(Answer::Any, |answer| answer.value.clone()),
    })
}

/// Refuses an address that no record of the type can be.
fn can_hold(record_type: Rtype, answer: &At<Answer>, report: &mut Report<'_>) -> Option<()> {
    let Answer::Records(records) = &answer.value else { return Some(()) };
    let fits = |record: &&String| match (record.parse(), record_type) {
        (Err(_), _) | (Ok(_), Rtype::ANY | Rtype::TXT) => true,
        (Ok(IpAddr::V4(_)), of_type) => of_type == Rtype::A,
        (Ok(IpAddr::V6(_)), of_type) => of_type == Rtype::AAAA,
    };
    let Some(stranger) = records.iter().find(|record| !fits(record)) else { return Some(()) };
    let holder = if stranger.contains(':') { "AAAA" } else { "A" };
    let message = format!("no answer of type `{record_type}` holds `{stranger}`");
    report.error(answer.place, message, format!("that is a record of `type: {holder}`"));
    None
}
