//! A plan as text for people: what changes, from what to what, why, and what is left as it is.
//!
//! Grouped by virtual service in the order of their keys; the order of execution is another one.
//! Deterministic. Prints nothing itself.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use crate::ipvs::model::{DestinationKey, ServiceKey};

use super::desired::Why;
use super::names::Names;
use super::plan::{Held, Plan, Step, Summary};
use super::wording::Sign;

/// Columns wider than this are not padded for.
const WIDEST: usize = 46;

/// The whole plan with its summary, each line ended, with ANSI colours if asked; without the
/// virtual services for probes, which are of interest only to those who look for them.
pub fn render(plan: &Plan, names: &Names, colour: bool) -> String {
    render_some(plan, names, colour, |service| !service.is_private())
}

/// The same with the virtual services for probes.
pub fn render_all(plan: &Plan, names: &Names, colour: bool) -> String {
    render_some(plan, names, colour, |_| true)
}

fn render_some(
    plan: &Plan,
    names: &Names,
    colour: bool,
    is_shown: impl Fn(&ServiceKey) -> bool,
) -> String {
    let mut text = String::new();
    for (service, group) in groups(plan, names).into_iter().filter(|(service, _)| is_shown(service))
    {
        group.write(&mut text, service, colour);
        text.push('\n');
    }
    let guarded = ("ours, but in no policy", Sign::Notice, "held by the reload guard");
    write_services(&mut text, "guarded", &plan.guarded, guarded, colour);
    let foreign = ("not ours and in no policy", Sign::Rest, "left alone");
    write_services(&mut text, "foreign", &plan.foreign, foreign, colour);
    text.push_str(&paint(colour, BOLD, &plan.summary().to_string()));
    text.push('\n');
    text
}

impl fmt::Display for Summary {
    /// `4 to add, 1 to change, 1 to remove; 2 held; 1 foreign service left alone`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.add + self.change + self.remove == 0 {
            f.write_str("nothing to do")?;
        } else {
            write!(f, "{} to add, {} to change, ", self.add, self.change)?;
            write!(f, "{} to remove", self.remove)?;
        }
        match self.repairs {
            0 => {}
            1 => f.write_str(", 1 of them a repair")?,
            repairs => write!(f, ", {repairs} of them repairs")?,
        }
        match self.down {
            0 => {}
            1 => f.write_str("; 1 stays down")?,
            down => write!(f, "; {down} stay down")?,
        }
        if self.draining > 0 {
            write!(f, "; {} draining", self.draining)?;
        }
        if self.held > 0 {
            write!(f, "; {} held", self.held)?;
        }
        match self.foreign {
            0 => {}
            1 => f.write_str("; 1 foreign service left alone")?,
            foreign => write!(f, "; {foreign} foreign services left alone")?,
        }
        match self.private {
            0 => Ok(()),
            1 => f.write_str("; 1 change for probes through virtual addresses (--all shows it)"),
            many => {
                write!(
                    f,
                    "; {many} changes for probes through virtual addresses (--all shows them)"
                )
            }
        }
    }
}

const BOLD: &str = "1";

impl Sign {
    fn colour(self) -> &'static str {
        match self {
            Self::Add => "32",
            Self::Change => "33",
            Self::Remove => "31",
            Self::Notice => "35",
            Self::Rest => "2",
        }
    }
}

/// The lines of one virtual service.
#[derive(Default)]
struct Group {
    policy: Option<Arc<str>>,
    lines: Vec<Line>,
}

struct Line {
    /// `None`, the service itself, comes first.
    destination: Option<DestinationKey>,
    sign: Sign,
    subject: String,
    what: String,
    reason: String,
}

fn groups(plan: &Plan, names: &Names) -> BTreeMap<ServiceKey, Group> {
    let mut groups: BTreeMap<ServiceKey, Group> = BTreeMap::new();
    for step in &plan.steps {
        let group = groups.entry(*step.change.service()).or_default();
        group.policy.clone_from(&step.policy);
        group.lines.push(Line::of_step(step, names));
    }
    for held in plan.held.chunk_by(|left, right| left.service == right.service) {
        let group = groups.entry(held[0].service).or_default();
        group.policy.clone_from(&held[0].policy);
        group.hold(held, names);
    }
    for group in groups.values_mut() {
        group.lines.sort_by_key(|line| line.destination);
    }
    groups
}

