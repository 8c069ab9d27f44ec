//! Hot reload: every way an edit reaches the disk, and every edit that is refused.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, policy, replace};
use crate::tls_backend::{TlsBackend, tls_policy_with};

const OTHER_VIP: &str = "tcp://192.0.2.11:80";

/// Two real servers that are up, and a watch on what must not change.
struct Scene<'s> {
    daemon: Daemon<'s>,
    reloads: u64,
    transitions: usize,
    age: f64,
}

impl<'s> Scene<'s> {
    fn start(scratch: &'s Scratch) -> Self {
        let daemon = Daemon::start(scratch);
        let status = daemon.wait_up(2);
        daemon.wait_log("policies loaded");
        let transitions = daemon.wait_logged("transition", 2).len();
        Self { daemon, reloads: 0, transitions, age: age(&status) }
    }

    /// Waits until the table has this weight, and checks that nothing but that has happened.
    #[track_caller]
    fn has_weight(&mut self, weight: u32) {
        self.reloads += 1;
        self.daemon.wait_reloads(self.reloads);
        self.daemon.wait(&format!("weight {weight} in the table"), |status| {
            let mut destinations = destinations(status, VIP);
            !destinations.is_empty() && destinations.all(|it| it["weight_kernel"] == weight)
        });
        self.kept_its_health();
    }

    /// No verdict was reached anew since the last look.
    #[track_caller]
    fn kept_its_health(&mut self) {
        let status = self.daemon.wait("health", |status| {
            status["real_servers"].as_array().unwrap().iter().all(|it| it["health"] == "up")
        });
        assert!(age(&status) > self.age, "`since` is another: {status:#}");
        self.age = age(&status);
        let transitions = self.daemon.logged("transition");
        assert_eq!(transitions.len(), self.transitions, "{transitions:#?}");
    }

    /// Waits for a refusal, and checks that the last good policies are in force.
    #[track_caller]
    fn refused(&mut self, problem: &str) {
        let status = self.daemon.wait_refused(problem);
        assert_eq!(status["policies"]["reloads"], self.reloads, "{status:#}");
        assert_eq!(status["degraded"][0], "newer policies refused", "{status:#}");
        self.daemon.wait_log("reload refused: the last good policies stay in force");
        self.daemon.wait_log(problem);
        self.kept_its_health();
    }
}

/// The age of the oldest verdict, in seconds.
fn age(status: &Value) -> f64 {
    let servers = status["real_servers"].as_array().unwrap();
    let checks = servers.iter().flat_map(|it| it["checks"].as_array().unwrap());
    checks.map(|it| it["since_seconds"].as_f64().unwrap()).fold(0.0, f64::max)
}

fn destinations<'v>(
    status: &'v Value,
    service: &'v str,
) -> std::iter::Peekable<impl Iterator<Item = &'v Value>> {
    let services = status["services"].as_array().unwrap().iter();
    let of_service = services.filter(move |it| it["service"] == service);
    of_service.flat_map(|it| it["destinations"].as_array().unwrap()).peekable()
}

trait IsEmpty {
    fn is_empty(&mut self) -> bool;
}

impl<I: Iterator> IsEmpty for std::iter::Peekable<I> {
    fn is_empty(&mut self) -> bool {
        self.peek().is_none()
    }
}

fn two() -> [Backend; 2] {
    [Backend::start(), Backend::start()]
}

#[test]
fn every_way_to_save_a_file() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let www = scratch.policies().join("www.yaml");
    let text = |weight| policy(VIP, &backends, weight);

    // In place.
    scratch.write("www.yaml", &text(70));
    scene.has_weight(70);
    // By rename.
    replace(&www, &text(60));
    scene.has_weight(60);
    // As vim does: the old file becomes the backup, a new one takes its name.
    let backup = scratch.policies().join("www.yaml~");
    fs::rename(&www, &backup).unwrap();
    fs::write(&www, text(50)).unwrap();
    fs::remove_file(backup).unwrap();
    scene.has_weight(50);
    // Deleted and made anew.
    fs::remove_file(&www).unwrap();
    fs::write(&www, text(40)).unwrap();
    scene.has_weight(40);
}

#[test]
fn a_config_map_is_swapped() {
    let backends = two();
    let scratch = Scratch::new();
    let version = |name: &str, weight| {
        let dir = scratch.policies().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("www.yaml"), policy(VIP, &backends, weight)).unwrap();
        symlink(name, scratch.policies().join("..data_tmp")).unwrap();
        fs::rename(scratch.policies().join("..data_tmp"), scratch.policies().join("..data"))
            .unwrap();
    };
    version("..2026_01", 80);
    symlink("..data/www.yaml", scratch.policies().join("www.yaml")).unwrap();
    let mut scene = Scene::start(&scratch);
    for (old, new, weight) in [("..2026_01", "..2026_02", 70), ("..2026_02", "..2026_03", 60)] {
        version(new, weight);
        fs::remove_dir_all(scratch.policies().join(old)).unwrap();
        scene.has_weight(weight);
    }
}

