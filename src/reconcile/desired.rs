//! What the table should hold, from policies, verdicts and what the table holds now.
//!
//! The observed table is an input because `unknown` holds: until a real server has a verdict its
//! destinations stay as they are. Pure. It knows neither which services are owned nor in which
//! order changes are safe; that is [`super::plan`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::health::Health;
use crate::ipvs::model::{
    DestinationConfig, DestinationKey, Service, ServiceConfig, ServiceKey, Table,
};
use crate::policy::model::{DeclaredDestination, OnDown, VirtualService};

use super::diff::{Side, merge};
use super::view::{HealthView, Verdict};

/// Every declared virtual service as it should be. Services that are not in it are not declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// By identity.
    pub services: BTreeMap<ServiceKey, DesiredService>,
}

/// A declared virtual service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// Name of the policy that declares it.
    pub policy: Arc<str>,
    /// Its settings.
    pub config: ServiceConfig,
    /// The destinations it should have.
    pub destinations: BTreeMap<DestinationKey, DesiredDestination>,
    /// Declared destinations that it should not have now: [`Why::Down`] or [`Why::Unknown`].
    pub absent: BTreeMap<DestinationKey, Why>,
}

/// A destination as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDestination {
    /// Its settings.
    pub config: DestinationConfig,
    /// What decided them.
    pub why: Why,
}

/// What decides whether and how a destination is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its real server is up: as declared.
    Up,
    /// No verdict yet: in the table if it was there, with weight 0 if it had that, and otherwise
    /// as declared.
    Unknown,
    /// Its real server is down: out, or quiesced. With the reason where there is one.
    Down(Option<Arc<str>>),
    /// No policy declares it. In a desired service: held as it is until every declared real
    /// server that is not in the table yet has a verdict.
    Undeclared,
}

impl fmt::Display for Why {
    /// `up`, `no verdict yet`, `down: connection refused`, `no policy declares it`. Control
    /// characters, which a reason may have from the network, are written as escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Unknown => f.write_str("no verdict yet"),
            Self::Down(None) => f.write_str("down"),
            Self::Down(Some(reason)) => {
                f.write_str("down: ")?;
                write_printable(f, reason)
            }
            Self::Undeclared => f.write_str("no policy declares it"),
        }
    }
}

/// Says what the table should hold.
///
/// Rules, for a declared destination: up → as declared; down → absent or weight 0, as the policy's
/// `on_down` says; unknown → present only if observed, with weight 0 if observed so. An observed
/// destination that nobody declares goes, but of these as many stay as there are declared ones
/// that are new to the table and have no verdict yet: a swap of real servers goes one by one.
pub fn desired(view: &HealthView, observed: &Table) -> Desired {
    let mut services = Vec::new();
    for policy in &view.policies.policies {
        let name: Arc<str> = Arc::from(policy.name.as_str());
        let verdicts: Vec<Verdict> =
            policy.real_servers.iter().map(|real_server| view.real_server(real_server)).collect();
        for service in &policy.services {
            let observed = observed.get(&service.key);
            let (destinations, absent) = settle(service, &verdicts, policy.on_down, observed);
            let policy = Arc::clone(&name);
            let config = service.config.clone();
            services.push((service.key, DesiredService { policy, config, destinations, absent }));
        }
    }
    Desired { services: services.into_iter().collect() }
}

type Settled = (BTreeMap<DestinationKey, DesiredDestination>, BTreeMap<DestinationKey, Why>);

fn settle(
    service: &VirtualService,
    verdicts: &[Verdict],
    on_down: OnDown,
    observed: Option<&Service>,
) -> Settled {
    let mut present = Vec::with_capacity(service.destinations.len());
    let mut absent = BTreeMap::new();
    let mut matched = 0;
    for (declared, verdict) in service.destinations.iter().zip(verdicts) {
        let found = observed.and_then(|service| service.destinations.get(&declared.key));
        matched += usize::from(found.is_some());
        let (config, why) = decide(declared, verdict, on_down, found.map(|found| &found.config));
        match config {
            Some(config) => present.push((declared.key, DesiredDestination { config, why })),
            None => {
                absent.insert(declared.key, why);
            }
        }
    }
    let mut present: BTreeMap<_, _> = present.into_iter().collect();
    if let Some(observed) = observed
        && matched < observed.destinations.len()
    {
        hold_leftovers(observed, &absent, &mut present);
    }
    (present, absent)
}

fn decide(
    declared: &DeclaredDestination,
    verdict: &Verdict,
    on_down: OnDown,
    observed: Option<&DestinationConfig>,
) -> (Option<DestinationConfig>, Why) {
    let quiesced = DestinationConfig { weight: 0, ..declared.config };
    match (verdict.health, on_down) {
        (Health::Up, _) => (Some(declared.config), Why::Up),
        (Health::Down, OnDown::Remove) => (None, Why::Down(verdict.reason.clone())),
        (Health::Down, OnDown::Quiesce) => (Some(quiesced), Why::Down(verdict.reason.clone())),
        (Health::Unknown, _) => {
            let held = observed.map(|found| match found.weight {
                0 => quiesced,
                _ => declared.config,
            });
            (held, Why::Unknown)
        }
    }
}

/// Adds observed destinations that nobody declares, as they are: one for each declared one that
/// waits for its verdict outside the table. Those that take traffic come first.
fn hold_leftovers(
    observed: &Service,
    absent: &BTreeMap<DestinationKey, Why>,
    present: &mut BTreeMap<DestinationKey, DesiredDestination>,
) {
    let waiting = absent.values().filter(|why| **why == Why::Unknown).count();
    let mut leftovers: Vec<_> = merge(&observed.destinations, present)
        .filter_map(|side| match side {
            Side::Left(key, found) if !absent.contains_key(key) => {
                Some((*key, DesiredDestination { config: found.config, why: Why::Undeclared }))
            }
            _ => None,
        })
        .collect();
    leftovers.sort_by_key(|(_, held)| held.config.weight == 0);
    present.extend(leftovers.into_iter().take(waiting));
}

fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|letter| match letter.is_control() {
        true => write!(f, "{}", letter.escape_default()),
        false => write!(f, "{letter}"),
    })
}
