//! `pointsman plan`: what would change in the live table, and nothing else.

use std::collections::BTreeMap;
use std::path::{self, Path};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::args::{Assume, Output, Plan as Args, Table};
use super::open;
use super::{Exit, Failure, answer, colour, complain, json, runtime};
use crate::control::PlanInput;
use crate::control::client::{self, ClientError};
use crate::control::overrides::{OverrideStatus, list};
use crate::count::count;
use crate::health::{Health, OutcomeKind};
use crate::ipvs::Ipvs;
use crate::ipvs::memory::Memory;
use crate::policy::model::PolicySet;
use crate::probe::Prober;
use crate::probe::network::NetworkProber;
use crate::probe::outcome::Outcome;
use crate::reconcile::desired::{Moment, desired};
use crate::reconcile::json::PlanJson;
use crate::reconcile::names::Names;
use crate::reconcile::overrides::{OVERRIDES, Overrides};
use crate::reconcile::plan::plan as make_plan;
use crate::reconcile::render::{render, render_all};
use crate::reconcile::standing::{Clocks, STANDING, Standing};
use crate::reconcile::view::{HealthView, Verdict};
use crate::record::{Kind, Record};

/// Probes in flight during the one round without a daemon.
const PROBES_AT_ONCE: usize = 256;
/// As many overrides as are shown below a plan.
const MOST_OVERRIDES: usize = 10;

#[derive(Serialize)]
struct Answer<'a> {
    /// Where health comes from.
    health: &'a str,
    /// Which table was read.
    table: &'a str,
    /// What operators said of its real servers.
    overrides: &'a [OverrideStatus],
    #[serde(flatten)]
    plan: PlanJson<'a>,
}

pub(super) fn plan(args: &Args) -> Result<Exit, Failure> {
    open::enter(args.common.netns.as_deref())?;
    let loaded = open::policies(&args.common.policies)?;
    let set = Arc::new(loaded.set);
    let runtime = runtime()?;
    let daemon: Option<PlanInput> =
        match runtime.block_on(client::get(&args.socket.socket, "/v1/plan-input")) {
            Ok(input) => Some(input),
            Err(error) if error.is_absence() => None,
            Err(error @ ClientError::Denied(_)) if args.assume.is_some() => {
                tracing::debug!(%error, "planning without the daemon");
                None
            }
            Err(error) => return Err(Failure::new(&error)),
        };
    let (overrides, standing) = match &daemon {
        Some(daemon) => (daemon.overrides.clone(), daemon.standing.clone()),
        None => {
            let mut overrides: Overrides = recorded(args, OVERRIDES);
            overrides.expire(wall());
            (overrides, recorded(args, STANDING))
        }
    };
    let said = list(&overrides, &set, wall());
    let said: Vec<OverrideStatus> = said.into_iter().filter(|it| it.applies).collect();
    let (view, source) = match (args.assume, &daemon) {
        (Some(assume), _) => assumed(set, assume),
        (None, Some(daemon)) => known(set, daemon, &args.common.policies),
        (None, None) => runtime.block_on(probed(set)),
    };
    let view = HealthView { overrides: Arc::new(overrides), ..view };
    let (mut ipvs, place) = table(args, daemon.as_ref())?;
    let observed = ipvs
        .table()
        .map_err(|error| Failure::text(format!("cannot read the IPVS table: {error}")))?;
    let (owned, names) = match daemon {
        Some(daemon) => (daemon.owned.into_iter().collect(), daemon.names),
        None => {
            let owned = open::store(&args.common).load().map_err(|error| Failure::new(&error))?;
            (owned, Names::default())
        }
    };
    let now = now();
    let standing = Standing::of(standing, Clocks { now, wall: wall() });
    let wanted = desired(&view, &observed, &standing, Moment::first(now, &owned));
    let plan = make_plan(&observed, &wanted, &owned);
    let names = Names::after(&names, &view.policies);
    match args.output {
        Output::Text => {
            let render = if args.all { render_all } else { render };
            let text = render(&plan, &names, colour(&std::io::stdout()));
            let footer = match place.as_str() {
                "kernel" => format!("health: {source}\n"),
                place => format!("health: {source}\ntable: {place}\n"),
            };
            answer(&(text + &footer + &footer_of(&said)))?;
        }
        Output::Json => {
            answer(&json(&Answer {
                health: &source,
                table: &place,
                overrides: &said,
                plan: PlanJson::of(&plan, &names),
            })?)?;
        }
    }
    let pending = args.detailed_exitcode && !plan.steps.is_empty();
    Ok(if pending { Exit::Pending } else { Exit::Done })
}

