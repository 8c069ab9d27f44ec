//! What is set anew counts at once, without a restart.

use pointsman::policy::model::Share;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_shorter_resync_finds_drift_sooner() {
    let (world, table) = (World::default(), SharedTable::default());
    let director = Director::start(SCRIPT, &world, &table);
    until("all in", || table.weights().values().flatten().count() == 16).await;
    let exact = table.now();
    let service = *exact.keys().next().unwrap();
    director.tunings.send_modify(|tuning| tuning.resync = Duration::from_secs(2));
    sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        table.meddle(Change::DeleteService(service));
        let took = until("repaired", || table.now() == exact).await;
        assert!(took <= Duration::from_millis(2010), "within the new resync: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_blast_limit_counts_from_then_on() {
    let (world, table) = (World::default(), SharedTable::default());
    let director = Director::start(SCRIPT, &world, &table);
    until("all in", || table.weights().values().flatten().count() == 16).await;
    let limit = |most| {
        director.tunings.send_modify(|tuning| tuning.blast_limit.most = most);
    };
    limit(Some(Share::Count(1)));
    for server in ["192.168.16.232", "192.168.16.233"] {
        world.set(server, Behaviour::Refuses);
    }
    sleep(Duration::from_secs(60)).await;
    let held = ["192.168.16.232", "192.168.16.233"].map(|server| table.everywhere(server));
    assert!(held.contains(&true), "the second one is held");
    limit(None);
    until("both are out", || {
        !table.everywhere("192.168.16.232") && !table.everywhere("192.168.16.233")
    })
    .await;
}
