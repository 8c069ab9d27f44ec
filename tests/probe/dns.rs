//! The DNS check against name servers that do everything wrong.

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::atomic::Ordering::Relaxed;

use domain::base::Name;
use domain::base::iana::{Rcode, Rtype};
use pointsman::probe::dns::{Answer, DnsCheck, Transport};
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::CheckKind;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::datagrams::{Script, answer, answer_on};
use crate::support::{LONG, SHORT, Step, contains, expect, probe, say, serve, target};

/// `A www.example.com` that must be NOERROR.
fn check() -> DnsCheck {
    DnsCheck {
        name: Name::from_str("www.example.com").unwrap(),
        record_type: Rtype::A,
        transport: Transport::Udp,
        rcodes: vec![Rcode::NOERROR],
        answer: Answer::Any,
    }
}

fn has(address: &str) -> DnsCheck {
    DnsCheck { answer: Answer::Records(vec![address.to_owned()]), ..check() }
}

async fn ask(address: SocketAddr, check: DnsCheck, timeout: std::time::Duration) -> Outcome {
    probe(&target(address, CheckKind::Dns(check), timeout)).await
}

/// The flags of a response with this code, of an authoritative server that recurses.
fn response(rcode: u8) -> [u8; 2] {
    [0x85, 0x80 | rcode]
}

/// The reply to a question: its identifier, these flags, the question, and this many records.
fn reply(question: &[u8], flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
    let count = u8::try_from(records.len()).unwrap();
    let mut reply = [&question[..2], &flags, &[0, 1, 0, count, 0, 0, 0, 0]].concat();
    reply.extend(&question[12..]);
    reply.extend(records.concat());
    reply
}

