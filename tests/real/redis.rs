//! Redis: a password, too many clients, a lost master, a data set that is still being read, a
//! process that does not run.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::CheckKind;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ask::{expect, expect_silence};
use crate::program::{Server, find, free_address, succeed};

/// A Redis with settings of its own; `None` where there is no Redis.
fn start(directory: TempDir, settings: &[&str]) -> Option<(Server, SocketAddr)> {
    let program = find("redis-server")?;
    let address = free_address();
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]).args(settings);
    Some((Server::start(directory, &mut command).listens(address), address))
}

fn fresh(settings: &[&str]) -> Option<(Server, SocketAddr)> {
    start(tempfile::tempdir().unwrap(), settings)
}

#[tokio::test]
async fn pong_a_password_and_the_end() {
    let Some((server, address)) = fresh(&[]) else { return };
    let redis = || CheckKind::Redis;
    expect(address, redis(), Reason::Ok, "PONG").await;
    server.send(Signal::STOP);
    expect_silence(address, redis(), Reason::HeadTimeout, "no answer to PING within 1s").await;
    server.send(Signal::CONT);
    expect(address, redis(), Reason::Ok, "PONG").await;
    let log = server.log();
    assert!(!log.contains("127.0.0.1:"), "a probe leaves no line: {log}");
    drop(server);
    expect(address, redis(), Reason::Refused, "closed").await;

    let Some((_server, address)) = fresh(&["--requirepass", "secret"]) else { return };
    expect(address, redis(), Reason::Ok, "asks for a password").await;
}

#[tokio::test]
async fn a_server_that_cannot_serve_says_so() {
    let Some((mut full, address)) = fresh(&["--maxclients", "1"]) else { return };
    // One that comes before the last one is quite gone is turned away.
    let client = RefCell::new(None);
    full.until("a client", || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = [0];
        let is_in = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer));
        client.replace(Some(stream));
        is_in.is_ok() && answer == *b"+"
    });
    let full = "answers PING with: ERR max number of clients reached";
    expect(address, CheckKind::Redis, Reason::Status, full).await;

    let nobody = free_address().port().to_string();
    let lost = ["--replicaof", "127.0.0.1", &nobody, "--replica-serve-stale-data", "no"];
    let Some((_orphan, address)) = fresh(&lost) else { return };
    let lost = "answers PING with: MASTERDOWN Link with MASTER is down";
    expect(address, CheckKind::Redis, Reason::Status, lost).await;
}

#[tokio::test]
async fn a_data_set_that_is_being_read_is_waited_for() {
    let Some(directory) = with_data() else { return };
    // A tenth of a second for each key, and an ear for clients after some twenty.
    let slow = ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"];
    let Some((_server, address)) = start(directory, &slow) else { return };
    let loading = "answers PING with: LOADING Redis is loading the dataset in memory";
    expect(address, CheckKind::Redis, Reason::Status, loading).await;
}

/// A directory with a thousand keys in `dump.rdb`.
fn with_data() -> Option<TempDir> {
    let client = find("redis-cli")?;
    let (server, address) = fresh(&["--enable-debug-command", "local"])?;
    let port = address.port().to_string();
    succeed(&client, &["-e", "-p", &port, "DEBUG", "POPULATE", "1000", "key", "2000"]);
    succeed(&client, &["-e", "-p", &port, "SAVE"]);
    Some(server.end())
}
