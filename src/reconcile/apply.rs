//! Executing a plan, step by step, without choices.
//!
//! The table may have changed since it was read, so two answers are not failures: an addition of
//! what exists becomes an edit, a deletion of what is gone is done. Everything else is reported
//! and left to the next pass. While a service lacks something it should have gained, what takes
//! connections without a policy that declares it stays in it, and so does the sorry server: half of
//! a swap would leave it with less than before.

use std::collections::BTreeMap;

use crate::ipvs::model::{Change, DestinationConfig, ServiceKey, Table};
use crate::ipvs::{Ipvs, IpvsError, memory};

use super::desired::Why;
use super::plan::{Before, Phase, Plan, Step};

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
    /// Steps of the same service that were not done because this one failed.
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
        let held_back = |step: &Step| {
            matches!(step.phase(), Phase::Lower | Phase::Remove)
                && matches!(step.why.cause(), Why::Undeclared | Why::SorryNoMore)
                && report.broken.contains_key(step.change.service())
                && takes_connections(step)
        };
        let (stay, go): (Vec<_>, Vec<_>) =
            (first..).zip(phase).partition(|(_, step)| held_back(step));
        for (index, step) in stay {
            report.consequence(index, step.change.service());
        }
        let steps: Vec<&Step> = go.iter().map(|(_, step)| *step).collect();
        for ((index, step), answer) in go.into_iter().zip(run(ipvs, &steps)) {
            report.note(index, step, answer);
        }
        first += phase.len();
    }
    report.applied.undone.sort_unstable();
    report.applied
}

