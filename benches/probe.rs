//! What a probe costs: CPU time of the probing process per probe, 64 in flight on loopback,
//! against a fast server in another process (this program again, as `--serve`).
//!
//! The floor beside it is the same exchange with bare non-blocking sockets and epoll. CPU time
//! includes the kernel's work on our side of loopback. Prints a table of medians.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::health::Hysteresis;
use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{Check, CheckKind, HttpCheck, Target, TcpCheck, TextMatch, Timing};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

const IN_FLIGHT: usize = 64;
const PROBES: usize = 256 * IN_FLIGHT;
const RUNS: usize = 7;
const REQUEST: &[u8] = b"GET /alive HTTP/1.1\r\nhost: www.example.org\r\nuser-agent: bench\r\nconnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nalive\n";

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        serve();
        return;
    }
    let server = Server::start();
    println!("{PROBES} probes a run, {IN_FLIGHT} in flight, median of {RUNS} runs\n");
    println!("{:<34}{:>16}{:>16}{:>12}", "", "CPU us a probe", "least..most", "probes/s");
    let body = vec![TextMatch::Contains("alive".to_owned())];
    let http = || CheckKind::Http(http_check(Vec::new()));
    row("floor: bare sockets and epoll", || bare(server.port));
    row("http", || probes(server.port, &http()));
    row("http, body looked at", || {
        probes(server.port, &CheckKind::Http(http_check(body.clone())));
    });
    row("tcp, connect only", || probes(server.port, &CheckKind::Tcp(TcpCheck::default())));
}

fn row(name: &str, mut run: impl FnMut()) {
    run();
    let mut costs = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let (start, cpu) = (now(), cpu_time());
        run();
        costs.push((cpu_time() - cpu).as_secs_f64() * 1e6 / PROBES as f64);
        rates.push(PROBES as f64 / start.elapsed().as_secs_f64());
    }
    costs.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    let spread = format!("{:.1}..{:.1}", costs[0], costs[RUNS - 1]);
    println!("{name:<34}{:>16.1}{spread:>16}{:>12.0}", costs[RUNS / 2], rates[RUNS / 2]);
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    Instant::now()
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// A real server each for those in flight: the whole of 127.0.0.0/8 is loopback.
fn address(number: usize, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 1, number as u8 + 1), port).into()
}

fn http_check(body: Vec<TextMatch>) -> HttpCheck {
    HttpCheck {
        tls: None,
        method: "GET".to_owned(),
        path: "/alive".to_owned(),
        host: Some("www.example.org".to_owned()),
        headers: Vec::new(),
        status: vec![(200, 399)],
        body,
        response_headers: Vec::new(),
        weight_from: None,
    }
}

fn probes(port: u16, kind: &CheckKind) {
    let prober = Arc::new(NetworkProber::new());
    let check = Arc::new(Check::new(kind.clone()));
    let timing = Timing {
        interval: Duration::from_secs(5),
        fast_interval: None,
        timeout: Duration::from_secs(2),
        hysteresis: Hysteresis { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN },
        damping: None,
        expires: None,
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let workers: Vec<_> = (0..IN_FLIGHT)
            .map(|number| {
                let prober = Arc::clone(&prober);
                let target =
                    Target { address: address(number, port), check: Arc::clone(&check), timing };
                tokio::spawn(async move {
                    for _ in 0..PROBES / IN_FLIGHT {
                        let outcome = prober.probe(&target).await;
                        assert_eq!(outcome.reason, Reason::Ok, "{outcome:?}");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    });
}

/// The least that has to be done: connect, ask, hear the answer, close.
fn bare(port: u16) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut sockets: Vec<_> =
        (0..IN_FLIGHT).map(|number| Some(connect(&poll, number, port))).collect();
    let mut started = IN_FLIGHT;
    let mut done = 0;
    let mut events = Vec::with_capacity(IN_FLIGHT);
    let mut buffer = [0; 4096];
    while done < PROBES {
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in events.drain(..) {
            let (flags, number) = (event.flags, event.data.u64() as usize);
            let Some(socket) = &sockets[number] else { continue };
            if !flags.contains(epoll::EventFlags::IN) {
                assert_eq!(rustix::net::sockopt::socket_error(socket).unwrap(), Ok(()));
                rustix::net::send(socket, REQUEST, SendFlags::NOSIGNAL).unwrap();
                continue;
            }
            match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
                Ok((count, _)) => assert!(buffer[..count].starts_with(b"HTTP/1.1 200")),
                Err(Errno::AGAIN) => continue,
                Err(error) => panic!("{error}"),
            }
            done += 1;
            sockets[number] = None;
            if started < PROBES {
                started += 1;
                sockets[number] = Some(connect(&poll, number, port));
            }
        }
    }
}

fn connect(poll: &OwnedFd, number: usize, port: u16) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    match rustix::net::connect(&socket, &address(number, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => panic!("{error}"),
    }
    let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(poll, &socket, epoll::EventData::new_u64(number as u64), interest).unwrap();
    socket
}

/// This program as a web server in a process of its own, ended by the end of its input.
struct Server {
    port: u16,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stdin = child.stdin.take();
        Self { port: line.trim().parse().unwrap(), child, stdin }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn serve() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let listener = socket.listen(4096).unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let input_ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::pin!(input_ended);
        loop {
            tokio::select! {
                _ = &mut input_ended => return,
                accepted = listener.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    tokio::spawn(async move {
                        let mut request = [0; 2048];
                        if let Ok(1..) = stream.read(&mut request).await {
                            let _ = stream.write_all(ANSWER).await;
                        }
                    });
                }
            }
        }
    });
}
