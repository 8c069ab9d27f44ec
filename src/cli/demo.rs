//! `pointsman demo`: the daemon as it is, on a table in memory and real HTTP servers on loopback.
//!
//! One server dies standing up (it accepts connections and answers nobody) and recovers; the
//! policy file is edited while everything runs; a user sends requests the whole time to whatever
//! the table says.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::args::{Demo as Args, Log, LogFormat};
use super::{Exit, Failure, answer, colour, logging, open, runtime};
use crate::control::alerting::AlertsStatus;
use crate::control::client;
use crate::control::status::{Facts, SettingsStatus, Status};
use crate::control::text::render;
use crate::daemon::{self, Settings};
use crate::events::Journal;
use crate::ipvs::memory::Memory;
use crate::ipvs::model::{Change, Table};
use crate::ipvs::{Ipvs, IpvsError};
use crate::notify::Notifier;
use crate::policy::guard::Guard;
use crate::probe::blast_limit::BlastLimit;
use crate::probe::engine::Limits;
use crate::probe::network::NetworkProber;
use crate::reconcile::ownership::OWNED;
use crate::record::{Record, Scope};
use crate::tuning::Tuning;
use tokio::sync::watch;

const SERVERS: usize = 4;
/// The one that dies.
const VICTIM: usize = 2;
const VIRTUAL_SERVICE: &str = "tcp://192.0.2.10:80";
/// A user gives up after this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// A user asks again after this long.
const PAUSE: Duration = Duration::from_millis(25);

pub(super) fn demo(args: &Args) -> Result<Exit, Failure> {
    let _log = logging::init(&Log {
        log_file: None,
        log_max_size: 0,
        log_keep: 0,
        log_format: LogFormat::Text,
    });
    let dir = std::env::temp_dir().join(format!("pointsman-demo-{}", std::process::id()));
    let failed = |error| Failure::text(format!("cannot create {}: {error}", dir.display()));
    fs::create_dir(&dir).map_err(failed)?;
    let result = runtime()?.block_on(play(&dir, args.length));
    // The directory is in the place for temporary things; what cannot be removed may stay.
    let _ = fs::remove_dir_all(&dir);
    result.map(|()| Exit::Done)
}

async fn play(dir: &Path, length: Duration) -> Result<(), Failure> {
    let servers = Servers::start().await.map_err(|error| {
        Failure::text(format!("cannot start HTTP servers on loopback: {error}"))
    })?;
    let policy = dir.join("policies/shop.yaml");
    let failed = |error| Failure::text(format!("cannot write {}: {error}", policy.display()));
    fs::create_dir(dir.join("policies")).map_err(failed)?;
    let interval = interval(length);
    let yaml = servers.policy(80, interval);
    fs::write(&policy, &yaml).map_err(failed)?;
    answer(&format!(
        "The policy, as it would lie in /etc/pointsman/policies:\n\n{}\n",
        indent(&yaml)
    ))?;

    let table = SharedTable::default();
    let socket = dir.join("pointsman.sock");
    let settings = settings(dir, &socket, table.clone())?;
    let scenes =
        Scenes { length, interval, start: Instant::now(), servers: &servers, policy, socket };
    let mut users = Users::default();
    let prober = Arc::new(NetworkProber::new());
    let stop = async { scenes.play().await };
    tokio::select! {
        ended = daemon::run(settings, prober, stop) => ended.map_err(|error| Failure::new(&error))?,
        () = users.ask(&table) => {}
    }
    answer(&users.summary()).map(drop)
}

fn settings(dir: &Path, socket: &Path, table: SharedTable) -> Result<Settings, Failure> {
    let path = dir.join("policies");
    let first = open::policies(&path)?;
    let listener = daemon::bind(socket).map_err(|error| {
        Failure::text(format!("cannot listen on {}: {error}", socket.display()))
    })?;
    let (guard, blast_limit) = (Guard::Off, BlastLimit::default());
    let tuning = Tuning { resync: Duration::from_secs(5), guard, blast_limit };
    Ok(Settings {
        open: None,
        journal: Journal::default(),
        alerting: None,
        path,
        first,
        ipvs: Box::new(table),
        store: Some(Record::new(dir, OWNED, &Scope::Kernel)),
        owned: Default::default(),
        standing: Default::default(),
        health: Default::default(),
        overrides: Default::default(),
        tuning: watch::channel(tuning).1,
        listener: Some(listener),
        web: None,
        limits: Limits::for_sockets(64),
        seed: rand::random(),
        notifier: Notifier::default(),
        facts: Facts {
            started: wall(),
            since: Instant::now().into_std(),
            dry_run: false,
            ipvs: "memory".to_owned(),
            settings: watch::channel(SettingsStatus::default()).1,
            alerts: watch::channel(AlertsStatus::default()).1,
            tuning: watch::channel(tuning).1,
        },
    })
}

/// Between two probes: short enough for every verdict to fall into its scene.
fn interval(length: Duration) -> Duration {
    let millis = (length / 20).as_millis().clamp(100, 1000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(1000))
}

/// What happens when, as shares of the whole length.
struct Scenes<'a> {
    length: Duration,
    interval: Duration,
    start: Instant,
    servers: &'a Servers,
    policy: PathBuf,
    socket: PathBuf,
}

