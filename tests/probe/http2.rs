//! HTTP/2 against servers that do everything wrong; real ones are in `tests/real`.

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, HttpCheck};
use proptest::prelude::*;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, field, flood, frame, head, script,
};
use crate::support::{LONG, SHORT, Step, contains, expect, get, probe, say, serve, target};
use crate::tls::{NAME, ca, self_signed, serve_tls, tls};

fn alive() -> HttpCheck {
    HttpCheck { body: vec![contains("alive")], ..get() }
}

async fn case(name: &str, script: Vec<Step>, reason: Reason, piece: &str) {
    let address = serve(script).await;
    let late = matches!(reason, Reason::HeadTimeout | Reason::BodyTimeout);
    let timeout = if late { SHORT } else { LONG };
    let outcome = probe(&target(address, CheckKind::Http2(alive()), timeout)).await;
    expect(name, &outcome, reason, piece);
}

fn whole(status: u16, body: &str) -> Vec<Vec<u8>> {
    vec![head(status, &[], 0), frame(DATA, END_STREAM, 1, body.as_bytes())]
}

#[tokio::test]
async fn answers_are_judged_as_those_of_http() {
    let interim = head(103, &[], 0);
    for (name, frames, reason, piece) in [
        ("good", whole(200, "alive"), Reason::Ok, "status 200"),
        ("interim", [vec![interim], whole(204, "alive")].concat(), Reason::Ok, "status 204"),
        (
            "padded",
            vec![head(200, &[], 0), frame(DATA, 8 | END_STREAM, 1, b"\x03alive\0\0\0")],
            Reason::Ok,
            "",
        ),
        ("status", whole(503, "alive"), Reason::Status, "status 503, expected 200-399"),
        ("body", whole(200, "dead"), Reason::Content, "the body does not contain \"alive\""),
        ("no body", vec![head(200, &[], END_STREAM)], Reason::Content, "the body is empty"),
        (
            "status before the body",
            vec![head(404, &[], 0)],
            Reason::Status,
            "status 404, expected 200-399",
        ),
        (
            "trailers",
            [
                vec![head(200, &[], 0), frame(DATA, 0, 1, b"alive")],
                vec![crate::frames::trailers(&[("x", "y")])],
            ]
            .concat(),
            Reason::Ok,
            "",
        ),
    ] {
        case(name, script(&frames), reason, piece).await;
    }
}

