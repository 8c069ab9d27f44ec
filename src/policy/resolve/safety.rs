//! Drain, slow start, the health floor and the sorry server: what they demand of the rest.

use std::time::Duration;

use crate::policy::file::PolicyFile;
use crate::policy::file::safety::{AtFloorWord, FloorEntry};
use crate::policy::model::{AtFloor, HealthFloor, OnDown, Share, default_drain};
use crate::policy::source::{Place, Report};

use super::server::Server;
use super::service::Service;

/// How long connections of a service may take to end.
pub(super) fn drain(file: &PolicyFile, service: &Service) -> Duration {
    let by_default = default_drain(&service.key.value, &service.config);
    let written = file.safety.drain.get().filter(|_| !service.config.flags.one_packet);
    written.map_or(by_default, |drain| drain.value)
}

/// How long a real server takes to its whole weight in a service.
pub(super) fn slow_start(
    file: &PolicyFile,
    service: &Service,
    report: &mut Report<'_>,
) -> Duration {
    let Some(written) = file.safety.slow_start.get() else { return Duration::ZERO };
    let (key, scheduler) = (&service.key.value, service.config.scheduler.0.as_str());
    let help = "use `wrr` or `wlc`, or leave `slow_start` out";
    match scheduler {
        "wrr" | "wlc" | "sed" | "nq" | "lblc" | "lblcr" | "twos" => written.value,
        "rr" | "lc" => {
            let message =
                format!("`slow_start` does nothing in `{key}`: `{scheduler}` ignores weights");
            report.lint(written.place, message, help);
            Duration::ZERO
        }
        "mh" | "sh" | "dh" => {
            let message = format!(
                "`slow_start` with scheduler `{scheduler}` of `{key}`: each step would move clients \
                 to other real servers"
            );
            report.error(written.place, message, help);
            Duration::ZERO
        }
        _ => {
            let message = format!(
                "`slow_start` with scheduler `{scheduler}` of `{key}`, where weights are an order"
            );
            report.error(written.place, message, help);
            Duration::ZERO
        }
    }
}

/// The health floor of a policy with so many real servers.
pub(super) fn health_floor(
    file: &PolicyFile,
    servers: usize,
    report: &mut Report<'_>,
) -> Option<HealthFloor> {
    let FloorEntry { min_up, at_floor, return_at } = &file.safety.health_floor.get()?.value;
    for (share, place) in std::iter::once((min_up.value, min_up.place))
        .chain(return_at.get().map(|at| (at.value, at.place)))
    {
        if let Share::Count(count) = share
            && usize::try_from(count).unwrap_or(usize::MAX) > servers
        {
            let message = format!("{count} real servers, but the policy has {servers}");
            report.error(
                place,
                message,
                format!("write at most {servers}, or a share such as `50%`"),
            );
        }
    }
    let at_floor = match at_floor.unwrap_or(AtFloorWord::Keep) {
        AtFloorWord::Keep => {
            if let Some(return_at) = return_at.get() {
                let help = "write `at_floor: withdraw`, or leave `return_at` out";
                report.error(return_at.place, "`return_at` is for `at_floor: withdraw`", help);
            }
            AtFloor::Keep
        }
        AtFloorWord::Withdraw => {
            let least = min_up.value.of(servers);
            let one_more = u32::try_from(least + 1).unwrap_or(u32::MAX);
            let return_at = match return_at.get() {
                None => Share::Count(one_more),
                Some(at) => {
                    if at.value.of(servers) < least {
                        let message = "`return_at` is below `min_up`";
                        report.error(
                            at.place,
                            message,
                            "real servers come back at `min_up` at least",
                        );
                    }
                    at.value
                }
            };
            AtFloor::Withdraw { return_at }
        }
    };
    Some(HealthFloor { min_up: min_up.value, at_floor })
}

/// What is legal but suspicious about draining, ramps and `on_down`.
pub(super) fn lint(
    file: &PolicyFile,
    (services, servers): (&[Service], &[Server<'_>]),
    sysctl: impl Fn(&str) -> Option<String>,
    report: &mut Report<'_>,
) {
    let hashed = services.iter().find(|service| service.config.refuses_weight_0());
    let on_down = file.on_down.get();
    if let Some(service) = hashed {
        let (key, scheduler) = (&service.key.value, &service.config.scheduler);
        let help = match scheduler.0.as_str() {
            "dh" => "use another scheduler".to_owned(),
            name => format!("add `flags: [{name}-fallback]`"),
        };
        if let Some(drain) = file.safety.drain.get() {
            let message = format!(
                "a real server of `{key}` does not drain: under `{scheduler}` its clients are refused at weight 0"
            );
            report.lint(drain.place, message, &help);
        }
        if let Some(on_down) = on_down.filter(|on_down| on_down.value == OnDown::Quiesce) {
            let message = format!(
                "under `{scheduler}` of `{key}` clients of a real server with weight 0 are refused"
            );
            report.lint(on_down.place, message, &help);
        }
    }
    if let Some(slow_start) = file.safety.slow_start.get()
        && servers.iter().all(|server| server.config.weight <= 1)
    {
        let message = "`slow_start` does nothing: weight 1 has no steps";
        report.lint(slow_start.place, message, "write weights such as `weight: 100`");
    }
    if let Some(on_down) = on_down.filter(|on_down| on_down.value == OnDown::Cut) {
        cut(on_down.place, sysctl, report);
    }
}

/// Without the kernel's help a removed destination leaves its connections hanging: their packets
/// are dropped without a word (ip_vs_in, `sysctl_expire_nodest_conn`).
fn cut(place: Place, sysctl: impl Fn(&str) -> Option<String>, report: &mut Report<'_>) {
    const NAME: &str = "net/ipv4/vs/expire_nodest_conn";
    if sysctl(NAME).is_some_and(|value| value == "0") {
        let message = "connections will hang rather than be cut: on this machine net.ipv4.vs.expire_nodest_conn is 0";
        report.lint(place, message, "run `sysctl -w net.ipv4.vs.expire_nodest_conn=1`");
    }
}