/// Whether what a step lowers or removes has weight.
fn takes_connections(step: &Step) -> bool {
    !matches!(step.before, Some(Before::Destination(DestinationConfig { weight: 0, .. })))
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

fn run(ipvs: &mut dyn Ipvs, steps: &[&Step]) -> Vec<Answer> {
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
    /// Services that lack something they should have gained, with the index of the first failure.
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
        let service = step.change.service();
        if error == IpvsError::NoSuchService && self.consequence(index, service) {
            return;
        }
        self.applied.undone.push(index);
        if matches!(step.phase(), Phase::SetUp | Phase::Raise) {
            self.broken.entry(*service).or_insert(self.applied.failures.len());
        }
        self.applied.surprises += usize::from(surprise);
        self.applied.failures.push(Failure { step: index, error, consequences: 0 });
    }

    /// Folds a step that is not done into the failure that stopped it, if there is one.
    fn consequence(&mut self, index: usize, service: &ServiceKey) -> bool {
        let Some(cause) = self.broken.get(service) else { return false };
        self.applied.failures[*cause].consequences += 1;
        self.applied.undone.push(index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::memory::Memory;
    use crate::ipvs::model::{DestinationKey, Forwarding, Scheduler, ServiceConfig, ServiceFlags};

    const SERVICE: &str = "tcp://192.0.2.1:80";

    fn service() -> ServiceKey {
        SERVICE.parse().unwrap()
    }

    fn wlc() -> ServiceConfig {
        let scheduler = Scheduler("wlc".to_owned());
        ServiceConfig { scheduler, flags: ServiceFlags::default(), persistence: None }
    }

    fn server(number: u8) -> DestinationKey {
        format!("10.0.0.{number}:80").parse().unwrap()
    }

    fn weight(weight: u32) -> DestinationConfig {
        let forwarding = Forwarding::Direct;
        DestinationConfig { forwarding, weight, upper_threshold: 0, lower_threshold: 0 }
    }

    fn add(number: u8, to: u32) -> Change {
        Change::AddDestination(service(), server(number), weight(to))
    }

    fn set(number: u8, to: u32) -> Change {
        Change::SetDestination(service(), server(number), weight(to))
    }

    fn delete(number: u8) -> Change {
        Change::DeleteDestination(service(), server(number))
    }

    /// A plan of these steps; edits come from weight 1, so that 0 lowers and more raises.
    fn plan(changes: impl IntoIterator<Item = Change>) -> Plan {
        let step = |change| {
            let before = match change {
                Change::SetDestination(..) => Some(Before::Destination(weight(1))),
                _ => None,
            };
            Step { change, before, policy: None, why: Why::Up, repair: true }
        };
        Plan { steps: changes.into_iter().map(step).collect(), ..Plan::default() }
    }

    fn table(changes: &[Change]) -> Table {
        let mut table = Table::new();
        for change in changes {
            memory::apply(&mut table, change).unwrap();
        }
        table
    }

    /// A kernel that refuses by rule and notes what it was asked.
    struct Picky<F> {
        kernel: Memory,
        refuses: F,
        asked: Vec<Vec<Change>>,
    }

    impl<F: FnMut(&Change) -> Option<IpvsError> + Send> Ipvs for Picky<F> {
        fn table(&mut self) -> Result<Table, IpvsError> {
            self.kernel.table()
        }

        fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
            self.asked.push(changes.to_vec());
            let mut answer = |change: &Change| match (self.refuses)(change) {
                Some(error) => Err(error),
                None => self.kernel.execute(std::slice::from_ref(change)).remove(0),
            };
            changes.iter().map(&mut answer).collect()
        }
    }

    fn picky<F: FnMut(&Change) -> Option<IpvsError>>(table: Table, refuses: F) -> Picky<F> {
        Picky { kernel: Memory::new(table), refuses, asked: Vec::new() }
    }

    #[test]
    fn what_exists_already_is_edited_before_anything_goes() {
        let found = table(&[Change::AddService(service(), wlc()), add(1, 0), add(2, 80)]);
        let mut kernel = picky(found, |_| None);
        let plan = plan([add(1, 80), delete(2)]);
        let applied = apply(&mut kernel, &plan);
        assert_eq!((applied.done, applied.surprises, applied.repaired), (2, 1, 2));
        assert_eq!(kernel.asked, [vec![add(1, 80)], vec![set(1, 80)], vec![delete(2)]]);
    }

    #[test]
    fn a_service_that_exists_already_is_edited() {
        let rr = ServiceConfig { scheduler: Scheduler("rr".to_owned()), ..wlc() };
        let mut kernel = Memory::new(table(&[Change::AddService(service(), rr)]));
        let applied = apply(&mut kernel, &plan([Change::AddService(service(), wlc()), add(1, 80)]));
        assert!(applied.is_complete());
        assert_eq!(kernel.table().unwrap()[&service()].config, wlc());
        assert_eq!(kernel.table().unwrap()[&service()].destinations.len(), 1);
    }

    #[test]
    fn what_is_gone_is_removed() {
        let gone = Change::DeleteService("fwmark://7".parse().unwrap());
        let from_gone = Change::DeleteDestination("fwmark://7".parse().unwrap(), server(1));
        let mut kernel = Memory::new(table(&[Change::AddService(service(), wlc())]));
        let applied = apply(&mut kernel, &plan([delete(1), from_gone, gone]));
        assert_eq!((applied.done, applied.surprises), (3, 3));
    }

    #[test]
    fn an_edit_of_what_is_gone_fails_and_the_rest_is_done() {
        let found = table(&[Change::AddService(service(), wlc()), add(2, 1)]);
        let mut kernel = Memory::new(found);
        let applied = apply(&mut kernel, &plan([set(1, 80), set(2, 80)]));
        assert_eq!((applied.done, applied.surprises, applied.undone), (1, 1, vec![0]));
        let failure = Failure { step: 0, error: IpvsError::NoSuchDestination, consequences: 0 };
        assert_eq!(applied.failures, [failure]);
    }

    #[test]
    fn consequences_are_folded_into_their_cause() {
        let missing = IpvsError::NoModuleFor {
            what: "scheduler",
            name: "wlc".to_owned(),
            module: "ip_vs_wlc".to_owned(),
        };
        let cause = missing.clone();
        let mut kernel = picky(Table::new(), move |change| {
            matches!(change, Change::AddService(..)).then(|| cause.clone())
        });
        let plan = plan([Change::AddService(service(), wlc()), add(1, 80), add(2, 80)]);
        let applied = apply(&mut kernel, &plan);
        let failure = Failure { step: 0, error: missing.clone(), consequences: 2 };
        assert_eq!(applied.failures, [failure]);
        assert_eq!(applied.undone, [0, 1, 2]);
        assert_eq!(applied.causes(), [(&missing, 3)]);
        assert_eq!(applied.surprises, 0);
        let mut cached = Table::new();
        believed(&mut cached, &plan, &applied);
        assert!(cached.is_empty());
    }

    #[test]
    fn what_nobody_declares_stays_while_its_successor_is_refused() {
        let mut kernel =
            Memory::new(table(&[Change::AddService(service(), wlc()), add(1, 1), add(2, 1)]));
        let mut plan = plan([add(3, u32::MAX), delete(1), delete(2)]);
        plan.steps[1].why = Why::Undeclared;
        plan.steps[2].why = Why::Down(None);
        let applied = apply(&mut kernel, &plan);
        assert_eq!((applied.done, applied.undone.as_slice()), (1, [0, 1].as_slice()));
        assert_eq!(applied.failures.len(), 1);
        assert_eq!(applied.failures[0].consequences, 1);
        let after = kernel.table().unwrap();
        let left: Vec<_> = after[&service()].destinations.keys().copied().collect();
        assert_eq!(left, [server(1)], "what is down goes all the same");
    }

    #[test]
    fn what_has_drained_goes_also_while_something_is_refused() {
        let found = table(&[Change::AddService(service(), wlc()), add(1, 0), add(2, 1)]);
        let mut kernel = Memory::new(found);
        let mut plan = plan([add(3, u32::MAX), delete(1), delete(2)]);
        for (step, had) in [(1, 0), (2, 1)] {
            plan.steps[step].why = Why::Undeclared;
            plan.steps[step].before = Some(Before::Destination(weight(had)));
        }
        assert_eq!(apply(&mut kernel, &plan).undone, [0, 2]);
    }

    #[test]
    fn the_sorry_server_stays_while_the_one_that_is_back_is_refused() {
        let found = table(&[Change::AddService(service(), wlc()), add(9, 1)]);
        let mut kernel = Memory::new(found.clone());
        let mut plan = plan([add(1, u32::MAX), set(9, 0)]);
        plan.steps[1].why = Why::SorryNoMore;
        assert_eq!(apply(&mut kernel, &plan).undone, [0, 1]);
        assert_eq!(kernel.table().unwrap(), found);
    }

    #[test]
    fn the_same_trouble_everywhere_has_one_cause() {
        let mut kernel = picky(Table::new(), |_| Some(IpvsError::Denied));
        let applied = apply(&mut kernel, &plan([set(1, 80), set(2, 80), delete(3)]));
        assert_eq!(applied.causes(), [(&IpvsError::Denied, 3)]);
        assert_eq!((applied.done, applied.repaired), (0, 0));
    }

    #[test]
    fn a_missing_answer_is_a_failure() {
        struct Mute;
        impl Ipvs for Mute {
            fn table(&mut self) -> Result<Table, IpvsError> {
                Ok(Table::new())
            }
            fn execute(&mut self, _: &[Change]) -> Vec<Result<(), IpvsError>> {
                Vec::new()
            }
        }
        let applied = apply(&mut Mute, &plan([add(1, 80)]));
        assert_eq!(applied.undone, [0]);
    }
}
