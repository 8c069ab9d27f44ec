//! What keeps verdicts from hurting: flap damping, the blast-radius limit, and what a restart knows.

use pointsman::policy::model::Share;
use pointsman::probe::blast_limit::BlastLimit;
use pointsman::probe::keeper::Keeper;
use pointsman::probe::knowledge::{HEALTH, Recalled, Recorded};
use pointsman::probe::runner::{Query, Snapshot};
use pointsman::reconcile::standing::Clocks;
use std::time::SystemTime;
use tokio::sync::oneshot;

mod advising;

use super::*;

/// A director with a memory; dropping it is `kill -9`.
struct Remembering {
    _policies: watch::Sender<Arc<PolicySet>>,
    queries: mpsc::Sender<Query>,
    reports: watch::Receiver<Arc<Report>>,
    tasks: Vec<JoinHandle<()>>,
    keeper: JoinHandle<()>,
    _end: oneshot::Sender<()>,
}

/// Where it keeps what it knows, and how it is limited.
struct Place {
    state: tempfile::TempDir,
    limit: BlastLimit,
}

impl Place {
    fn new(most: Option<Share>) -> Self {
        let limit = BlastLimit { most, window: Duration::from_secs(60) };
        Self { state: tempfile::tempdir().unwrap(), limit }
    }

    /// `later`: how much later it is on the wall than it would be.
    fn start(
        &self,
        yaml: &str,
        world: &World,
        table: &SharedTable,
        later: Duration,
    ) -> Remembering {
        let (policies, sets) = watch::channel(Arc::new(parse(yaml)));
        let (queries, queries_out) = mpsc::channel(1);
        let (_, refreshes) = mpsc::channel(1);
        let (reports_in, reports) = watch::channel(Arc::new(Report::default()));
        let mut record: Record<Recorded> = Record::new(self.state.path(), HEALTH, &Scope::Kernel);
        let clocks = Clocks { now: Instant::now().into_std(), wall: wall() + later };
        let recalled = Recalled::of(record.load().unwrap_or_default(), clocks);
        let driver =
            Driver::new(Box::new(table.clone()), None, Default::default(), Duration::from_secs(30));
        let mut engine =
            Engine::new(Limits::for_sockets(100), 1).limited(self.limit).remembering(recalled);
        engine.set_policies(Arc::clone(&sets.borrow()), clocks.now);
        let (views_in, views) = watch::channel(Arc::new(engine.view()));
        let (end, ends) = oneshot::channel();
        let keeper = Keeper::new(record, queries.clone(), views_in.subscribe());
        let runner = Runner::new(engine, Arc::new(world.clone()));
        let tasks = vec![
            tokio::spawn(runner.run(sets, queries_out, views_in)),
            tokio::spawn(driver.run(views, refreshes, reports_in)),
        ];
        let keeper = tokio::spawn(keeper.run(ends));
        Remembering { _policies: policies, queries, reports, tasks, keeper, _end: end }
    }
}

impl Remembering {
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> T {
        let (sender, answer) = oneshot::channel();
        self.queries.send(query(sender)).await.unwrap();
        answer.await.unwrap()
    }

    async fn snapshot(&self) -> Snapshot {
        self.ask(Query::Snapshot).await
    }

    async fn release(&self) -> usize {
        self.ask(|answer| Query::Release { by: "alice".to_owned(), answer }).await
    }

