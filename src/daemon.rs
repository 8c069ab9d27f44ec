//! The supervisor: wires the tasks together, listens to signals, and stops them in order.
//!
//! | Task | Thread | Owns | In | Out |
//! |---|---|---|---|---|
//! | source | main | the policies on disk | file events, SIGHUP, confirmations | `watch` of policy sets |
//! | overriding | main | overrides | orders, policy sets | `watch` of overrides |
//! | runner | main | engine, probes in flight | policy sets, overrides, queries | `watch` of health views |
//! | driver | its own | the IPVS table | health views, refreshes | `watch` of reports |
//! | keeper | main, and one to write on | the record of verdicts | health views | a file |
//! | alerting | main, and one to write on | what was told to whom | health views, reports, repairs | mails, webhooks, commands |
//! | observer | main | what was so before | health views, reports | events |
//! | journal | one to write on | the file of events | events of all | a file |
//! | control | main | the Unix socket | requests | answers |
//! | life, watchdog | main | the way to systemd | reports, statuses, beats | notifications |
//! | listener | its own | the TCP port for readers | requests | answers |
//!
//! On exit the table stays as it is.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::thread::CapabilitySet;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::alerts::task::{Alerting, Sources};
use crate::control::server::{Control, serve};
use crate::control::status::Facts;
use crate::events::{Journal, Moment, What, observe};
use crate::ipvs::Ipvs;
use crate::notify::{self, Heart, Life, Notifier};
use crate::operator::overriding::Overriding;
use crate::policy::load::Loaded;
use crate::privileges;
use crate::probe::Prober;
use crate::probe::engine::{Engine, Limits};
use crate::probe::keeper::Keeper;
use crate::probe::knowledge::{self as health, Recalled};
use crate::probe::runner::Runner;
use crate::probe::via::Open;
use crate::reconcile::driver::{Driver, Report, go_first};
use crate::reconcile::overrides::Overrides;
use crate::reconcile::ownership::Owned;
use crate::reconcile::standing::Recorded;
use crate::reconcile::view::HealthView;
use crate::record::Record;
use crate::source::{Outlets, Source};
use crate::tuning::Tuning;
use crate::web::listener::Listener;

/// How long a pass under way may take to end at shutdown.
const LAST_PASS: Duration = Duration::from_secs(3);
/// How long the last record of verdicts may take.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// Everything a daemon is made from.
pub struct Settings {
    /// Where the policies are.
    pub path: PathBuf,
    /// The policies to begin with.
    pub first: Loaded,
    /// The table.
    pub ipvs: Box<dyn Ipvs>,
    /// Where the owned set is recorded; `None` for a rehearsal.
    pub store: Option<Record<Owned>>,
    /// The virtual services owned before the start.
    pub owned: Owned,
    /// What drained and what was withdrawn before the start, and where that is recorded.
    pub standing: (Recorded, Option<Record<Recorded>>),
    /// The verdicts of the last run, and where they are recorded.
    pub health: (Recalled, Option<Record<health::Recorded>>),
    /// The overrides on record, and where that is; a rehearsal has no record.
    pub overrides: (Overrides, Option<Record<Overrides>>),
    /// What can be set anew while it runs.
    pub tuning: watch::Receiver<Tuning>,
    /// The control socket, if there is one.
    pub listener: Option<UnixListener>,
    /// The HTTP listener, if there is one.
    pub web: Option<Listener>,
    /// How many probes may be in flight.
    pub limits: Limits,
    /// Seed of all randomness.
    pub seed: u64,
    /// Tells the prober which ways through virtual addresses are open; `None` where the table is not
    /// the kernel's.
    pub open: Option<watch::Sender<Arc<Open>>>,
    /// Where everybody tells what happens.
    pub journal: Journal,
    /// Who is told when something goes wrong.
    pub alerting: Option<Alerting>,
    /// For the status.
    pub facts: Facts,
    /// The way to systemd.
    pub notifier: Notifier,
}

