//! What `/metrics` says, and that tools which know the format agree.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::backend::Backend;
use crate::http::{Answer, get, request, start};
use crate::scratch::{DEADLINE, Scratch, VIP, policy, within};
use crate::tls_backend::{TlsBackend, tls_policy};

/// The value of a series, written as it is on the page without the value.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

#[track_caller]
fn wait(address: SocketAddr, series: &str, is_there: impl Fn(Option<f64>) -> bool) -> String {
    let mut page = String::new();
    let found = within(DEADLINE, || {
        page = get(address, "/metrics").is(200).body;
        is_there(value(&page, series))
    });
    assert!(found, "`{series}` is not as it should be in\n{page}");
    page
}

/// Every word that looks like a metric of ours, without what histograms and counters append.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("pointsman_")).map(family).collect()
}

fn family(name: &str) -> String {
    let name =
        ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it)).unwrap_or(name);
    name.to_owned()
}

/// The families of a page, by their `# TYPE` lines.
fn families(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

pub(crate) fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs promtool, which `tests/install-deps` installs. `None`, aloud, where there is none and need
/// not be.
fn promtool(args: &[&str], input: &str) -> Option<()> {
    let child = Command::new("promtool")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("NOT TESTED: promtool does not start ({error}); run tests/install-deps");
            return None;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "promtool {args:?}: {output:#?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "promtool {args:?}");
    Some(())
}

/// A page with something in it of everything that can be made to happen without a kernel.
fn eventful(test: impl FnOnce(SocketAddr)) {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let text = policy(VIP, &backends, 80)
        + "health_floor: { min_up: 1 }\nsorry_server: 192.0.2.9\nslow_start: 1m\n";
    scratch.write("www.yaml", &text);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(3);
    backends[0].answer(500);
    daemon.wait_up(2);
    scratch.order(&["weight", "www", &backends[1].address.to_string(), "7"]).exit(0);
    wait(address, "pointsman_overrides{action=\"weight\"}", |it| it == Some(1.0));
    test(address);
}

#[test]
fn numbers_follow_what_happens() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    let server = |of: &Backend| {
        format!("{{policy=\"www\",real_server=\"{}\",address=\"127.0.0.1\"", of.address)
    };
    let of = server(&backends[0]);
    let page = wait(address, &format!("pointsman_real_server_up{of}}}"), |it| it == Some(1.0));
    let destination = format!(
        "{{service=\"{VIP}\",policy=\"www\",destination=\"{0}\",real_server=\"{0}\"}}",
        backends[0].address
    );
    assert_eq!(value(&page, &format!("pointsman_destination_weight{destination}")), Some(80.0));
    let transitions = format!("pointsman_transitions_total{of},check=\"http\",to=\"down\"}}");
    assert_eq!(value(&page, &transitions), Some(0.0));
    backends[0].answer(500);
    let page = wait(address, &format!("pointsman_real_server_up{of}}}"), |it| it == Some(0.0));
    assert_eq!(value(&page, &transitions), Some(1.0));
    let failed = format!("pointsman_probes_total{of},check=\"http\",reason=\"status\"}}");
    assert!(value(&page, &failed).unwrap() >= 2.0, "{page}");
    let page =
        wait(address, &format!("pointsman_destination_weight{destination}"), |it| it.is_none());
    assert_eq!(value(&page, "pointsman_table_changes_total"), Some(4.0));
    let count = "pointsman_probe_duration_seconds_count{policy=\"www\",check=\"http\"}";
    let before = value(&page, count).unwrap();
    wait(address, count, |it| it.unwrap() > before + 1.0);
    // A reload that is refused shows, and one that mends it too.
    scratch.write("bad.yaml", "nonsense");
    wait(address, "pointsman_reload_refused", |it| it == Some(1.0));
    scratch.remove("bad.yaml");
    let page = wait(address, "pointsman_reload_refused", |it| it == Some(0.0));
    for (outcome, count) in [("accepted", 0.0), ("refused", 1.0), ("held", 0.0)] {
        let series = format!("pointsman_reloads_total{{outcome=\"{outcome}\"}}");
        assert_eq!(value(&page, &series), Some(count), "{series}");
    }
}

