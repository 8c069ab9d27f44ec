//! What one decision leaves to the next, beyond what the table itself shows.
//!
//! Pure. The driver keeps it, hands it to [`super::desired`], and records it, so that a restart
//! goes on where it was: a deadline does not begin anew, and who is withdrawn stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::ipvs::model::{DestinationKey, ServiceKey};
use crate::record::Kind;

/// The record of it.
pub const STANDING: Kind = Kind {
    name: "standing",
    key: "standing",
    what: "drains and withdrawals",
    without: "drain deadlines begin anew",
};

/// Decisions that last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Policies whose real servers are all withdrawn because too few of them are up.
    pub withdrawn: BTreeSet<String>,
    /// Destinations that drain, and since when.
    pub draining: BTreeMap<(ServiceKey, DestinationKey), Instant>,
    /// How long what leaves them may keep its connections, where that is not the default: what a
    /// virtual service is told by after no policy declares it any more.
    pub drains: BTreeMap<ServiceKey, Duration>,
    /// Under slow start, destinations that an operator or their own word keeps out (`None`), and
    /// since when those rise that are on a ramp.
    pub returning: BTreeMap<(ServiceKey, DestinationKey), Option<Instant>>,
    /// Destinations whose real servers have an unconfirmed verdict that the table contradicted in the
    /// first pass; `None` before that. Later it shows what this run did, which is no testimony.
    pub doubted: Option<BTreeSet<(ServiceKey, DestinationKey)>>,
}

/// The same with times that mean something to another process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    withdrawn: BTreeSet<String>,
    draining: Vec<RecordedDrain>,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drains: Vec<(ServiceKey, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    returning: Vec<RecordedReturn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedReturn {
    service: ServiceKey,
    destination: DestinationKey,
    /// Seconds since 1970; `None`: it is still out.
    since: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedDrain {
    service: ServiceKey,
    destination: DestinationKey,
    /// Seconds since 1970.
    since: u64,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The one that never jumps.
    pub now: Instant,
    /// The one on the wall.
    pub wall: SystemTime,
}

impl Standing {
    /// As it is written down.
    pub fn record(&self, clocks: Clocks) -> Recorded {
        let seconds = |since: Instant| {
            let ago = clocks.now.saturating_duration_since(since);
            let wall = clocks.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
            wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
        };
        let draining = self.draining.iter().map(|((service, destination), since)| RecordedDrain {
            service: *service,
            destination: *destination,
            since: seconds(*since),
        });
        let returning = self.returning.iter().map(|((service, destination), since)| {
            let (service, destination, since) = (*service, *destination, since.map(seconds));
            RecordedReturn { service, destination, since }
        });
        let millis = |drain: &Duration| u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        Recorded {
            withdrawn: self.withdrawn.clone(),
            draining: draining.collect(),
            drains: self.drains.iter().map(|(key, drain)| (*key, millis(drain))).collect(),
            returning: returning.collect(),
        }
    }

    /// As it was written down; a time to come, by a clock that was set back, is now.
    pub fn of(recorded: Recorded, clocks: Clocks) -> Self {
        let instant = |seconds: u64| {
            let wall = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            let ago = wall.and_then(|wall| clocks.wall.duration_since(wall).ok());
            ago.and_then(|ago| clocks.now.checked_sub(ago)).unwrap_or(clocks.now)
        };
        let draining = recorded
            .draining
            .iter()
            .map(|drain| ((drain.service, drain.destination), instant(drain.since)));
        let returning = recorded
            .returning
            .iter()
            .map(|one| ((one.service, one.destination), one.since.map(instant)));
        let drains = recorded.drains.iter().map(|(key, it)| (*key, Duration::from_millis(*it)));
        Self {
            draining: draining.collect(),
            drains: drains.collect(),
            returning: returning.collect(),
            withdrawn: recorded.withdrawn,
            doubted: None,
        }
    }

    /// Whether the same things drain, are withdrawn and return.
    pub fn is_like(&self, other: &Self) -> bool {
        self.withdrawn == other.withdrawn
            && self.draining.keys().eq(other.draining.keys())
            && self.drains == other.drains
            && self.returning == other.returning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(wall: u64) -> Clocks {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now() + Duration::from_secs(1_000_000);
        Clocks { now, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall) }
    }

    fn draining(since: Instant) -> Standing {
        let id = ("tcp://192.0.2.1:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let returning = [(id, None), ((id.0, "10.0.0.2:80".parse().unwrap()), Some(since))].into();
        let (withdrawn, draining) = (["www".to_owned()].into(), [(id, since)].into());
        let drains = [(id.0, Duration::from_millis(1500))].into();
        Standing { withdrawn, draining, drains, returning, doubted: None }
    }

    #[test]
    fn a_drain_goes_on_after_a_restart() {
        let (before, after) = (clocks(5_000), clocks(5_030));
        let recorded = draining(before.now - Duration::from_secs(20)).record(before);
        let text = serde_json::to_string(&recorded).unwrap();
        let read = Standing::of(serde_json::from_str(&text).unwrap(), after);
        assert_eq!(read, draining(after.now - Duration::from_secs(50)));
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let (before, after) = (clocks(5_000), clocks(100));
        let recorded = draining(before.now).record(before);
        assert_eq!(Standing::of(recorded, after), draining(after.now));
    }
}