#[test]
fn drop_ins_come_and_go() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    scratch.write("more.yml", &policy(OTHER_VIP, &backends, 30));
    scene.has_weight(80);
    // The same question to the same servers: their verdicts hold for the new service at once.
    let status = scene.daemon.wait("destinations of the new service", |status| {
        let mut destinations = destinations(status, OTHER_VIP);
        !destinations.is_empty() && destinations.all(|it| it["weight_kernel"] == 30)
    });
    assert_eq!(status["probes"]["targets"], 2);
    scratch.remove("more.yml");
    scene.has_weight(80);
    let status = scene.daemon.wait("one service", |status| status["policies"]["count"] == 1);
    assert_eq!(status["services"].as_array().unwrap().len(), 1);
    scene.daemon.wait_log(&format!("- {OTHER_VIP}: "));
    // What is no policy is none of our business.
    for name in ["notes.txt", ".www.yaml.swp", ".hidden.yaml", "www.yaml.bak"] {
        scratch.write(name, "- [ not a policy");
    }
    scene.daemon.signal(Signal::HUP);
    scene.daemon.wait_log("policies are valid and as before");
    assert_eq!(scene.daemon.logged("refused").len(), 0);
}

#[test]
fn servers_come_and_go_and_the_others_keep_their_verdict() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let third = Backend::start();
    let all = [&backends[0], &backends[1], &third].map(|it| it.address.to_string());
    scratch.write("www.yaml", &crate::scratch::policy_of(VIP, &all, 80));
    scene.daemon.wait_up(3);
    for backend in [&backends[0], &backends[1], &third] {
        scene.daemon.wait_logged(&format!("real_server={}", backend.address), 1);
    }
    scratch.write("www.yaml", &policy(VIP, &backends, 80));
    scene.reloads = 1;
    scene.transitions += 1;
    scene.has_weight(80);
    scene.daemon.wait_log(&format!("~ {VIP} {}: weight 80 → 0", third.address));
    scene.daemon.wait_log(&format!("- {VIP} {}: weight 0 masq", third.address));
}

#[test]
fn another_interval_costs_no_verdict() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let text = policy(VIP, &backends, 70).replace("interval: 1s", "interval: 2s");
    scratch.write("www.yaml", &text);
    scene.has_weight(70);
}

#[test]
fn hangup_reloads_and_says_so() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    scene.daemon.signal(Signal::HUP);
    scene.daemon.wait_log("policies are valid and as before");
    scene.kept_its_health();
    scratch.write("www.yaml", &policy(VIP, &backends, 20));
    scene.daemon.signal(Signal::HUP);
    scene.has_weight(20);
    // A storm of them is as good as one.
    for _ in 0..100 {
        scene.daemon.signal(Signal::HUP);
    }
    scene.kept_its_health();
}

#[test]
fn a_bad_edit_is_refused_with_its_place_and_can_be_mended() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let good = policy(VIP, &backends, 80);
    scratch.write("www.yaml", &good.replace("weight: 80", "wieght: 80"));
    scene.refused("www.yaml:5:1: unknown key `wieght`");
    let text = scratch.status(&[]).exit(3).stdout;
    assert!(text.contains("state      DEGRADED: newer policies refused\n"), "{text}");
    assert!(text.contains("REFUSED at "), "{text}");
    assert!(text.contains("www.yaml:5:1: unknown key `wieght`"), "{text}");
    assert!(text.contains("did you mean `weight`?"), "{text}");

    // The last good policies are not only remembered, they are at work.
    backends[0].answer(500);
    scene.daemon.wait_up(1);
    backends[0].answer(200);
    scene.daemon.wait_up(2);
    scene.transitions += 2;

    // Another mistake is another refusal; the one before is no longer shown.
    scratch.write("www.yaml", &good.replace("wlc", "wcl"));
    scene.refused("www.yaml:3:12");
    assert!(!scratch.status(&[]).stdout.contains("wieght"));

    scratch.write("www.yaml", &good);
    scene.daemon.wait_reloads(0);
    scene.daemon.wait_log("policies are valid and as before");
    scene.kept_its_health();
    scratch.status(&[]).exit(0);
    scratch.write("www.yaml", &policy(VIP, &backends, 10));
    scene.has_weight(10);
}

