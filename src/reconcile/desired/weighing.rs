//! The weight of a destination that is in: configured × ramp × advised, unless an operator said
//! otherwise, and what it was made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ipvs::model::{Destination, DestinationConfig};
use crate::policy::model::{DeclaredDestination, VirtualService};
use crate::probe::advice::{AdvisedWeight, scaled};

use super::{DesiredDestination, Pass, Why};
use crate::reconcile::fitness::Decision;
use crate::reconcile::ramp::{self, STEPS};

/// How a weight came about: configured × ramp × advised, unless an operator said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightParts {
    /// As the policy says.
    pub configured: u32,
    /// The share that slow start gives it now, in percent; `None` off a ramp.
    pub ramp_percent: Option<u32>,
    /// What the real server asks for.
    pub advised: Option<AdvisedWeight>,
    /// What an operator said.
    pub overridden: Option<u32>,
}

impl WeightParts {
    /// The weight at the end of a ramp.
    pub(in crate::reconcile) fn full(&self) -> u32 {
        self.advised.map_or(self.configured, |advised| advised.of(self.configured))
    }
}

impl Pass<'_> {
    /// When the ramp of one that is up began: it came up, or it is back although it was up. What is
    /// noted of it is for the next run.
    pub(super) fn rises_since(
        &mut self,
        service: &VirtualService,
        declared: &DeclaredDestination,
        decision: &Decision,
        found: Option<&Destination>,
    ) -> Option<Instant> {
        let id = (service.key, declared.key);
        if service.slow_start.is_zero() {
            return decision.up_since;
        }
        if decision.is_kept_out() {
            self.next.returning.insert(id, None);
            return None;
        }
        let full =
            decision.advised.map_or(declared.config.weight, |it| it.of(declared.config.weight));
        let has = found.map_or(0, |found| found.config.weight);
        let noted = self.before.returning.get(&id).map(|back| {
            let back = back.unwrap_or(self.moment.now);
            self.interrupted(service.slow_start, has, full).map_or(back, |at| back.max(at))
        });
        let since = decision.up_since.max(noted);
        let since = since.filter(|since| self.elapsed(*since) < service.slow_start);
        let is_noted = noted.is_some() || has < full;
        self.next.returning.extend(since.filter(|_| is_noted).map(|since| (id, Some(since))));
        since.filter(|_| decision.up_since.is_some())
    }

    /// When a ramp began that has led to this weight, in the first pass of a run: between the last
    /// run and this one nobody raised it.
    fn interrupted(&self, slow_start: Duration, has: u32, full: u32) -> Option<Instant> {
        let is_first = self.before.doubted.is_none();
        let lived = (is_first && has < full).then(|| slow_start * has / full)?;
        self.moment.now.checked_sub(lived)
    }

    /// The weight of a destination that is in. A ramp never lowers what the table has: one that
    /// took part all the time, while we were away or while the floor kept it, goes on. And who was
    /// on a ramp stays there while it is in for another reason than that it is up.
    pub(super) fn weigh(
        &mut self,
        declared: &DeclaredDestination,
        decision: &Decision,
        (rises_since, slow_start): (Option<Instant>, Duration),
        found: Option<&Destination>,
    ) -> DesiredDestination {
        let configured = declared.config.weight;
        let mut parts = WeightParts { configured, ..WeightParts::default() };
        let in_weight = |weight| DestinationConfig { weight, ..declared.config };
        if let Some((weight, words)) = &decision.overridden {
            parts.overridden = Some(*weight);
            let why = Why::Overridden(Arc::clone(words));
            let parts = Some(Box::new(parts));
            return DesiredDestination { config: in_weight(*weight), why, weight: parts };
        }
        parts.advised = decision.advised;
        let full = parts.full();
        let mut weight = full;
        if let Some(since) = rises_since
            && let Some(step) = ramp::step(self.elapsed(since), slow_start)
        {
            let has = found.map_or(0, |found| found.config.weight);
            if has < full {
                parts.ramp_percent = Some(step.percent());
                weight = scaled(full, u64::from(step.share), u64::from(STEPS)).max(has);
                self.wake_at(since + step.until);
            }
        }
        if !slow_start.is_zero()
            && decision.stays_as_found()
            && let Some(has) = found.map(|found| found.config.weight)
            && (1..full).contains(&has)
        {
            let why = decision.why.clone();
            return DesiredDestination {
                config: in_weight(has),
                why,
                weight: Some(Box::new(parts)),
            };
        }
        let is_plain = parts.ramp_percent.is_none() && parts.advised.is_none();
        // What keeps it in goes before what its weight is made of.
        let why = match weight == configured || decision.stays_as_found() {
            true => decision.why.clone(),
            false => weighed(&parts),
        };
        let parts = (!is_plain).then(|| Box::new(parts));
        DesiredDestination { config: in_weight(weight), why, weight: parts }
    }
}

/// `slow start, 40%`, `the real server asks for 75%`.
fn weighed(parts: &WeightParts) -> Why {
    let ramp = parts.ramp_percent.map(|percent| format!("slow start, {percent}%"));
    let advised = parts.advised.map(|advised| match advised {
        AdvisedWeight::Percent(percent) => format!("the real server asks for {percent}%"),
        AdvisedWeight::Absolute(weight) => format!("the real server asks for weight {weight}"),
    });
    let words: Vec<String> = ramp.into_iter().chain(advised).collect();
    Why::Weighed(words.join("; ").into())
}