    async fn kill(self) {
        for task in self.tasks.into_iter().chain([self.keeper]) {
            task.abort();
            let _ = task.await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what is written down is written in wall-clock time")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// Twelve real servers in two services, down after two failures.
fn farm(damping: &str) -> String {
    let servers: String = (1..=12).map(|n| format!("  - 10.0.0.{n}\n")).collect();
    format!(
        "virtual_services: [tcp://192.0.2.1:80, tcp://192.0.2.2:80]\nreal_servers:\n{servers}\
         checks:\n  - tcp: {{}}\n    interval: 2s\n    timeout: 1s\n    rise: 2\n    fall: 2\n{damping}"
    )
}

async fn all_in(table: &SharedTable) {
    until("all in", || table.weights().values().flatten().count() == 24).await;
}

fn everybody(world: &World, behaviour: Behaviour) {
    (1..=12).for_each(|n| world.set(&format!("10.0.0.{n}"), behaviour));
}

const FLAPPING: &str = "10.0.0.3";

#[tokio::test(start_paused = true)]
async fn who_flaps_is_held_down_for_longer_and_longer() {
    let (world, table) = (World::default(), SharedTable::default());
    let damping = "    damping: { changes: 3, window: 5m, hold: 30s, max_hold: 2m }\n";
    let place = Place::new(None);
    let director = place.start(&farm(damping), &world, &table, Duration::ZERO);
    all_in(&table).await;
    // Dead for ten seconds, healthy for twenty, all the time.
    let flaps = {
        let world = world.clone();
        tokio::spawn(async move {
            for behaviour in [Behaviour::Refuses, Behaviour::Healthy].into_iter().cycle() {
                world.set(FLAPPING, behaviour);
                let seconds = if behaviour == Behaviour::Refuses { 10 } else { 20 };
                sleep(Duration::from_secs(seconds)).await;
            }
        })
    };
    let (mut outages, mut since) = (Vec::new(), None);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1200) {
        match (table.everywhere(FLAPPING), since) {
            (false, None) => since = Some(Instant::now()),
            (true, Some(out)) => {
                outages.push(out.elapsed().as_secs());
                since = None;
            }
            _ => {}
        }
        sleep(Duration::from_millis(50)).await;
    }
    println!("out for {outages:?} seconds");
    // Without damping there would be forty of them.
    assert!(outages[0] < 20, "the first is no flapping: {outages:?}");
    assert!((30..60).contains(&outages[1]) && (60..90).contains(&outages[2]), "{outages:?}");
    assert!(outages[3..].iter().all(|out| (120..150).contains(out)), "{outages:?}");
    assert!(outages.len() <= 12, "{outages:?}");
    let slots = director.snapshot().await.slots;
    let held = slots.iter().filter(|slot| slot.flaps.as_ref().is_some_and(|it| it.trips > 0));
    assert_eq!(held.count(), 1);

    // Steady again, it comes back and is trusted after a while.
    flaps.abort();
    world.set(FLAPPING, Behaviour::Healthy);
    let back = until("back", || table.everywhere(FLAPPING)).await;
    assert!(back <= Duration::from_secs(125), "{back:?}");
    sleep(Duration::from_secs(600)).await;
    world.set(FLAPPING, Behaviour::Refuses);
    until("out", || !table.everywhere(FLAPPING)).await;
    world.set(FLAPPING, Behaviour::Healthy);
    let back = until("back", || table.everywhere(FLAPPING)).await;
    assert!(back < Duration::from_secs(10), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ill_director_holds_the_table() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Percent(50)));
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    let full = table.now();
    // One real failure long before stays one.
    world.set("10.0.0.12", Behaviour::Refuses);
    until("out", || !table.everywhere("10.0.0.12")).await;
    let before = table.now();
    sleep(Duration::from_secs(100)).await;
    for _ in 0..3 {
        everybody(&world, Behaviour::Hangs);
        until("the limit", || director.reports.borrow().plan.held.len() >= 22).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(table.now(), before, "those that were out for a moment are back in");
        assert!(director.snapshot().await.view.alarm.is_some());
        let writes = table.writes();
        (1..=11).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Healthy));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(table.writes(), writes, "recovery is no change");
        assert_eq!(director.snapshot().await.view.alarm, None);
    }
    // Who does not recover with the others goes when it has failed twice after that.
    everybody(&world, Behaviour::Hangs);
    sleep(Duration::from_secs(30)).await;
    (2..=12).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Healthy));
    until("all in", || table.everywhere("10.0.0.12") && !table.everywhere("10.0.0.1")).await;
    assert_eq!(table.weights().values().flatten().count(), 22);
    world.set("10.0.0.1", Behaviour::Healthy);
    until("all in", || table.now() == full).await;
}