/// What a daemon would start with.
fn recorded<T>(args: &Args, kind: Kind) -> T
where
    T: Serialize + DeserializeOwned + Clone + Default + PartialEq,
{
    let mut record = Record::new(&args.common.state_dir, kind, &open::scope(&args.common));
    record.load().unwrap_or_else(|error| {
        complain(&Failure::new(&error).message);
        T::default()
    })
}

fn footer_of(said: &[OverrideStatus]) -> String {
    let lines = said.iter().take(MOST_OVERRIDES).map(|it| format!("override: {}\n", it.line()));
    let lines: String = lines.collect();
    match said.len().saturating_sub(MOST_OVERRIDES) {
        0 => lines,
        more => format!("{lines}override: … and {more} more, see `pointsman overrides`\n"),
    }
}

/// The table to plan against, and what it is.
fn table(args: &Args, daemon: Option<&PlanInput>) -> Result<(Box<dyn Ipvs>, String), Failure> {
    if let Some((table, daemon)) = daemon.and_then(|it| Some((it.table.clone()?, it))) {
        let place = format!("in the memory of the running daemon (pid {})", daemon.pid);
        return Ok((Box::new(Memory::new(table)), place));
    }
    let place = match args.common.ipvs {
        Table::Kernel => "kernel",
        Table::Memory => "an empty one in memory (--ipvs memory)",
    };
    Ok((open::table(args.common.ipvs)?, place.to_owned()))
}

fn assumed(set: Arc<PolicySet>, assume: Assume) -> (HealthView, String) {
    let (health, word) = match assume {
        Assume::Up => (Health::Up, "up"),
        Assume::Unknown => (Health::Unknown, "unknown"),
    };
    (HealthView::uniform(set, health), format!("every real server assumed {word} (--assume)"))
}

/// Health as the daemon has it; what it does not probe is unknown to it.
fn known(set: Arc<PolicySet>, daemon: &PlanInput, path: &Path) -> (HealthView, String) {
    let targets = set.targets.len();
    let (view, strangers) = daemon.view(set, now());
    let mut source = format!("from the running daemon (pid {})", daemon.pid);
    if path::absolute(path).is_ok_and(|path| path.display().to_string() != daemon.policies) {
        source = format!("{source}, which runs {}", daemon.policies);
    }
    if strangers > 0 {
        source = format!(
            "{source}; {} of {} it does not probe, taken as unknown",
            strangers,
            count(targets, "check target")
        );
    }
    (view, source)
}

/// One round of probes: a pass is up, a failure is down, and what the director could not ask is
/// unknown.
async fn probed(set: Arc<PolicySet>) -> (HealthView, String) {
    let prober = Arc::new(NetworkProber::new());
    let places = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    let mut probes = JoinSet::new();
    for (index, target) in set.targets.iter().cloned().enumerate() {
        let (prober, places) = (Arc::clone(&prober), Arc::clone(&places));
        probes.spawn(async move {
            let _place = places.acquire().await;
            (index, prober.probe(&target).await)
        });
    }
    let outcomes: BTreeMap<usize, Outcome> = probes.join_all().await.into_iter().collect();
    let mut verdicts = vec![Verdict::default(); set.targets.len()];
    for (index, outcome) in outcomes {
        let advice = outcome.advice.and_then(|heard| heard.advice());
        let verdict = match outcome.kind {
            OutcomeKind::Pass => Verdict::of(Health::Up, None),
            OutcomeKind::Fail => Verdict::of(Health::Down, Some(outcome.detail.into())),
            OutcomeKind::Inconclusive => Verdict::default(),
        };
        verdicts[index] = Verdict { advice, ..verdict };
    }
    let through = set.targets.iter().filter(|target| target.check.via.is_some()).count();
    let unasked = match through {
        0 => String::new(),
        some => format!("; {some} through a virtual address, where only the daemon can ask"),
    };
    let source = format!(
        "from one round of probes just now ({}{unasked}; no daemon is running)",
        count(set.targets.len(), "check target")
    );
    (HealthView::new(set, verdicts), source)
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: which overrides have ended")]
fn wall() -> SystemTime {
    SystemTime::now()
}
