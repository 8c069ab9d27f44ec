//! What holds for every table, policy and health, and for every place where execution is cut.
//!
//! The universe is small (five services, six addresses, two ports) so that observed and declared
//! meet often.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::health::Health;
use pointsman::ipvs::memory::{self, Memory};
use pointsman::ipvs::model::{
    Change, Connections, Destination, DestinationConfig, DestinationKey, Family, Forwarding,
    Persistence, Scheduler, Service, ServiceConfig, ServiceFlags, ServiceKey, Table, Tunnel,
};
use pointsman::ipvs::{Ipvs, IpvsError};
use pointsman::policy::model::{
    AtFloor, ChecksNeeded, DeclaredDestination, HealthFloor, OnDown, Share,
};
use pointsman::reconcile::apply::{apply, believed};
use pointsman::reconcile::desired::{Desired, Moment, desired};
use pointsman::reconcile::ownership::Owned;
use pointsman::reconcile::plan::{Plan, Step, mark_repairs, plan};
use pointsman::reconcile::standing::Standing;
use pointsman::reconcile::view::{HealthView, Verdict};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::world::{Draft, Safety, now, verdicts, view};

const SERVICES: [&str; 5] = [
    "tcp://192.0.2.1:80",
    "udp://192.0.2.1:53",
    "tcp://[2001:db8::1]:80",
    "fwmark://7",
    "fwmark://7/inet6",
];
/// Real servers by number; each has an address of either family.
const SERVERS: [u8; 6] = [1, 2, 3, 4, 5, 6];
/// Mostly one, so that observed and declared destinations are often the same.
const PORTS: [u16; 4] = [80, 80, 80, 8080];

/// What a plan is made from.
#[derive(Debug, Clone)]
struct World {
    observed: Table,
    view: HealthView,
    owned: Owned,
    now: Instant,
}

impl World {
    fn plan(&self, observed: &Table) -> Plan {
        plan(observed, &self.desired(observed, None), &self.owned)
    }

