//! A gRPC server of python3-grpcio, and the health service on it.

use std::net::SocketAddr;
use std::process::Command;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, GrpcCheck, TlsCheck};

use crate::ask::{self, NAME, expect, tls};
use crate::program::{Server, free_address, is_missing};

/// The interpreter that Debian's modules are for.
const PYTHON: &str = "/usr/bin/python3";

/// Messages are bytes: `\n`, a length, the name; and `\b` and the state.
const SCRIPT: &str = r#"
import concurrent.futures, sys, grpc

STATES = {"": 1, "shop.Cart": 1, "shop.Search": 2, "shop.Odd": 0, "shop.Gone": 3}

def check(request, context):
    name = request[2:].decode()
    if name not in STATES:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service: " + name)
    state = STATES[name]
    return bytes([8, state]) if state else b""

def server(address, handlers, credentials=None):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=handlers)
    if credentials:
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    server.start()
    return server

method = grpc.unary_unary_rpc_method_handler(check)
health = [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})]
key, chain = open("key.pem", "rb").read(), open("cert.pem", "rb").read()
plain, secure, none = sys.argv[1:]
running = [
    server(plain, health),
    server(secure, health, grpc.ssl_server_credentials([(key, chain)])),
    server(none, []),
]
print("ready", flush=True)
running[0].wait_for_termination()
"#;

/// Listeners of one process.
pub(crate) struct Grpc {
    pub(crate) server: Server,
    pub(crate) plain: SocketAddr,
    secure: SocketAddr,
    without_health: SocketAddr,
}

pub(crate) fn start() -> Option<Grpc> {
    let probed = Command::new(PYTHON).args(["-c", "import grpc"]).output();
    if !probed.is_ok_and(|output| output.status.success()) {
        is_missing("python3-grpcio");
        return None;
    }
    let directory = ask::directory();
    let addresses @ [plain, secure, without_health] = [(); 3].map(|()| free_address());
    let mut command = Command::new(PYTHON);
    command.args(["-c", SCRIPT]).args(addresses.map(|address| address.to_string()));
    let log = directory.path().join("log");
    let mut server = Server::start(directory, &mut command);
    server.until("service", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
    });
    Some(Grpc { server, plain, secure, without_health })
}

pub(crate) fn check(service: &str, tls: Option<TlsCheck>) -> CheckKind {
    let host = tls.is_some().then(|| NAME.to_owned());
    CheckKind::Grpc(GrpcCheck { tls, host, service: service.to_owned() })
}

#[tokio::test]
async fn services_are_told_apart() {
    let Some(grpc) = start() else { return };
    for (address, tls) in [(grpc.plain, None), (grpc.secure, Some(tls(grpc.server.path())))] {
        for (service, reason, piece) in [
            ("", Reason::Ok, "the server is SERVING"),
            ("shop.Cart", Reason::Ok, "service shop.Cart is SERVING"),
            ("shop.Search", Reason::Status, "service shop.Search is NOT_SERVING"),
            ("shop.Odd", Reason::Status, "service shop.Odd is UNKNOWN"),
            ("shop.Gone", Reason::Status, "service shop.Gone is SERVICE_UNKNOWN"),
            (
                "shop.Till",
                Reason::Status,
                "NOT_FOUND: \"unknown service: shop.Till\"; it does not know service shop.Till",
            ),
        ] {
            expect(address, check(service, tls.clone()), reason, piece).await;
        }
    }
}

#[tokio::test]
async fn what_another_listener_answers_is_explained() {
    let Some(grpc) = start() else { return };
    let secure = Some(tls(grpc.server.path()));
    let hint = "it has no grpc.health.v1 service";
    expect(grpc.without_health, check("", None), Reason::Status, hint).await;
    expect(grpc.plain, check("", secure), Reason::Tls, "tls: false asks without it").await;
}
