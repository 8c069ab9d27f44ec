//! The clock is right. The kernel says so, whoever sets it; who that is only helps to mend it.

use std::time::Duration;

use super::{Case, Finding, Severity};
use crate::control::status::short;
use crate::doctor::facts::Clock;

/// Programs that set the clock, by their names in `/proc/PID/comm`, which has 15 letters; their
/// names, and what shows why they do not set it.
const PROGRAMS: [(&str, &str, &str); 7] = [
    ("chronyd", "chronyd", "chronyc -n sources"),
    ("systemd-timesyn", "systemd-timesyncd", "timedatectl timesync-status"),
    ("ntpd", "ntpd", "ntpq -pn"),
    ("openntpd", "openntpd", "ntpctl -s all"),
    ("ptp4l", "ptp4l", "journalctl -u ptp4l -n 20"),
    ("phc2sys", "phc2sys", "journalctl -u phc2sys -n 20"),
    ("timemaster", "timemaster", "journalctl -u timemaster -n 20"),
];

/// Has the clock set where nothing does. `timedatectl` only switches on what is installed.
const SET: &str = "timedatectl set-ntp true || apt-get install -y systemd-timesyncd";

/// The largest error that the kernel counts (`NTP_PHASE_LIMIT`): nobody has set the clock for long.
const UNKNOWN_ERROR: u64 = 16_000_000;

pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    vec![finding(case)]
}

fn finding(case: &Case<'_>) -> Finding {
    const ID: &str = "clock";
    let program = case.facts.running(&PROGRAMS.map(|(comm, ..)| comm));
    let program = program.and_then(|it| PROGRAMS.into_iter().find(|(comm, ..)| *comm == it.name));
    let finding = match &case.facts.clock {
        Ok(clock) if is_right(*clock) => {
            let off = short(Duration::from_micros(clock.max_error_micros));
            let by = program.map_or(String::new(), |(_, name, _)| format!(" by {name}"));
            return Finding::ok(ID, ID, format!("synchronised{by}, at most {off} off"));
        }
        Ok(_) => {
            let set = match program {
                Some((_, name, _)) => format!("{name} runs and has not set it"),
                None => "no program runs here that is known to set it".to_owned(),
            };
            Finding::new(Severity::Warning, ID, ID).is(format!("not synchronised; {set}"))
        }
        Err(reason) => Finding::unseen(ID, ID, reason),
    };
    finding
        .should("synchronised, by chronyd, systemd-timesyncd or another")
        .why(
            "certificates are judged by it, records of a clock that was ahead are not taken over, and \
             events of two directors cannot be put in order",
        )
        .run(program.map_or(SET, |(_, _, shows)| shows))
}

/// Some keep `STA_UNSYNC` set on purpose, so that the kernel leaves the hardware clock alone
/// (systemd-timesyncd, where that has local time). The error that they maintain tells.
fn is_right(clock: Clock) -> bool {
    !clock.unsynchronised || clock.max_error_micros < UNKNOWN_ERROR
}
