//! Traffic by the second of virtual services and destinations, and sizes for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ipvs::model::{Destination, Service, Traffic};

/// Traffic by the second at the last read, as the kernel smooths it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatesStatus {
    /// New connections.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients; `None` where answers do not pass the director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
}

impl RatesStatus {
    /// Those of a virtual service; `None` where nobody measures them.
    pub(super) fn of_service(service: &Service) -> Option<Self> {
        Self::of(&service.traffic, service.passes_back())
    }

    /// Those of a destination; likewise.
    pub(super) fn of_destination(destination: &Destination) -> Option<Self> {
        Self::of(&destination.traffic, destination.passes_back())
    }

    fn of(traffic: &Traffic, passes_back: bool) -> Option<Self> {
        let rates = traffic.rates?;
        let bytes_out = passes_back.then_some(rates.bytes_out);
        Some(Self { connections: rates.connections, bytes_in: rates.bytes_in, bytes_out })
    }
}

impl fmt::Display for RatesStatus {
    /// `12 conn/s, 3.4 MB/s in, 41 MB/s out`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} conn/s, {}/s in", self.connections, size(self.bytes_in))?;
        self.bytes_out.map_or(Ok(()), |bytes| write!(f, ", {}/s out", size(bytes)))
    }
}

/// `999 B`, `1.2 kB`, `34 MB`: a thousand bytes are a kilobyte, and six columns are enough.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // Above this it would be rounded to a thousand of its unit.
    const MOST: f64 = 999.5;
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= MOST && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && number < 9.95);
    format!("{number:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (41_000_000, "41 MB"),
            (1_250_000_000, "1.2 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
