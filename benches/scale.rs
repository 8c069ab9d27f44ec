//! Ten thousand real servers: is every probe on schedule, what does it cost, and how long does a
//! verdict take to reach the table?
//!
//! Runs the daemon itself with a table in memory against an HTTP server in another process (this
//! program again) that answers at once, and against one that takes its time, so that many probes
//! wait; and then the tasks of the daemon in this process with scripted probes: on a
//! table in memory, and on a real kernel's in a guest, which is slower than hardware. A part alone:
//! `cargo bench --bench scale -- schedule`, or `slow`, or `memory`, or `kernel`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::uml::{Guest, available, is_guest};
use pointsman::control::client;
use pointsman::control::status::Status;
use pointsman::health::Health;
use pointsman::ipvs::memory::Memory;
use pointsman::ipvs::model::{Change, Table};
use pointsman::ipvs::netlink::Netlink;
use pointsman::ipvs::{Ipvs, IpvsError};
use pointsman::policy::load::load;
use pointsman::policy::model::PolicySet;
use pointsman::probe::Prober;
use pointsman::probe::engine::{Engine, Limits};
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Phases, Reason};
use pointsman::probe::runner::Runner;
use pointsman::probe::target::Target;
use pointsman::reconcile::driver::{Driver, Report, go_first};
use pointsman::reconcile::ownership::Owned;
use pointsman::reconcile::view::HealthView;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const TARGETS: usize = 10_000;
/// Makes this program a server that answers after so many milliseconds.
const SERVER_VARIABLE: &str = "POINTSMAN_BENCH_SERVER";
/// How long a slow server takes: with 5,000 probes a second, a thousand wait.
const SLOW: Duration = Duration::from_millis(200);
/// Probes whose memory is measured.
const WAITING: usize = 4_000;
const WARM_UP: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(20);
const VERDICTS: usize = 300;
/// Seconds between probes of a real server in the guest. Each look at the clock is a system call
/// there, at the price that a row shows, so that five thousand probes a second are more than it can do.
const GUEST_INTERVAL: u64 = 10;

fn main() {
    raise_limit();
    if let Ok(takes) = std::env::var(SERVER_VARIABLE) {
        let takes = Duration::from_millis(takes.parse().expect("milliseconds"));
        return runtime().block_on(serve(takes));
    }
    if is_guest() {
        let kernel = Netlink::open().expect("a kernel with IPVS");
        return verdict_to_table("kernel in a guest", GUEST_INTERVAL, Box::new(kernel));
    }
    // Without `--bench` this is `cargo test --benches`, which only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let parts: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    println!("{:<52} {:>12} {:>12}", "10,000 real servers", "measured", "limit");
    if is_asked("slow") {
        // First, while this process has no freed memory that would hide what it takes.
        one_waits();
    }
    if is_asked("schedule") {
        schedule();
    }
    if is_asked("slow") {
        slow();
    }
    if is_asked("memory") {
        verdict_to_table("memory", 2, Box::new(Memory::default()));
    }
    if is_asked("kernel") && available("the kernel's part of the scale benchmark") {
        let myself = std::env::current_exe().expect("this program");
        let guest = Guest::new(myself).deadline(Duration::from_secs(120)).run();
        assert_eq!(guest.status, Some(0), "the guest's part failed");
    }
}

/// As many open files as may be, for the probes here and for the server's side of all.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a limit of open files");
}

