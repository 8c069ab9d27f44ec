//! Exim: a greeting of several lines, STARTTLS, a connection that is not wanted.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, SmtpCheck};

use crate::ask::{self, expect, tls};
use crate::program::{Server, find, free_address};

/// Listeners of one Exim.
pub(crate) struct Exim {
    pub(crate) server: Server,
    pub(crate) open: SocketAddr,
    closed: SocketAddr,
}

pub(crate) fn start() -> Option<Exim> {
    let program = find("exim4")?;
    let directory = ask::directory();
    let [open, closed] = [(); 2].map(|()| free_address());
    let path = directory.path().display();
    let configuration = format!(
        "spool_directory = {path}/spool
log_file_path = {path}/%slog
primary_hostname = mail.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = {} : {}
keep_environment =
tls_advertise_hosts = *
tls_certificate = {path}/cert.pem
tls_privatekey = {path}/key.pem
smtp_banner = mail.example.org ESMTP\\nbe patient
acl_smtp_connect = connect
log_selector = +smtp_connection +smtp_no_mail +smtp_protocol_error +smtp_syntax_error

begin acl
connect:
  deny condition = ${{if ={{$received_port}}{{{}}}}}
       message = not here
  accept
",
        open.port(),
        closed.port(),
        closed.port(),
    );
    let file = directory.path().join("exim.conf");
    std::fs::write(&file, configuration).unwrap();
    let key = directory.path().join("key.pem");
    let mut command = Command::new(program);
    command.arg("-C").arg(file).args(["-bdf"]);
    // It becomes another user, who reads the key and writes logs and spool.
    let open_to_all = |path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
    open_to_all(key.as_path(), 0o644).unwrap();
    open_to_all(directory.path(), 0o1777).unwrap();
    let server = Server::start(directory, &mut command).listens(open).listens(closed);
    Some(Exim { server, open, closed })
}

pub(crate) fn plain() -> CheckKind {
    CheckKind::Smtp(SmtpCheck { ehlo: Some("lb1.example.org".to_owned()), starttls: None })
}

#[tokio::test]
async fn greetings_and_starttls() {
    let Some(mut exim) = start() else { return };
    expect(exim.open, plain(), Reason::Ok, "EHLO answered with 250").await;
    let unnamed = CheckKind::Smtp(SmtpCheck::default());
    expect(exim.open, unnamed, Reason::Ok, "EHLO answered with 250").await;
    let secure = SmtpCheck { ehlo: None, starttls: Some(tls(exim.server.path())) };
    expect(exim.open, CheckKind::Smtp(secure), Reason::Ok, "answered with 250 over TLS").await;
    let stranger = ask::directory();
    let untrusted = SmtpCheck { ehlo: None, starttls: Some(tls(stranger.path())) };
    expect(exim.open, CheckKind::Smtp(untrusted), Reason::Certificate, "not signed").await;
    let refused = "answered 550 \"not here\" to the connection, expected 220";
    expect(exim.closed, plain(), Reason::Status, refused).await;
    // And it holds the probes that passed to be well-mannered clients.
    let log = exim.server.path().join("mainlog");
    exim.server.until("three goodbyes", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.matches("closed by QUIT").count() == 3
    });
}
