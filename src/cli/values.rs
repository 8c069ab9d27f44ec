//! What flags take beside plain words: durations, sizes, shares. The settings file takes the same.

use std::str::FromStr;
use std::time::Duration;

use super::args::Most;
use crate::control::overrides::LONGEST;
use crate::policy::guard::Guard;
use crate::policy::model::Share;

/// From a tenth of a second to a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration such as `30s` or `5m`"))?;
    if duration < Duration::from_millis(100) || duration > Duration::from_secs(86_400) {
        return Err("must be from 100ms to 1day".to_owned());
    }
    Ok(duration)
}

/// A number of addresses, a share of them, or `off`.
pub(super) fn blast_limit(text: &str) -> Result<Most, String> {
    let share = match text.strip_suffix('%') {
        _ if text == "off" => return Ok(Most(None)),
        Some(share) => {
            let share = whole(share).filter(|share| (1..100).contains(share));
            share.map(Share::Percent)
        }
        None => whole(text).filter(|count| *count > 0).map(Share::Count),
    };
    match share {
        Some(share) => Ok(Most(Some(share))),
        None => Err(format!("`{text}` is not a number from 1, a share from 1% to 99%, or `off`")),
    }
}

/// From a second to a year.
pub(super) fn term(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration such as `30m` or `2h`"))?;
    if duration < Duration::from_secs(1) || duration > Duration::from_secs(LONGEST) {
        return Err("must be from 1s to 366days".to_owned());
    }
    Ok(duration)
}

/// A share, or `off`.
pub(super) fn guard(text: &str) -> Result<Guard, String> {
    if text == "off" {
        return Ok(Guard::Off);
    }
    let number = text.strip_suffix('%').and_then(whole);
    number
        .filter(|percent| *percent < 100)
        .map(Guard::Percent)
        .ok_or_else(|| "must be a share from `0%` to `99%`, or `off` to hold nothing".to_owned())
}

/// In bytes, KiB, MiB or GiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("", 1),
    ];
    let help = || format!("`{text}` is not a size from 1KiB to 1024GiB; write `10MiB`");
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim(), unit)))
        .ok_or_else(help)?;
    let number: u64 = whole(number).ok_or_else(help)?;
    number.checked_mul(*unit).filter(|bytes| (1 << 10..=1 << 40).contains(bytes)).ok_or_else(help)
}

/// A whole number of nothing but digits; the standard library takes a `+`, too.
fn whole<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2 G"), Ok(2 << 30));
        for wrong in ["", "0", "-1MiB", "+1MiB", "1.5MiB", "99999999999999999999G", "10MB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "30", "0s", "2days", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(term("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "999ms", "367days", "2"] {
            assert!(term(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn guards() {
        assert_eq!(guard("50%"), Ok(Guard::Percent(50)));
        assert_eq!(guard("off"), Ok(Guard::Off));
        for wrong in ["", "50", "100%", "-1%", "+5%", "1.5%", "on"] {
            assert!(guard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn blast_limits() {
        assert_eq!(blast_limit("off"), Ok(Most(None)));
        assert_eq!(blast_limit("2"), Ok(Most(Some(Share::Count(2)))));
        assert_eq!(blast_limit("50%"), Ok(Most(Some(Share::Percent(50)))));
        for wrong in
            ["", "0", "-1", "+7", "+7%", "0%", "100%", "300%", "half", "%", "1.5%", "99999999999"]
        {
            assert!(blast_limit(wrong).is_err(), "{wrong}");
        }
    }
}