/// Why a daemon ended that should not have.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The operating system refused something basic.
    #[error("cannot {what}")]
    Setup {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// A task ended by a bug.
    #[error("the {0} ended unexpectedly; the table stays as it is")]
    TaskEnded(&'static str),
}

/// Resolves to the name of the signal that asks for an orderly end.
///
/// # Errors
/// What the operating system refuses.
pub fn end_signal() -> Result<impl Future<Output = &'static str>, DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(setup("handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(setup("handle SIGINT"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// A stream of SIGHUPs, of its own for each task that reads something anew.
///
/// # Errors
/// What the operating system refuses.
pub fn hangup() -> Result<Signal, DaemonError> {
    signal(SignalKind::hangup()).map_err(setup("handle SIGHUP"))
}

fn setup(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::Setup { what, source }
}

/// Runs until `stop` resolves, which names the cause.
///
/// # Errors
/// What the operating system refuses at the start, or a task that ended by itself.
pub async fn run<P: Prober>(
    settings: Settings,
    prober: Arc<P>,
    stop: impl Future<Output = &'static str>,
) -> Result<(), DaemonError> {
    let hangup = self::hangup()?;

    let journal = settings.journal;
    let tuning = settings.tuning;
    let Tuning { resync, guard, blast_limit } = *tuning.borrow();
    let (source, outlets) = Source::new(settings.path, guard, settings.first, journal.clone());
    let source = source.tuned_by(tuning.clone());
    let Outlets { sets, policies } = outlets;
    let (recorded, record) = settings.overrides;
    let (overriding, overrides) = Overriding::new(recorded, record, journal.clone());
    let (recalled, health_record) = settings.health;
    let mut engine =
        Engine::new(settings.limits, settings.seed).limited(blast_limit).remembering(recalled);
    // The first pass knows what is on record, so that it meets the table as the last run left it.
    engine.set_policies(Arc::clone(&sets.borrow()), tokio::time::Instant::now().into_std());
    let (views_in, views) = watch::channel(Arc::new(HealthView {
        overrides: Arc::clone(&overrides.borrow()),
        ..engine.view()
    }));
    let (asks, asks_out) = mpsc::channel(16);
    let (confirms, confirms_out) = mpsc::channel(16);
    let (orders, orders_out) = mpsc::channel(16);
    let (queries, queries_out) = mpsc::channel(16);
    let (refreshes, refreshes_out) = mpsc::channel(16);
    let (reports_in, reports) = watch::channel(Arc::new(Report::default()));

    let (standing, standing_record) = settings.standing;
    let driver = Driver::new(settings.ipvs, settings.store, settings.owned, resync)
        .remembering(standing, standing_record)
        .guarded(guard, confirms_out)
        .tuned_by(tuning.clone())
        .opening(settings.open)
        .telling(journal.clone());
    tokio::spawn(observed(journal.clone(), views.clone(), reports.clone()));
    if let Some(alerting) = settings.alerting {
        let hangup = self::hangup()?;
        let (views, reports, policies) = (views.clone(), reports.clone(), policies.clone());
        let sources = Sources { views, reports, policies, events: journal.listen() };
        tokio::spawn(alerting.run(sources, hangup));
    }
    let (driver_pulse, driver_heart) = notify::pulse();
    let mut driver_ended = on_own_thread(driver, driver_heart, views, refreshes_out, reports_in)
        .map_err(setup("start the driver's thread"))?;
    let (end, ends) = oneshot::channel();
    let keeper = health_record.map(|record| {
        let keeper = Keeper::new(record, queries.clone(), views_in.subscribe());
        tokio::spawn(keeper.run(ends))
    });
    let mut overriding = tokio::spawn(overriding.run(orders_out, sets.clone()));
    let runner = Runner::new(engine, prober)
        .tuned_by(tuning)
        .overridden_by(overrides)
        .telling(journal.clone());
    let (runner_pulse, runner_heart) = notify::pulse();
    let mut runner =
        tokio::spawn(runner_heart.beat_beside(runner.run(sets, queries_out, views_in)));
    let source = tokio::spawn(source.run(hangup, asks_out));
    let notifier = settings.notifier;
    if notifier.is_heard() {
        let hangup = self::hangup()?;
        let life = Life {
            facts: settings.facts.clone(),
            queries: queries.clone(),
            asks: asks.clone(),
            reports: reports.clone(),
            policies: policies.clone(),
        };
        tokio::spawn(life.tell(notifier.clone(), hangup));
    }
    if let Some(limit) = notifier.watchdog() {
        let pulses = vec![driver_pulse, runner_pulse];
        tokio::spawn(notify::watch(notifier.clone(), limit, pulses));
    }
    let facts = Arc::new(settings.facts);
    let control = Control {
        facts,
        queries,
        refreshes,
        asks,
        confirms,
        orders,
        reports,
        policies,
        journal: journal.clone(),
    };
    if let Some(web) = settings.web {
        web.start(control.clone()).map_err(setup("start the listener"))?;
    }
    if let Some(listener) = settings.listener {
        listener.set_nonblocking(true).map_err(setup("prepare the socket"))?;
        let listener =
            tokio::net::UnixListener::from_std(listener).map_err(setup("prepare the socket"))?;
        tokio::spawn(serve(listener, control));
    }

    let ended = tokio::select! {
        cause = stop => Ok(cause),
        _ = &mut runner => Err(DaemonError::TaskEnded("probe runner")),
        _ = &mut overriding => Err(DaemonError::TaskEnded("keeper of overrides")),
        _ = &mut driver_ended => Err(DaemonError::TaskEnded("reconciler")),
    };
    notifier.stopping();
    drop(end);
    if let Some(keeper) = keeper
        && tokio::time::timeout(LAST_WRITE, keeper).await.is_err()
    {
        warn!("the disk has not taken the last verdicts; leaving");
    }
    // No more verdicts; the runner drops the sender of views, which ends the driver after its
    // pass.
    source.abort();
    overriding.abort();
    runner.abort();
    if ended.is_ok() && tokio::time::timeout(LAST_PASS, driver_ended).await.is_err() {
        warn!("the kernel still has not answered the last pass; leaving");
    }
    info!(cause = ended.as_ref().ok(), "stopped: the table stays as it is");
    if let Ok(cause) = &ended {
        journal.tell(What::Stopped { cause: (*cause).to_owned() });
    }
    ended.map(drop)
}

/// Tells what shows when one moment is compared with the next, until all others have ended.
async fn observed(
    journal: Journal,
    mut views: watch::Receiver<Arc<HealthView>>,
    mut reports: watch::Receiver<Arc<Report>>,
) {
    let mut last = Moment::default();
    loop {
        let (view, report) =
            (Arc::clone(&views.borrow_and_update()), Arc::clone(&reports.borrow_and_update()));
        observe(&mut last, &view, &report).into_iter().for_each(|what| journal.tell(what));
        let changed = tokio::select! {
            changed = views.changed() => changed,
            changed = reports.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn on_own_thread(
    driver: Driver,
    heart: Heart,
    views: watch::Receiver<Arc<HealthView>>,
    refreshes: mpsc::Receiver<oneshot::Sender<()>>,
    reports: watch::Sender<Arc<Report>>,
) -> io::Result<oneshot::Receiver<()>> {
    let (alive, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("reconciler".to_owned()).spawn(move || {
        privileges::only(CapabilitySet::NET_ADMIN);
        go_first();
        runtime.block_on(heart.beat_beside(driver.run(views, refreshes, reports)));
        drop(alive);
    })?;
    Ok(ended)
}

/// Binds the control socket, replacing one that nobody listens on any more. Its owner and group
/// may use it.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when a daemon answers there; else what the file system says.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        // Somebody else's, and perhaps alive.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => {}
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something that is not a socket is in its place")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}
