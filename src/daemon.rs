//! The supervisor: wires the tasks together, listens to signals, and stops them in order.
//!
//! | Task | Thread | Owns | In | Out |
//! |---|---|---|---|---|
//! | source | main | the policies on disk | file events, SIGHUP | `watch` of policy sets |
//! | runner | main | engine, probes in flight | policy sets, queries | `watch` of health views |
//! | driver | its own | the IPVS table | health views, refreshes | `watch` of reports |
//! | control | main | the Unix socket | requests | answers |
//!
//! On exit the table stays as it is.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::control::server::{Control, serve};
use crate::control::status::{Facts, Policies, Refused, rfc3339};
use crate::ipvs::Ipvs;
use crate::policy::load::{Loaded, load};
use crate::policy::model::PolicySet;
use crate::policy::watch::{Watch, watch};
use crate::probe::Prober;
use crate::probe::engine::{Engine, Limits};
use crate::probe::runner::Runner;
use crate::reconcile::driver::{Driver, Report, go_first};
use crate::reconcile::ownership::Owned;
use crate::reconcile::store::Store;
use crate::reconcile::view::HealthView;

/// How long a pass under way may take to end at shutdown.
const LAST_PASS: Duration = Duration::from_secs(3);

/// Everything a daemon is made from.
pub struct Settings {
    /// Where the policies are.
    pub path: PathBuf,
    /// The policies to begin with.
    pub first: Loaded,
    /// The table.
    pub ipvs: Box<dyn Ipvs>,
    /// Where the owned set is recorded; `None` for a rehearsal.
    pub store: Option<Store>,
    /// The virtual services owned before the start.
    pub owned: Owned,
    /// Longest time between two reads of the table.
    pub resync: Duration,
    /// The control socket, if there is one.
    pub listener: Option<UnixListener>,
    /// How many probes may be in flight.
    pub limits: Limits,
    /// Seed of all randomness.
    pub seed: u64,
    /// For the status.
    pub facts: Facts,
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
    let hangup = signal(SignalKind::hangup()).map_err(setup("handle SIGHUP"))?;

    let (source, sets, policies) = Source::new(settings.path, settings.first);
    let (views_in, views) = watch::channel(Arc::new(HealthView::uniform(
        Arc::clone(&sets.borrow()),
        crate::health::Health::Unknown,
    )));
    let (queries, queries_out) = mpsc::channel(16);
    let (refreshes, refreshes_out) = mpsc::channel(16);
    let (reports_in, reports) = watch::channel(Arc::new(Report::default()));

    let driver = Driver::new(settings.ipvs, settings.store, settings.owned, settings.resync);
    let mut driver_ended = on_own_thread(driver, views, refreshes_out, reports_in)
        .map_err(setup("start the driver's thread"))?;
    let engine = Engine::new(settings.limits, settings.seed);
    let mut runner = tokio::spawn(Runner::new(engine, prober).run(sets, queries_out, views_in));
    let source = tokio::spawn(source.run(hangup));
    if let Some(listener) = settings.listener {
        listener.set_nonblocking(true).map_err(setup("prepare the socket"))?;
        let listener =
            tokio::net::UnixListener::from_std(listener).map_err(setup("prepare the socket"))?;
        let facts = Arc::new(settings.facts);
        tokio::spawn(serve(listener, Control { facts, queries, refreshes, reports, policies }));
    }

    let ended = tokio::select! {
        cause = stop => Ok(cause),
        _ = &mut runner => Err(DaemonError::TaskEnded("probe runner")),
        _ = &mut driver_ended => Err(DaemonError::TaskEnded("reconciler")),
    };
    // No more verdicts; the runner drops the sender of views, which ends the driver after its
    // pass.
    source.abort();
    runner.abort();
    if ended.is_ok() && tokio::time::timeout(LAST_PASS, driver_ended).await.is_err() {
        warn!("the kernel still has not answered the last pass; leaving");
    }
    info!(cause = ended.as_ref().ok(), "stopped: the table stays as it is");
    ended.map(drop)
}