/// An A record of the name in the question, by a pointer to it.
const RECORD: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
/// A CNAME record whose data is a pointer to itself.
const LOOP: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 45];
/// A record that says it has more data than there is.
const LIAR: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0xff, 0xff, 192];
/// A TXT record with control characters and an escape sequence in it.
const RUDE: &[u8] = b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x06\x05\x1b[2J\n";

#[tokio::test]
async fn replies_are_judged_as_asked() {
    use Reason::{Content, Ok, Protocol, Refused, Status};
    let nothing = DnsCheck { rcodes: vec![Rcode::NXDOMAIN, Rcode::REFUSED], ..check() };
    let text = DnsCheck { answer: Answer::Matches(vec![contains("A 192.0.2.1\n")]), ..check() };
    let cases: [(&str, Script, DnsCheck, Reason, &str); 14] = [
        ("empty", |_, q| vec![reply(q, response(0), &[])], check(), Ok, "NOERROR"),
        (
            "a record",
            |_, q| vec![reply(q, response(0), &[RECORD])],
            has("192.0.2.1"),
            Ok,
            "expected",
        ),
        ("as text", |_, q| vec![reply(q, response(0), &[RECORD])], text, Ok, "expected"),
        (
            "another",
            |_, q| vec![reply(q, response(0), &[RECORD])],
            has("192.0.2.10"),
            Content,
            r#"the answer has no "192.0.2.10"; NOERROR with "192.0.2.1""#,
        ),
        (
            "none",
            |_, q| vec![reply(q, response(0), &[])],
            has("192.0.2.1"),
            Content,
            r#"the answer has no "192.0.2.1"; NOERROR with no record"#,
        ),
        (
            "SERVFAIL",
            |_, q| vec![reply(q, response(2), &[])],
            check(),
            Status,
            "SERVFAIL, expected NOERROR",
        ),
        ("REFUSED", |_, q| vec![reply(q, response(5), &[])], nothing, Ok, "REFUSED"),
        (
            "an error without the question",
            |_, q| vec![[&q[..2], &response(1), &[0; 8]].concat()],
            check(),
            Status,
            "FORMERR, expected NOERROR",
        ),
        (
            "a loop of pointers",
            |_, q| vec![reply(q, response(0), &[LOOP])],
            has("192.0.2.1"),
            Protocol,
            "an answer that cannot be read",
        ),
        (
            "more than there is",
            |_, q| vec![reply(q, response(0), &[RECORD, LIAR])],
            has("192.0.2.1"),
            Protocol,
            "an answer that cannot be read",
        ),
        (
            "a terminal's words",
            |_, q| vec![reply(q, response(0), &[RUDE])],
            has("192.0.2.1"),
            Content,
            "NOERROR with \"",
        ),
        ("cut short", |_, q| vec![reply(q, [0x87, 0x80], &[])], check(), Ok, "NOERROR"),
        (
            "cut short, and nothing over TCP",
            |_, q| vec![reply(q, [0x87, 0x80], &[])],
            has("192.0.2.1"),
            Refused,
            "the answer was cut short, and over TCP: port ",
        ),
        (
            "the first is lost",
            |before, q| if before == 0 { vec![] } else { vec![reply(q, response(0), &[])] },
            check(),
            Ok,
            "NOERROR",
        ),
    ];
    for (name, script, check, reason, piece) in cases {
        let (address, _) = answer(script).await;
        let timeout = if name.contains("lost") { 5 * SHORT } else { LONG };
        let outcome = ask(address, check, timeout).await;
        expect(name, &outcome, reason, piece);
        assert!(!outcome.detail.contains(char::is_control), "{outcome:?}");
    }
}

/// Strays: none of these is taken for the answer, and the real one after them is.
#[tokio::test]
async fn what_does_not_answer_the_question_is_passed_by() {
    fn strays(question: &[u8]) -> Vec<Vec<u8>> {
        let good = reply(question, response(0), &[RECORD]);
        let mut other_id = good.clone();
        other_id[0] ^= 0x80;
        let mut other_name = good.clone();
        other_name[13] = b'x';
        let mut other_type = good.clone();
        other_type[12 + 17 + 1] = 28;
        let mut two_questions = good.clone();
        two_questions[5] = 2;
        let name_in_a_loop =
            [&question[..2], &response(0), &[0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]]
                .concat();
        let bare = [&question[..2], &response(0), &[0; 8]].concat();
        vec![
            vec![],
            vec![0xff; 11],
            vec![0xff; 4096],
            question.to_vec(),
            other_id,
            other_name,
            other_type,
            two_questions,
            name_in_a_loop,
            bare,
            good[..20].to_vec(),
        ]
    }
    let (address, count) = answer(|_, q| strays(q)).await;
    let outcome = ask(address, check(), SHORT).await;
    let piece = "no answer to the question within 400ms (";
    expect("strays", &outcome, Reason::HeadTimeout, piece);
    assert!(outcome.detail.contains("of something else came"), "{outcome:?}");
    assert_eq!(count.load(Relaxed), 3);

    let (address, _) =
        answer(|_, q| [strays(q), vec![reply(q, response(0), &[RECORD])]].concat()).await;
    let outcome = ask(address, has("192.0.2.1"), LONG).await;
    expect("the answer after them", &outcome, Reason::Ok, "NOERROR");
}

#[tokio::test]
async fn identifiers_and_ports_are_not_told_beforehand() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let hear = async {
            let mut question = [0; 512];
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            let answer = reply(&question[..length], response(0), &[]);
            socket.send_to(&answer, from).await.unwrap();
            (question[0], question[1], from.port())
        };
        let (outcome, heard) = tokio::join!(ask(address, check(), LONG), hear);
        expect("asked", &outcome, Reason::Ok, "NOERROR");
        seen.insert(heard);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[tokio::test]
async fn closed_and_silent_servers_are_told_apart() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    expect("closed", &ask(address, check(), LONG).await, Reason::Refused, "is closed");
    let (address, _) = answer(|_, _| vec![]).await;
    let outcome = ask(address, check(), SHORT).await;
    expect("silent", &outcome, Reason::HeadTimeout, "no answer to the question within 400ms");
}