#[test]
fn series_of_a_removed_server_vanish() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &["--yes"]);
    daemon.wait_up(2);
    let gone = backends[1].address.to_string();
    let shown = || get(address, "/metrics").is(200).body.contains(&gone);
    assert!(within(DEADLINE, shown), "{gone} is not there");
    let count = "pointsman_probe_duration_seconds_count{policy=\"www\",check=\"http\"}";
    let before = value(&get(address, "/metrics").body, count).unwrap();
    scratch.write("www.yaml", &policy(VIP, &backends[..1], 80));
    daemon.wait_reloads(1);
    assert!(within(DEADLINE, || !shown()), "{gone} is still there");
    // What its probes took counts on, or the numbers of its check would go down.
    assert!(value(&get(address, "/metrics").body, count).unwrap() >= before);
}

#[test]
fn both_formats_are_what_they_say() {
    eventful(|address| {
        let text = get(address, "/metrics").is(200);
        assert!(text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
        promtool(&["check", "metrics"], &text.body);
        let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
        let open = request(address, "GET", "/metrics", &accept).is(200);
        assert!(open.head.contains("content-type: application/openmetrics-text"), "{}", open.head);
        assert!(open.body.ends_with("\n# EOF\n"));
        for page in [&text, &open] {
            no_series_twice(page);
        }
    });
}

fn no_series_twice(page: &Answer) {
    let mut seen = BTreeSet::new();
    for line in page.body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "twice: {series}");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    eventful(|address| {
        let page = get(address, "/metrics").body;
        let documented = repository("docs/METRICS.md");
        let rows = documented.lines().filter(|line| line.starts_with("| `pointsman_"));
        let rows: BTreeSet<String> =
            rows.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect();
        assert_eq!(rows, families(&page), "docs/METRICS.md and /metrics differ");
        for line in documented.lines().filter(|line| line.starts_with("| `pointsman_")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`');
            let kind = format!("# TYPE {name} {}", cells[2]);
            assert!(page.contains(&kind), "{line}: no `{kind}`");
            let series = page.lines().find(|line| {
                line.strip_prefix(name).is_some_and(|rest| {
                    let rest = rest.strip_prefix("_bucket").unwrap_or(rest);
                    rest.starts_with('{') || rest.starts_with(' ')
                })
            });
            if let Some(series) = series {
                assert_eq!(labels(series), words(cells[3]), "{line}: {series}");
            }
        }
    });
}

/// The names of the labels of a series, but for `le`.
fn labels(series: &str) -> BTreeSet<String> {
    let Some((_, labels)) = series.split_once('{') else { return BTreeSet::new() };
    let names = labels.split("=\"").map(|it| it.rsplit([',', '{', '"']).next().unwrap());
    let names: Vec<&str> = names.collect();
    names[..names.len() - 1].iter().filter(|it| **it != "le").map(|it| (*it).to_owned()).collect()
}

fn words(cell: &str) -> BTreeSet<String> {
    let words = cell.split(',').map(|it| it.trim().trim_matches('`'));
    words.filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_are() {
    eventful(|address| {
        let families = families(&get(address, "/metrics").body);
        for file in ["contrib/prometheus/alerts.yml", "contrib/grafana/pointsman.json"] {
            let text = repository(file);
            let named = names(&text);
            assert!(named.len() > 5, "{file}: {named:?}");
            for name in named {
                assert!(families.contains(&name), "{file}: there is no metric {name}");
            }
        }
    });
    let dashboard: serde_json::Value =
        serde_json::from_str(&repository("contrib/grafana/pointsman.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 3);
    promtool(&["check", "rules", "contrib/prometheus/alerts.yml"], "");
    promtool(&["test", "rules", "contrib/prometheus/alerts_test.yml"], "");
}

#[test]
fn certificates_say_when_they_end() {
    let backends = [TlsBackend::lasting(10)];
    let scratch = Scratch::new();
    scratch.write("www.yaml", &tls_policy(&backends));
    let (_daemon, address) = start(&scratch, &[]);
    let series = format!(
        "pointsman_certificate_expiry_timestamp_seconds{{policy=\"www\",real_server=\"{}\",\
         address=\"127.0.0.1\",check=\"tls\"}}",
        backends[0].address
    );
    let in_days = |ends: f64| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        ((ends - now) / 86_400.0).round()
    };
    wait(address, &series, |it| it.map(in_days) == Some(10.0));
}
