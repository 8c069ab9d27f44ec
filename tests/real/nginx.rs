//! nginx: HTTP/2 over TLS and in cleartext, TLS alone, the PROXY protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, HttpCheck, ProxyProtocol, TextMatch, TlsCheck};

use crate::ask::{self, announced, expect, tls};
use crate::program::{Server, find, free_address, succeed};

/// Listeners of one nginx.
struct Nginx {
    server: Server,
    https: SocketAddr,
    cleartext: SocketAddr,
    http1: SocketAddr,
    announced: SocketAddr,
    announced_https: SocketAddr,
}

fn start() -> Option<Nginx> {
    let program = find("nginx")?;
    let directory = ask::directory();
    let [https, cleartext, http1, proxied, proxied_https] = [(); 5].map(|()| free_address());
    std::fs::write(directory.path().join("large"), "x".repeat(300_000)).unwrap();
    let certificate = "ssl_certificate cert.pem; ssl_certificate_key key.pem;";
    let pages = "\
        location = / { return 200 \"alive, announced as $proxy_protocol_addr.\\n\"; }
        location = /down { return 503; }
        location = /large { root .; }";
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind};\n"))
        .concat();
    let configuration = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;
        events {{}}
        http {{
            access_log off; {temporary}
            server {{ listen {https} ssl http2; {certificate} {pages} }}
            server {{ listen {cleartext} http2; {pages} }}
            server {{ listen {http1}; {pages} }}
            server {{ listen {proxied} proxy_protocol; {pages} }}
            server {{ listen {proxied_https} ssl http2 proxy_protocol; {certificate} {pages} }}
        }}"
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["-p", &path(directory.path()), "-c", &path(&file), "-e", "stderr"];
    succeed(&program, &[&["-t"], &arguments[..]].concat());
    let mut command = Command::new(program);
    command.args(arguments);
    let server = Server::start(directory, &mut command).listens(proxied_https);
    Some(Nginx {
        server,
        https,
        cleartext,
        http1,
        announced: proxied,
        announced_https: proxied_https,
    })
}

/// `GET path` that wants a page with `text` in it.
fn get(path: &str, text: &str, tls: Option<TlsCheck>) -> HttpCheck {
    HttpCheck {
        tls,
        method: "GET".to_owned(),
        path: path.to_owned(),
        host: Some(crate::ask::NAME.to_owned()),
        headers: Vec::new(),
        status: vec![(200, 399)],
        body: vec![TextMatch::Contains(text.to_owned())],
        response_headers: Vec::new(),
        weight_from: None,
    }
}

#[tokio::test]
async fn http2_with_and_without_tls() {
    let Some(nginx) = start() else { return };
    let secure = || Some(tls(nginx.server.path()));
    for (address, tls) in [(nginx.https, secure()), (nginx.cleartext, None)] {
        let page = |path, text| CheckKind::Http2(get(path, text, tls.clone()));
        expect(address, page("/", "alive"), Reason::Ok, "status 200").await;
        expect(address, page("/", "asleep"), Reason::Content, "it begins \"alive").await;
        expect(address, page("/down", ""), Reason::Status, "status 503").await;
        expect(address, page("/large", "xxx"), Reason::Ok, "status 200").await;
        let head = HttpCheck { method: "HEAD".to_owned(), ..get("/large", "", tls.clone()) };
        let head = HttpCheck { body: Vec::new(), ..head };
        expect(address, CheckKind::Http2(head), Reason::Ok, "status 200").await;
    }
}

#[tokio::test]
async fn what_another_listener_answers_is_explained() {
    let Some(nginx) = start() else { return };
    let secure = || Some(tls(nginx.server.path()));
    let page = |tls| CheckKind::Http2(get("/", "alive", tls));
    expect(nginx.http1, page(None), Reason::Protocol, "speaks HTTP/1.1, not HTTP/2").await;
    expect(nginx.http1, page(secure()), Reason::Tls, "tls: false asks without it").await;
    // nginx tells who speaks cleartext to a TLS port so in HTTP/1.1.
    expect(nginx.https, page(None), Reason::Protocol, "speaks HTTP/1.1, not HTTP/2").await;
}

#[tokio::test]
async fn a_handshake_alone() {
    let Some(nginx) = start() else { return };
    let trust = |path: &Path| CheckKind::Tls(tls(path));
    expect(nginx.https, trust(nginx.server.path()), Reason::Ok, "the certificate expires").await;
    let stranger = ask::directory();
    expect(nginx.https, trust(stranger.path()), Reason::Certificate, "not signed").await;
    expect(nginx.http1, trust(stranger.path()), Reason::Tls, "does not speak TLS").await;
}

#[tokio::test]
async fn proxy_headers_are_understood() {
    let Some(nginx) = start() else { return };
    let secure = || Some(tls(nginx.server.path()));
    for (version, told) in [
        (ProxyProtocol::V1, "announced as 127.0.0.1."),
        // LOCAL: it is the connection itself that counts.
        (ProxyProtocol::V2, "announced as ."),
    ] {
        let checks = [
            (nginx.announced, CheckKind::Http(get("/", told, None))),
            (nginx.announced_https, CheckKind::Http(get("/", told, secure()))),
            (nginx.announced_https, CheckKind::Http2(get("/", told, secure()))),
        ];
        for (address, check) in checks {
            announced(address, version, check, Reason::Ok, "status 200").await;
        }
        let handshake = CheckKind::Tls(tls(nginx.server.path()));
        announced(nginx.announced_https, version, handshake, Reason::Ok, "the certificate expires")
            .await;
        // And where no header is wanted, it is no request.
        let page = CheckKind::Http(get("/", "alive", None));
        announced(nginx.http1, version, page, Reason::Status, "status 400").await;
    }
    let page = CheckKind::Http(get("/", "alive", None));
    expect(nginx.announced, page, Reason::Closed, "closed before an answer").await;
}