/// Answers `reply` to each question over TCP, after its length.
fn over_tcp(listener: TcpListener, reply: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = usize::from(stream.read_u16().await.unwrap());
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await.unwrap();
            let reply = reply(&question);
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

/// A port for both transports, on which nobody listens by TCP yet.
async fn one_port() -> (UdpSocket, TcpSocket) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpSocket::new_v4().unwrap();
        if silent.bind(socket.local_addr().unwrap()).is_ok() {
            return (socket, silent);
        }
    }
}

#[tokio::test]
async fn what_is_cut_short_is_asked_for_again_over_tcp() {
    let (socket, silent) = one_port().await;
    let (address, _) = answer_on(socket, |_, q| vec![reply(q, [0x87, 0x80], &[])]);
    let outcome = ask(address, has("192.0.2.1"), LONG).await;
    expect("no TCP", &outcome, Reason::Refused, "is closed");
    over_tcp(silent.listen(8).unwrap(), |q| reply(q, response(0), &[RECORD]));
    let outcome = ask(address, has("192.0.2.1"), LONG).await;
    expect("TCP", &outcome, Reason::Ok, "NOERROR, with the answer expected");
    assert!(outcome.phases.connected.is_some());
    // What is there already needs no second question.
    let (address, _) = answer(|_, q| vec![reply(q, [0x87, 0x80], &[RECORD])]).await;
    let outcome = ask(address, has("192.0.2.1"), LONG).await;
    expect("cut after it", &outcome, Reason::Ok, "NOERROR");
}

fn by_tcp() -> DnsCheck {
    DnsCheck { transport: Transport::Tcp, ..check() }
}

#[tokio::test]
async fn broken_streams_say_how() {
    use Reason::{Closed, HeadTimeout, Protocol, Reset};
    use Step::{Drip, Hang, Read};
    for (name, script, reason, piece) in [
        ("closes", vec![Read], Closed, "closed without saying anything"),
        ("closes in the length", vec![Read, say([0])], Closed, "closed after 1 byte"),
        ("closes in the answer", vec![Read, say([0xff, 0xff, 1])], Closed, "closed after 3 bytes"),
        ("resets", vec![Step::Reset], Reset, "reset by peer after 0 bytes"),
        (
            "an empty answer",
            vec![Read, say([0, 0]), Hang],
            Protocol,
            "not an answer to the question",
        ),
        ("garbage", vec![Read, say([0, 3, 1, 2, 3]), Hang], Protocol, "\"\\x01\\x02\\x03\""),
        ("hangs", vec![Hang], HeadTimeout, "no answer to the question within 400ms (connected in"),
        (
            "drips",
            vec![Read, Drip(vec![1; 900], SHORT / 8)],
            HeadTimeout,
            "no answer to the question within 400ms",
        ),
    ] {
        let address = serve(script).await;
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        expect(name, &ask(address, by_tcp(), timeout).await, reason, piece);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = over_tcp(listener, |q| reply(q, response(3), &[]));
    let outcome = ask(address, by_tcp(), LONG).await;
    expect("TCP alone", &outcome, Reason::Status, "NXDOMAIN, expected NOERROR");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is in the records, the probe ends before its deadline and says something.
    #[test]
    fn no_records_break_the_prober(
        flags: u8,
        counts: [u8; 6],
        rest in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(0xc0), Just(12), Just(1)], 0..300,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let hear = async {
                let mut question = [0; 512];
                let (length, from) = socket.recv_from(&mut question).await.unwrap();
                let begin = [&question[..2], &[0x80 | flags, 0x80, 0, 1], &counts].concat();
                let hostile = [&begin, &question[12..length], &rest].concat();
                socket.send_to(&hostile, from).await.unwrap();
            };
            // Cut short by its flag, it is asked for over TCP, where nobody listens.
            tokio::join!(ask(address, has("192.0.2.1"), LONG), hear).0
        });
        prop_assert!(outcome.phases.ended < LONG, "{outcome:?}");
        prop_assert!(!outcome.detail.is_empty());
        prop_assert!(outcome.detail.len() < 1000, "{outcome:?}");
    }
}
