//! Policies from the outside: files in, a validated set or problems out.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman::policy::load::{load, load_paths};
use pointsman::policy::problem::{Problem, render_all};
use pointsman::probe::target::{CheckKind, Verify};
use tempfile::TempDir;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// A policy that is sound, but for its names and services.
fn policy(name: &str, address: &str) -> String {
    format!(
        "name: {name}\nvirtual_services: [tcp://{address}:80]\n\
         real_servers: [198.51.100.1, 198.51.100.2]\nchecks: [tcp: ]\n"
    )
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// The problems of a path that must have an error.
fn problems(path: &Path) -> Vec<Problem> {
    let problems = load(path).unwrap_err();
    assert!(problems.iter().any(Problem::is_error), "{problems:?}");
    problems
}

/// The only problem of a path, in one line, without the directory.
fn problem(path: &Path) -> String {
    let problems = problems(path);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let directory = path.parent().unwrap().display().to_string();
    problems[0].to_string().replace(&format!("{directory}/"), "")
}

#[test]
fn the_shell_script_in_one_file() {
    let loaded = load(&examples().join("www.yaml")).unwrap();
    let [policy] = loaded.set.policies.as_slice() else { panic!("{:?}", loaded.set) };
    assert_eq!(policy.name, "www");
    assert_eq!(policy.services.len(), 4);
    let last = &policy.services[3];
    assert_eq!(last.key.to_string(), "tcp://221.5.88.88:443");
    assert_eq!(last.config.to_string(), "wlc");
    assert_eq!(last.destinations[3].key.to_string(), "192.168.16.235:443");
    assert_eq!(last.destinations[3].config.to_string(), "weight 40 direct");
    assert_eq!(last.destinations[0].config.to_string(), "weight 80 direct");
    // One probe per real server, shared by four services.
    let targets: Vec<_> = loaded.set.targets.iter().map(|t| t.address.to_string()).collect();
    let expected = [232, 233, 234, 235].map(|host| format!("192.168.16.{host}:80"));
    assert_eq!(targets, expected);
    for (index, server) in policy.real_servers.iter().enumerate() {
        assert_eq!(server.targets.len(), 1);
        assert_eq!(server.targets[0].0 as usize, index);
    }
    assert!(loaded.lints.is_empty(), "{:?}", loaded.lints);
}

#[test]
fn every_example_loads_alone_and_with_the_others() {
    let mut files: Vec<_> =
        fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    for file in &files {
        let loaded =
            load(file).unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)));
        let lints = render_all(&loaded.lints, false);
        assert!(lints.is_empty(), "{lints}");
    }
    let together = load(&examples()).unwrap();
    assert!(together.set.policies.len() > files.len());
    assert_eq!(together.set, load_paths(&files).unwrap().set);
}

#[test]
fn the_example_of_the_reference_loads() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/POLICY.md");
    let reference = fs::read_to_string(reference).unwrap();
    let blocks: Vec<_> = reference.split("```yaml\n").skip(1).collect();
    assert_eq!(blocks.len(), 1);
    let directory = directory(&[("shop.yaml", blocks[0].split("```").next().unwrap())]);
    assert_eq!(load(directory.path()).unwrap().lints, []);
}

#[test]
fn examples_mean_what_they_say() {
    let set = load(&examples()).unwrap().set;
    let mut found = String::new();
    for policy in &set.policies {
        for service in &policy.services {
            let times = [("drain", service.drain_of_one()), ("slow start", service.slow_start)];
            let times: Vec<_> =
                times.iter().map(|(name, time)| format!("{name} {time:?}")).collect();
            let (name, times) = (&policy.name, times.join(", "));
            found += &format!("{name} {} {}, {times}\n", service.key, service.config);
            for one in &service.destinations {
                found += &format!("  {} {}\n", one.key, one.config);
            }
        }
        let floor = policy.health_floor.iter().map(|floor| format!("  {floor:?}\n"));
        found += &floor.collect::<String>();
        for server in policy.real_servers.iter().chain(&policy.sorry_server) {
            if server.needed < server.targets.len() {
                found += &format!("  {} needs {}\n", server.name, server.needed);
            }
            for id in server.asked() {
                let target = set.target(id);
                let kind = target.check.kind.name();
                found += &format!("  {} asks {kind} {}\n", server.name, target.address);
            }
        }
    }
    insta::assert_snapshot!(found);
}

#[test]
fn equal_checks_are_one_target() {
    let both = [policy("a", "192.0.2.1"), policy("b", "192.0.2.2")].join("---\n");
    let directory = directory(&[("both.yaml", &both)]);
    let set = load(directory.path()).unwrap().set;
    assert_eq!(set.targets.len(), 2);
    let ids = |index: usize| -> Vec<_> {
        set.policies[index].real_servers.iter().map(|server| server.targets.clone()).collect()
    };
    assert_eq!(ids(0), ids(1));
    assert!(set.targets.is_sorted());
    assert!(Arc::ptr_eq(&set.targets[0].check, &set.targets[1].check));
}

#[test]
fn names_default_to_the_file() {
    let unnamed = |address: &str| policy("x", address).replace("name: x\n", "");
    let text = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(unnamed).join("---\n");
    let directory = directory(&[("web.yml", &text)]);
    let set = load(directory.path()).unwrap().set;
    let names: Vec<_> = set.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["web", "web-2", "web-3"]);
    let origins: Vec<_> = set.policies.iter().map(|policy| policy.origin.as_str()).collect();
    assert!(origins[1].ends_with("web.yml:5"), "{origins:?}");
}