    /// What should be at one and the same moment, whatever the table is meanwhile.
    fn desired(&self, observed: &Table, believed: Option<&Table>) -> Desired {
        let moment = Moment { fresh: false, believed, ..Moment::first(self.now, &self.owned) };
        desired(&self.view, observed, &Standing::default(), moment)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_leads_exactly_to_what_is_desired(world in worlds()) {
        let wanted = world.desired(&world.observed, None);
        let after = execute(&world.observed, &world.plan(&world.observed));
        for (key, service) in &wanted.services {
            if service.waits {
                prop_assert!(!after.contains_key(key), "{} goes in empty", key);
                continue;
            }
            let found = &after[key];
            prop_assert_eq!(&found.config, &service.config);
            let found: Vec<_> = found.destinations.iter().map(|(key, one)| (key, one.config)).collect();
            let wanted: Vec<_> = service.destinations.iter().map(|(key, one)| (key, one.config)).collect();
            prop_assert_eq!(found, wanted);
        }
        for (key, service) in &world.observed {
            if !wanted.services.contains_key(key) {
                let foreign = (!world.owned.contains(key)).then_some(service);
                prop_assert_eq!(after.get(key), foreign, "{}", key);
            }
        }
        for key in after.keys() {
            prop_assert!(wanted.services.contains_key(key) || world.observed.contains_key(key));
        }
    }

    #[test]
    fn after_a_plan_there_is_nothing_to_do(world in worlds()) {
        let after = execute(&world.observed, &world.plan(&world.observed));
        prop_assert_eq!(world.plan(&after).steps, vec![]);
    }

    #[test]
    fn cut_anywhere_the_next_plan_does_the_rest(world in worlds()) {
        let plan = world.plan(&world.observed);
        let whole = execute(&world.observed, &plan);
        let mut cut = world.observed.clone();
        for step in &plan.steps {
            prop_assert_eq!(&execute(&cut, &world.plan(&cut)), &whole, "cut before {}", step);
            memory::apply(&mut cut, &step.change).unwrap();
        }
    }

    #[test]
    fn no_service_dips_below_before_and_after(world in worlds()) {
        let plan = world.plan(&world.observed);
        let (before, after) = (&world.observed, execute(&world.observed, &plan));
        let mut table = before.clone();
        for step in &plan.steps {
            memory::apply(&mut table, &step.change).unwrap();
            for key in table.keys() {
                let least = taking(before, key).min(taking(&after, key));
                prop_assert!(taking(&table, key) >= least, "{} dips at {}", key, step);
            }
        }
    }

    #[test]
    fn every_step_changes_something_and_nothing_twice(world in worlds()) {
        let plan = world.plan(&world.observed);
        let mut table = world.observed.clone();
        let mut touched = BTreeSet::new();
        for step in &plan.steps {
            let before = table.clone();
            memory::apply(&mut table, &step.change).unwrap();
            prop_assert_ne!(&before, &table, "{} is idle", step);
            prop_assert!(touched.insert((*step.change.service(), step.destination().copied())));
        }
        let mut phases = plan.steps.iter().map(|step| step.phase());
        prop_assert!(phases.by_ref().is_sorted());
    }

    #[test]
    fn without_verdicts_nothing_declared_goes_in_or_out(world in worlds()) {
        let world = plain(world);
        let view = HealthView::uniform(Arc::clone(&world.view.policies), Health::Unknown);
        let checked = checked(&view);
        let world = World { view, ..world };
        let declared = verdicts(&world.view);
        for step in world.plan(&world.observed).steps {
            let service = step.change.service();
            let ours = declared.get(service);
            match &step.change {
                Change::AddDestination(_, key, _) => {
                    prop_assert!(!checked.contains(&(*service, *key)), "{}", step);
                }
                Change::DeleteDestination(_, key) => {
                    prop_assert!(ours.is_some_and(|ours| !ours.contains_key(key)), "{}", step);
                }
                Change::SetDestination(_, key, config) if checked.contains(&(*service, *key)) => {
                    let found = world.observed[service].destinations[key].config;
                    let declares_zero = declared_weight(&world.view, service, key) == 0;
                    prop_assert_eq!(found.weight == 0 || declares_zero, config.weight == 0, "{}", step);
                }
                Change::DeleteService(key) => prop_assert!(!declared.contains_key(key)),
                _ => {}
            }
        }
    }

    #[test]
    fn a_leftover_stays_for_each_new_one_that_waits(world in worlds()) {
        let world = plain(world);
        let plan = world.plan(&world.observed);
        let declared = verdicts(&world.view);
        for (service, ours) in &declared {
            let Some(found) = world.observed.get(service) else { continue };
            let is_new = |key: &&DestinationKey| !found.destinations.contains_key(*key);
            let waiting = ours
                .iter()
                .filter(|(key, verdict)| is_new(key) && verdict.health == Health::Unknown)
                .count();
            let leftovers = || found.destinations.iter().filter(|(key, _)| !ours.contains_key(key));
            let taking = leftovers().filter(|(_, found)| found.config.weight > 0).count();
            let gone = plan.steps.iter().filter(|step| match &step.change {
                Change::DeleteDestination(of, key) => of == service && !ours.contains_key(key),
                _ => false,
            });
            prop_assert_eq!(leftovers().count() - gone.count(), waiting.min(taking), "{}", service);
        }
        for held in &plan.held {
            let found = world.observed.get(&held.service);
            let found = found.and_then(|found| found.destinations.get(&held.destination));
            prop_assert_eq!(found.map(|found| found.config), held.config);
        }
        prop_assert!(plan.held.is_sorted_by_key(|held| (held.service, held.destination)));
    }

    #[test]
    fn what_somebody_else_did_is_a_repair(world in worlds(), hand in any::<u64>()) {
        let view = decided(&world.view);
        let world = without_ramps(World { view, ..world });
        let ours = execute(&world.observed, &world.plan(&world.observed));
        let wanted = world.desired(&ours, None);
        let owned = world.owned.claim(&wanted).settle(&wanted, &ours);
        let mut meddled = ours.clone();
        meddle(&mut meddled, hand);
        let mut plan = plan(&meddled, &world.desired(&meddled, Some(&ours)), &owned);
        mark_repairs(&mut plan, &ours);
        // But that a service which drains goes sooner because they took the last of it away.
        let left = |step: &Step| matches!(step.change, Change::DeleteService(_));
        prop_assert!(plan.steps.iter().all(|step| step.repair || left(step)), "{:#?}", plan.steps);
    }

    #[test]
    fn a_first_plan_has_no_repairs(world in worlds()) {
        let mut plan = world.plan(&world.observed);
        mark_repairs(&mut plan, &world.observed);
        prop_assert!(plan.steps.iter().all(|step| !step.repair));
    }

    #[test]
    fn the_believed_table_is_the_kernels(world in worlds(), fails in any::<u64>()) {
        let plan = world.plan(&world.observed);
        let mut kernel = Flaky { table: Memory::new(world.observed.clone()), fails, asked: 0 };
        let applied = apply(&mut kernel, &plan);
        let mut table = world.observed.clone();
        believed(&mut table, &plan, &applied);
        prop_assert_eq!(applied.done + applied.undone.len(), plan.steps.len());
        let failed = applied.causes().iter().map(|(_, steps)| steps).sum::<usize>();
        prop_assert_eq!(failed, applied.undone.len());
        prop_assert_eq!(kernel.table().unwrap(), table);
    }

    #[test]
    fn nobody_climbs_a_ramp_who_is_not_up(world in worlds()) {
        let declared = verdicts(&world.view);
        let ramps = |key: &ServiceKey| {
            let mut services = world.view.policies.policies.iter().flat_map(|it| &it.services);
            services.any(|it| it.key == *key && !it.slow_start.is_zero())
        };
        for step in world.plan(&world.observed).steps {
            let Change::SetDestination(service, key, after) = &step.change else { continue };
            let verdict = declared.get(service).and_then(|ours| ours.get(key));
            let before = world.observed[service].destinations[key].config.weight;
            if before > 0 && ramps(service) && verdict.is_some_and(|it| it.health != Health::Up) {
                prop_assert!(after.weight <= before, "{}", step);
            }
        }
    }

    /// Whatever was before, and whatever drained or was withdrawn meanwhile.
    #[test]
    fn when_all_are_up_everything_is_as_declared_in_the_end(
        world in worlds(), next in worlds(), pauses in prop::collection::vec(0u64..90, 4),
    ) {
        let (mut now, mut table) = (world.now.max(next.now), world.observed.clone());
        let mut standing = Standing::default();
        let all_up = HealthView::uniform(Arc::clone(&next.view.policies), Health::Up);
        let mut pass = |view: &HealthView, now, table: &mut Table| {
            let wanted = desired(view, table, &standing, Moment::first(now, &world.owned));
            *table = execute(table, &plan(table, &wanted, &world.owned));
            standing = wanted.standing;
        };
        for (view, pause) in [&world.view, &next.view, &world.view, &all_up].into_iter().zip(pauses) {
            pass(view, now, &mut table);
            now += Duration::from_secs(pause);
        }
        for _ in 0..3 {
            pass(&all_up, now, &mut table);
            now += Duration::from_secs(61);
        }
        for service in next.view.policies.policies.iter().flat_map(|policy| &policy.services) {
            let takes = service.destinations.iter().any(|one| one.config.weight > 0);
            let sorry = service.sorry.iter().filter(|_| !takes);
            let declared: BTreeMap<_, _> =
                service.destinations.iter().chain(sorry).map(|one| (one.key, one.config)).collect();
            let found = table[&service.key].destinations.iter();
            let found: BTreeMap<_, _> = found.map(|(key, one)| (*key, one.config)).collect();
            prop_assert_eq!(found, declared, "{}", service.key);
        }
        prop_assert_eq!((standing.draining.len(), standing.withdrawn.len()), (0, 0));
    }

    #[test]
    fn edits_by_others_while_we_apply_do_not_stop_us(world in worlds(), hand in any::<u64>()) {
        let mut meddled = world.observed.clone();
        meddle(&mut meddled, hand);
        let mut kernel = Memory::new(meddled);
        apply(&mut kernel, &world.plan(&world.observed));
        let read = kernel.table().unwrap();
        apply(&mut kernel, &world.plan(&read));
        prop_assert_eq!(world.plan(&kernel.table().unwrap()).steps, vec![]);
    }
}

fn execute(table: &Table, plan: &Plan) -> Table {
    let mut kernel = Memory::new(table.clone());
    let applied = apply(&mut kernel, plan);
    assert!(applied.is_complete() && applied.surprises == 0, "{applied:?}");
    kernel.table().unwrap()
}

/// How many destinations of a service take new connections.
fn taking(table: &Table, key: &ServiceKey) -> usize {
    table.get(key).map_or(0, |service| {
        service.destinations.values().filter(|found| found.config.weight > 0).count()
    })
}

/// The declared destinations whose real server is checked at all.
fn checked(view: &HealthView) -> BTreeSet<(ServiceKey, DestinationKey)> {
    verdicts(view)
        .into_iter()
        .flat_map(|(service, all)| {
            all.into_iter().map(move |(key, verdict)| (service, key, verdict))
        })
        .filter(|(_, _, verdict)| verdict.health == Health::Unknown)
        .map(|(service, key, _)| (service, key))
        .collect()
}

fn declared_weight(view: &HealthView, service: &ServiceKey, key: &DestinationKey) -> u32 {
    let services = view.policies.policies.iter().flat_map(|policy| &policy.services);
    let mut found = services.filter(|found| found.key == *service);
    let destinations = &found.next().unwrap().destinations;
    destinations.iter().find(|found| found.key == *key).unwrap().config.weight
}

/// The same view with a verdict for everybody.
fn decided(view: &HealthView) -> HealthView {
    let mut view = view.clone();
    for verdict in &mut view.verdicts {
        if verdict.health == Health::Unknown {
            verdict.health = Health::Up;
        }
    }
    view
}

/// Does by hand, on services that exist, what `hand` says: deletes, edits and adds.
fn meddle(table: &mut Table, mut hand: u64) {
    let mut dice = |sides: u64| {
        let face = hand % sides;
        hand /= sides;
        face
    };
    let keys: Vec<ServiceKey> = table.keys().copied().collect();
    for key in keys {
        match dice(4) {
            0 => {
                table.remove(&key);
            }
            1 => {
                let service = table.get_mut(&key).unwrap();
                service.config.scheduler = Scheduler("fo".to_owned());
                service.destinations.pop_first();
            }
            2 => {
                let service = table.get_mut(&key).unwrap();
                service.destinations.values_mut().for_each(|found| found.config.weight = 3);
                let address = match key.family() {
                    Family::Inet => "10.9.9.9",
                    Family::Inet6 => "2001:db8::9999",
                };
                let new = DestinationKey { address: address.parse().unwrap(), port: 80 };
                let one = Destination::new(DestinationConfig {
                    forwarding: Forwarding::Masq,
                    weight: 3,
                    upper_threshold: 0,
                    lower_threshold: 0,
                });
                service.destinations.insert(new, one);
            }
            _ => {}
        }
    }
}

/// A kernel that refuses some changes.
struct Flaky {
    table: Memory,
    /// A bit per change, over and over.
    fails: u64,
    asked: u32,
}

impl Ipvs for Flaky {
    fn table(&mut self) -> Result<Table, IpvsError> {
        self.table.table()
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        let mut answer = |change: &Change| {
            let fails = self.fails.rotate_right(self.asked) & 1 == 1;
            self.asked += 1;
            if fails {
                return Err(IpvsError::Invalid("not today".to_owned()));
            }
            self.table.execute(std::slice::from_ref(change)).remove(0)
        };
        changes.iter().map(&mut answer).collect()
    }
}

fn worlds() -> impl Strategy<Value = World> {
    (tables(), policies(), subsequence(SERVICES.to_vec(), 0..=SERVICES.len())).prop_map(
        |(observed, drafts, owned)| {
            let (mut view, now) = (view(&drafts), now());
            for verdict in &mut view.verdicts {
                verdict.since = Some(now);
            }
            let owned = owned.into_iter().map(|key| key.parse().unwrap()).collect();
            World { observed, view, owned, now }
        },
    )
}

/// The same world without anything that lets destinations go gently, or come back so.
fn plain(world: World) -> World {
    let mut set = (*world.view.policies).clone();
    for policy in &mut set.policies {
        (policy.health_floor, policy.sorry_server) = (None, None);
        for service in &mut policy.services {
            (service.sorry, service.drain) = (None, Duration::ZERO);
        }
    }
    without_ramps(World { view: HealthView { policies: Arc::new(set), ..world.view }, ..world })
}

fn without_ramps(world: World) -> World {
    let mut set = (*world.view.policies).clone();
    let services = set.policies.iter_mut().flat_map(|policy| &mut policy.services);
    services.for_each(|service| service.slow_start = Duration::ZERO);
    World { view: HealthView { policies: Arc::new(set), ..world.view }, ..world }
}

fn tables() -> impl Strategy<Value = Table> {
    let services = subsequence(SERVICES.to_vec(), 0..=SERVICES.len());
    services.prop_flat_map(|keys| {
        let each = (
            service_configs(),
            prop::collection::btree_map(destination_keys(), destination_configs(), 0..12),
        );
        prop::collection::vec(each, keys.len()).prop_map(move |services| {
            let keys = keys.iter().map(|key| key.parse().unwrap());
            keys.zip(services)
                .map(|(key, (config, found))| (key, service(&key, config, found)))
                .collect()
        })
    })
}

fn service(
    key: &ServiceKey,
    config: ServiceConfig,
    found: BTreeMap<(u8, u16), DestinationConfig>,
) -> Service {
    let connections = Connections { active: 1, inactive: 2, persistent: 3 };
    let destinations = found
        .into_iter()
        .map(|((server, port), config)| {
            (
                destination(key, server, port),
                Destination { connections, ..Destination::new(config) },
            )
        })
        .collect();
    Service { destinations, ..Service::new(config) }
}

/// Up to two policies that share no service; the services of one share their real servers.
fn policies() -> impl Strategy<Value = Vec<Draft>> {
    let split = (subsequence(SERVICES.to_vec(), 1..=4), 0usize..4);
    split.prop_flat_map(|(keys, cut)| {
        let (first, second) = keys.split_at(cut.min(keys.len()));
        [("first", first), ("second", second)]
            .into_iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(name, keys)| policy(name, keys.to_vec()))
            .collect::<Vec<_>>()
    })
}

