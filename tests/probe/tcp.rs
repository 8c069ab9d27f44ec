//! The TCP check.

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{TcpCheck, TextMatch};

use crate::support::{LONG, SHORT, Step, contains, expect, probe, regex, say, serve, tcp};

fn hears(send: &str, condition: TextMatch) -> TcpCheck {
    TcpCheck { send: send.into(), expect: Some(condition) }
}

#[tokio::test]
async fn exchanges_are_judged_as_asked() {
    use Reason::{Closed, Content, HeadTimeout, Ok, Reset};
    use Step::{Hang, Request};
    let slow = std::time::Duration::from_millis(10);
    for (name, script, check, reason, piece) in [
        ("accepts and hangs", vec![Hang], TcpCheck::default(), Ok, "connected"),
        (
            "banner",
            vec![say("220 mail\r\n"), Hang],
            hears("", contains("220 ")),
            Ok,
            "contain \"220 \"",
        ),
        (
            "pong",
            vec![Request, say("+PONG\r\n"), Hang],
            hears("PING\r\n\r\n", regex("^\\+PONG\r\n")),
            Ok,
            "",
        ),
        (
            "drip",
            vec![Step::Drip(b"220 mail".to_vec(), slow), Hang],
            hears("", contains("ail")),
            Ok,
            "",
        ),
        ("says it and closes", vec![say("220 mail\r\n")], hears("x", contains("mail")), Ok, ""),
        (
            "another banner",
            vec![say("554 no\r\n")],
            hears("", contains("220")),
            Content,
            r#"the answer does not contain "220"; it begins "554 no\r\n", 8 bytes"#,
        ),
        (
            "says nothing",
            vec![],
            hears("", contains("220")),
            Closed,
            "closed without saying anything",
        ),
        (
            "resets",
            vec![Step::Reset],
            hears("", contains("220")),
            Reset,
            "connection reset by peer after 0 bytes",
        ),
        (
            "hangs",
            vec![Hang],
            hears("", contains("220")),
            HeadTimeout,
            "nothing heard within 400ms (connected in ",
        ),
        (
            "another banner, then hangs",
            vec![say("554"), Hang],
            hears("", contains("220")),
            HeadTimeout,
            "3 bytes came)",
        ),
        (
            "talks for ever",
            vec![Step::Repeat(vec![b'x'; 999])],
            hears("", contains("220")),
            Content,
            "the first 64 KiB of the answer do not contain",
        ),
    ] {
        let address = serve(script).await;
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        expect(name, &probe(&tcp(address, check, timeout)).await, reason, piece);
    }
}

/// A peer that never reads, and more to send than the kernel buffers for it.
#[tokio::test]
async fn a_peer_that_does_not_listen_fails_at_the_deadline() {
    let address = serve(vec![Step::Sleep(LONG)]).await;
    let check = TcpCheck { send: vec![b'x'; 32 << 20], expect: None };
    let outcome = probe(&tcp(address, check, SHORT)).await;
    expect("deaf", &outcome, Reason::HeadTimeout, "not all of `send` taken within 400ms");
}