fn row(what: &str, measured: String, limit: &str) {
    println!("{what:<52} {measured:>12} {limit:>12}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A daemon that probes ten thousand addresses every two seconds, and their server.
struct Farm {
    daemon: Process,
    _server: Process,
    dir: tempfile::TempDir,
}

impl Farm {
    /// Starts both; the server takes so long for each answer.
    fn start(takes: Duration) -> Self {
        let (server, port) = server(takes);
        let dir = tempfile::tempdir().expect("a directory");
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).expect("a directory");
        std::fs::write(policies.join("scale.yaml"), policy(TARGETS, &port, 2, 3))
            .expect("the policy");
        let daemon = Process(
            Command::new(env!("CARGO_BIN_EXE_pointsman"))
                .args(["run", "--ipvs", "memory", "--policies"])
                .arg(&policies)
                .arg("--state-dir")
                .arg(dir.path())
                .arg("--socket")
                .arg(dir.path().join("sock"))
                .env("RUST_LOG", "error")
                // As the shipped unit has it.
                .env("MALLOC_ARENA_MAX", "1")
                .spawn()
                .expect("the daemon starts"),
        );
        Self { daemon, _server: server, dir }
    }

    fn status(&self) -> Status {
        let socket = self.dir.path().join("sock");
        runtime().block_on(client::get(&socket, "/v1/status")).expect("the daemon answers")
    }

    /// One of the figures in its `/proc/PID/status`, in MiB.
    fn memory(&self, field: &str) -> f64 {
        memory(self.daemon.0.id(), field)
    }
}

/// This program as a server that takes so long for each answer, and its port.
fn server(takes: Duration) -> (Process, String) {
    let mut server = Process(
        Command::new(std::env::current_exe().expect("this program"))
            .env(SERVER_VARIABLE, takes.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts"),
    );
    let port = first_line(&mut server.0).trim().to_owned();
    (server, port)
}

/// What a probe that waits for its answer takes.
fn one_waits() {
    let each = runtime().block_on(waiting());
    row("an HTTP probe that waits for its answer", format!("{each:.1} KiB"), "");
}

/// What all of them take in a daemon.
fn slow() {
    let farm = Farm::start(SLOW);
    std::thread::park_timeout(WARM_UP);
    let (highest, now) = (farm.memory("VmHWM"), farm.memory("VmRSS"));
    let status = farm.status();
    let up = status.real_servers.iter().filter(|it| it.health == Health::Up).count();
    let what = format!("answers after {} ms: in flight, real servers up", SLOW.as_millis());
    row(&what, format!("{}, {up}", status.probes.in_flight), "");
    row("the same: resident memory, highest, probing", format!("{highest:.1} MiB"), "60 MiB");
    row("the same: resident memory after 6 s", format!("{now:.1} MiB"), "");
}

/// KiB that a probe takes while it waits, the mean of many in this process.
async fn waiting() -> f64 {
    let (_server, port) = server(Duration::from_secs(3600));
    let dir = tempfile::tempdir().expect("a directory");
    // Of one alone: what reading a long policy leaves free would be used first, and hide them.
    std::fs::write(dir.path().join("one.yaml"), policy(1, &port, 2, 3)).expect("the policy");
    let Ok(loaded) = load(dir.path()) else { panic!("the policy is valid") };
    let mut target = loaded.set.targets[0].clone();
    target.timing.timeout = Duration::from_secs(3600);
    let prober = Arc::new(NetworkProber::new());
    let before = memory(std::process::id(), "RssAnon");
    let mut probes = JoinSet::new();
    for address in addresses().take(WAITING) {
        target.address.set_ip(address.parse().expect("an address"));
        let (target, prober) = (target.clone(), Arc::clone(&prober));
        probes.spawn(async move { prober.probe(&target).await });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(probes.try_join_next().is_none(), "all of them wait");
    (memory(std::process::id(), "RssAnon") - before) * 1024.0 / WAITING as f64
}

/// Whether every probe is on schedule, and what they cost.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn schedule() {
    let farm = Farm::start(Duration::ZERO);
    let pid = farm.daemon.0.id();
    std::thread::park_timeout(WARM_UP);
    let probing = farm.memory("VmHWM");
    let before = farm.status();
    let (cpu_before, start) = (cpu(pid), Instant::now());
    std::thread::park_timeout(MEASURED);
    let (cpu_after, took) = (cpu(pid), start.elapsed());
    let after = farm.status();

    let lateness: Vec<(Option<u64>, u64)> = after
        .probes
        .lateness
        .iter()
        .zip(&before.probes.lateness)
        .map(|((bound, after), (_, before))| (*bound, after - before))
        .collect();
    let probes: u64 = lateness.iter().map(|(_, count)| count).sum();
    let down = after.real_servers.iter().filter(|it| it.health != Health::Up).count();
    let cores = (cpu_after - cpu_before).as_secs_f64() / took.as_secs_f64();
    row("probes a second", format!("{:.0}", probes as f64 / took.as_secs_f64()), "5000");
    row("real servers not up", down.to_string(), "0");
    row("lateness, 99 % of probes at most", format!("{} ms", quantile(&lateness, 0.99)), "50 ms");
    row("cores", format!("{cores:.2}"), "1");
    row("CPU a probe", format!("{:.0} us", cores * took.as_secs_f64() / probes as f64 * 1e6), "");
    row("resident memory, highest, probing", format!("{probing:.1} MiB"), "60 MiB");
    let asked = farm.memory("VmHWM");
    row("the same with its whole status asked for", format!("{asked:.1} MiB"), "60 MiB");
    row("resident memory, at the end", format!("{:.1} MiB", farm.memory("VmRSS")), "");
}

/// The smallest bound below which this share of probes lies.
fn quantile(lateness: &[(Option<u64>, u64)], share: f64) -> u64 {
    let total: u64 = lateness.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    for (bound, count) in lateness {
        seen += count;
        if seen as f64 >= total as f64 * share {
            return bound.unwrap_or(u64::MAX);
        }
    }
    u64::MAX
}

fn policy(servers: usize, port: &str, interval: u64, fall: u32) -> String {
    let mut yaml =
        "virtual_services: [tcp://192.0.2.1:80]\nforwarding: masq\nreal_servers:\n".to_owned();
    for address in addresses().take(servers) {
        let _ = writeln!(yaml, "  - {address}:{port}");
    }
    yaml + "checks:\n  - http: { path: /alive }\n    timeout: 1s\n"
        + &format!("    interval: {interval}s\n    fall: {fall}\n")
}

fn addresses() -> impl Iterator<Item = String> {
    (0..TARGETS).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1))
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    line
}

