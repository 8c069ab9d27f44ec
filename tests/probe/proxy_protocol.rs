//! The PROXY header: the first bytes of a connection, whatever follows.

use std::sync::Arc;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{
    Check, CheckKind, GrpcCheck, ProxyProtocol, SmtpCheck, Target, TcpCheck, Verify,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{LONG, SHORT, Step, expect, get, probe, serve, target};
use crate::tls::tls;

fn announced(mut target: Target, version: ProxyProtocol) -> Target {
    let check = Check { proxy_protocol: Some(version), ..Check::clone(&target.check) };
    target.check = Arc::new(check);
    target
}

/// What a server hears first, and where the client sits.
async fn first_bytes(kind: CheckKind, version: ProxyProtocol) -> (Vec<u8>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (mut stream, client) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        let (from, to) = (client.port(), address.port());
        (heard, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n"))
    };
    let target = announced(target(address, kind, SHORT), version);
    tokio::join!(probe(&target), server).1
}

#[tokio::test]
async fn the_header_goes_before_everything() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let grpc = GrpcCheck { tls: None, host: None, service: String::new() };
    let tcp = TcpCheck { send: b"PING\r\n".to_vec(), expect: None };
    for (kind, follows) in [
        (CheckKind::Http(get()), &b"GET / HTTP/1.1\r\n"[..]),
        (CheckKind::Http2(get()), preface),
        (CheckKind::Grpc(grpc), preface),
        (CheckKind::Tls(tls(Verify::Nobody)), &[22, 3, 1]),
        (CheckKind::Tcp(tcp), b"PING\r\n"),
        (CheckKind::Smtp(SmtpCheck::default()), b""),
    ] {
        let name = kind.name();
        let (heard, line) = first_bytes(kind.clone(), ProxyProtocol::V1).await;
        assert!(heard.starts_with(&[line.as_bytes(), follows].concat()), "{name}: {heard:?}");
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        let (heard, _) = first_bytes(kind, ProxyProtocol::V2).await;
        assert!(heard.starts_with(&[local, follows].concat()), "{name}: {heard:?}");
    }
}

#[tokio::test]
async fn a_server_that_resets_instead_fails() {
    let address = serve(vec![Step::Reset]).await;
    let target = announced(target(address, CheckKind::Http(get()), LONG), ProxyProtocol::V2);
    expect("reset", &probe(&target).await, Reason::Reset, "");
}
