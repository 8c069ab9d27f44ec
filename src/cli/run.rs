//! `pointsman run`: opens everything the daemon needs and hands it over.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::args::{Common, Listen, Run, Table};
use super::settings_follower::Follower;
use super::{Exit, Failure, complain, listening, logging, open, runtime, settings};
use crate::alerts;
use crate::alerts::config::Alerts;
use crate::alerts::queue::ALERTS;
use crate::alerts::task::Alerting;
use crate::control::alerting::AlertsStatus;
use crate::control::status::Facts;
use crate::daemon::{self, Settings};
use crate::events::{Journal, What, file};
use crate::ipvs::rehearsal::Rehearsal;
use crate::ipvs::table_lock::{TableLock, lock_table};
use crate::ipvs::{Ipvs, IpvsError};
use crate::notify::{Environment, Notifier};
use crate::policy::load::Loaded;
use crate::policy::problem::Problem;
use crate::privileges;
use crate::probe::engine::Limits;
use crate::probe::knowledge::{HEALTH, Recalled, Recorded};
use crate::probe::network::NetworkProber;
use crate::reconcile::overrides::OVERRIDES;
use crate::reconcile::ownership::OWNED;
use crate::reconcile::standing::{Clocks, STANDING};
use crate::record::{Kind, Record};
use crate::web::listener::{Listener, MOST_CLIENTS};

/// Descriptors that are not for probes: log, socket, netlink, watches, clients.
const RESERVED_DESCRIPTORS: u64 = 64;
/// How long the last events may take to be written.
const LAST_EVENTS: Duration = Duration::from_secs(1);
/// As many probe sockets as anybody needs.
const MOST_DESCRIPTORS: u64 = 65_536;

pub(super) fn run(args: Run, settings: super::FromFile) -> Result<Exit, Failure> {
    let notifier = notifier();
    open::enter(args.common.netns.as_deref())?;
    let runtime = runtime()?;
    {
        // From here on: a reload asked for during the start must not be the end of it.
        let _inside = runtime.enter();
        drop(daemon::hangup().map_err(|error| Failure::new(&error))?);
    }
    let _table = if args.dry_run { None } else { claim(args.common.ipvs)? };
    // Before any other thread: privileges belong to threads.
    let Opened { first, alerts, web, privileges } = with_least_privilege(&args)?;
    let _log = privileges::without(|| logging::init(&args.log));
    let _lock = if args.dry_run { None } else { Some(lock(&args.common)?) };
    let (owned, store) = recorded(&args.common, OWNED, args.dry_run);
    let table = privileges::with(CapabilitySet::NET_ADMIN, || {
        let mut table = open::table(args.common.ipvs)?;
        permitted(table.as_mut()).map(|()| table)
    })?;
    let ipvs: Box<dyn Ipvs> = if args.dry_run { Box::new(Rehearsal::new(table)) } else { table };
    let listener = listen(&args)?;
    let socket = listener.is_some().then(|| args.socket.socket.clone());
    let alerting = alerts.map(|(loaded, path)| alerting(&args, loaded, path));
    let alerts = alerting.as_ref().map(Alerting::status);
    let alerts = alerts.unwrap_or_else(|| watch::channel(AlertsStatus::default()).1);
    let journal = Journal::default();
    let events = if args.dry_run { None } else { keep_events(&args.common, &journal) };
    journal.tell(What::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        dry_run: args.dry_run,
    });
    let is_real = args.common.ipvs == Table::Kernel && !args.dry_run;
    let (open, prober) = match is_real {
        true => {
            let (sender, open) = watch::channel(Arc::default());
            (Some(sender), NetworkProber::through(open))
        }
        false => (None, NetworkProber::new()),
    };
    let super::FromFile { file: settings_file, values, .. } = settings;
    let (follower, tuning, settings_status) =
        Follower::new(settings_file, values, settings::tuning(&args));
    let settings = Settings {
        path: args.common.policies.clone(),
        first,
        ipvs,
        store,
        owned,
        standing: recorded(&args.common, STANDING, args.dry_run),
        health: remembered(&args.common, args.dry_run),
        overrides: recorded(&args.common, OVERRIDES, args.dry_run),
        tuning: tuning.clone(),
        listener,
        limits: Limits::for_sockets(probe_sockets(web.is_some())),
        web,
        open,
        journal: journal.clone(),
        alerting,
        seed: rand::random(),
        facts: Facts {
            started: wall(),
            since: now(),
            tuning,
            dry_run: args.dry_run,
            ipvs: match args.common.ipvs {
                Table::Kernel => "kernel",
                Table::Memory => "memory",
            }
            .to_owned(),
            settings: settings_status,
            alerts,
        },
        notifier,
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        dry_run = args.dry_run,
        ipvs = %settings.facts.ipvs,
        policies = %settings.path.display(),
        probes_at_once = settings.limits.total,
        privileges = %privileges::names(privileges),
        "started"
    );
    let ended = runtime.block_on(async {
        tokio::spawn(follower.run(daemon::hangup()?));
        daemon::run(settings, Arc::new(prober), daemon::end_signal()?).await
    });
    if let Some(socket) = socket {
        // One that stays is replaced at the next start.
        let _ = fs::remove_file(socket);
    }
    drop(runtime);
    drop(journal);
    // Its writer ends when nobody is left who could tell anything.
    if let Some(events) = events {
        let _ = events.recv_timeout(LAST_EVENTS);
    }
    ended.map(|()| Exit::Done).map_err(|error| Failure::new(&error))
}

