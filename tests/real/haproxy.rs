//! HAProxy as the receiver of PROXY headers, before servers that know nothing of them.

use std::net::SocketAddr;
use std::process::Command;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, ProxyProtocol, TcpCheck};

use crate::ask::{self, announced, ask};
use crate::program::{Server, find, free_address};
use crate::{grpc, smtp};

/// Takes PROXY headers and passes the rest on.
fn before(server: SocketAddr) -> Option<(Server, SocketAddr)> {
    let program = find("haproxy")?;
    let (directory, address) = (ask::directory(), free_address());
    let configuration = format!(
        "defaults
    mode tcp
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen proxied
    bind {address} accept-proxy
    server behind {server}
"
    );
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program);
    command.args(["-db", "-f"]).arg(file);
    Some((Server::start(directory, &mut command).listens(address), address))
}

#[tokio::test]
async fn mail_and_calls_go_on_behind_the_header() {
    let (Some(exim), Some(grpc)) = (smtp::start(), grpc::start()) else { return };
    let (Some((_mail, mail)), Some((_calls, calls))) = (before(exim.open), before(grpc.plain))
    else {
        return;
    };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        announced(mail, version, smtp::plain(), Reason::Ok, "EHLO answered with 250").await;
        announced(calls, version, grpc::check("", None), Reason::Ok, "is SERVING").await;
        let banner = TcpCheck {
            send: Vec::new(),
            expect: Some(pointsman::probe::target::TextMatch::Contains("220".to_owned())),
        };
        announced(mail, version, CheckKind::Tcp(banner), Reason::Ok, "").await;
    }
    // Without the header HAProxy hangs up.
    let check = pointsman::probe::target::Check::new(grpc::check("", None));
    let outcome = ask(calls, check).await;
    assert!(matches!(outcome.reason, Reason::Closed | Reason::Reset), "{outcome:?}");
}