/// User and system time of a process so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    Duration::from_secs_f64(
        (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64,
    )
}

fn memory(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("proc");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("KiB");
    kib / 1024.0
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serve(takes: Duration) {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(respond(stream, takes));
    }
}

async fn respond(mut stream: TcpStream, takes: Duration) {
    let mut request = [0; 512];
    if stream.read(&mut request).await.is_ok() {
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let _ = stream.write_all(response).await;
    }
}

/// From the end of the probe that decides to the end of the write that acts on it.
fn verdict_to_table(table: &str, interval: u64, inner: Box<dyn Ipvs>) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("scale.yaml"), policy(TARGETS, "80", interval, 1))
        .expect("the policy");
    let Ok(loaded) = load(dir.path()) else { panic!("the policy is valid") };
    let set = Arc::new(loaded.set);
    let (times, recorded) = mpsc::unbounded_channel();
    let timed = Timed { inner, times };
    let script = Arc::new(Mutex::new(Script::default()));
    let mut latencies = runtime().block_on(flip(set, timed, script, recorded));
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let text = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
    row(&format!("verdict to {table}, median of {VERDICTS} in {interval} s"), text(at(0.5)), "");
    row(&format!("verdict to {table}, 99 %"), text(at(0.99)), "5 ms");
    row("one look at the clock, for scale", format!("{:.2} us", look_at_the_clock()), "");
}

/// In microseconds, the mean of many.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn look_at_the_clock() -> f64 {
    const LOOKS: u32 = 10_000;
    let begun = Instant::now();
    (0..LOOKS).for_each(|_| _ = std::hint::black_box(Instant::now()));
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(LOOKS)
}

async fn flip(
    set: Arc<PolicySet>,
    table: Timed,
    script: Arc<Mutex<Script>>,
    mut recorded: mpsc::UnboundedReceiver<Written>,
) -> Vec<Duration> {
    let first = HealthView::uniform(Arc::clone(&set), Health::Unknown);
    let (_sets_in, sets) = watch::channel(Arc::clone(&set));
    let (views_in, views) = watch::channel(Arc::new(first));
    let (_queries_in, queries) = mpsc::channel(1);
    let (_refreshes_in, refreshes) = mpsc::channel(1);
    let (reports_in, mut reports) = watch::channel(Arc::new(Report::default()));
    let driver = Driver::new(Box::new(table), None, Owned::default(), Duration::from_secs(3600));
    std::thread::spawn(move || {
        go_first();
        runtime().block_on(driver.run(views, refreshes, reports_in));
    });
    let engine = Engine::new(Limits::for_sockets(20_000), 1);
    let runner = Runner::new(engine, Arc::new(Scripted(Arc::clone(&script))));
    tokio::spawn(runner.run(sets, queries, views_in));

    // One service and its destinations.
    let _ = reports.wait_for(|report| report.totals.changes == TARGETS as u64 + 1).await;
    while recorded.try_recv().is_ok() {}

    let victims: HashSet<SocketAddr> =
        (0..VERDICTS).map(|number| set.targets[number * 31 % TARGETS].address).collect();
    script.lock().expect("script").dead.clone_from(&victims);
    let mut latencies = Vec::new();
    while latencies.len() < victims.len() {
        let (addresses, written) = recorded.recv().await.expect("a write");
        let script = script.lock().expect("script");
        latencies.extend(addresses.iter().map(|address| written - script.decided[address]));
    }
    latencies
}

#[derive(Default)]
struct Script {
    dead: HashSet<SocketAddr>,
    /// When the failure of each was reported.
    decided: HashMap<SocketAddr, Instant>,
}

/// Answers at once, as the script says.
struct Scripted(Arc<Mutex<Script>>);

impl Prober for Scripted {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    async fn probe(&self, target: &Target) -> Outcome {
        let mut script = self.0.lock().expect("script");
        let reason = if script.dead.contains(&target.address) {
            script.decided.entry(target.address).or_insert_with(Instant::now);
            Reason::Refused
        } else {
            Reason::Ok
        };
        Outcome::new(reason, String::new(), Phases::default())
    }
}

/// The destinations that one write removed, and when it ended.
type Written = (Vec<SocketAddr>, Instant);

/// A table that notes when writes ended.
struct Timed {
    inner: Box<dyn Ipvs>,
    times: mpsc::UnboundedSender<Written>,
}

impl Ipvs for Timed {
    fn table(&mut self) -> Result<Table, IpvsError> {
        self.inner.table()
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        let answers = self.inner.execute(changes);
        let address = |change: &Change| match change {
            Change::DeleteDestination(_, key) => Some(SocketAddr::new(key.address, key.port)),
            _ => None,
        };
        let _ = self.times.send((changes.iter().filter_map(address).collect(), Instant::now()));
        answers
    }
}