#[test]
fn the_hash_is_that_of_names_and_contents() {
    let (a, b) = (policy("a", "192.0.2.1"), policy("b", "192.0.2.2"));
    let hash = |files: &[(&str, &str)]| load(directory(files).path()).unwrap().set.hash;
    let first = hash(&[("a.yaml", &a), ("b.yaml", &b)]);
    assert_eq!(first.len(), 16);
    assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    assert_eq!(first, hash(&[("b.yaml", &b), ("a.yaml", &a), ("ignored.txt", "x")]));
    assert_ne!(first, hash(&[("a.yaml", &a), ("c.yaml", &b)]));
    assert_ne!(first, hash(&[("a.yaml", &a), ("b.yaml", &format!("{b} "))]));
    // Pinned: it must not change between versions of the program.
    assert_eq!(hash(&[("a.yaml", &a)]), "cd51675c890ee5d7");
}

#[test]
fn problems_of_all_files_come_at_once() {
    let directory = directory(&[
        ("c.yaml", "wieght: 1\n"),
        ("a.yaml", &policy("same", "192.0.2.1")),
        ("b.yml", &policy("same", "192.0.2.1")),
        ("d.yaml", "a: [\n"),
        (".hidden.yaml", "a: ["),
        ("notes.txt", "a: ["),
        ("e.yaml~", "a: ["),
    ]);
    let problems = problems(directory.path());
    let places: Vec<_> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(|problem| {
            let file = Path::new(&problem.location.file).file_name().unwrap();
            format!("{}:{}", file.to_string_lossy(), problem.location.line)
        })
        .collect();
    assert_eq!(
        places,
        ["b.yml:1", "b.yml:2", "c.yaml:1", "c.yaml:1", "c.yaml:1", "c.yaml:1", "d.yaml:1"]
    );
}

#[test]
fn what_is_not_a_readable_file_is_a_problem() {
    let directory = directory(&[("good.yaml", &policy("good", "192.0.2.1")), ("empty.yaml", "")]);
    let at = |name: &str| directory.path().join(name);
    assert_eq!(
        problem(&at("missing")),
        "missing: no such file or directory (name a policy file, or a directory with policies in it)"
    );
    fs::create_dir(at("none")).unwrap();
    fs::write(at("none/readme.txt"), "").unwrap();
    assert_eq!(
        problem(&at("none")),
        "none: no policy in this directory (a policy is a file named *.yaml or *.yml)"
    );
    assert!(problem(&at("empty.yaml")).starts_with("empty.yaml:1:1: no policy in this file"));

    // Sparse: it costs no disk, and it must cost no memory.
    let huge = fs::File::create(at("huge.yaml")).unwrap();
    huge.set_len(100 * 1024 * 1024 * 1024).unwrap();
    assert!(problem(&at("huge.yaml")).starts_with("huge.yaml: larger than 16 MiB"));

    fs::create_dir(at("odd")).unwrap();
    fs::create_dir(at("odd/directory.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("odd/dangling.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("odd/device.yaml")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, at("odd/fifo.yaml"), fifo, mode, 0).unwrap();
    let found: Vec<_> =
        problems(&at("odd")).iter().map(|problem| problem.message.clone()).collect();
    assert_eq!(
        found,
        [
            "cannot be read: there is no such file (a dangling symlink?)",
            "cannot be read: it is not a regular file",
            "cannot be read: it is a directory, not a file",
            "cannot be read: it is not a regular file",
        ]
    );
}

#[test]
fn what_is_named_twice_is_read_once() {
    let directory = directory(&[("a.yaml", &policy("a", "192.0.2.1"))]);
    let file = directory.path().join("a.yaml");
    let paths = [directory.path().to_owned(), file.clone(), file];
    assert_eq!(load_paths(&paths).unwrap().set.policies.len(), 1);
}

#[test]
fn authorities_are_read_beside_the_policy() {
    let key = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
    let pem = key.cert.pem();
    let text = policy("a", "192.0.2.1")
        .replace("tcp: ", "https: { host: www.example.com, ca_file: tls/ca.pem }");
    let directory = directory(&[("a.yaml", &text)]);
    fs::create_dir(directory.path().join("tls")).unwrap();
    let ca = directory.path().join("tls/ca.pem");

    fs::write(&ca, &pem).unwrap();
    let set = load(directory.path()).unwrap().set;
    let CheckKind::Http(http) = &set.targets[0].check.kind else { panic!("{set:?}") };
    let verify = &http.tls.as_ref().unwrap().verify;
    assert_eq!(*verify, Verify::CaFile { path: ca.clone(), pem: pem.as_bytes().into() });

    // Another authority is another set, though no policy changed.
    let other = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
    fs::write(&ca, other.cert.pem()).unwrap();
    assert_ne!(load(directory.path()).unwrap().set.hash, set.hash);

    for (content, why) in [
        (other.signing_key.serialize_pem(), "has no certificate in it"),
        (pem.replace("MII", "AAA"), "has a certificate that cannot be read (number 1)"),
        ("-----BEGIN CERTIFICATE-----\n???".to_owned(), "is not PEM"),
    ] {
        fs::write(&ca, content).unwrap();
        let found = problem(directory.path());
        assert!(found.contains(why), "{found}");
    }
}
