//! PostgreSQL: who begins a session how, no such database, a standby that is not ready, too many
//! clients, a process that does not run, and what probes leave in the log.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, PostgresqlCheck};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ask::{self, expect, expect_silence};
use crate::program::{Server, as_user, find, free_address};

/// Who may do what: `owner` exists, `pointsman` and `nobody` do not.
const ACCESS: &str = "
host all owner     127.0.0.1/32 trust
host all nobody    127.0.0.1/32 trust
host all pointsman 127.0.0.1/32 scram-sha-256
";

/// A directory with an empty cluster in `data`.
fn cluster() -> Option<TempDir> {
    let program = find("initdb")?;
    let directory = ask::directory();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut command = as_user("postgres", &program, &data);
    command.args(["--username=owner", "--auth=trust", "--no-sync", "--pgdata"]).arg(&data);
    let made = command.current_dir(&data).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
    Some(directory)
}

/// Runs it with some settings.
fn start(directory: TempDir, settings: &[&str]) -> (Server, SocketAddr) {
    let (address, data) = (free_address(), directory.path().join("data"));
    let mut command = as_user("postgres", &find("postgres").unwrap(), &data);
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-D"]).arg(&data);
    for setting in ["unix_socket_directories=", "fsync=off"].iter().chain(settings) {
        command.args(["-c", setting]);
    }
    // Killed, it would leave its children to themselves for a while and shared memory for ever.
    let mut server = Server::start(directory, &mut command).ends_with(Signal::QUIT);
    let log = server.path().join("log");
    server.until("readiness", || is_ready(&log));
    (server, address)
}

fn is_ready(log: &Path) -> bool {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.contains("ready to accept connections") || text.contains("entering standby mode")
}

fn session(user: &str, database: &str) -> CheckKind {
    let (user, database) = (user.to_owned(), database.to_owned());
    CheckKind::Postgresql(PostgresqlCheck { user, database })
}

#[tokio::test]
async fn sessions_and_the_end() {
    let Some(directory) = cluster() else { return };
    let (server, address) = start(directory, &[]);
    let before = server.log();
    expect(address, session("pointsman", "postgres"), Reason::Ok, "asks for a password").await;
    expect(address, session("owner", "postgres"), Reason::Ok, "session ready").await;
    assert_eq!(server.log(), before, "probes that are let in, or asked for a password");
    expect(address, session("nobody", "postgres"), Reason::Ok, "login denied").await;
    expect(address, session("other", "postgres"), Reason::Ok, "login denied").await;
    let missing = "error 3D000: database \"shop\" does not exist";
    expect(address, session("owner", "shop"), Reason::Status, missing).await;
    // Asked for a password before that is looked at.
    expect(address, session("pointsman", "shop"), Reason::Ok, "asks for a password").await;
    let log = server.log();
    let told = log[before.len()..].lines().filter(|line| line.contains("FATAL"));
    assert_eq!(told.count(), 3, "those that are turned away: {log}");

    server.send(Signal::STOP);
    let silence = "no answer to the startup packet within 1s";
    expect_silence(address, session("owner", "postgres"), Reason::HeadTimeout, silence).await;
    drop(server);
    expect(address, session("owner", "postgres"), Reason::Refused, "closed").await;
}

#[tokio::test]
async fn a_server_that_cannot_serve_says_so() {
    let Some(directory) = cluster() else { return };
    let few = ["max_connections=1", "superuser_reserved_connections=0", "max_wal_senders=0"];
    let (server, address) = start(directory, &few);
    let _client = client(address);
    let full = "error 53300: sorry, too many clients already";
    expect(address, session("pointsman", "postgres"), Reason::Status, full).await;

    let directory = server.end();
    std::fs::write(directory.path().join("data/standby.signal"), "").unwrap();
    let (_standby, address) = start(directory, &["hot_standby=off"]);
    let starting = "error 57P03: the database system is";
    expect(address, session("pointsman", "postgres"), Reason::Status, starting).await;
}

/// Somebody who is asked for a password and thinks about it.
fn client(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"\0\0\0\x18\0\x03\0\0user\0pointsman\0\0").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}
