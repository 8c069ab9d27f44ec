//! The users: a new TCP connection to a virtual service for each request, at a steady rate,
//! however long the answers take. Everything is recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pointsman::ipvs::netns::enter_netns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::{PATIENCE, now, until};
use crate::common::netns::Machine;

/// Between the beginnings of two requests.
const PACE: Duration = Duration::from_millis(10);

/// When a request counts as failed.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Ports are used one after another: the kernel's table remembers a connection for two minutes,
/// and a new one from the same port would follow it to a destination that is gone.
const PORTS: std::ops::Range<usize> = 10_000..60_000;

/// Requests of all users there ever were.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Users at work.
#[derive(Debug)]
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    targets: Mutex<Vec<SocketAddr>>,
    requests: Mutex<Vec<Request>>,
    begun: AtomicUsize,
    stop: AtomicBool,
    /// Letters that each request has in a header, so that it is larger than a packet.
    padding: usize,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// Where it came from.
    pub(crate) source: SocketAddr,
    /// The name of the real server, or what went wrong.
    pub(crate) answer: Result<String, String>,
}

/// All requests, by their beginnings.
#[derive(Debug)]
pub(crate) struct Requests(pub(crate) Vec<Request>);

impl Traffic {
    /// Begins to ask these, in turns.
    pub(crate) fn start(client: &Machine, targets: &[&str]) -> Self {
        Self::padded(client, targets, 0)
    }

    /// The same with requests that have so many letters in a header.
    pub(crate) fn padded(client: &Machine, targets: &[&str], padding: usize) -> Self {
        let shared = Arc::new(Shared {
            targets: Mutex::new(targets.iter().map(|target| target.parse().unwrap()).collect()),
            requests: Mutex::default(),
            begun: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            padding,
        });
        let (machine, sharing) = (client.name().to_owned(), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            enter_netns(&machine).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(ask(&sharing));
        });
        Self { shared, thread }
    }

    /// Asks these from now on; requests that are under way go on.
    pub(crate) fn turn_to(&self, targets: &[&str]) {
        *self.shared.targets.lock().unwrap() =
            targets.iter().map(|target| target.parse().unwrap()).collect();
    }

    /// Waits until so many more requests have begun.
    pub(crate) fn carry_on(&self, requests: usize) {
        let goal = self.shared.begun.load(Ordering::SeqCst) + requests;
        until("users go on asking", PATIENCE, || {
            (self.shared.begun.load(Ordering::SeqCst) >= goal).then_some(())
        });
    }

    /// Waits until each of these real servers has answered a user once more.
    pub(crate) fn hears(&self, names: &[&str]) {
        let from = self.shared.requests.lock().unwrap().len();
        until(&format!("answers from {names:?}"), PATIENCE, || {
            let requests = self.shared.requests.lock().unwrap();
            let heard =
                |name: &&str| requests[from..].iter().any(|it| it.answer.as_deref() == Ok(*name));
            names.iter().all(heard).then_some(())
        });
    }

    /// No more requests; all there were, when the last has ended.
    pub(crate) fn stop(self) -> Requests {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        let mut requests = std::mem::take(&mut *self.shared.requests.lock().unwrap());
        requests.sort_by_key(|request| request.begun);
        let requests = Requests(requests);
        println!("  traffic: {requests}");
        requests
    }
}

async fn ask(shared: &Arc<Shared>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    while !shared.stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let number = shared.begun.fetch_add(1, Ordering::SeqCst);
        let target = {
            let targets = shared.targets.lock().unwrap();
            targets[number % targets.len()]
        };
        let port = PORTS.start + ASKED.fetch_add(1, Ordering::SeqCst) % PORTS.len();
        let sharing = Arc::clone(shared);
        under_way.spawn(async move {
            let request = request(target, u16::try_from(port).unwrap(), sharing.padding).await;
            sharing.requests.lock().unwrap().push(request);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

async fn request(target: SocketAddr, port: u16, padding: usize) -> Request {
    let source: IpAddr =
        if target.is_ipv4() { super::site::CLIENT } else { super::site::CLIENT6 }.parse().unwrap();
    let source = SocketAddr::new(source, port);
    let begun = now();
    let answer = match timeout(TIMEOUT, exchange(source, target, padding)).await {
        Ok(Ok(response)) => name_in(&response),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    };
    let answer = answer.map_err(|error| format!("{target} {error}"));
    Request { begun, ended: now(), source, answer }
}

async fn exchange(
    source: SocketAddr,
    target: SocketAddr,
    padding: usize,
) -> std::io::Result<String> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(source)?;
    let mut stream = socket.connect(target).await?;
    let more = match padding {
        0 => String::new(),
        _ => format!("X-Padding: {}\r\n", "x".repeat(padding)),
    };
    let request = format!("GET / HTTP/1.1\r\nHost: www.example.com\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

fn name_in(response: &str) -> Result<String, String> {
    match response.split_once("\r\n\r\n") {
        Some((head, name)) if head.starts_with("HTTP/1.1 200 ") => Ok(name.to_owned()),
        _ => Err(response.lines().next().unwrap_or("closed without a word").to_owned()),
    }
}

impl Requests {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = &Request> {
        self.0.iter().filter(|request| request.answer.is_err())
    }

    /// The longest time in which no user got an answer.
    fn longest_gap(&self) -> Duration {
        let mut answered: Vec<_> =
            self.0.iter().filter(|it| it.answer.is_ok()).map(|it| it.ended).collect();
        answered.sort();
        answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl fmt::Display for Requests {
    /// `900 requests, 3 failed (3 connection refused), longest gap 31ms; rs232 300, rs233 297`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
        for request in &self.0 {
            match &request.answer {
                Ok(name) => *answers.entry(name).or_default() += 1,
                Err(error) => *errors.entry(error).or_default() += 1,
            }
        }
        let list = |counts: BTreeMap<&str, usize>| {
            let words = counts.iter().map(|(word, count)| format!("{word}: {count}"));
            words.collect::<Vec<_>>().join(", ")
        };
        write!(f, "{} requests, {} failed", self.0.len(), self.failed().count())?;
        if !errors.is_empty() {
            write!(f, " ({})", list(errors))?;
        }
        write!(f, ", longest gap {:?}; {}", self.longest_gap(), list(answers))
    }
}
