//! The SMTP check against scripted servers; a real one is in `tests/real`.

use std::time::Duration;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, SmtpCheck, Verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{LONG, SHORT, Step, expect, probe, say, serve, target};
use crate::tls::tls;

const GREETING: &str = "220-mail.example ESMTP\r\n220-be patient\r\n220 ready\r\n";
const OFFERS: &str = "250-mail.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n";

fn plain() -> CheckKind {
    CheckKind::Smtp(SmtpCheck::default())
}

fn starttls() -> CheckKind {
    let starttls = Some(tls(Verify::Nobody));
    CheckKind::Smtp(SmtpCheck { ehlo: Some("lb1.example".to_owned()), starttls })
}

#[tokio::test]
async fn dialogues_are_judged_by_their_codes() {
    use Step::{Drip, Hang, Read, Repeat, Reset};
    let slow = Duration::from_millis(1);
    let greeted = |then: Vec<Step>| [vec![say(GREETING), Read], then].concat();
    let offering =
        |then: Vec<Step>| greeted([vec![say("250-x\r\n250 starttls\r\n"), Read], then].concat());
    for (name, script, check, reason, piece) in [
        ("good", greeted(vec![say(OFFERS), Read, say("221 bye\r\n")]), plain(), Reason::Ok, "250"),
        ("deaf to QUIT", greeted(vec![say(OFFERS), Hang]), plain(), Reason::Ok, "250"),
        ("closes after EHLO", greeted(vec![say(OFFERS)]), plain(), Reason::Ok, "250"),
        (
            "drips",
            vec![Drip(GREETING.into(), slow), Read, Drip(OFFERS.into(), slow), Read],
            plain(),
            Reason::Ok,
            "",
        ),
        ("bare LF", vec![say("220 x\n"), Read, say("250\n"), Read], plain(), Reason::Ok, ""),
        (
            "no service",
            vec![say("554 5.7.1 not you\r\n"), Read],
            plain(),
            Reason::Status,
            "answered 554 \"5.7.1 not you\" to the connection, expected 220",
        ),
        (
            "too busy",
            greeted(vec![say("421-later\r\n421 please\r\n")]),
            plain(),
            Reason::Status,
            "answered 421 \"later please\" to EHLO, expected 250",
        ),
        (
            "HTTP",
            vec![say("HTTP/1.1 400 Bad Request\r\n\r\n"), Hang],
            plain(),
            Reason::Protocol,
            "not an SMTP reply: \"HTTP/1.1 400 Bad Request\"",
        ),
        (
            "two codes",
            vec![say("220-a\r\n250 b\r\n"), Hang],
            plain(),
            Reason::Protocol,
            "a reply of two codes: \"250 b\"",
        ),
        (
            "an endless banner",
            vec![Repeat(b"220-be patient\r\n".to_vec())],
            plain(),
            Reason::HeadSize,
            "more than 64 KiB of replies",
        ),
        (
            "an endless line",
            vec![say("220 "), Repeat(vec![b'x'; 999])],
            plain(),
            Reason::HeadSize,
            "more than 64 KiB of replies",
        ),
        (
            "answers before it is asked",
            vec![say("220 a\r\n250 b\r\n"), Hang],
            plain(),
            Reason::Protocol,
            "it speaks before it is asked: \"250 b",
        ),
        ("closes", vec![], plain(), Reason::Closed, "closed after 0 bytes of replies"),
        (
            "closes in the banner",
            vec![say("220-mail\r\n220")],
            plain(),
            Reason::Closed,
            "closed after 13 bytes of replies \"220\"",
        ),
        ("resets", vec![Reset], plain(), Reason::Reset, "connection reset by peer after 0 bytes"),
        ("hangs", vec![Hang], plain(), Reason::HeadTimeout, "no greeting within 400ms"),
        (
            "half a banner",
            vec![say("220-mail\r\n"), Hang],
            plain(),
            Reason::HeadTimeout,
            "no greeting within 400ms",
        ),
        (
            "deaf to EHLO",
            greeted(vec![Hang]),
            plain(),
            Reason::HeadTimeout,
            "no answer to EHLO within 400ms",
        ),
        (
            "no STARTTLS",
            greeted(vec![say(OFFERS), Read]),
            starttls(),
            Reason::Tls,
            "the server does not offer STARTTLS",
        ),
        (
            "refuses STARTTLS",
            offering(vec![say("454 TLS not available\r\n"), Read]),
            starttls(),
            Reason::Status,
            "answered 454 \"TLS not available\" to STARTTLS, expected 220",
        ),
        (
            "injects",
            offering(vec![say("220 go\r\n250 trust me\r\n"), Hang]),
            starttls(),
            Reason::Protocol,
            "more in cleartext after STARTTLS: \"250 trust me\\r\\n\"",
        ),
        (
            "no TLS after all",
            offering(vec![say("220 go\r\n"), Read, say("500 what\r\n"), Hang]),
            starttls(),
            Reason::Tls,
            "does not speak TLS",
        ),
        (
            "hangs in the handshake",
            offering(vec![say("220 go\r\n"), Hang]),
            starttls(),
            Reason::TlsTimeout,
            "no TLS session after STARTTLS within 400ms",
        ),
    ] {
        let address = serve(script).await;
        let late = matches!(reason, Reason::HeadTimeout | Reason::TlsTimeout);
        let timeout = if late { SHORT } else { LONG };
        expect(name, &probe(&target(address, check, timeout)).await, reason, piece);
    }
}

#[tokio::test]
async fn the_probe_introduces_itself_and_leaves() {
    for (ehlo, told) in [
        (None, "EHLO [127.0.0.1]\r\nQUIT\r\n"),
        (Some("lb1.example"), "EHLO lb1.example\r\nQUIT\r\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(GREETING.as_bytes()).await.unwrap();
            let mut line = vec![0; 64];
            let length = stream.read(&mut line).await.unwrap();
            let mut heard = String::from_utf8_lossy(&line[..length]).into_owned();
            stream.write_all(OFFERS.as_bytes()).await.unwrap();
            stream.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let check = SmtpCheck { ehlo: ehlo.map(str::to_owned), starttls: None };
        let to = target(address, CheckKind::Smtp(check), LONG);
        let (outcome, heard) = tokio::join!(probe(&to), server);
        expect("introduced", &outcome, Reason::Ok, "EHLO answered with 250");
        assert_eq!(heard, told);
    }
}
