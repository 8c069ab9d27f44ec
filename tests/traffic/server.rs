//! Real servers: HTTP on four ports and UDP on one, with a behaviour that can be switched while
//! they serve. Each has a thread in the namespace of its machine, which lasts as long as the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pointsman::ipvs::netns::enter_netns;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::clock::{PATIENCE, now, until};
use crate::common::netns::Machine;

const PORTS: [u16; 4] = [80, 443, 8080, 8443];
const UDP_PORT: u16 = 53;

/// What the checks of the tests ask for.
pub(crate) const ALIVE: &str = "/alive_test.jsp";

/// How long a slow answer takes: beyond the timeout of a probe, within the patience of a user.
const SLOW: Duration = Duration::from_secs(1);

/// What a real server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answers with its name.
    Serve,
    /// Accepts and never answers: it has died standing up.
    Hang,
    /// Answers 503.
    Unavailable,
    /// Does not listen.
    Refuse,
    /// Accepts and resets.
    Reset,
    /// Answers with its name, later than a probe waits.
    Slow,
    /// Serves, with its cable pulled.
    Unplugged,
}

/// A real server that runs.
#[derive(Debug)]
pub(crate) struct RealServer {
    pub(crate) address: String,
    machine: Machine,
    mode: watch::Sender<Mode>,
    book: Arc<Book>,
}

/// An answer to a probe.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) at: Instant,
    pub(crate) passed: bool,
    pub(crate) head: String,
}

/// What it keeps count of.
#[derive(Debug, Default)]
struct Book {
    name: String,
    listening: AtomicUsize,
    probes: Mutex<Vec<Probe>>,
    /// What a header of its answers asks for.
    wants: Mutex<&'static str>,
    peers: Mutex<BTreeSet<SocketAddr>>,
}

impl RealServer {
    /// Starts one on a machine that has this address, and waits until it listens.
    pub(crate) fn start(machine: &Machine, address: &str) -> Self {
        let (mode, modes) = watch::channel(Mode::Serve);
        let name = machine.name().to_owned();
        let book = Arc::new(Book { name, ..Book::default() });
        let shared = Arc::clone(&book);
        thread::spawn(move || {
            enter_netns(&shared.name).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(&modes, &shared));
        });
        let server = Self { address: address.to_owned(), machine: machine.clone(), mode, book };
        server.turn(Mode::Serve);
        server
    }

    /// The machine it runs on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Switches its behaviour, and waits until it is so; the moment it began.
    pub(crate) fn turn(&self, mode: Mode) -> Instant {
        let begun = now();
        let before = self.mode.send_replace(mode);
        if mode == Mode::Unplugged || before == Mode::Unplugged {
            self.machine.plug(mode != Mode::Unplugged);
        }
        let wanted = if mode == Mode::Refuse { 0 } else { PORTS.len() };
        until("listeners follow the mode", PATIENCE, || {
            (self.book.listening.load(Ordering::SeqCst) == wanted).then_some(())
        });
        begun
    }

    pub(crate) fn name(&self) -> &str {
        &self.book.name
    }

    /// Asks for this weight in a header from now on.
    pub(crate) fn want(&self, weight: &'static str) {
        *self.book.wants.lock().unwrap() = weight;
    }

    /// The probes it has answered since.
    pub(crate) fn probes_since(&self, moment: Instant) -> Vec<Probe> {
        let probes = self.book.probes.lock().unwrap();
        probes.iter().filter(|probe| probe.at >= moment).cloned().collect()
    }

    /// Whether it has accepted a connection from there.
    pub(crate) fn has_met(&self, peer: SocketAddr) -> bool {
        self.book.peers.lock().unwrap().contains(&peer)
    }
}

async fn serve(mode: &watch::Receiver<Mode>, book: &Arc<Book>) {
    let mut ports = tokio::task::JoinSet::new();
    for port in PORTS {
        ports.spawn(listen(port, mode.clone(), Arc::clone(book)));
    }
    ports.spawn(echo(Arc::clone(book)));
    ports.join_all().await;
}

/// Returns when the [`RealServer`] is dropped.
async fn listen(port: u16, mut mode: watch::Receiver<Mode>, book: Arc<Book>) {
    let mut changes = mode.clone();
    while mode.wait_for(|mode| *mode != Mode::Refuse).await.is_ok() {
        let listener = TcpListener::bind(("::", port)).await.unwrap();
        book.listening.fetch_add(1, Ordering::SeqCst);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, peer) = accepted.unwrap();
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    book.peers.lock().unwrap().insert(peer);
                    tokio::spawn(answer(stream, mode.clone(), Arc::clone(&book)));
                }
                _ = changes.wait_for(|mode| *mode == Mode::Refuse) => break,
            }
        }
        drop(listener);
        book.listening.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(mut stream: TcpStream, mut mode: watch::Receiver<Mode>, book: Arc<Book>) {
    let now_is = *mode.borrow();
    match now_is {
        Mode::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        Mode::Hang => {
            let _ = mode.wait_for(|mode| *mode != Mode::Hang).await;
        }
        Mode::Serve | Mode::Unavailable | Mode::Refuse | Mode::Slow | Mode::Unplugged => {
            // Whoever asked may have given up, which is for them to record.
            let _ = respond(&mut stream, now_is, &book).await;
        }
    }
}

async fn respond(stream: &mut TcpStream, mode: Mode, book: &Book) -> std::io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        head.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    if mode == Mode::Slow {
        tokio::time::sleep(SLOW).await;
    }
    let status = if mode == Mode::Unavailable { "503 Down" } else { "200 OK" };
    let length = book.name.len();
    let wants = match *book.wants.lock().unwrap() {
        "" => String::new(),
        weight => format!("X-Weight: {weight}\r\n"),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{wants}Connection: close\r\n\r\n{}",
        book.name
    );
    if head.contains(ALIVE) {
        let passed = mode == Mode::Serve;
        book.probes.lock().unwrap().push(Probe { at: now(), passed, head });
    }
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

async fn echo(book: Arc<Book>) {
    let socket = UdpSocket::bind(("::", UDP_PORT)).await.unwrap();
    let mut buffer = [0; 1024];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(book.name.as_bytes(), peer).await;
    }
}
