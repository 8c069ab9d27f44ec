//! The gRPC check: one unary call of `grpc.health.v1.Health/Check`.
//!
//! Two messages of one field each do not need a protobuf library: the request is the name of a
//! service (field 1, text), the answer its state (field 1, enumeration); unknown fields are
//! skipped. The framing is that of gRPC over HTTP/2 (PROTOCOL-HTTP2.md of grpc).

use std::net::SocketAddr;

use h2::RecvStream;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::http::{self, BODY_LIMIT, nothing_asked};
use super::http2::{secure, uri};
use super::http2_session::Session;
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt};
use super::target::GrpcCheck;
use super::tls;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// Compressed or not, and a length of four bytes.
const PREFIX: usize = 5;

/// Calls and judges; the text says what passed.
pub(super) async fn ask(
    stream: TcpStream,
    check: &GrpcCheck,
    address: SocketAddr,
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::HeadTimeout, "answer to the call");
    let request = request(check, address).map_err(nothing_asked)?;
    let Some(tls) = &check.tls else { return exchange(stream, check, request, progress).await };
    let to = (check.host.as_deref(), address);
    let mut session = secure(stream, tls, to, configs, progress).await?;
    let result = exchange(&mut session, check, request, progress).await;
    tls::say_goodbye(&mut session).await;
    result
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    check: &GrpcCheck,
    request: Request<()>,
    progress: &Progress,
) -> Result<String, Failure> {
    let mut session = Session::open(stream, progress).await?;
    let result = call(&mut session, check, request, progress).await;
    session.close().await;
    result
}

async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session<'_, S>,
    check: &GrpcCheck,
    request: Request<()>,
    progress: &Progress,
) -> Result<String, Failure> {
    let message = Some(encode(&check.service));
    let (head, mut body) = session.ask(request, message).await?.into_parts();
    progress.mark_first_byte();
    if head.status != StatusCode::OK {
        let status = head.status.as_u16();
        let detail = format!("HTTP status {status}, expected 200; is this a gRPC server?");
        return Err(Failure::new(Reason::Status, detail));
    }
    // An error without a message comes in the head alone.
    if head.headers.contains_key(STATUS) {
        judge_status(&head.headers, check)?;
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let kind = kind.map_or("no content-type".to_owned(), excerpt);
        let detail = format!("not a gRPC answer: {kind}, expected application/grpc");
        return Err(Failure::new(Reason::Protocol, detail));
    }
    let content = read(session, &mut body, progress).await?;
    match session.trailers(&mut body).await? {
        Some(trailers) => judge_status(&trailers, check)?,
        None => return Err(unsound("no grpc-status at its end")),
    }
    judge_health(&content, check)
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session<'_, S>,
    body: &mut RecvStream,
    progress: &Progress,
) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    while let Some(data) = session.data(body).await {
        content.extend_from_slice(&data?);
        progress.set_body(content.len());
        if content.len() > BODY_LIMIT {
            let detail = format!("an answer of more than {} KiB", BODY_LIMIT / 1024);
            return Err(Failure::new(Reason::BodySize, detail));
        }
    }
    Ok(content)
}

fn request(check: &GrpcCheck, address: SocketAddr) -> Result<Request<()>, String> {
    let tls = check.tls.is_some();
    let host = check.host.clone().unwrap_or_else(|| http::authority(address, tls));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(&host, PATH, tls)?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(http::USER_AGENT));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// The request: a prefix, then field 1 with the name, which is left out where it is empty.
fn encode(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | LENGTH_DELIMITED);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

const STATUS: &str = "grpc-status";

/// The names of the status codes, from 0 (statuscodes.md of grpc).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Whether the call itself went well.
fn judge_status(fields: &HeaderMap, check: &GrpcCheck) -> Result<(), Failure> {
    let Some(status) = fields.get(STATUS) else {
        return Err(unsound("no grpc-status at its end"));
    };
    let code = status.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    let name = match code {
        Some(0) => return Ok(()),
        Some(code) => CODES.get(code).map_or_else(|| code.to_string(), ToString::to_string),
        None => return Err(unsound(&format!("grpc-status {}", excerpt(status.as_bytes())))),
    };
    let message = fields.get("grpc-message").map(|text| percent_decoded(text.as_bytes()));
    let message = message.filter(|text| !text.is_empty());
    let message = message.map(|text| format!(": {}", excerpt(&text))).unwrap_or_default();
    let hint = match name.as_str() {
        "NOT_FOUND" => format!("; it does not know {}", subject(check)),
        "UNIMPLEMENTED" => "; it has no grpc.health.v1 service".to_owned(),
        _ => String::new(),
    };
    Err(Failure::new(Reason::Status, format!("the call ended with {name}{message}{hint}")))
}

/// Bytes for `%xx`, as far as they are that.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn judge_health(content: &[u8], check: &GrpcCheck) -> Result<String, Failure> {
    let Some((prefix, message)) = content.split_at_checked(PREFIX) else {
        return Err(unsound("no message in it"));
    };
    if prefix[0] != 0 {
        return Err(unsound("compressed, which was not asked for"));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if length as usize != message.len() {
        let came = message.len();
        return Err(unsound(&format!("a message of {length} bytes, of which {came} came")));
    }
    let state = state(message).ok_or_else(|| unsound("a message that is not protobuf"))?;
    let name = match state {
        1 => return Ok(format!("{} is SERVING", subject(check))),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("in state {other}"),
    };
    Err(Failure::new(Reason::Status, format!("{} is {name}", subject(check))))
}

fn subject(check: &GrpcCheck) -> String {
    match check.service.as_str() {
        "" => "the server".to_owned(),
        service => format!("service {service}"),
    }
}

fn unsound(what: &str) -> Failure {
    Failure::new(Reason::Protocol, format!("not a sound gRPC answer: {what}"))
}

const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// Field 1 of an answer, 0 where it is left out, the last one where it is repeated.
fn state(mut message: &[u8]) -> Option<u64> {
    let mut state = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match (tag & 7) as u8 {
            VARINT => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    state = value;
                }
                0
            }
            EIGHT_BYTES => 8,
            LENGTH_DELIMITED => usize::try_from(varint(&mut message)?).ok()?,
            FOUR_BYTES => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(state)
}

/// Takes a number of seven bits a byte, at most ten of them.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * shift);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_names_the_service() {
        assert_eq!(encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(encode("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "x".repeat(300);
        assert_eq!(encode(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(encode(&long).len(), PREFIX + 303);
    }

    #[test]
    fn states_by_table() {
        for (message, expected) in [
            (&[][..], Some(0)),
            (&[8, 1], Some(1)),
            (&[8, 2, 8, 1], Some(1)),
            (&[0x12, 2, 8, 2, 8, 1], Some(1)),
            (&[0x15, 8, 8, 8, 8, 0x19, 1, 2, 3, 4, 5, 6, 7, 8], Some(0)),
            (&[8], None),
            (&[8, 0x80], None),
            (&[0x12, 9, 1], None),
            (&[0x0b], None),
            (&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], None),
            (&[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], None),
        ] {
            assert_eq!(state(message), expected, "{message:?}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_decoded(b"a%20b%C3%a9%%4"), b"a b\xc3\xa9%%4");
    }

    proptest! {
        #[test]
        fn no_message_panics(message: Vec<u8>) {
            let check = GrpcCheck { tls: None, host: None, service: String::new() };
            let _ = judge_health(&message, &check);
        }
    }
}
