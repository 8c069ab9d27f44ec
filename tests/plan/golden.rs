//! Each folder of `tests/golden/plan` has a scenario and the plan that it must give, as `plan --all`
//! prints it and then as the log has it, in the order of execution. A new case needs no Rust.
//! `UPDATE_GOLDEN=1` writes what is found; read the difference before you commit it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use pointsman::ipvs::Ipvs;
use pointsman::ipvs::memory::Memory;
use pointsman::reconcile::apply::apply;
use pointsman::reconcile::desired::{Moment, desired};
use pointsman::reconcile::json::PlanJson;
use pointsman::reconcile::names::Names;
use pointsman::reconcile::plan::{Plan, mark_repairs, plan};
use pointsman::reconcile::render::{render, render_all};

use crate::scenario::Scenario;

#[test]
fn plans_are_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 15, "the scenarios are gone from {}", root.display());
    let wrong: Vec<String> = folders.iter().filter_map(|folder| check(folder)).collect();
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts these\n{}", wrong.join("\n"));
}

fn check(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("scenario.txt")).unwrap();
    let scenario = Scenario::parse(&text);
    let plan = planned(&scenario, folder);
    let mut wrong = compare(&folder.join("plan.txt"), &as_text(&plan), true);
    let json =
        serde_json::to_string_pretty(&PlanJson::of(&plan, &Names::default())).unwrap() + "\n";
    wrong = wrong.or(compare(&folder.join("plan.json"), &json, false));
    wrong
}

/// Plans, and makes sure that the plan leads where it says.
fn planned(scenario: &Scenario, folder: &Path) -> Plan {
    let view = scenario.view();
    let (believed, guarded) = (scenario.believed.as_ref(), scenario.guarded);
    let moment = Moment { believed, guarded, ..Moment::first(scenario.now, &scenario.owned) };
    let wanted = desired(&view, &scenario.observed, &scenario.standing, moment);
    let mut first = plan(&scenario.observed, &wanted, &scenario.owned);
    if let Some(believed) = &scenario.believed {
        mark_repairs(&mut first, believed);
    }
    let mut kernel = Memory::new(scenario.observed.clone());
    let applied = apply(&mut kernel, &first);
    assert!(applied.is_complete(), "{}: {applied:?}", folder.display());
    let table = kernel.table().unwrap();
    // The same moment still, and connections were not looked at again.
    let moment = Moment { fresh: false, ..moment };
    let wanted = desired(&view, &table, &wanted.standing, moment);
    let second = plan(&table, &wanted, &scenario.owned);
    assert!(
        second.is_empty(),
        "{}: not done:\n{}",
        folder.display(),
        render(&second, &Names::default(), false)
    );
    first
}

fn as_text(plan: &Plan) -> String {
    let mut text = render_all(plan, &Names::default(), false);
    if !plan.is_empty() {
        text.push_str("\nlog, in order\n");
    }
    for step in &plan.steps {
        writeln!(text, "  {step}").unwrap();
    }
    text
}

/// An optional file is compared where it exists.
fn compare(path: &Path, found: &str, required: bool) -> Option<String> {
    if !required && !path.exists() {
        return None;
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).unwrap();
        return None;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let name = path.display();
    (expected != found).then(|| format!("=== {name}\n--- expected\n{expected}\n--- found\n{found}"))
}
