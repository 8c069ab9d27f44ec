//! Slow start: how much of its weight a real server has, so long after it came up.
//!
//! Pure. In steps, because every change of a weight is a write to the kernel.

use std::time::Duration;

use super::desired::Desired;
use super::plan::{self, Before};
use crate::ipvs::model::{Change, DestinationConfig};

/// Steps of a ramp.
pub const STEPS: u32 = 20;

/// A moment on a ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The share of the weight, in [`STEPS`]ths: 1 to `STEPS` − 1.
    pub share: u32,
    /// When the next step comes, from the start of the ramp.
    pub until: Duration,
}

impl Step {
    /// The share in percent.
    pub fn percent(self) -> u32 {
        self.share * 100 / STEPS
    }
}

/// The step of a ramp of this length, so long after its start; `None` at its end.
pub fn step(elapsed: Duration, length: Duration) -> Option<Step> {
    if elapsed >= length {
        return None;
    }
    let nanos = |duration: Duration| duration.as_nanos().max(1);
    let done = elapsed.as_nanos() * u128::from(STEPS) / nanos(length);
    let share = u32::try_from(done).unwrap_or(STEPS).saturating_add(1);
    (share < STEPS).then(|| Step { share, until: length * share / STEPS })
}

/// Whether a change does no more than raise a weight on its ramp: neither its beginning nor its end.
pub fn is_within_ramp(step: &plan::Step, desired: &Desired) -> bool {
    let (Change::SetDestination(service, key, after), Some(Before::Destination(before))) =
        (&step.change, &step.before)
    else {
        return false;
    };
    let desired = desired.services.get(service).and_then(|it| it.destinations.get(key));
    let parts = desired.and_then(|it| it.weight.as_deref());
    parts.is_some_and(|parts| parts.ramp_percent.is_some() && after.weight < parts.full())
        && (1..after.weight).contains(&before.weight)
        && DestinationConfig { weight: after.weight, ..*before } == *after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_by_table() {
        let ms = Duration::from_millis;
        let at = |elapsed| step(elapsed, ms(2000));
        assert_eq!(at(ms(0)), Some(Step { share: 1, until: ms(100) }));
        assert_eq!(at(ms(99)), Some(Step { share: 1, until: ms(100) }));
        assert_eq!(at(ms(100)), Some(Step { share: 2, until: ms(200) }));
        assert_eq!(at(ms(999)).map(Step::percent), Some(50));
        assert_eq!(at(ms(1899)), Some(Step { share: 19, until: ms(1900) }));
        assert_eq!(at(ms(1900)), None, "the last step is all of it");
        assert_eq!(at(ms(2000)), None);
        assert_eq!(step(ms(0), Duration::ZERO), None);
        assert_eq!(step(ms(5), Duration::from_nanos(1)), None);
    }

    /// Following the steps ends, with every share once and in order.
    #[test]
    fn every_step_leads_to_the_next() {
        let length = Duration::from_nanos(1_000_003);
        let (mut elapsed, mut shares) = (Duration::ZERO, Vec::new());
        while let Some(step) = step(elapsed, length) {
            assert!(step.until > elapsed);
            shares.push(step.share);
            elapsed = step.until + Duration::from_nanos(1);
        }
        assert_eq!(shares, (1..STEPS).collect::<Vec<_>>());
    }
}
