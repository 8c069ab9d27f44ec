//! `pointsman check`: validates policies offline.

use serde::Serialize;

use super::args::{Check, Output};
use super::open::{count, render};
use super::{Exit, Failure, answer, complain, json};
use crate::policy::load::load_paths;
use crate::policy::problem::Problem;

#[derive(Serialize)]
struct Answer<'a> {
    valid: bool,
    policies: usize,
    problems: &'a [Problem],
    lints: &'a [Problem],
}

pub(super) fn check(args: &Check) -> Result<Exit, Failure> {
    let (policies, problems, lints) = match load_paths(&args.paths) {
        Ok(loaded) => (loaded.set.policies.len(), Vec::new(), loaded.lints),
        Err(problems) => (0, problems, Vec::new()),
    };
    let valid = problems.is_empty();
    match args.output {
        Output::Json => {
            answer(&json(&Answer { valid, policies, problems: &problems, lints: &lints })?)?;
        }
        Output::Text => {
            for found in [&problems, &lints] {
                if !found.is_empty() {
                    complain(render(found).trim_end());
                }
            }
            if valid {
                let noun = if policies == 1 { "policy" } else { "policies" };
                answer(&format!("ok: {policies} {noun}, {}\n", count(lints.len(), "lint")))?;
            } else {
                complain(&format!("pointsman: {}", count(problems.len(), "problem")));
            }
        }
    }
    Ok(if valid { Exit::Done } else { Exit::Usage })
}