/// Who is told of problems, and the file that says so.
type ToTell = Option<(Result<Alerts, Vec<Problem>>, PathBuf)>;

/// What is opened before privileges are given up, and those that are kept.
struct Opened {
    first: Loaded,
    alerts: ToTell,
    web: Option<Listener>,
    privileges: CapabilitySet,
}

/// Loads the policies and the alerts, binds the listener, and keeps what privileges they need.
fn with_least_privilege(args: &Run) -> Result<Opened, Failure> {
    let refused = |error| Failure::text(format!("cannot give up privileges: {error}"));
    privileges::respect_permissions().map_err(refused)?;
    let first = open::policies(&args.common.policies)?;
    let alerts = if args.dry_run { None } else { open::alerts_file(args.alerts.as_deref()) };
    // Real servers are looked after also when nobody can be told of it.
    let alerts = alerts.map(|path| (alerts::file::load(&path), path));
    let web = web(&args.listen)?;
    let mut needed = privileges::needed(&first.set);
    if alerts.as_ref().is_some_and(|(it, _)| it.as_ref().is_ok_and(Alerts::have_commands)) {
        needed |= privileges::OF_PROGRAMS;
    }
    if args.dry_run {
        needed |= privileges::OF_REHEARSAL;
    }
    let privileges = privileges::keep(needed).map_err(refused)?;
    Ok(Opened { first, alerts, web, privileges })
}

/// The way to systemd; without one it says itself what it misses.
fn notifier() -> Notifier {
    Notifier::new(&Environment::of_process()).unwrap_or_else(|error| {
        complain(&format!("pointsman: cannot use NOTIFY_SOCKET: {error}"));
        Notifier::default()
    })
}

/// Without the capability nothing can ever work: say so at the start. Other trouble may pass, and
/// the driver tries again.
fn permitted(table: &mut dyn Ipvs) -> Result<(), Failure> {
    match table.table() {
        Err(error @ IpvsError::Denied) => Err(Failure::new(&error)),
        _ => Ok(()),
    }
}

/// Makes sure that no second daemon holds the same state. The lock goes with the process.
fn lock(common: &Common) -> Result<File, Failure> {
    let dir = &common.state_dir;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::text(format!(
            "cannot {what} the state directory {}: {error}; create it for this user or name another with --state-dir",
            dir.display()
        ))
    };
    fs::create_dir_all(dir).map_err(|error| failed("create", &error))?;
    let file = File::create(dir.join("lock")).map_err(|error| failed("write to", &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => Failure::text(format!(
            "another pointsman runs with the state directory {}; stop it first, or see `pointsman status`",
            dir.display()
        )),
        error => failed("lock", &error),
    })?;
    Ok(file)
}

