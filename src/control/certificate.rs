//! How long the certificate of a real server lasts, as the status and an explanation show it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::status::{rfc3339, seconds};
use super::text::age;

/// The latest moment that is shown as such, in seconds since 1970: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// The certificate that was shown last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// When it ends.
    pub ends: String,
    /// Seconds until then; 0 when that is over.
    pub left: f64,
}

impl CertificateStatus {
    pub(super) fn new(ends: u64, wall: SystemTime) -> Self {
        let ends = since_1970(ends);
        let left = ends.duration_since(wall).unwrap_or_default();
        Self { ends: rfc3339(ends), left: seconds(left) }
    }
}

impl fmt::Display for CertificateStatus {
    /// `the certificate ends at 2026-12-01T00:00:00Z, in 3days 4h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            0.0 => write!(f, "the certificate ENDED at {}", self.ends),
            left => write!(f, "the certificate ends at {}, in {}", self.ends, age(left)),
        }
    }
}

/// A moment; what is later than the year 9999 is its end.
pub(crate) fn since_1970(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_and_what_is_over_too() {
        let now = since_1970(1_000_000);
        for (ends, told) in [
            (1_000_090, "the certificate ends at 1970-01-12T13:48:10Z, in 1m 30s"),
            (999_999, "the certificate ENDED at 1970-01-12T13:46:39Z"),
        ] {
            assert_eq!(CertificateStatus::new(ends, now).to_string(), told);
        }
        assert_eq!(CertificateStatus::new(u64::MAX, now).ends, "9999-12-31T23:59:59Z");
    }
}