fn policy(name: &'static str, keys: Vec<&'static str>) -> impl Strategy<Value = Draft> {
    let on_down = select(vec![OnDown::Remove, OnDown::Quiesce]);
    let servers = subsequence(SERVERS.to_vec(), 1..=4).prop_flat_map(|numbers| {
        let count = numbers.len();
        let configs = prop::collection::vec(destination_configs(), count);
        let health = prop::collection::vec(prop::collection::vec(target_verdicts(), 0..4), count);
        (Just(numbers), configs, health)
    });
    let services = prop::collection::vec((service_configs(), select(PORTS.to_vec())), keys.len());
    let needed = select(vec![ChecksNeeded::All, ChecksNeeded::Any, ChecksNeeded::Count(2)]);
    (on_down, safety(), needed, servers, services).prop_map(
        move |(on_down, safety, needed, (numbers, configs, verdicts), services)| {
            let declare = |service: &ServiceKey, port| {
                let servers = numbers.iter().zip(&configs);
                servers
                    .map(|(number, config)| DeclaredDestination {
                        key: destination(service, *number, port),
                        config: *config,
                    })
                    .collect()
            };
            let services = keys
                .iter()
                .zip(services)
                .map(|(key, (config, port))| {
                    let key = key.parse().unwrap();
                    (key, config, declare(&key, port))
                })
                .collect();
            Draft { safety, name: name.to_owned(), on_down, services, verdicts, needed }
        },
    )
}