/// Makes sure that no second daemon works on the same table, wherever its state and socket are.
fn claim(table: Table) -> Result<Option<TableLock>, Failure> {
    match table {
        Table::Kernel => lock_table().map(Some).map_err(|error| Failure::new(&error)),
        Table::Memory => Ok(None),
    }
}

/// What the last run has left on record, and the record, unless nothing is to be written. A
/// damaged one is reported and does not stop the start.
fn recorded<T>(common: &Common, kind: Kind, dry_run: bool) -> (T, Option<Record<T>>)
where
    T: Serialize + DeserializeOwned + Clone + Default + PartialEq,
{
    let mut record = Record::new(&common.state_dir, kind, &open::scope(common));
    let content = record.load().unwrap_or_else(|error| {
        error!(%error, "starting without it: {}", kind.without);
        T::default()
    });
    (content, (!dry_run).then_some(record))
}

/// What the last run knew, in the time of this one, and where this one writes it.
fn remembered(common: &Common, dry_run: bool) -> (Recalled, Option<Record<Recorded>>) {
    let (recorded, record) = recorded(common, HEALTH, dry_run);
    let recalled = Recalled::of(recorded, Clocks { now: now(), wall: wall() });
    (recalled, record)
}

/// Tells those who are to be told, and goes on where the last run was.
fn alerting(args: &Run, loaded: Result<Alerts, Vec<Problem>>, path: PathBuf) -> Alerting {
    let (recorded, record) = recorded(&args.common, ALERTS, false);
    match &loaded {
        Ok(alerts) => {
            info!(receivers = alerts.receivers.len(), file = %path.display(), "alerts loaded");
        }
        Err(problems) => {
            error!(
                problems = problems.len(),
                "nobody is told of anything: the alerts file is wrong"
            );
            problems.iter().for_each(|problem| error!("{problem}"));
        }
    }
    Alerting::new(loaded, path, open::director(), recorded, record)
}

/// Events that cannot be kept do not stop the start.
fn keep_events(common: &Common, journal: &Journal) -> Option<mpsc::Receiver<()>> {
    let path = file::path(&common.state_dir, &open::scope(common));
    let kept = file::keep(&path, journal.listen());
    kept.inspect_err(
        |error| warn!(path = %path.display(), %error, "events are not kept: cannot open their file"),
    )
    .ok()
}

fn listen(args: &Run) -> Result<Option<UnixListener>, Failure> {
    let path: &Path = &args.socket.socket;
    match daemon::bind(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if args.dry_run => {
            warn!(socket = %path.display(), %error, "no socket for this rehearsal: `status` will not see it");
            Ok(None)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::text(format!(
            "another pointsman answers on {}; stop it first, or name another --socket",
            path.display()
        ))),
        Err(error) => Err(Failure::text(format!(
            "cannot listen on {}: {error}; name another with --socket",
            path.display()
        ))),
    }
}

/// The HTTP listener, if one is asked for. Without it nobody would notice the daemon's troubles, so
/// it is a reason not to start.
fn web(args: &Listen) -> Result<Option<Listener>, Failure> {
    let wanted = listening::wanted(args);
    let wanted = wanted.map_err(|message| Failure { exit: Exit::Usage, message })?;
    wanted.map(Listener::bind).transpose().map_err(|error| Failure::new(&error))
}

/// Raises the descriptor limit as far as allowed and says how many probes fit.
fn probe_sockets(listens: bool) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if limit.current.is_some_and(|soft| soft < hard) {
        limit.current = Some(hard);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "cannot raise the limit of open files");
        }
    }
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(MOST_DESCRIPTORS);
    let clients = if listens { MOST_CLIENTS as u64 } else { 0 };
    usize::try_from(soft.saturating_sub(RESERVED_DESCRIPTORS + clients)).unwrap_or(usize::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's clock: what the last run wrote has an age"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: when the daemon started")]
fn wall() -> SystemTime {
    SystemTime::now()
}
