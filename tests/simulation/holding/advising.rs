//! What real servers ask for, over restarts and while the director is ill.

use super::*;

/// Asks for each what `SAID` has.
fn advised_farm() -> String {
    let agent = "  - agent: { port: 9000 }\n    interval: 1s\n    timeout: 500ms\n";
    farm("").replace("real_servers:", "weight: 80\nreal_servers:") + agent
}

const SAID: [(&str, &str); 3] = [("10.0.0.1", "maint"), ("10.0.0.2", "drain"), ("10.0.0.3", "25%")];

/// Agents speak of the first three; the rest have none.
fn speak(world: &World) {
    let said = SAID.map(|(address, line)| (address.parse().unwrap(), line));
    *world.agents.lock().unwrap() = said.into();
}

fn fall_silent(world: &World) {
    world.agents.lock().unwrap().clear();
}

/// The weights of the first three in the first service; all others have theirs.
fn weights(table: &SharedTable) -> [Option<u32>; 3] {
    let weights = &table.weights()["tcp://192.0.2.1:80"];
    SAID.map(|(address, _)| weights.get(&format!("{address}:80")).copied())
}

const ADVISED: [Option<u32>; 3] = [None, Some(0), Some(20)];
const DECLARED: [Option<u32>; 3] = [Some(80); 3];

async fn all_but_one(table: &SharedTable) {
    until("all but one in", || table.weights().values().flatten().count() == 22).await;
}

/// All are in, and as they want it.
async fn start(place: &Place, world: &World, table: &SharedTable) -> Remembering {
    speak(world);
    let director = place.start(&advised_farm(), world, table, Duration::ZERO);
    all_but_one(table).await;
    until("as advised", || weights(table) == ADVISED).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(weights(table), ADVISED);
    director
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_while_advice_counts() {
    let (world, table, place) = (World::default(), SharedTable::default(), Place::new(None));
    start(&place, &world, &table).await.kill().await;
    fall_silent(&world);
    let writes = table.writes();
    let director = place.start(&advised_farm(), &world, &table, Duration::ZERO);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(table.writes(), writes);
    until("declared weights", || weights(&table) == DECLARED).await;
    director.kill().await;
}

/// The director was away for so long that everything on record has expired, or there is none.
#[tokio::test(start_paused = true)]
async fn a_start_writes_no_weight_before_everybody_had_a_turn() {
    for later in [200, 900_000] {
        let (world, table, place) = (World::default(), SharedTable::default(), Place::new(None));
        start(&place, &world, &table).await.kill().await;
        let writes = table.writes();
        let later = Duration::from_secs(later);
        let director = place.start(&advised_farm(), &world, &table, later);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(table.writes(), writes);
        director.kill().await;
        // Nobody waits for ever.
        fall_silent(&world);
        let director = place.start(&advised_farm(), &world, &table, later + later);
        let waited = until("declared weights", || weights(&table) == DECLARED).await;
        assert!(waited <= Duration::from_secs(4), "{waited:?}");
        director.kill().await;
    }
}

/// For so long nobody has more than it wants.
async fn nobody_has_more(table: &SharedTable, seconds: u32) {
    for tenth in 0..seconds * 10 {
        let weights = weights(table);
        let more = weights.iter().zip(ADVISED).any(|(weight, advised)| *weight > advised);
        assert!(!more, "{weights:?} after {tenth} tenths");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_advised_counts_while_the_director_is_ill() {
    let (world, table) = (World::default(), SharedTable::default());
    let place = Place::new(Some(Share::Percent(50)));
    let director = start(&place, &world, &table).await;
    let before = table.now();
    for ill in [Behaviour::Hangs, Behaviour::Trouble] {
        everybody(&world, ill);
        nobody_has_more(&table, 600).await;
        assert_eq!(table.now(), before, "{ill:?}");
        assert_eq!(director.snapshot().await.view.alarm.is_some(), ill == Behaviour::Hangs);
        // The cable is back, the agents are not yet: what they said counts for its time anew.
        fall_silent(&world);
        everybody(&world, Behaviour::Healthy);
        nobody_has_more(&table, 3).await;
        speak(&world);
        nobody_has_more(&table, 60).await;
        assert_eq!(table.now(), before, "{ill:?}");
    }
    fall_silent(&world);
    let expired = until("declared weights", || weights(&table) == DECLARED).await;
    assert!(expired <= Duration::from_secs(5), "{expired:?}");
    director.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_maintenance_is_a_slow_start() {
    let (world, table, place) = (World::default(), SharedTable::default(), Place::new(None));
    let yaml = advised_farm() + "slow_start: 40s\n";
    speak(&world);
    let director = place.start(&yaml, &world, &table, Duration::ZERO);
    all_but_one(&table).await;
    until("as advised", || weights(&table) == ADVISED).await;
    sleep(Duration::from_secs(60)).await;
    for (address, _) in SAID {
        world.agents.lock().unwrap().insert(address.parse().unwrap(), "ready 100%");
    }
    until("all in", || table.everywhere("10.0.0.1")).await;
    assert_eq!(weights(&table)[0], Some(4));
    sleep(Duration::from_secs(20)).await;
    let half = weights(&table);
    assert!(half[..2].iter().all(|weight| (36..=48).contains(&weight.unwrap())), "{half:?}");
    assert_eq!(half[2], Some(80), "it was never out");
    let rest = until("declared weights", || weights(&table) == DECLARED).await;
    assert!((15..=25).contains(&rest.as_secs()), "{rest:?}");
    director.kill().await;
}
