//! Executing a plan, step by step, without choices.
//!
//! The table may have changed since it was read, so two answers are not failures: an addition of
//! what exists becomes an edit, a deletion of what is gone is done. Everything else is reported
//! and left to the next pass.

use std::collections::BTreeMap;

use crate::ipvs::model::{Change, ServiceKey, Table};
use crate::ipvs::{Ipvs, IpvsError, memory};

use super::plan::{Plan, Step};

/// What came of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Steps that the table now has.
    pub done: usize,
    /// Those among them that undid what somebody else did.
    pub repaired: usize,
    /// Steps whose answer showed that the table was not as the plan took it to be. If there are
    /// any, a cached table cannot be trusted: read it again.
    pub surprises: usize,
    /// Steps that failed, in the order of the plan. Consequences are folded into their cause.
    pub failures: Vec<Failure>,
    /// Indices of all steps not done, in order: the failures and their consequences.
    pub undone: Vec<usize>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its index in [`Plan::steps`].
    pub step: usize,
    /// What the kernel answered.
    pub error: IpvsError,
    /// Destinations of the same service that could not be added because this one failed.
    pub consequences: usize,
}

impl Applied {
    /// Whether every step is done.
    pub fn is_complete(&self) -> bool {
        self.undone.is_empty()
    }

    /// The distinct errors with the number of steps each one stopped, most frequent first.
    pub fn causes(&self) -> Vec<(&IpvsError, usize)> {
        let mut causes: Vec<(&IpvsError, usize)> = Vec::new();
        for Failure { error, consequences, .. } in &self.failures {
            let steps = 1 + consequences;
            match causes.iter_mut().find(|(known, _)| *known == error) {
                Some((_, count)) => *count += steps,
                None => causes.push((error, steps)),
            }
        }
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        causes
    }
}

/// Executes every step of a plan.
///
/// One call of [`Ipvs::execute`] per phase, so that what exists already is edited before anything
/// is lowered or removed.
pub fn apply(ipvs: &mut dyn Ipvs, plan: &Plan) -> Applied {
    let mut report = Report::default();
    let mut first = 0;
    for phase in plan.steps.chunk_by(|left, right| left.phase() == right.phase()) {
        for (offset, (step, answer)) in phase.iter().zip(run(ipvs, phase)).enumerate() {
            report.note(first + offset, step, answer);
        }
        first += phase.len();
    }
    report.applied
}

/// Brings a cached table up to date with the steps that are done.
///
/// Not exact when there were [`Applied::surprises`].
pub fn believed(table: &mut Table, plan: &Plan, applied: &Applied) {
    let mut undone = applied.undone.iter().peekable();
    for (index, step) in plan.steps.iter().enumerate() {
        if undone.next_if_eq(&&index).is_some() {
            continue;
        }
        if memory::apply(table, &step.change) == Err(IpvsError::Exists)
            && let Some(edit) = as_edit(&step.change)
        {
            // It exists, so the edit cannot fail; a refused config would not be done.
            let _ = memory::apply(table, &edit);
        }
    }
}

/// The answer to a step, and whether it showed that the table was not as planned against.
type Answer = (Result<(), IpvsError>, bool);

fn run(ipvs: &mut dyn Ipvs, steps: &[Step]) -> Vec<Answer> {
    let changes: Vec<Change> = steps.iter().map(|step| step.change.clone()).collect();
    let mut answers: Vec<Answer> =
        execute(ipvs, &changes).into_iter().map(|answer| (answer, false)).collect();
    let mut retried = Vec::new();
    let mut edits = Vec::new();
    for (index, (answer, surprise)) in answers.iter_mut().enumerate() {
        let Err(error) = answer else { continue };
        *surprise = is_surprise(error);
        if is_gone(&changes[index], error) {
            *answer = Ok(());
        } else if *error == IpvsError::Exists
            && let Some(edit) = as_edit(&changes[index])
        {
            retried.push(index);
            edits.push(edit);
        }
    }
    if !edits.is_empty() {
        for (index, answer) in retried.into_iter().zip(execute(ipvs, &edits)) {
            answers[index].0 = answer;
        }
    }
    answers
}

/// Executes and makes sure that there is one answer per change.
fn execute(ipvs: &mut dyn Ipvs, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
    let mut answers = ipvs.execute(changes);
    answers.resize_with(changes.len(), || Err(IpvsError::Netlink("no answer".to_owned())));
    answers
}

fn is_surprise(error: &IpvsError) -> bool {
    matches!(error, IpvsError::Exists | IpvsError::NoSuchService | IpvsError::NoSuchDestination)
}

fn is_gone(change: &Change, error: &IpvsError) -> bool {
    matches!(
        (change, error),
        (Change::DeleteService(_) | Change::DeleteDestination(..), IpvsError::NoSuchService)
            | (Change::DeleteDestination(..), IpvsError::NoSuchDestination)
    )
}

/// The edit that gives an existing object what an addition would have given it.
fn as_edit(change: &Change) -> Option<Change> {
    match change {
        Change::AddService(key, config) => Some(Change::SetService(*key, config.clone())),
        Change::AddDestination(service, key, config) => {
            Some(Change::SetDestination(*service, *key, *config))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Report {
    applied: Applied,
    /// Services that could not be set up, with the index of their failure.
    broken: BTreeMap<ServiceKey, usize>,
}

impl Report {
    fn note(&mut self, index: usize, step: &Step, (answer, surprise): Answer) {
        let Err(error) = answer else {
            self.applied.done += 1;
            self.applied.repaired += usize::from(step.repair);
            self.applied.surprises += usize::from(surprise);
            return;
        };
        self.applied.undone.push(index);
        let service = step.change.service();
        if error == IpvsError::NoSuchService
            && let Some(cause) = self.broken.get(service)
        {
            self.applied.failures[*cause].consequences += 1;
            return;
        }
        if matches!(step.change, Change::AddService(..)) {
            self.broken.insert(*service, self.applied.failures.len());
        }
        self.applied.surprises += usize::from(surprise);
        self.applied.failures.push(Failure { step: index, error, consequences: 0 });
    }
}
