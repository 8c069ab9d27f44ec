//! The weight of a destination that is in: configured × ramp × advised, unless an operator said
//! otherwise, and what it was made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ipvs::model::{Destination, DestinationConfig, DestinationKey};
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
    /// When the ramp of one that is up began: it came up, or it is back although it was up.
    pub(super) fn rises_since(
        &mut self,
        service: &VirtualService,
        key: DestinationKey,
        decision: &Decision,
    ) -> Option<Instant> {
        let id = (service.key, key);
        if service.slow_start.is_zero() {
            return decision.up_since;
        }
        if decision.is_kept_out() {
            self.next.returning.insert(id, None);
            return None;
        }
        let back = self.before.returning.get(&id).map(|back| back.unwrap_or(self.moment.now));
        let back = back.filter(|back| self.elapsed(*back) < service.slow_start);
        self.next.returning.extend(back.map(|back| (id, Some(back))));
        decision.up_since.map(|since| back.map_or(since, |back| since.max(back)))
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
