//! What people and programs are shown of a virtual service that has left the policies.

use std::time::SystemTime;

use pointsman::control::status::{Facts, Policies, Status};
use pointsman::control::text;
use pointsman::web::metrics::format::Format;
use pointsman::web::metrics::{self, Source};
use tokio::sync::oneshot;

use super::*;

impl Director {
    /// Its status, and its metrics as text.
    async fn shown(&self) -> (Status, String) {
        let (answer, snapshot) = oneshot::channel();
        self.queries.send(Query::Snapshot(answer)).await.unwrap();
        let (snapshot, report) = (snapshot.await.unwrap(), self.report());
        let (policies, wall) = (Policies::default(), SystemTime::UNIX_EPOCH);
        let facts = Facts {
            started: wall,
            since: snapshot.now,
            dry_run: false,
            ipvs: "memory".to_owned(),
            settings: watch::channel(Default::default()).1,
            alerts: watch::channel(Default::default()).1,
            tuning: self.tunings.subscribe(),
        };
        let status = Status::build(&facts, &snapshot, &report, policies.clone(), wall);
        let source = Source {
            facts: &facts,
            snapshot: &snapshot,
            report: &report,
            policies: &policies,
            status: &status,
            wall,
        };
        let page = metrics::render(source, Format::Text);
        (status, page)
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leaves_is_shown_until_it_has_drained() {
    const LEAVES: &str = "tcp://221.5.88.88:443";
    let (world, table) = (World::default(), SharedTable::default());
    let director = Director::start(SCRIPT, &world, &table);
    until("all in", || table.weights().values().flatten().count() == 16).await;
    table.0.lock().unwrap().connections = 3;
    director.edit(&SCRIPT.replace(&format!("  - {LEAVES}\n"), ""));
    until("it drains", || table.weights()[LEAVES].values().all(|weight| *weight == 0)).await;
    until("that is seen", || {
        let report = director.report();
        let read = report.table.as_ref().unwrap();
        read[&LEAVES.parse().unwrap()].destinations.values().all(|it| it.config.weight == 0)
    })
    .await;

    let (status, metrics) = director.shown().await;
    assert!(!status.is_degraded(), "{:?}", status.degraded);
    let expected = "\n\n\
tcp://221.5.88.88:443  wlc  in no policy any more
  DESTINATION         HEALTH  SINCE  WEIGHT  KERNEL  ACTIVE  INACTIVE  WHY
  192.168.16.232:443  -       -      0       0       3       0         no policy declares it; drains 1m at most, 3 connections left
  192.168.16.233:443  -       -      0       0       3       0         no policy declares it; drains 1m at most, 3 connections left
  192.168.16.234:443  -       -      0       0       3       0         no policy declares it; drains 1m at most, 3 connections left
  192.168.16.235:443  -       -      0       0       3       0         no policy declares it; drains 1m at most, 3 connections left
";
    let told = text::render(&status, false);
    assert!(told.ends_with(expected), "{told}");
    let json = serde_json::to_value(&status.services[3]).unwrap();
    assert_eq!(json["policy"], serde_json::Value::Null);
    assert_eq!(json["destinations"][0]["drain_left"], 60.0, "{json:#}");
    let labels = format!("service=\"{LEAVES}\",policy=\"\"");
    let of_one = format!("{labels},destination=\"192.168.16.235:443\",real_server=\"\"");
    for line in [
        format!("pointsman_service_in_table{{{labels}}} 1"),
        format!("pointsman_destination_weight_wanted{{{of_one}}} 0"),
        format!("pointsman_destination_weight{{{of_one}}} 0"),
        format!("pointsman_destination_connections{{{of_one},state=\"active\"}} 3"),
    ] {
        assert!(metrics.lines().any(|it| it == line), "no `{line}` in\n{metrics}");
    }

    table.0.lock().unwrap().connections = 0;
    until("it has gone", || !table.weights().contains_key(LEAVES)).await;
    until("that is seen", || {
        director.report().desired.services.values().all(|it| it.policy.is_some())
    })
    .await;
    let (status, metrics) = director.shown().await;
    assert!(!text::render(&status, false).contains(LEAVES));
    assert!(!metrics.contains(LEAVES), "{metrics}");
}

/// What serves until another one is ready says what it waits for.
#[tokio::test(start_paused = true)]
async fn a_service_that_waits_for_another_one_says_so() {
    const ONE: &str = "
virtual_services: [tcp://192.0.2.9:80]
scheduler: wlc
forwarding: direct
real_servers: [10.0.0.1]
checks: [{ tcp: { port: 80 } }]
";
    let (world, table) = (World::default(), SharedTable::default());
    let director = Director::start(ONE, &world, &table);
    until("it is in", || table.everywhere("10.0.0.1")).await;
    world.set("10.0.0.1", Behaviour::Trouble);
    let every_port = ONE.replace("9:80]", "9:0]\npersistence: 60s");
    director.edit(&every_port.replace("port: 80", "port: 81"));
    until("the other one is there", || table.weights().len() == 2).await;
    sleep(Duration::from_secs(60)).await;
    let (status, _) = director.shown().await;
    let expected = "\n\n\
tcp://192.0.2.9:80  wlc  in no policy any more
  DESTINATION  HEALTH  SINCE  WEIGHT  KERNEL  ACTIVE  INACTIVE  WHY
  10.0.0.1:80  -       -      1       1       0       0         no policy declares it; goes when a new one has its verdict
";
    let told = text::render(&status, false);
    assert!(told.ends_with(expected), "{told}");
    world.set("10.0.0.1", Behaviour::Healthy);
    until("it has gone", || table.weights().len() == 1).await;
}
