//! The DNS check: one question to a name server, over UDP or TCP (RFC 1035).
//!
//! The identifier and the source port are random. What does not answer the question, by its
//! identifier and by the question in it, is passed by until the deadline. An answer cut short
//! (`TC`) counts by its code, and is asked for again over TCP where a record is looked for in it.

use std::net::{IpAddr, SocketAddr};

use domain::base::iana::{Rcode, Rtype};
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::AllRecordData;

use super::datagram::Exchange;
use super::dialogue::Dialogue;
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt, wanted};
use super::socket::{self, Origin};
use super::target::{Target, TextMatch};

/// One question and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsCheck {
    /// The name that is asked for.
    pub name: Name<Vec<u8>>,
    /// The type of record.
    pub record_type: Rtype,
    /// What the question goes over.
    pub transport: Transport,
    /// Response codes that pass.
    pub rcodes: Vec<Rcode>,
    /// What the answer must hold.
    pub answer: Answer,
}

/// What a question goes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams, and TCP for what is too long for them.
    #[default]
    Udp,
    /// A TCP connection.
    Tcp,
}

/// What the answer section must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// Anything, also nothing.
    Any,
    /// Each of these, as the data of a record, in the form of [`plain`].
    Records(Vec<String>),
    /// What all of these hold for; one record a line, as `A 192.0.2.1`.
    Matches(Vec<TextMatch>),
}

type Judged = Result<String, Failure>;

/// Asks and judges; the text says what passed.
pub(super) async fn ask(
    target: &Target,
    check: &DnsCheck,
    origin: &Origin<'_>,
    progress: &Progress,
) -> Judged {
    let question = question(check, rand::random())?;
    progress.wait_for(Reason::HeadTimeout, "answer to the question");
    if check.transport == Transport::Udp {
        let address = target.asked_at();
        let exchange = Exchange {
            socket: socket::datagram(address, origin)?,
            address,
            timeout: target.timing.timeout,
            progress,
        };
        let judged = exchange.ask(question.as_slice(), |datagram| {
            let reply = answer_to(&question, datagram);
            if reply.is_none() {
                progress.add_received(datagram.len());
            }
            reply.map(|reply| (judge(check, reply), reply.header().tc()))
        });
        match judged.await? {
            (Err(failure), true) if failure.reason == Reason::Content => {}
            (judged, _) => return judged,
        }
        let again = over_tcp((target.asked_at(), origin), check, &question, progress).await;
        return again.map_err(|failure| Failure {
            detail: format!("the answer was cut short, and over TCP: {}", failure.detail),
            ..failure
        });
    }
    over_tcp((target.asked_at(), origin), check, &question, progress).await
}

fn question(check: &DnsCheck, id: u16) -> Result<Message<Vec<u8>>, Failure> {
    let mut question = MessageBuilder::new_vec().question();
    question.header_mut().set_id(id);
    question.header_mut().set_rd(true);
    question
        .push((&check.name, check.record_type))
        .map_err(|error| Failure::new(Reason::Resources, format!("nothing asked: {error}")))?;
    Ok(question.into_message())
}

/// The message in a datagram, if it answers the question.
fn answer_to<'r>(question: &Message<Vec<u8>>, reply: &'r [u8]) -> Option<&'r Message<[u8]>> {
    let reply = Message::from_slice(reply).ok()?;
    // A server that cannot read the question returns an error without it.
    let bare = reply.header().qr()
        && reply.header().id() == question.header().id()
        && reply.header_counts().qdcount() == 0
        && reply.header().rcode() != Rcode::NOERROR;
    (bare || reply.is_answer(question)).then_some(reply)
}

async fn over_tcp(
    (address, origin): (SocketAddr, &Origin<'_>),
    check: &DnsCheck,
    question: &Message<Vec<u8>>,
    progress: &Progress,
) -> Judged {
    let stream = socket::connect(address, origin).await?;
    progress.mark_connected();
    let mut dialogue = Dialogue::new(stream, progress);
    let length = u16::try_from(question.as_slice().len()).unwrap_or(u16::MAX);
    dialogue.say(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let length = u16::from_be_bytes(dialogue.hear().await?);
    let reply = dialogue.hear_much(length.into()).await?;
    match answer_to(question, &reply) {
        Some(reply) => judge(check, reply),
        None => {
            let detail = format!("not an answer to the question: {}", excerpt(&reply));
            Err(Failure::new(Reason::Protocol, detail))
        }
    }
}

fn judge(check: &DnsCheck, reply: &Message<[u8]>) -> Judged {
    let rcode = reply.header().rcode();
    if !check.rcodes.contains(&rcode) {
        let wanted: Vec<_> = check.rcodes.iter().map(Rcode::to_string).collect();
        let detail = format!("{rcode}, expected {}", wanted.join(", "));
        return Err(Failure::new(Reason::Status, detail));
    }
    if check.answer == Answer::Any {
        return Ok(rcode.to_string());
    }
    let records = records(reply).map_err(|error| {
        Failure::new(Reason::Protocol, format!("an answer that cannot be read: {error}"))
    })?;
    match missing(&check.answer, &records) {
        None => Ok(format!("{rcode}, with the answer expected")),
        Some(what) => {
            let found: Vec<_> = records.iter().map(|(_, data)| data.as_str()).collect();
            let found = match found.is_empty() {
                true => "no record".to_owned(),
                false => excerpt(found.join(", ").as_bytes()),
            };
            Err(Failure::new(Reason::Content, format!("{what}; {rcode} with {found}")))
        }
    }
}

/// Type and data of each record of the answer section.
fn records(reply: &Message<[u8]>) -> Result<Vec<(Rtype, String)>, ParseError> {
    let section = reply.answer()?.limit_to::<AllRecordData<_, _>>();
    section.map(|record| record.map(|record| (record.rtype(), record.data().to_string()))).collect()
}

/// What is expected and not there.
fn missing(answer: &Answer, records: &[(Rtype, String)]) -> Option<String> {
    match answer {
        Answer::Any => None,
        Answer::Records(all) => {
            let there: Vec<_> = records.iter().map(|(_, data)| plain(data)).collect();
            let missing = all.iter().find(|one| !there.contains(one))?;
            Some(format!("the answer has no {missing:?}"))
        }
        Answer::Matches(all) => {
            let lines = records.iter().map(|(of_type, data)| format!("{of_type} {data}\n"));
            let text: String = lines.collect();
            let failed = all.iter().find(|one| !one.is_match(text.as_bytes()))?;
            Some(format!("the answer does not {}", wanted(failed)))
        }
    }
}

/// The data of a record in a form that compares: addresses in their shortest form, other words in
/// lower case, without quotes and final dots.
pub fn plain(data: &str) -> String {
    if let Ok(address) = data.trim().parse::<IpAddr>() {
        return address.to_string();
    }
    let word = |word: &str| match word {
        "." => word.to_owned(),
        _ => word.trim_end_matches('.').to_lowercase(),
    };
    data.replace('"', "").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_data_compares_by_what_it_means() {
        for (written, same) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("10 Mail.Example.COM.", "10 mail.example.com"),
            ("\"v=spf1 -all\"", "v=spf1 -all"),
            ("1 . alpn=\"h2,h3\"", "1 . alpn=h2,h3"),
            ("0 issue \"ca.example.net\"", "0 issue ca.example.net"),
        ] {
            assert_eq!(plain(written), same);
        }
        assert_ne!(plain("192.0.2.1"), plain("192.0.2.10"));
    }
}
