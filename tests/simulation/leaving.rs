//! Virtual services that leave the policies.

use pointsman::reconcile::standing::STANDING;
use pointsman::reconcile::view::HealthView;

use super::*;

const STAYS: &str =
    "virtual_services: [tcp://192.0.2.1:80]\nreal_servers: [10.0.0.1, 10.0.0.2]\nchecks: []\n";

fn with_two_more() -> String {
    let more = STAYS.replace("192.0.2.1:80]", "192.0.2.2:80, tcp://192.0.2.3:80]");
    format!("{STAYS}---\n{more}")
}

/// A driver with what it has on record and a guard; aborting it is `kill -9`.
fn drive(
    state: &tempfile::TempDir,
    table: &SharedTable,
    views: &watch::Sender<Arc<HealthView>>,
) -> (JoinHandle<()>, watch::Receiver<Arc<Report>>) {
    let mut store = Record::new(state.path(), OWNED, &Scope::Kernel);
    let mut standing = Record::new(state.path(), STANDING, &Scope::Kernel);
    let (owned, recorded) = (store.load().unwrap(), standing.load().unwrap_or_default());
    let (_, confirms) = mpsc::channel(1);
    let (_, refreshes) = mpsc::channel(1);
    let (reports_in, reports) = watch::channel(Arc::new(Report::default()));
    let resync = Duration::from_secs(30);
    let driver = Driver::new(Box::new(table.clone()), Some(store), owned, resync)
        .remembering(recorded, Some(standing))
        .guarded(Guard::Percent(50), confirms);
    (tokio::spawn(driver.run(views.subscribe(), refreshes, reports_in)), reports)
}

/// What its policy said counts, although the policy is gone by then, and nobody ran when it went.
#[tokio::test(start_paused = true)]
async fn a_service_drains_as_its_policy_said() {
    let (state, table) = (tempfile::tempdir().unwrap(), SharedTable::default());
    let view = |yaml: &str| Arc::new(HealthView::uniform(Arc::new(parse(yaml)), Health::Up));
    let patient = STAYS.replace("192.0.2.1", "192.0.2.2") + "drain: { deadline: 5m }\n";
    let (views, _) = watch::channel(view(&format!("{STAYS}---\n{patient}")));
    let (driver, _) = drive(&state, &table, &views);
    until("all in", || table.weights().len() == 2).await;
    table.0.lock().unwrap().connections = 1;
    driver.abort();
    let _ = driver.await;

    views.send_replace(view(STAYS));
    let _driver = drive(&state, &table, &views);
    let left = until("it has left", || table.weights().len() == 1).await;
    assert!((Duration::from_secs(299)..Duration::from_secs(302)).contains(&left), "{left:?}");
}

/// What was confirmed once is not asked again by a start on the way, and nothing of it stays behind.
#[tokio::test(start_paused = true)]
async fn a_start_goes_on_with_services_that_drain() {
    let (state, table) = (tempfile::tempdir().unwrap(), SharedTable::default());
    let view = |yaml: &str| Arc::new(HealthView::uniform(Arc::new(parse(yaml)), Health::Up));
    let (views, _) = watch::channel(view(&with_two_more()));
    let (driver, _) = drive(&state, &table, &views);
    until("all in", || table.weights().len() == 3).await;
    table.0.lock().unwrap().connections = 1;
    views.send_replace(view(STAYS));
    let drains = |table: &SharedTable| {
        table.weights().values().filter(|it| it.values().all(|weight| *weight == 0)).count()
    };
    until("two drain", || drains(&table) == 2).await;
    driver.abort();
    let _ = driver.await;

    let (_driver, reports) = drive(&state, &table, &views);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(drains(&table), 2);
    assert_eq!(reports.borrow().guarded, None);
    let left = until("they have left", || table.weights().len() == 1).await;
    assert!(left <= Duration::from_secs(60), "{left:?}");
}