impl Group {
    /// Adds a line each, but one for all that just stay as they are: there may be many.
    fn hold(&mut self, held: &[Held], names: &Names) {
        let is_plain = |held: &&Held| {
            held.why.is_undecided() && held.config.is_some_and(|config| config.weight > 0)
        };
        for why in [Why::Unknown, Why::Unconfirmed, Why::Unadvised] {
            let mut plain = held.iter().filter(is_plain).filter(|held| held.why == why);
            let Some(first) = plain.next() else { continue };
            let mut line = Line::of_held(first, names);
            let others = plain.count();
            if others > 0 {
                line.subject = format!("{} and {others} more", line.subject);
                line.what = "stay as they are".to_owned();
            }
            self.lines.push(line);
        }
        self.lines
            .extend(held.iter().filter(|held| !is_plain(held)).map(|it| Line::of_held(it, names)));
    }

    fn write(&self, text: &mut String, service: ServiceKey, colour: bool) {
        let policy = match &self.policy {
            Some(policy) => format!("policy {policy}"),
            None => "ours, but in no policy".to_owned(),
        };
        let _ = writeln!(text, "{}  {policy}", paint(colour, BOLD, &service.to_string()));
        let subject = width(self.lines.iter().map(|line| &line.subject));
        let what = width(self.lines.iter().map(|line| &line.what));
        for line in &self.lines {
            let body = format!(
                "{} {:subject$}  {:what$}  {}",
                line.sign, line.subject, line.what, line.reason
            );
            let _ = writeln!(text, "  {}", paint(colour, line.sign.colour(), &body));
        }
    }
}

impl Line {
    fn of_step(step: &Step, names: &Names) -> Self {
        let destination = step.destination().copied();
        let subject = match destination {
            Some(destination) => names.show(*step.change.service(), destination),
            None => "virtual service".to_owned(),
        };
        let (sign, what, reason) = (step.sign(), step.what(), step.reason());
        Self { destination, sign, subject, what, reason }
    }

    fn of_held(held: &Held, names: &Names) -> Self {
        Self {
            destination: Some(held.destination),
            sign: held.sign(),
            subject: names.show(held.service, held.destination),
            what: held.what(),
            reason: held.reason(),
        }
    }
}

/// Services on which nothing is done: a title with its meaning, and a line with a sign each.
fn write_services(
    text: &mut String,
    title: &str,
    services: &[ServiceKey],
    (meaning, sign, what): (&str, Sign, &str),
    colour: bool,
) {
    if services.is_empty() {
        return;
    }
    let _ = writeln!(text, "{}  {meaning}", paint(colour, BOLD, title));
    for service in services {
        let line = format!("{sign} {service}  {what}");
        let _ = writeln!(text, "  {}", paint(colour, sign.colour(), &line));
    }
    text.push('\n');
}

fn width<'l>(column: impl Iterator<Item = &'l String>) -> usize {
    column.map(|cell| cell.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or(0)
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_asked() {
        let plan = Plan { foreign: vec!["fwmark://7".parse().unwrap()], ..Plan::default() };
        let plain = render(&plan, &Names::default(), false);
        assert!(!plain.contains('\x1b'), "{plain}");
        let coloured = render(&plan, &Names::default(), true);
        assert!(coloured.contains("\x1b[1mforeign\x1b[0m"), "{coloured}");
        assert!(coloured.contains("\x1b[2m· fwmark://7  left alone\x1b[0m\n"), "{coloured}");
    }

    #[test]
    fn the_summary_counts_in_words() {
        let none = Summary::default();
        for (summary, text) in [
            (none, "nothing to do"),
            (Summary { foreign: 1, ..none }, "nothing to do; 1 foreign service left alone"),
            (
                Summary { add: 4, change: 1, remove: 1, held: 2, foreign: 2, ..none },
                "4 to add, 1 to change, 1 to remove; 2 held; 2 foreign services left alone",
            ),
            (
                Summary { add: 2, repairs: 1, down: 1, ..none },
                "2 to add, 0 to change, 0 to remove, 1 of them a repair; 1 stays down",
            ),
            (
                Summary { add: 2, repairs: 2, down: 3, ..none },
                "2 to add, 0 to change, 0 to remove, 2 of them repairs; 3 stay down",
            ),
            (Summary { draining: 2, held: 1, ..none }, "nothing to do; 2 draining; 1 held"),
        ] {
            assert_eq!(summary.to_string(), text);
        }
    }
}
