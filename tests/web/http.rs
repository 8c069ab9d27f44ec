//! A daemon that listens, and a client that says exactly what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::scratch::Scratch;

/// Starts a daemon with a listener on any port of this address, and says where it is.
pub(crate) fn start<'s>(scratch: &'s Scratch, args: &[&str]) -> (Daemon<'s>, SocketAddr) {
    start_on(scratch, "127.0.0.1:0", |command| _ = command.args(args))
}

pub(crate) fn start_on<'s>(
    scratch: &'s Scratch,
    address: &str,
    more: impl FnOnce(&mut Command),
) -> (Daemon<'s>, SocketAddr) {
    let daemon = Daemon::start_with(scratch, |command| {
        command.args(["--listen", address]);
        more(command);
    });
    daemon.wait_log("listening");
    let line = daemon.logged("listening").remove(0);
    let address = line.split("address=").nth(1).and_then(|it| it.split_whitespace().next());
    let address = address.unwrap_or_else(|| panic!("no address in {line}")).parse().unwrap();
    (daemon, address)
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[])
}

/// With a `Host` unless the headers have one.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    let mut stream = connect(address);
    stream.write_all((text + "\r\n").as_bytes()).unwrap();
    read_answer(&mut stream)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}