fn on_own_thread(
    driver: Driver,
    views: watch::Receiver<Arc<HealthView>>,
    refreshes: mpsc::Receiver<oneshot::Sender<()>>,
    reports: watch::Sender<Arc<Report>>,
) -> io::Result<oneshot::Receiver<()>> {
    let (alive, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("reconciler".to_owned()).spawn(move || {
        go_first();
        runtime.block_on(driver.run(views, refreshes, reports));
        drop(alive);
    })?;
    Ok(ended)
}

/// Holds the last good policies and replaces them when better ones appear.
struct Source {
    path: PathBuf,
    sets: watch::Sender<Arc<PolicySet>>,
    policies: watch::Sender<Policies>,
}

impl Source {
    fn new(
        path: PathBuf,
        first: Loaded,
    ) -> (Self, watch::Receiver<Arc<PolicySet>>, watch::Receiver<Policies>) {
        announce(&first);
        let policies = Policies {
            path: shown(&path),
            hash: first.set.hash.clone(),
            loaded: rfc3339(wall()),
            count: first.set.policies.len(),
            reloads: 0,
            refused: None,
        };
        let (sets, sets_out) = watch::channel(Arc::new(first.set));
        let (policies, policies_out) = watch::channel(policies);
        (Self { path, sets, policies }, sets_out, policies_out)
    }

    async fn run(self, mut hangup: Signal) {
        let mut watch = watch(&self.path)
            .inspect_err(|error| warn!(%error, "edits are noticed on SIGHUP only"))
            .ok();
        // What changed between the first load and the watch is noticed here.
        let mut asked = false;
        loop {
            self.reload(asked).await;
            asked = tokio::select! {
                () = changed(watch.as_mut()) => false,
                _ = hangup.recv() => true,
            };
        }
    }

    async fn reload(&self, asked: bool) {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || load(&path)).await {
            Ok(Ok(loaded)) => self.accept(loaded, asked),
            Ok(Err(problems)) => {
                // A lint keeps nothing from being used.
                let errors = problems.iter().filter(|problem| problem.is_error());
                self.refuse(errors.map(ToString::to_string).collect(), asked);
            }
            Err(bug) => {
                error!(error = %bug, "loading policies ended in a bug of pointsman; the last good ones stay, please report it")
            }
        }
    }

    fn accept(&self, loaded: Loaded, asked: bool) {
        let unchanged = loaded.set.hash == self.sets.borrow().hash;
        let was_refused = self.policies.borrow().refused.is_some();
        if unchanged {
            self.policies.send_modify(|policies| policies.refused = None);
            if was_refused || asked {
                info!(hash = %loaded.set.hash, "policies are valid and as before");
            }
            return;
        }
        announce(&loaded);
        self.policies.send_modify(|policies| {
            policies.hash.clone_from(&loaded.set.hash);
            policies.loaded = rfc3339(wall());
            policies.count = loaded.set.policies.len();
            policies.reloads += 1;
            policies.refused = None;
        });
        self.sets.send_replace(Arc::new(loaded.set));
    }

    fn refuse(&self, problems: Vec<String>, asked: bool) {
        let known = self.policies.borrow().refused.as_ref().map(|it| it.problems.clone());
        if known.as_ref() == Some(&problems) {
            if asked {
                error!(problems = problems.len(), "reload refused for the same problems as before");
            }
            return;
        }
        error!(problems = problems.len(), "reload refused: the last good policies stay in force");
        for problem in &problems {
            error!("{problem}");
        }
        let at = rfc3339(wall());
        self.policies.send_modify(|policies| policies.refused = Some(Refused { at, problems }));
    }
}

/// The path as it can be understood from any directory.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn announce(loaded: &Loaded) {
    let set = &loaded.set;
    let services: usize = set.policies.iter().map(|policy| policy.services.len()).sum();
    info!(
        hash = %set.hash,
        policies = set.policies.len(),
        services,
        targets = set.targets.len(),
        "policies loaded"
    );
    for lint in &loaded.lints {
        warn!("{lint}");
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
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

#[expect(clippy::disallowed_methods, reason = "the shell's clock: status shows wall-clock times")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn an_edit_before_the_watch_is_up_is_not_missed() {
        const POLICY: &str = "
virtual_services: [tcp://192.0.2.1:80]
real_servers: [192.0.2.10]
checks: []
";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("www.yaml");
        fs::write(&file, POLICY).unwrap();
        let path = directory.path().to_owned();
        let first = load(&path).map_err(|problems| problems[0].to_string()).unwrap();
        let (source, mut sets, _policies) = Source::new(path, first);
        fs::write(&file, POLICY.replace("192.0.2.10", "192.0.2.11")).unwrap();
        let running = tokio::spawn(source.run(signal(SignalKind::hangup()).unwrap()));
        let changed = tokio::time::timeout(Duration::from_secs(5), sets.changed()).await;
        assert!(matches!(changed, Ok(Ok(()))), "the edit was missed");
        let server = sets.borrow().policies[0].real_servers[0].name.clone();
        assert_eq!(server, "192.0.2.11");
        running.abort();
    }

    #[tokio::test]
    async fn lints_are_no_reason_for_a_refusal() {
        const SUSPICIOUS: &str = "
virtual_services: [tcp://192.0.2.1:80]
real_servers: [192.0.2.10]
";
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("www.yaml"), SUSPICIOUS).unwrap();
        let first = load(directory.path()).map_err(|problems| problems[0].to_string()).unwrap();
        assert!(!first.lints.is_empty());
        let (source, _sets, policies) = Source::new(directory.path().to_owned(), first);
        fs::write(directory.path().join("bad.yaml"), "virtual_services: []").unwrap();
        source.reload(true).await;
        let refused = policies.borrow().refused.clone().unwrap().problems;
        assert!(!refused.is_empty());
        assert!(refused.iter().all(|problem| problem.contains("bad.yaml")), "{refused:?}");
    }
}
