//! `pointsman check`: validates policies offline.

use serde::Serialize;

use std::path::Path;

use super::args::{Check, Output, POLICIES};
use super::open::complain_of;
use super::{Exit, Failure, answer, json};
use crate::count::count;
use crate::policy::load::load_paths;
use crate::policy::problem::{Problem, sort};

#[derive(Serialize)]
struct Answer<'a> {
    valid: bool,
    policies: usize,
    /// Errors only.
    problems: &'a [Problem],
    lints: &'a [Problem],
}

/// `in_settings` are problems of the settings file.
pub(super) fn check(args: &Check, in_settings: Vec<Problem>) -> Result<Exit, Failure> {
    let (policies, mut problems, lints) = match load_paths(&args.paths) {
        Ok(loaded) => (loaded.set.policies.len(), Vec::new(), loaded.lints),
        Err(problems) => (0, problems, Vec::new()),
    };
    if !in_settings.is_empty() && args.paths == [Path::new(POLICIES)] {
        // Where the policies are is what the settings would say.
        problems.clear();
    }
    problems.extend(in_settings);
    let valid = problems.is_empty();
    let (problems, more): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_error);
    let lints = [lints, more].concat();
    match args.output {
        Output::Json => {
            answer(&json(&Answer { valid, policies, problems: &problems, lints: &lints })?)?;
        }
        Output::Text => {
            let mut found = [&problems[..], &lints].concat();
            sort(&mut found);
            complain_of(&found);
            if valid {
                answer(&format!(
                    "ok: {}, {}\n",
                    count(policies, "policy"),
                    count(lints.len(), "lint")
                ))?;
            }
        }
    }
    Ok(if valid { Exit::Done } else { Exit::Usage })
}
