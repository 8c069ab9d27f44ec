//! The gRPC check against servers that do everything wrong; a real one is in `tests/real`.

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, GrpcCheck};

use crate::frames::{ACK, DATA, END_STREAM, SETTINGS, frame, head, script, trailers};
use crate::support::{LONG, SHORT, expect, probe, serve, target};

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");
const OK: (&str, &str) = ("grpc-status", "0");

/// A message after its prefix, as a body.
fn message(bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    frame(DATA, 0, 1, &framed)
}

/// An answer that ends well, with this message in it.
fn answer(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![head(200, &[GRPC], 0), message(bytes), trailers(&[OK])]
}

fn check(service: &str) -> CheckKind {
    CheckKind::Grpc(GrpcCheck { tls: None, host: None, service: service.to_owned() })
}

#[tokio::test]
async fn answers_are_judged_by_state_and_status() {
    let raw = |bytes: &[u8]| vec![head(200, &[GRPC], 0), frame(DATA, 0, 1, bytes), trailers(&[OK])];
    let only = |fields: &[(&str, &str)]| vec![head(200, fields, END_STREAM)];
    for (name, frames, reason, piece) in [
        ("serving", answer(&[8, 1]), Reason::Ok, "service shop.Cart is SERVING"),
        ("unknown fields", answer(&[0x1a, 1, 9, 8, 1]), Reason::Ok, "is SERVING"),
        ("not serving", answer(&[8, 2]), Reason::Status, "service shop.Cart is NOT_SERVING"),
        ("unknown", answer(&[]), Reason::Status, "is UNKNOWN"),
        ("unknown service", answer(&[8, 3]), Reason::Status, "is SERVICE_UNKNOWN"),
        ("a state to come", answer(&[8, 77]), Reason::Status, "is in state 77"),
        (
            "unimplemented",
            only(&[GRPC, ("grpc-status", "12"), ("grpc-message", "no%20method")]),
            Reason::Status,
            "the call ended with UNIMPLEMENTED: \"no method\"; it has no grpc.health.v1 service",
        ),
        (
            "not found",
            only(&[GRPC, ("grpc-status", "5")]),
            Reason::Status,
            "the call ended with NOT_FOUND; it does not know service shop.Cart",
        ),
        (
            "an error in trailers",
            vec![head(200, &[GRPC], 0), trailers(&[("grpc-status", "14"), ("grpc-message", "")])],
            Reason::Status,
            "the call ended with UNAVAILABLE",
        ),
        ("no such code", only(&[GRPC, ("grpc-status", "99")]), Reason::Status, "ended with 99"),
        ("no code", only(&[GRPC, ("grpc-status", "x")]), Reason::Protocol, "grpc-status \"x\""),
        ("HTTP", only(&[("content-type", "text/html")]), Reason::Protocol, "\"text/html\""),
        ("no content-type", only(&[]), Reason::Protocol, "no content-type"),
        ("404", vec![head(404, &[], END_STREAM)], Reason::Status, "HTTP status 404, expected 200"),
        (
            "no status at the end",
            vec![head(200, &[GRPC], 0), message(&[8, 1]), frame(DATA, END_STREAM, 1, &[])],
            Reason::Protocol,
            "no grpc-status at its end",
        ),
        (
            "no message",
            vec![head(200, &[GRPC], 0), trailers(&[OK])],
            Reason::Protocol,
            "no message",
        ),
        ("only a status", only(&[GRPC, OK]), Reason::Protocol, "no grpc-status at its end"),
        ("compressed", raw(&[1, 0, 0, 0, 2, 8, 1]), Reason::Protocol, "compressed"),
        ("short", raw(&[0, 0, 0, 0, 9, 8, 1]), Reason::Protocol, "of 9 bytes, of which 2 came"),
        ("long", raw(&[0, 0, 0, 0, 0, 8, 1]), Reason::Protocol, "of 0 bytes, of which 2 came"),
        ("4 GiB", raw(&[0, 255, 255, 255, 255, 8]), Reason::Protocol, "of 4294967295 bytes"),
        ("garbage", answer(&[0xff; 12]), Reason::Protocol, "not protobuf"),
    ] {
        let address = serve(script(&frames)).await;
        expect(name, &probe(&target(address, check("shop.Cart"), LONG)).await, reason, piece);
    }
}

#[tokio::test]
async fn an_endless_or_missing_answer_ends() {
    // The client's window holds from the acknowledgement of its SETTINGS on.
    let begun = vec![frame(SETTINGS, ACK, 0, &[]), head(200, &[GRPC], 0)];
    let long = [begun, vec![message(&[8; 999]); 80]].concat();
    let address = serve(script(&long)).await;
    let outcome = probe(&target(address, check(""), LONG)).await;
    expect("long", &outcome, Reason::BodySize, "an answer of more than 64 KiB");

    for script in [script(&[]), script(&[head(200, &[GRPC], 0), message(&[8, 1])])] {
        let address = serve(script).await;
        let outcome = probe(&target(address, check(""), SHORT)).await;
        expect("late", &outcome, Reason::HeadTimeout, "no answer to the call within 400ms");
    }
}
