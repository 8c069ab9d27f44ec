//! Policies, verdicts and tables built by hand, without YAML.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pointsman::health::{Health, Hysteresis};
use pointsman::ipvs::model::{
    DestinationConfig, DestinationKey, Family, Scheduler, ServiceConfig, ServiceFlags, ServiceKey,
};
use pointsman::ipvs::private;
use pointsman::policy::model::{
    ChecksNeeded, DeclaredDestination, HealthFloor, OnDown, Policy, PolicySet, PrivateService,
    RealServer, TargetId, VirtualService,
};
use pointsman::probe::target::{Check, CheckKind, Target, TcpCheck, Timing};
use pointsman::reconcile::view::{HealthView, Verdict};

/// A policy before its real servers have targets.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) on_down: OnDown,
    pub(crate) safety: Safety,
    pub(crate) services: Vec<(ServiceKey, ServiceConfig, Vec<DeclaredDestination>)>,
    /// The verdicts on the targets of each real server, in the order of the destinations.
    pub(crate) verdicts: Vec<Vec<Verdict>>,
    pub(crate) needed: ChecksNeeded,
}

/// The settings of a policy that keep users from noticing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Safety {
    pub(crate) drain: Duration,
    pub(crate) slow_start: Duration,
    pub(crate) floor: Option<HealthFloor>,
    /// Whether real servers are probed through the first virtual service.
    pub(crate) via: bool,
    /// The same in every service, and the verdict on it.
    pub(crate) sorry: Option<(DeclaredDestination, Verdict)>,
}

/// Gives every real server its targets.
pub(crate) fn view(drafts: &[Draft]) -> HealthView {
    let mut set = PolicySet { hash: "0".repeat(16), ..PolicySet::default() };
    let mut verdicts = Vec::new();
    for draft in drafts {
        let addresses = draft.services.first().map(|(_, _, declared)| declared.as_slice());
        let mut real_servers = Vec::new();
        for (declared, health) in addresses.unwrap_or_default().iter().zip(&draft.verdicts) {
            let address = declared.key.address;
            let mut targets = Vec::new();
            for verdict in health {
                targets.push(TargetId(set.targets.len() as u32));
                set.targets.push(target(address));
                verdicts.push(verdict.clone());
            }
            let needed = draft.needed.of(targets.len());
            let (name, advisors) = (address.to_string(), Vec::new());
            let identity = name.clone();
            real_servers.push(RealServer { name, identity, address, targets, needed, advisors });
        }
        if draft.safety.via {
            let ways = draft.services[0].2.iter().zip(private::FIRST..);
            set.private.extend(ways.map(|(declared, mark)| way(&draft.name, declared, mark)));
        }
        let sorry_server = draft.safety.sorry.as_ref().map(|(declared, verdict)| {
            let address = declared.key.address;
            let targets = vec![TargetId(set.targets.len() as u32)];
            set.targets.push(target(address));
            verdicts.push(verdict.clone());
            let (name, advisors) = (address.to_string(), Vec::new());
            let identity = name.clone();
            RealServer { name, identity, address, targets, needed: 1, advisors }
        });
        let services = draft.services.iter().cloned();
        set.policies.push(Policy {
            name: draft.name.clone(),
            origin: format!("{}.yaml:1", draft.name),
            services: services
                .map(|(key, config, destinations)| VirtualService {
                    key,
                    config,
                    destinations,
                    sorry: draft.safety.sorry.as_ref().map(|(one, _)| of_family(*one, &key)),
                    drain: draft.safety.drain,
                    slow_start: draft.safety.slow_start,
                })
                .collect(),
            real_servers,
            on_down: draft.on_down,
            health_floor: draft.safety.floor,
            sorry_server,
        });
    }
    HealthView::new(Arc::new(set), verdicts)
}

/// The way of probes to a real server.
fn way(policy: &str, declared: &DeclaredDestination, mark: u32) -> PrivateService {
    let forwarding = declared.config.forwarding;
    let config =
        DestinationConfig { forwarding, weight: 1, upper_threshold: 0, lower_threshold: 0 };
    PrivateService {
        policy: Arc::from(policy),
        key: private::key(mark, Family::Inet),
        config: ServiceConfig {
            scheduler: Scheduler("rr".to_owned()),
            flags: ServiceFlags::default(),
            persistence: None,
        },
        destination: DeclaredDestination { key: declared.key, config },
    }
}

/// The same machine by its address of the service's family.
fn of_family(mut declared: DeclaredDestination, service: &ServiceKey) -> DeclaredDestination {
    if service.family() == Family::Inet6 && declared.key.address.is_ipv4() {
        declared.key.address = "2001:db8::99".parse().unwrap();
    }
    declared
}

pub(crate) fn verdict(health: Health, reason: &str) -> Verdict {
    let reason = (!reason.is_empty()).then(|| Arc::from(reason));
    Verdict::of(health, reason)
}

/// The verdict on every declared destination of every service.
pub(crate) fn verdicts(
    view: &HealthView,
) -> BTreeMap<ServiceKey, BTreeMap<DestinationKey, Verdict>> {
    let mut all = BTreeMap::new();
    for policy in &view.policies.policies {
        for service in &policy.services {
            let declared = service.destinations.iter().zip(&policy.real_servers);
            let health = declared.map(|(declared, real)| (declared.key, view.real_server(real)));
            all.insert(service.key, health.collect());
        }
    }
    all
}

fn target(address: IpAddr) -> Target {
    let once = NonZeroU32::MIN;
    Target {
        address: SocketAddr::new(address, 80),
        check: Arc::new(Check::new(CheckKind::Tcp(TcpCheck::default()))),
        timing: Timing {
            interval: Duration::from_secs(5),
            fast_interval: None,
            timeout: Duration::from_secs(2),
            hysteresis: Hysteresis { rise: once, fall: once },
            damping: None,
            expires: None,
        },
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