impl Scenes<'_> {
    async fn play(&self) -> &'static str {
        let victim = self.servers.addresses[VICTIM];
        self.say(0.0, "four servers are up; the table is empty and fills with the first verdicts")
            .await;
        self.say(
            0.2,
            &format!("{victim} dies standing up: it accepts connections and answers nobody"),
        )
        .await;
        self.servers.hangs.store(true, Ordering::Relaxed);
        self.say(0.5, &format!("{victim} answers again")).await;
        self.servers.hangs.store(false, Ordering::Relaxed);
        self.say(0.75, "somebody edits the policy: weight 80 becomes 40; no restart").await;
        let edited = fs::write(&self.policy, self.servers.policy(40, self.interval));
        self.say(0.9, "pointsman status says:").await;
        if let (Ok(()), Ok(status)) =
            (edited, client::get::<Status>(&self.socket, "/v1/status").await)
        {
            let _ =
                answer(&format!("\n{}\n", indent(&render(&status, colour(&std::io::stdout())))));
        }
        sleep_until(self.start + self.length).await;
        "the end of the demo"
    }

    /// Waits for its time and announces a scene.
    async fn say(&self, share: f64, text: &str) {
        sleep_until(self.start + self.length.mul_f64(share)).await;
        let _ = answer(&format!("\n── {:.1} s: {text}\n", self.start.elapsed().as_secs_f64()));
    }
}

/// HTTP servers on loopback, one of which can be made to hang.
struct Servers {
    addresses: Vec<SocketAddr>,
    hangs: Arc<AtomicBool>,
}

impl Servers {
    async fn start() -> std::io::Result<Self> {
        let hangs = Arc::new(AtomicBool::new(false));
        let mut addresses = Vec::new();
        for number in 0..SERVERS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push(listener.local_addr()?);
            let hangs = (number == VICTIM).then(|| Arc::clone(&hangs));
            tokio::spawn(serve(listener, hangs));
        }
        Ok(Self { addresses, hangs })
    }

    fn policy(&self, weight: u32, interval: Duration) -> String {
        let servers: String =
            self.addresses.iter().map(|address| format!("  - {address}\n")).collect();
        format!(
            "virtual_services:\n  - {VIRTUAL_SERVICE}\nscheduler: wlc\nforwarding: masq\n\
             weight: {weight}\nreal_servers:\n{servers}checks:\n  - http:\n      path: /alive\n    \
             interval: {}\n    timeout: {}\n    rise: 2\n    fall: 2\n",
            humantime::format_duration(interval),
            humantime::format_duration(interval / 2),
        )
    }
}

async fn serve(listener: TcpListener, hangs: Option<Arc<AtomicBool>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let hangs = hangs.as_ref().is_some_and(|hangs| hangs.load(Ordering::Relaxed));
        tokio::spawn(respond(stream, hangs));
    }
}

async fn respond(mut stream: TcpStream, hangs: bool) {
    if hangs {
        sleep(Duration::from_secs(60)).await;
        return;
    }
    let mut request = [0; 1024];
    if stream.read(&mut request).await.is_ok() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nalive\n";
        // A client that has gone away needs no response.
        let _ = stream.write_all(response).await;
    }
}

/// A table in memory that the user of the demo can see too.
#[derive(Clone, Default)]
struct SharedTable(Arc<Mutex<Memory>>);

impl SharedTable {
    /// The real servers that get traffic now.
    fn destinations(&self) -> Vec<SocketAddr> {
        let table = self.clone().table().unwrap_or_default();
        let destinations = table.values().flat_map(|service| &service.destinations);
        destinations
            .filter(|(_, destination)| destination.config.weight > 0)
            .map(|(key, _)| SocketAddr::new(key.address, key.port))
            .collect()
    }
}

impl Ipvs for SharedTable {
    fn table(&mut self) -> Result<Table, IpvsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).table()
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).execute(changes)
    }
}

/// A user who asks one destination after the other, for ever.
#[derive(Default)]
struct Users {
    requests: u64,
    failures: u64,
    last_failure: Option<Duration>,
    first_failure: Option<Duration>,
}

impl Users {
    async fn ask(&mut self, table: &SharedTable) {
        let start = Instant::now();
        loop {
            for destination in table.destinations() {
                let at = start.elapsed();
                self.requests += 1;
                if !matches!(timeout(PATIENCE, get(destination)).await, Ok(Ok(()))) {
                    self.failures += 1;
                    self.first_failure.get_or_insert(at);
                    self.last_failure = Some(at);
                }
                sleep(PAUSE).await;
                if !table.destinations().contains(&destination) {
                    break;
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn summary(&self) -> String {
        let span = match (self.first_failure, self.last_failure) {
            (Some(only), _) if self.failures == 1 => format!(", at {:.1} s", only.as_secs_f64()),
            (Some(first), Some(last)) => format!(
                ", all between {:.1} s and {:.1} s",
                first.as_secs_f64(),
                last.as_secs_f64()
            ),
            _ => String::new(),
        };
        format!("\nusers: {} requests, {} failed{span}\n", self.requests, self.failures)
    }
}

async fn get(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    if response.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: when the daemon started")]
fn wall() -> SystemTime {
    SystemTime::now()
}