#[test]
fn a_good_file_beside_a_bad_one_waits_for_it() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    scratch.write("bad.yaml", "virtual_services: 3\n");
    scene.refused("bad.yaml:1:19");
    scratch.write("www.yaml", &policy(VIP, &backends, 5));
    scratch.write("bad.yaml", "virtual_services: 33\n");
    scene.refused("bad.yaml:1:19");
    scratch.remove("bad.yaml");
    scene.has_weight(5);
    // Claimed twice.
    scratch.write("rival.yaml", &policy(VIP, &backends, 6));
    scene.refused("belongs to policy");
    scratch.remove("rival.yaml");
    scene.daemon.wait_reloads(1);
}

#[test]
fn nothing_is_never_taken_for_an_empty_policy() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let good = policy(VIP, &backends, 80);
    scratch.write("www.yaml", "");
    scene.refused("www.yaml");
    scratch.write("www.yaml", &good);
    scene.daemon.wait_reloads(0);
    scratch.write("www.yaml", "# all of it commented out\n");
    scene.refused("www.yaml");
    scratch.remove("www.yaml");
    scene.refused("no policy in this directory");
    let away = scratch.path("away");
    fs::rename(scratch.policies(), &away).unwrap();
    scene.refused("no such file or directory");
    scene.kept_its_health();
    fs::rename(&away, scratch.policies()).unwrap();
    scene.refused("no policy in this directory");
    scratch.write("www.yaml", &good);
    scene.daemon.wait_reloads(0);
    // The watch has survived all that.
    scratch.write("www.yaml", &policy(VIP, &backends, 70));
    scene.has_weight(70);
}

#[test]
fn a_directory_moved_away_and_back() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let mut scene = Scene::start(&scratch);
    let away = scratch.path("away");
    fs::rename(scratch.policies(), &away).unwrap();
    scene.refused("no such file or directory");
    fs::rename(&away, scratch.policies()).unwrap();
    scene.daemon.wait_reloads(0);
    scene.kept_its_health();
    // Another directory in its place.
    fs::rename(scratch.policies(), &away).unwrap();
    fs::create_dir(scratch.policies()).unwrap();
    scratch.write("www.yaml", &policy(VIP, &backends, 33));
    scene.has_weight(33);
    scratch.write("www.yaml", &policy(VIP, &backends, 34));
    scene.has_weight(34);
}

#[test]
fn one_file_instead_of_a_directory() {
    let backends = two();
    let scratch = Scratch::with(&backends);
    let www = scratch.policies().join("www.yaml");
    let file = scratch.path("only.yaml");
    fs::rename(&www, &file).unwrap();
    let mut command = crate::scratch::pointsman(&["run", "--ipvs", "memory", "--policies"]);
    command.arg(&file).arg("--state-dir").arg(scratch.state());
    command.arg("--socket").arg(scratch.socket());
    let daemon = Daemon::of(&scratch, command);
    daemon.wait_up(2);
    replace(&file, &policy(VIP, &backends, 12));
    daemon.wait_reloads(1);
    fs::remove_file(&file).unwrap();
    daemon.wait_refused("no such file or directory");
    fs::write(&file, policy(VIP, &backends, 13)).unwrap();
    daemon.wait_reloads(2);
}

#[test]
fn a_renewed_authority_counts_unasked() {
    let backends = [TlsBackend::lasting(90)];
    let scratch = Scratch::new();
    let file = scratch.path("ca.pem");
    fs::write(&file, backends[0].renew(90)).unwrap();
    scratch.write("www.yaml", &tls_policy_with("ca_file: ../ca.pem", &backends));
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);

    // The file is replaced by rename.
    let renewed = backends[0].renew(90);
    daemon.wait_log("to=down");
    replace(&file, &renewed);
    daemon.wait_up(1);

    // As it is in a ConfigMap.
    fs::rename(&file, scratch.path("data_1")).unwrap();
    symlink("data_1", &file).unwrap();
    let renewed = backends[0].renew(90);
    fs::write(scratch.path("data_2"), renewed).unwrap();
    symlink("data_2", scratch.path("data_tmp")).unwrap();
    fs::rename(scratch.path("data_tmp"), &file).unwrap();
    let reloads = daemon.wait_reloads(2)["policies"]["reloads"].clone();
    let check = |status: &Value| status["real_servers"][0]["checks"][0].clone();
    let since = check(&daemon.wait_up(1))["since"].clone();

    // One that cannot be used changes nothing but what is said.
    let good = fs::read(&file).unwrap();
    fs::write(&file, "not a certificate").unwrap();
    daemon.wait_refused("ca.pem` has no certificate in it");
    fs::remove_file(&file).unwrap();
    let status = daemon.wait_refused("ca.pem` cannot be read");
    assert_eq!(status["policies"]["reloads"], reloads, "{status:#}");
    daemon.wait_log("`ca_file` is a PEM file");
    fs::write(&file, good).unwrap();
    let status = daemon.wait("no refusal", |status| status["policies"]["refused"].is_null());
    assert_eq!(check(&status)["since"], since, "{status:#}");
}
