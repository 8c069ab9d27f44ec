//! Every `tests/golden/policy/NAME.yaml` gives exactly the problems in `NAME.txt`.
//!
//! A new case is a new pair of files. `UPDATE_GOLDEN=1 cargo test --test policy_golden` writes
//! the expectations from what is found; read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use pointsman::policy::load::load;
use pointsman::policy::problem::render_all;

/// Relative, so that the rendering is the same on every machine; tests run in the package's root.
const FOLDER: &str = "tests/golden/policy";

#[test]
fn problems_are_as_written_down() {
    let cases = cases();
    assert!(cases.len() > 20, "only {} cases in {FOLDER}", cases.len());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = case.with_extension("txt");
        let found = found(case);
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

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FOLDER)).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    cases.sort();
    cases
}

fn found(case: &Path) -> String {
    let rendered = match load(case) {
        Ok(loaded) => render_all(&loaded.lints, false),
        Err(problems) => render_all(&problems, false),
    };
    if rendered.is_empty() { "no problems\n".to_owned() } else { rendered }
}
