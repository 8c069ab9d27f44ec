//! Every metric has the value that it is documented to have: daemons are brought into known states,
//! and every sample of a family is compared, with none more and none less.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use crate::backend::Backend;
use crate::http::start;
use crate::metrics::repository;
use crate::samples::{Is, Table};
use crate::scratch::{DEADLINE, Scratch};
use crate::tls_backend::TlsBackend;

/// Families that are 0 here, or absent, whatever happens: where another value is asserted, and why
/// not here.
const ELSEWHERE: [(&str, &str); 12] = [
    ("pointsman_table_repairs_total", HANDS),
    ("pointsman_table_foreign_services", HANDS),
    ("pointsman_table_refusals_total", REFUSALS),
    ("pointsman_table_pending_changes", REFUSALS),
    ("pointsman_table_failed_reads_total", "tests/simulation: a table in memory can be read"),
    ("pointsman_service_new_connections_total", TRAFFIC),
    ("pointsman_service_packets_total", TRAFFIC),
    ("pointsman_service_bytes_total", TRAFFIC),
    ("pointsman_destination_connections", TRAFFIC),
    ("pointsman_destination_new_connections_total", TRAFFIC),
    ("pointsman_destination_packets_total", TRAFFIC),
    ("pointsman_destination_bytes_total", TRAFFIC),
];
const HANDS: &str = "tests/traffic/hands.rs: nobody else gets at a table in memory";
const REFUSALS: &str = "tests/traffic/refusals.rs: a table in memory takes what policies can say";
const TRAFFIC: &str = "tests/traffic/failures.rs: a table in memory has no traffic";

