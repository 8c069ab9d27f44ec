//! Every `tests/golden/doctor/NAME` gives exactly the `text` in it: `facts.json` says what differs
//! from the machine of `healthy.json` (as RFC 7396 has it), `policy.yaml` what is wanted of it.
//!
//! A new case is a new folder. `UPDATE_GOLDEN=1 cargo test --test doctor_golden` writes the texts
//! from what is found; read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use pointsman::doctor::facts::Facts;
use pointsman::doctor::finding::{Finding, Machine, Severity};
use pointsman::doctor::judge::findings;
use pointsman::doctor::text::render;
use pointsman::policy::load::load;
use pointsman::policy::model::PolicySet;
use serde_json::Value;

const FOLDER: &str = "tests/golden/doctor";

struct Case {
    folder: PathBuf,
    facts: Facts,
    policies: Option<PolicySet>,
}

impl Case {
    fn findings(&self) -> Vec<Finding> {
        findings(&self.facts, self.policies.as_ref())
    }
}

fn cases() -> Vec<Case> {
    let healthy = fs::read_to_string(Path::new(FOLDER).join("healthy.json")).unwrap();
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let case = |folder: PathBuf| {
        let mut facts: Value = serde_json::from_str(&healthy).unwrap();
        let patch = fs::read_to_string(folder.join("facts.json")).unwrap();
        merge(&mut facts, serde_json::from_str(&patch).unwrap());
        let facts = serde_json::from_value(facts)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let policy = folder.join("policy.yaml");
        let policies = policy
            .exists()
            .then(|| load(&policy).unwrap_or_else(|problems| panic!("{}", problems[0])).set);
        Case { folder, facts, policies }
    };
    folders.into_iter().map(case).collect()
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() && key != "process" {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

#[test]
fn findings_are_as_written_down() {
    let cases = cases();
    assert!(cases.len() > 15, "only {} cases in {FOLDER}", cases.len());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = case.folder.join("text");
        let found = render(&case.findings(), true, false);
        if update {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", expected.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ; UPDATE_GOLDEN=1 accepts what follows\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Whatever sets a sysctl or an address is enough to end the finding that printed it.
#[test]
fn commands_mend_what_they_are_for() {
    let mut mended = 0;
    for mut case in cases() {
        let commands: Vec<_> = case.findings().into_iter().filter(can_be_carried_out).collect();
        for finding in &commands {
            carry_out(&mut case.facts, finding.command.as_ref().unwrap());
        }
        for finding in &commands {
            let same = |it: &Finding| (it.id, &it.subject) == (finding.id, &finding.subject);
            let left =
                case.findings().into_iter().find(|it| same(it) && it.severity != Severity::Ok);
            assert!(left.is_none(), "{}: {left:#?} after {finding:#?}", case.folder.display());
            mended += 1;
        }
    }
    assert!(mended > 20, "only {mended} commands were tried");
}

fn can_be_carried_out(finding: &Finding) -> bool {
    let command = finding.command.as_deref().unwrap_or_default();
    finding.run_on == Machine::Director
        && ["sysctl -w ", "ip addr add "].iter().any(|it| command.contains(it))
}

fn carry_out(facts: &mut Facts, command: &str) {
    let command = match &facts.netns {
        None => command,
        Some(name) => command.strip_prefix(&format!("ip netns exec {name} ")).unwrap(),
    };
    if let Some(settings) = command.strip_prefix("sysctl -w ") {
        // A value with a space in it stands alone.
        let settings =
            if settings.contains('"') { vec![settings] } else { settings.split(' ').collect() };
        for setting in settings {
            let (name, value) = setting.split_once('=').unwrap();
            facts.sysctls.insert(name.to_owned(), value.trim_matches('"').to_owned());
        }
        return;
    }
    let words: Vec<&str> = command.split(' ').collect();
    let ["ip", "addr", "add", address, "dev", device] = words[..] else { panic!("{command}") };
    let (address, length) = address.split_once('/').unwrap();
    let interfaces = facts.interfaces.as_mut().unwrap();
    let interface = interfaces.iter_mut().find(|it| it.name == device).unwrap();
    interface.addresses.push((address.parse().unwrap(), length.parse().unwrap()));
}