fn safety() -> impl Strategy<Value = Safety> {
    let times = |long| select(vec![Duration::ZERO, Duration::from_secs(long)]);
    let floors = select(vec![
        None,
        Some(AtFloor::Keep),
        Some(AtFloor::Withdraw { return_at: Share::Percent(75) }),
    ]);
    let sorry = prop::option::of((destination_configs(), target_verdicts()));
    (times(60), times(40), floors, sorry).prop_map(|(drain, slow_start, at_floor, sorry)| Safety {
        via: false,
        drain,
        slow_start,
        floor: at_floor.map(|at_floor| HealthFloor { min_up: Share::Percent(50), at_floor }),
        sorry: sorry.map(|(config, verdict)| {
            let key = "10.0.0.99:80".parse().unwrap();
            (DeclaredDestination { key, config }, verdict)
        }),
    })
}

fn target_verdicts() -> impl Strategy<Value = Verdict> {
    select(vec![Health::Unknown, Health::Up, Health::Up, Health::Down]).prop_map(|health| {
        let reason = (health == Health::Down).then(|| Arc::from("status 503"));
        Verdict::of(health, reason)
    })
}

fn service_configs() -> impl Strategy<Value = ServiceConfig> {
    (select(vec!["rr", "wlc", "mh"]), any::<bool>(), any::<bool>()).prop_map(
        |(name, port, stick)| ServiceConfig {
            scheduler: Scheduler(name.to_owned()),
            flags: ServiceFlags { port: port && name == "mh", ..ServiceFlags::default() },
            persistence: stick.then_some(Persistence { timeout: 300, prefix: 32, engine: None }),
        },
    )
}

/// A real server's destination under a service: at its address of that family.
fn destination(service: &ServiceKey, number: u8, port: u16) -> DestinationKey {
    let address = match service.family() {
        Family::Inet => IpAddr::from([10, 0, 0, number]),
        Family::Inet6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)]),
    };
    DestinationKey { address, port }
}

fn destination_keys() -> impl Strategy<Value = (u8, u16)> {
    (select(SERVERS.to_vec()), select(PORTS.to_vec()))
}

fn destination_configs() -> impl Strategy<Value = DestinationConfig> {
    let methods = vec![Forwarding::Masq, Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip)];
    (select(methods), select(vec![0, 1, 40, 80]), select(vec![0, 100])).prop_map(
        |(forwarding, weight, upper_threshold)| DestinationConfig {
            forwarding,
            weight,
            upper_threshold,
            lower_threshold: upper_threshold / 2,
        },
    )
}