/// A probe that was under way when the others came back says nothing, be one failure enough.
#[tokio::test(start_paused = true)]
async fn who_comes_back_last_is_judged_by_what_began_after_the_limit() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Percent(50)));
    let farm = farm("").replace("rise: 2\n    fall: 2", "rise: 1\n    fall: 1");
    let director = place.start(&farm, &world, &table, Duration::ZERO);
    all_in(&table).await;
    let full = table.now();
    for _ in 0..10 {
        everybody(&world, Behaviour::Hangs);
        until("the limit", || director.reports.borrow().plan.held.len() == 24).await;
        let writes = table.writes();
        (1..=11).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Healthy));
        while director.snapshot().await.view.alarm.is_some() {
            sleep(Duration::from_millis(1)).await;
        }
        world.set("10.0.0.12", Behaviour::Healthy);
        sleep(Duration::from_secs(30)).await;
        assert_eq!((table.writes(), table.now()), (writes, full.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_releases_goes_out() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Count(3)));
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    let full = table.now();
    assert_eq!(director.release().await, 0);
    (1..=6).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Refuses));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(table.now(), full);
    assert_eq!(director.release().await, 6);
    let out = until("out", || !(1..=6).any(|n| table.everywhere(&format!("10.0.0.{n}")))).await;
    assert!(out <= Duration::from_millis(20), "{out:?}");
    // Three more are a wave of three.
    (7..=9).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Refuses));
    until("out", || !(1..=9).any(|n| table.everywhere(&format!("10.0.0.{n}")))).await;
    assert_eq!(director.snapshot().await.view.alarm, None);
}

#[tokio::test(start_paused = true)]
async fn who_is_on_parole_is_released_too() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Percent(50)));
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    everybody(&world, Behaviour::Hangs);
    until("the limit", || director.reports.borrow().plan.held.len() == 24).await;
    (3..=12).for_each(|n| world.set(&format!("10.0.0.{n}"), Behaviour::Healthy));
    while director.snapshot().await.view.alarm.is_some() {
        sleep(Duration::from_millis(1)).await;
    }
    let held =
        director.snapshot().await.view.verdicts.iter().filter(|it| it.held.is_some()).count();
    assert!(held >= 2, "those that are dead, and who has not passed twice yet: {held}");
    assert_eq!(director.release().await, held);
    let out =
        until("out", || !["10.0.0.1", "10.0.0.2"].iter().any(|it| table.everywhere(it))).await;
    assert!(out <= Duration::from_millis(20), "{out:?}");
    assert_eq!(director.release().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_who_was_down_and_who_was_up() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(None);
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    world.set(FLAPPING, Behaviour::Refuses);
    until("out", || !table.everywhere(FLAPPING)).await;
    let (before, reached) = (table.now(), Instant::now());
    sleep(Duration::from_secs(90)).await;
    director.kill().await;

    // The machine was booted anew: the table is empty, and nobody answers for a while.
    let empty = SharedTable::default();
    everybody(&world, Behaviour::Trouble);
    let director = place.start(&farm(""), &world, &empty, Duration::ZERO);
    let filled = until("filled", || empty.now() == before).await;
    assert!(filled <= Duration::from_millis(20), "without waiting for a probe: {filled:?}");
    let verdict = &director.snapshot().await.view.verdicts[2];
    assert_eq!((verdict.health, verdict.reason.as_deref()), (Health::Down, Some("Refused")));
    let since = Instant::from_std(verdict.since.unwrap());
    let error = since.max(reached) - since.min(reached);
    // The clock on the wall stood still here since the record was written.
    assert!(error < Duration::from_secs(33), "down since {error:?} off");

    // It comes back by passing, as ever.
    everybody(&world, Behaviour::Healthy);
    let back = until("back", || empty.everywhere(FLAPPING)).await;
    assert!(back > Duration::from_secs(1), "one pass is not enough: {back:?}");
    director.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_unknown() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(None);
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    sleep(Duration::from_secs(60)).await;
    director.kill().await;
    everybody(&world, Behaviour::Trouble);
    for (later, known) in [(60, 12), (400, 0)] {
        let director = place.start(&farm(""), &world, &table, Duration::from_secs(later));
        let view = director.snapshot().await.view;
        let verdicts = view.verdicts.iter().filter(|it| it.health != Health::Unknown).count();
        assert_eq!(verdicts, known, "{later} seconds later");
        director.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_an_ill_director_keeps_holding() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Percent(50)));
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    all_in(&table).await;
    let full = table.now();
    everybody(&world, Behaviour::Hangs);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(table.now(), full);
    let writes = table.writes();
    let alarm = director.snapshot().await.view.alarm.unwrap();
    assert_eq!((alarm.held, alarm.targets), (12, 12));
    director.kill().await;
    let director = place.start(&farm(""), &world, &table, Duration::ZERO);
    sleep(Duration::from_secs(120)).await;
    assert!(director.snapshot().await.view.alarm.is_some());
    everybody(&world, Behaviour::Healthy);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(director.snapshot().await.view.alarm, None);
    assert_eq!((table.now(), table.writes()), (full, writes));
}