#[tokio::test]
async fn what_breaks_an_answer_is_named() {
    let goaway = |code: u32, text: &str| {
        let payload = [&[0; 4], &code.to_be_bytes()[..], text.as_bytes()].concat();
        frame(GOAWAY, 0, 0, &payload)
    };
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    let declared = head(200, &[("content-length", "1000")], 0);
    for (name, frames, reason, piece) in [
        (
            "GOAWAY",
            vec![goaway(11, "slow down")],
            Reason::Closed,
            "the server ended the connection",
        ),
        ("GOAWAY code", vec![goaway(11, "")], Reason::Closed, "(GOAWAY ENHANCE_YOUR_CALM)"),
        ("GOAWAY of shutdown", vec![goaway(0, "")], Reason::Closed, "(GOAWAY NO_ERROR)"),
        ("RST_STREAM", vec![reset(7)], Reason::Reset, "(RST_STREAM REFUSED_STREAM)"),
        ("wants HTTP/1.1", vec![reset(13)], Reason::Reset, "it wants HTTP/1.1"),
        (
            "RST_STREAM in the body",
            vec![declared.clone(), frame(DATA, 0, 1, b"some"), reset(2)],
            Reason::Reset,
            "after 4 of 1000 bytes of body (RST_STREAM INTERNAL_ERROR)",
        ),
        (
            "less than Content-Length",
            vec![declared, frame(DATA, END_STREAM, 1, b"some")],
            Reason::Protocol,
            "not a sound HTTP/2 answer: PROTOCOL_ERROR",
        ),
        (
            "more than Content-Length",
            vec![head(200, &[("content-length", "2")], 0), frame(DATA, END_STREAM, 1, b"alive")],
            Reason::Protocol,
            "not a sound HTTP/2 answer",
        ),
        (
            "a push",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])],
            Reason::Protocol,
            "not a sound HTTP/2 answer",
        ),
        (
            "a stream nobody opened",
            vec![frame(HEADERS, END_HEADERS, 5, &field(":status", "200"))],
            Reason::Protocol,
            "",
        ),
        ("DATA before HEADERS", vec![frame(DATA, 0, 1, b"alive")], Reason::Protocol, ""),
        ("bad HPACK", vec![frame(HEADERS, END_HEADERS, 1, &[0xff; 9])], Reason::Protocol, ""),
        ("no status", vec![frame(HEADERS, END_HEADERS, 1, &field("a", "b"))], Reason::Protocol, ""),
        ("a header in capitals", vec![head(200, &[("Server", "x")], 0)], Reason::Protocol, ""),
        (
            "a frame of 16 MiB",
            vec![vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]],
            Reason::Protocol,
            "FRAME_SIZE_ERROR",
        ),
        (
            "a window past 2^31",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            Reason::Protocol,
            "FLOW_CONTROL_ERROR",
        ),
        ("SETTINGS of 5 bytes", vec![frame(SETTINGS, 0, 0, &[0; 5])], Reason::Protocol, ""),
        ("silence", vec![], Reason::HeadTimeout, "response head not complete within 400ms"),
        (
            "half a body",
            vec![head(200, &[], 0), frame(DATA, 0, 1, b"al")],
            Reason::BodyTimeout,
            "body not complete within 400ms (2 bytes)",
        ),
        (
            "no room for a request",
            vec![frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0])],
            Reason::HeadTimeout,
            "",
        ),
    ] {
        case(name, script(&frames), reason, piece).await;
    }
}