#[test]
fn every_metric_has_its_value() {
    let tables = [farm(), held(), flapping(), unrecorded()];
    let (mut asserted, mut more_than_0) = (BTreeSet::new(), BTreeSet::new());
    for (family, samples) in tables.iter().flat_map(|table| &table.0) {
        asserted.insert((*family).to_owned());
        if samples.values().any(|is| *is != Is::Exactly(0.0)) {
            more_than_0.insert((*family).to_owned());
        }
    }
    let documented = repository("docs/METRICS.md");
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `pointsman_"));
    let rows: BTreeSet<String> =
        rows.map(|row| format!("pointsman_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(asserted, rows, "docs/METRICS.md and what is asserted here differ");
    let always_0: BTreeSet<String> = asserted.difference(&more_than_0).cloned().collect();
    let elsewhere: BTreeSet<String> = ELSEWHERE.map(|(family, _)| family.to_owned()).into();
    assert_eq!(always_0, elsewhere, "always 0 here, and not in the list of those");
}

/// A policy that probes once a day, so that counters stand still.
fn policy(name: &str, vip: &str, settings: &str, servers: &[String], check: &str) -> String {
    let servers: String = servers.iter().map(|it| format!("  - {it}\n")).collect();
    format!(
        "name: {name}\nvirtual_services: ['{vip}']\nforwarding: masq\nweight: 80\n{settings}\
         real_servers:\n{servers}checks:\n  - {check}\n    interval: 1day\n    timeout: 1h\n    \
         rise: 1\n    fall: 1\n"
    )
}

const HTTP: &str = "http: { path: /alive }";

/// The wall clock, in seconds since 1970.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// A real server of the farm as metrics know it, and what is known of it.
struct Server {
    policy: &'static str,
    name: String,
    check: &'static str,
    /// `None`: it has not answered yet.
    up: Option<bool>,
}

/// One daemon with most of what can be: up and down, with a name, by every order of operators, kept
/// by a floor and withdrawn by one, a sorry server that answers and one that is down, a certificate,
/// a probe that hangs, and a reload that is refused.
fn farm() -> Table {
    let began = now();
    let backends: Vec<Backend> = (0..10).map(|_| Backend::start()).collect();
    for down in [1, 5, 6, 7, 8] {
        backends[down].answer(500);
    }
    backends[9].hang();
    let tls = TlsBackend::lasting(10);
    let at = |number: usize| backends[number].address.to_string();
    let named =
        format!("{{ name: web-1, address: 127.0.0.1, port: {} }}", backends[0].address.port());
    let withdrawn = "health_floor: { min_up: 1, at_floor: withdraw }\nsorry_server: 192.0.2.9\n";
    // Port 1 of loopback is nobody's.
    let sorry_down = "sorry_server: { address: 127.0.0.1, port: 1, checks: [{ tcp: { port: 1 }, \
                      interval: 1day, timeout: 1h, rise: 1, fall: 1 }] }\n";
    let documents = [
        policy(
            "www",
            "tcp://192.0.2.1:80",
            "health_floor: { min_up: 2 }\n",
            &[named, at(1), at(2), at(3), at(4)],
            HTTP,
        ),
        policy(
            "kept",
            "tcp://192.0.2.2:80",
            &format!("health_floor: {{ min_up: 2 }}\n{sorry_down}"),
            &[at(5), at(6)],
            HTTP,
        ),
        policy("lost", "tcp://192.0.2.3:80", withdrawn, &[at(7), at(8)], HTTP),
        policy("slow", "tcp://192.0.2.4:80", "", &[at(9)], HTTP),
        policy(
            "tls",
            "tcp://192.0.2.5:443",
            "",
            &[tls.address.to_string()],
            "tls: { server_name: www.example.org, verify: false }",
        ),
    ];
    let scratch = Scratch::new();
    // The one that is down comes when the others are up: before, the floor would keep it for a moment.
    let all = documents.join("---\n");
    let first = all.replace(&format!("  - {}\n", at(1)), "");
    assert_ne!(first, all);
    scratch.write("all.yaml", &first);
    let (daemon, address) = start(&scratch, &[]);
    let settled = |servers: usize| {
        daemon.wait("verdicts and a table", |status| {
            let all = status["real_servers"].as_array().unwrap();
            let unknown = all.iter().filter(|it| it["health"] == "unknown").count();
            (all.len(), unknown) == (servers, 1) && status["table"]["changes"] == 13
        })
    };
    settled(10);
    scratch.write("all.yaml", &all);
    settled(11);
    for (order, says) in [
        (&["drain", "www", &at(2)][..], "weight 0 masq; drained by"),
        (&["weight", "www", &at(3), "7"], "weight 80 → 7; weight 7 by"),
        (&["disable", "www", &at(4)], "masq; disabled by"),
    ] {
        scratch.order(order).exit(0);
        // A status would have the table read anew, and what drains be seen to have drained sooner.
        daemon.wait_log(says);
    }
    scratch.write("bad.yaml", "nonsense");
    let status = daemon.wait_refused("a policy is a mapping");
    let hash = status["policies"]["hash"].as_str().unwrap();

    let server = |policy, number: usize, up| Server { policy, name: at(number), check: "http", up };
    let servers = [
        Server { name: "web-1".into(), ..server("www", 0, Some(true)) },
        server("www", 1, Some(false)),
        server("www", 2, Some(true)),
        server("www", 3, Some(true)),
        server("www", 4, Some(true)),
        server("kept", 5, Some(false)),
        server("kept", 6, Some(false)),
        server("lost", 7, Some(false)),
        server("lost", 8, Some(false)),
        server("slow", 9, None),
        Server { policy: "tls", name: tls.address.to_string(), check: "tls", up: Some(true) },
    ];
    let mut table = Table::default();
    let since = Is::Between(began.floor() - 0.001, now() + 0.001);
    of_daemon(&mut table, since, hash);
    of_table(&mut table, since);
    of_health(&mut table, since, &servers);
    let ends = Is::Between(began + 10.0 * DAY - 1.0, now() + 10.0 * DAY + 1.0);
    let certificate = format!(
        "policy=\"tls\",real_server=\"{}\",address=\"127.0.0.1\",check=\"tls\"",
        tls.address
    );
    table.add("pointsman_certificate_expiry_timestamp_seconds", &certificate, ends);
    of_services(&mut table);
    of_destinations(
        &mut table,
        &[
            ("tcp://192.0.2.1:80", "www", at(0), "web-1".into(), 80),
            ("tcp://192.0.2.1:80", "www", at(3), at(3), 7),
            ("tcp://192.0.2.2:80", "kept", at(5), at(5), 80),
            ("tcp://192.0.2.2:80", "kept", at(6), at(6), 80),
            ("tcp://192.0.2.3:80", "lost", "192.0.2.9:80".into(), "192.0.2.9".into(), 80),
            ("tcp://192.0.2.5:443", "tls", tls.address.to_string(), tls.address.to_string(), 80),
        ],
    );
    // The clock goes on while the page is waited for.
    table.holds("the farm", address);
    table
}

const DAY: f64 = 86_400.0;

fn of_daemon(table: &mut Table, since: Is, hash: &str) {
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("version=\"{version}\",ipvs=\"memory\",dry_run=\"false\"");
    table.number("pointsman_build_info", &build, 1);
    table.add("pointsman_start_timestamp_seconds", "", since);
    // Some are down, a reload is refused, one policy is withdrawn, two destinations are kept, one
    // service takes no connections, and of another the sorry server answers.
    table.one("pointsman_troubles", 6);
    table.number("pointsman_policy_set_info", &format!("hash=\"{hash}\""), 1);
    table.one("pointsman_policies", 5);
    for (outcome, count) in [("accepted", 1), ("refused", 1), ("held", 0)] {
        table.number("pointsman_reloads_total", &format!("outcome=\"{outcome}\""), count);
    }
    table.add("pointsman_reload_success_timestamp_seconds", "", since);
    table.one("pointsman_reload_refused", 1);
    table.one("pointsman_reload_held", 0);
    for action in ["disable", "drain", "weight"] {
        table.number("pointsman_overrides", &format!("action=\"{action}\""), 1);
    }
}

fn of_table(table: &mut Table, since: Is) {
    // Five services and eight destinations; then to 0 and out, another weight, and out.
    table.one("pointsman_table_changes_total", 13 + 2 + 1 + 1);
    for none in [
        "pointsman_table_repairs_total",
        "pointsman_table_refusals_total",
        "pointsman_table_failed_reads_total",
        "pointsman_table_pending_changes",
        "pointsman_table_error",
        "pointsman_table_foreign_services",
    ] {
        table.one(none, 0);
    }
    let Is::Between(began, _) = since else { panic!("{since:?}") };
    let later = Is::Between(began, began + DEADLINE.as_secs_f64() * 10.0);
    table.add("pointsman_table_read_timestamp_seconds", "", later);
    table.add("pointsman_table_pass_timestamp_seconds", "", later);
}

fn of_health(table: &mut Table, since: Is, servers: &[Server]) {
    for Server { policy, name, check, up } in servers {
        let labels = format!("policy=\"{policy}\",real_server=\"{name}\",address=\"127.0.0.1\"");
        let of_check = format!("{labels},check=\"{check}\"");
        if let Some(up) = *up {
            table.number("pointsman_real_server_up", &labels, u8::from(up));
            table.add("pointsman_real_server_verdict_timestamp_seconds", &labels, since);
            table.number("pointsman_check_up", &of_check, u8::from(up));
        }
        // Each that answered was asked once.
        let passed = u8::from(*up == Some(true));
        let failed = u8::from(*up == Some(false));
        table.number("pointsman_probes_total", &format!("{of_check},reason=\"ok\""), passed);
        if failed > 0 {
            table.number(
                "pointsman_probes_total",
                &format!("{of_check},reason=\"status\""),
                failed,
            );
        }
        for (to, count) in [("up", passed), ("down", failed)] {
            let labels = format!("{of_check},to=\"{to}\"");
            table.number("pointsman_transitions_total", &labels, count);
        }
    }
    for (policy, counts) in [
        ("www", [4, 1, 0]),
        ("kept", [0, 2, 0]),
        ("lost", [0, 2, 0]),
        ("slow", [0, 0, 1]),
        ("tls", [1, 0, 0]),
    ] {
        for (health, count) in ["up", "down", "unknown"].into_iter().zip(counts) {
            let labels = format!("policy=\"{policy}\",health=\"{health}\"");
            table.number("pointsman_real_servers", &labels, count);
        }
    }
    for (policy, withdrawn) in [("www", 0), ("kept", 0), ("lost", 1)] {
        table.number("pointsman_floor_withdrawn", &format!("policy=\"{policy}\""), withdrawn);
    }
    for (policy, up) in [("kept", 0), ("lost", 1)] {
        table.number("pointsman_sorry_server_up", &format!("policy=\"{policy}\""), up);
    }
    for (policy, check, count) in [
        ("www", "http", 5),
        ("kept", "http", 2),
        // Its sorry server.
        ("kept", "tcp", 1),
        ("lost", "http", 2),
        ("slow", "http", 0),
        ("tls", "tls", 1),
    ] {
        let labels = format!("policy=\"{policy}\",check=\"{check}\"");
        table.histogram("pointsman_probe_duration_seconds", &labels, &DURATIONS, count);
    }
    // All of them and a sorry server were asked, each once.
    table.histogram("pointsman_probe_lateness_seconds", "", &LATENESSES, 12);
    table.one("pointsman_probe_targets", 12);
    table.one("pointsman_probes_in_flight", 1);
    table.one("pointsman_blast_limit_active", 0);
    table.one("pointsman_blast_limit_held_targets", 0);
    table.one("pointsman_damping_held_targets", 0);
}

const DURATIONS: [&str; 13] =
    ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"];
const LATENESSES: [&str; 10] =
    ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"];

fn of_services(table: &mut Table) {
    for (service, policy, [taking, needed, declared, sorry, kept]) in [
        ("tcp://192.0.2.1:80", "www", [2, 2, 5, 0, 0]),
        ("tcp://192.0.2.2:80", "kept", [0, 2, 2, 0, 2]),
        // As many must be up for all to come back.
        ("tcp://192.0.2.3:80", "lost", [0, 2, 2, 1, 0]),
        ("tcp://192.0.2.4:80", "slow", [0, 1, 1, 0, 0]),
        ("tcp://192.0.2.5:443", "tls", [1, 1, 1, 0, 0]),
    ] {
        let labels = format!("service=\"{service}\",policy=\"{policy}\"");
        for (family, number) in [
            ("pointsman_service_in_table", 1),
            ("pointsman_service_taking_real_servers", taking),
            ("pointsman_service_needed_real_servers", needed),
            ("pointsman_service_declared_real_servers", declared),
            ("pointsman_service_sorry", sorry),
            ("pointsman_service_kept_destinations", kept),
            ("pointsman_service_new_connections_total", 0),
        ] {
            table.number(family, &labels, number);
        }
        for family in ["pointsman_service_packets_total", "pointsman_service_bytes_total"] {
            table.number(family, &format!("{labels},direction=\"in\""), 0);
            // Nothing comes back from a service that has no destination.
            if policy != "slow" {
                table.number(family, &format!("{labels},direction=\"out\""), 0);
            }
        }
    }
}

/// Service, policy, destination, real server and weight of what is in the table; what is not has
/// none of these.
fn of_destinations(table: &mut Table, all: &[(&str, &str, String, String, u32)]) {
    for (service, policy, destination, real_server, weight) in all {
        let labels = format!(
            "service=\"{service}\",policy=\"{policy}\",destination=\"{destination}\",\
             real_server=\"{real_server}\""
        );
        table.number("pointsman_destination_weight_wanted", &labels, *weight);
        table.number("pointsman_destination_weight", &labels, *weight);
        table.number("pointsman_destination_new_connections_total", &labels, 0);
        for state in ["active", "inactive"] {
            let labels = format!("{labels},state=\"{state}\"");
            table.number("pointsman_destination_connections", &labels, 0);
        }
        for direction in ["in", "out"] {
            let labels = format!("{labels},direction=\"{direction}\"");
            table.number("pointsman_destination_packets_total", &labels, 0);
            table.number("pointsman_destination_bytes_total", &labels, 0);
        }
    }
}

/// A reload that counts and one that is held, then two of four that turn down at once.
fn held() -> Table {
    let machine = |last: u8| Backend::on([127, 0, 0, last].into(), 0).unwrap();
    let backends = [2, 3, 4, 5].map(machine);
    let servers = backends.each_ref().map(|it| it.address.to_string());
    let quick = |servers: &[String], weight: u32| {
        let text = policy("www", "tcp://192.0.2.1:80", "", servers, HTTP);
        let text = text.replace("interval: 1day\n    timeout: 1h", "interval: 1s\n    timeout: 1s");
        text.replace("weight: 80", &format!("weight: {weight}"))
    };
    let scratch = Scratch::new();
    scratch.write("www.yaml", &quick(&servers, 80));
    let (daemon, address) = start(&scratch, &["--blast-limit", "1"]);
    daemon.wait_up(4);
    scratch.write("www.yaml", &quick(&servers, 81));
    daemon.wait_reloads(1);
    scratch.write("www.yaml", &quick(&servers[..1], 81));
    daemon.wait("a reload that is held", |status| status["policies"]["held"].is_object());
    backends[..2].iter().for_each(|it| it.answer(500));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 2);

    let mut table = Table::default();
    table.one("pointsman_blast_limit_active", 1);
    table.one("pointsman_blast_limit_held_targets", 2);
    table.one("pointsman_reload_held", 1);
    table.one("pointsman_reload_refused", 0);
    for (outcome, count) in [("accepted", 1), ("refused", 0), ("held", 1)] {
        table.number("pointsman_reloads_total", &format!("outcome=\"{outcome}\""), count);
    }
    for (server, down) in servers.iter().zip([1, 1, 0, 0]) {
        let address = server.split(':').next().unwrap();
        let labels = format!("policy=\"www\",real_server=\"{server}\",address=\"{address}\"");
        table.number("pointsman_real_server_up", &labels, 1 - down);
        for (to, count) in [("up", 1), ("down", down)] {
            let labels = format!("{labels},check=\"http\",to=\"{to}\"");
            table.number("pointsman_transitions_total", &labels, count);
        }
        // They are held.
        let labels = format!(
            "service=\"tcp://192.0.2.1:80\",policy=\"www\",destination=\"{server}\",\
             real_server=\"{server}\""
        );
        table.number("pointsman_destination_weight", &labels, 81);
    }
    let service = "service=\"tcp://192.0.2.1:80\",policy=\"www\"";
    table.number("pointsman_service_taking_real_servers", service, 2);
    table.holds("what is held", address);
    table
}

/// Up, down, up and down again.
fn flapping() -> Table {
    let backends = [Backend::start(), Backend::start()];
    let servers = backends.each_ref().map(|it| it.address.to_string());
    let text = policy("www", "tcp://192.0.2.1:80", "", &servers, HTTP)
        .replace("interval: 1day\n    timeout: 1h", "interval: 1s\n    timeout: 1s")
        .replace("fall: 1", "fall: 1\n    damping: { changes: 3, hold: 10m }");
    let scratch = Scratch::new();
    scratch.write("www.yaml", &text);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    for (status, up) in [(503, 1), (200, 2), (503, 1), (200, 1)] {
        backends[0].answer(status);
        daemon.wait_up(up);
    }
    let mut table = Table::default();
    table.one("pointsman_damping_held_targets", 1);
    for (server, [up, down], is_up) in [(&servers[0], [2, 2], 0), (&servers[1], [1, 0], 1)] {
        let labels =
            format!("policy=\"www\",real_server=\"{server}\",address=\"127.0.0.1\",check=\"http\"");
        table.number("pointsman_check_up", &labels, is_up);
        table.number("pointsman_transitions_total", &format!("{labels},to=\"up\""), up);
        table.number("pointsman_transitions_total", &format!("{labels},to=\"down\""), down);
    }
    table.holds("what flaps", address);
    table
}

/// What is owned cannot be recorded, and the table is as it should be all the same.
fn unrecorded() -> Table {
    let backends = [Backend::start(), Backend::start()];
    let servers = backends.each_ref().map(|it| it.address.to_string());
    let scratch = Scratch::new();
    scratch.write("www.yaml", &policy("www", "tcp://192.0.2.1:80", "", &servers, HTTP));
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    // A directory in the place of the draft is in the way of root, too.
    fs::create_dir(scratch.state().join("owned-memory.json.new")).unwrap();
    scratch.write("more.yaml", &policy("more", "tcp://192.0.2.2:80", "", &servers, HTTP));
    daemon.wait_reloads(1);
    let mut table = Table::default();
    table.one("pointsman_table_error", 1);
    table.one("pointsman_policies", 2);
    table.one("pointsman_troubles", 1);
    // Both policies ask the same of the same addresses.
    table.one("pointsman_probe_targets", 2);
    for (service, policy) in [("tcp://192.0.2.1:80", "www"), ("tcp://192.0.2.2:80", "more")] {
        let labels = format!("service=\"{service}\",policy=\"{policy}\"");
        table.number("pointsman_service_in_table", &labels, 1);
    }
    table.holds("what cannot be recorded", address);
    table
}
