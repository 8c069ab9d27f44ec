//! Durations in buckets, and the durations of probes by policy and check.

use std::collections::HashMap;
use std::time::Duration;

use crate::policy::model::PolicySet;

/// Bounds in milliseconds for how late a probe starts.
pub const LATENESS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
/// Bounds in milliseconds for how long a probe takes.
pub const LATENCY: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// Durations, counted in buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds of the buckets in milliseconds, each inclusive.
    pub bounds: &'static [u64],
    /// One count per bound, and one for everything longer.
    pub counts: Vec<u64>,
    /// All durations together.
    pub sum: Duration,
}

impl Histogram {
    /// An empty one with these bounds.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    /// Takes in one duration.
    pub fn count(&mut self, duration: Duration) {
        let bucket = self.bounds.partition_point(|it| Duration::from_millis(*it) < duration);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many it has taken in.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How long the probes of one check of one policy took, over all its real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// The policy.
    pub policy: String,
    /// The check, as [`PolicySet::check_names`] calls it.
    pub check: String,
    /// Of attempts that passed or failed.
    pub histogram: Histogram,
}

/// The same for all policies. One of a real server that is gone still counts, so that the numbers
/// only grow; one of a policy or check that is gone does not.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    all: Vec<Latency>,
    /// For each target, where its durations count.
    of_target: Vec<Vec<u32>>,
}

impl Latencies {
    pub(super) fn set_policies(&mut self, set: &PolicySet) {
        let mut before: HashMap<(String, String), Histogram> = std::mem::take(&mut self.all)
            .into_iter()
            .map(|it| ((it.policy, it.check), it.histogram))
            .collect();
        self.of_target = vec![Vec::new(); set.targets.len()];
        for policy in &set.policies {
            let first = self.all.len();
            for server in policy.real_servers.iter().chain(&policy.sorry_server) {
                for (target, check) in set.check_names(server) {
                    let known = self.all[first..].iter().position(|it| it.check == check);
                    let index = known.map_or(self.all.len(), |known| first + known);
                    if known.is_none() {
                        let histogram = before
                            .remove(&(policy.name.clone(), check.clone()))
                            .unwrap_or_else(|| Histogram::new(LATENCY));
                        self.all.push(Latency { policy: policy.name.clone(), check, histogram });
                    }
                    let counts = &mut self.of_target[target.0 as usize];
                    let index = index as u32;
                    if !counts.contains(&index) {
                        counts.push(index);
                    }
                }
            }
        }
    }

    pub(super) fn count(&mut self, target: u32, took: Duration) {
        let Some(counts) = self.of_target.get(target as usize) else { return };
        for index in counts {
            self.all[*index as usize].histogram.count(took);
        }
    }

    pub(super) fn all(&self) -> &[Latency] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_is_open() {
        let mut histogram = Histogram::new(LATENESS);
        for (micros, bucket) in [(0, 0), (1_000, 0), (1_001, 1), (1_000_000, 9), (1_000_001, 10)] {
            let before = histogram.counts[bucket];
            histogram.count(Duration::from_micros(micros));
            assert_eq!(histogram.counts[bucket], before + 1, "{micros}");
        }
        assert_eq!(histogram.total(), 5);
        assert_eq!(histogram.sum, Duration::from_micros(2_002_002));
    }
}