#[tokio::test]
async fn floods_end() {
    let begun = frame(HEADERS, 0, 1, &field(":status", "200"));
    let long = field("a", &"b".repeat(100));
    let block = long.repeat(100);
    for (name, script) in [
        ("SETTINGS", flood(&[], frame(SETTINGS, 0, 0, &[]))),
        ("PING", flood(&[], frame(PING, 0, 0, &[7; 8]))),
        ("WINDOW_UPDATE", flood(&[], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("CONTINUATION", flood(std::slice::from_ref(&begun), frame(CONTINUATION, 0, 1, &long))),
        ("empty CONTINUATION", flood(&[begun], frame(CONTINUATION, 0, 1, &[]))),
        ("interim responses", flood(&[], head(100, &[], 0))),
        ("large headers", flood(&[], frame(HEADERS, END_HEADERS, 1, &block))),
        ("empty DATA", flood(&[head(200, &[], 0)], frame(DATA, 0, 1, &[]))),
        ("padding", flood(&[head(200, &[], 0)], frame(DATA, 8, 1, &[254; 255]))),
        ("small DATA", flood(&[head(200, &[], 0)], frame(DATA, 0, 1, b"x"))),
        ("DATA", flood(&[head(200, &[], 0)], frame(DATA, 0, 1, &[b'x'; 9999]))),
        ("frames of no known type", flood(&[], frame(0xfa, 0, 0, &[0; 64]))),
        ("PRIORITY", flood(&[], frame(2, 0, 3, &[0, 0, 0, 0, 9]))),
    ] {
        let address = serve(script).await;
        let outcome = probe(&target(address, CheckKind::Http2(alive()), LONG)).await;
        assert!(
            matches!(
                outcome.reason,
                Reason::HeadSize | Reason::BodySize | Reason::Protocol | Reason::Closed
            ),
            "{name}: {outcome:?}"
        );
        assert!(outcome.phases.ended < LONG, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn another_protocol_is_recognised() {
    for (name, script, reason, piece) in [
        (
            "HTTP/1.1",
            vec![Step::Read, say("HTTP/1.1 400 Bad Request\r\n\r\n")],
            Reason::Protocol,
            "the server speaks HTTP/1.1, not HTTP/2, on this port: \"HTTP/1.1 400 Bad",
        ),
        (
            "TLS",
            vec![Step::Read, say([0x15, 3, 1, 0, 2, 2, 40])],
            Reason::Protocol,
            "the server speaks TLS on this port",
        ),
        ("SSH", vec![say("SSH-2.0-x\r\n"), Step::Hang], Reason::Protocol, "begins \"SSH-2.0"),
        ("NULs", vec![Step::Read, say([0; 999]), Step::Hang], Reason::Protocol, "not an HTTP/2"),
        ("closes", vec![Step::Read], Reason::Closed, "closed before an answer"),
        ("closes at once", vec![], Reason::Closed, "closed before an answer"),
        ("resets", vec![Step::Reset], Reason::Reset, "reset before an answer"),
        ("hangs", vec![Step::Hang], Reason::HeadTimeout, "no response head within 400ms"),
        (
            "drips",
            vec![Step::Drip(frame(SETTINGS, 0, 0, &[0; 600]), SHORT / 20)],
            Reason::HeadTimeout,
            "response head not complete",
        ),
    ] {
        let closes = name.starts_with("closes") || name == "HTTP/1.1";
        let address = serve(script).await;
        let late = reason == Reason::HeadTimeout;
        let check = CheckKind::Http2(alive());
        let outcome = probe(&target(address, check, if late { SHORT } else { LONG })).await;
        // A server that closes on what it has not read may reset the connection instead.
        if closes && outcome.reason == Reason::Reset {
            continue;
        }
        expect(name, &outcome, reason, piece);
    }
}

#[tokio::test]
async fn over_tls_the_server_must_choose_it() {
    let identity = self_signed(&[NAME], |_| {});
    let trust = tls(ca(&identity.pem));
    let (address, _told) = serve_tls(identity).await;
    let check = HttpCheck { tls: Some(trust), host: Some(NAME.to_owned()), ..get() };
    let outcome = probe(&target(address, CheckKind::Http2(check.clone()), LONG)).await;
    expect("no ALPN", &outcome, Reason::Protocol, "does not speak HTTP/2 over TLS: it did not");

    let address = serve(vec![Step::Read, say("HTTP/1.1 400 Bad Request\r\n\r\n")]).await;
    let outcome = probe(&target(address, CheckKind::Http2(check.clone()), LONG)).await;
    expect("no TLS", &outcome, Reason::Tls, "does not speak TLS on this port; tls: false asks");

    let address = serve(vec![Step::Hang]).await;
    let outcome = probe(&target(address, CheckKind::Http2(check), SHORT)).await;
    expect("hangs", &outcome, Reason::TlsTimeout, "no TLS session within 400ms");
}

/// When a probe ends, whatever came of it, its connection ends too.
#[tokio::test]
async fn nothing_outlives_a_probe() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = target(listener.local_addr().unwrap(), CheckKind::Http2(get()), SHORT);
    let accept = async { listener.accept().await.unwrap().0 };
    let (outcome, mut stream) = tokio::join!(probe(&to), accept);
    expect("deadline", &outcome, Reason::HeadTimeout, "no response head");
    let mut request = Vec::new();
    let end = tokio::time::timeout(LONG, stream.read_to_end(&mut request)).await;
    end.expect("the socket is still open").unwrap();
    assert!(request.starts_with(b"PRI * HTTP/2.0\r\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever frames come, the probe ends with a verdict on the server.
    #[test]
    fn no_frames_panic_or_hang(frames in prop::collection::vec(
        (0_u8..12, any::<u8>(), 0_u32..4, prop::collection::vec(any::<u8>(), 0..64)), 0..12,
    )) {
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
            .collect();
        let mut script = script(&frames);
        script.pop();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let address = serve(script).await;
            probe(&target(address, CheckKind::Http2(alive()), LONG)).await
        });
        prop_assert_ne!(outcome.kind, pointsman::health::OutcomeKind::Inconclusive);
        prop_assert!(outcome.phases.ended < LONG, "{:?}", outcome);
    }
}
