//! Checks: their timing, their question, and the target that each real server makes of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::health::Hysteresis;
use crate::ipvs::model::Family;
use crate::policy::decode::Field;
use crate::policy::file::PolicyFile;
use crate::policy::file::check::{CheckEntry, KindEntry};
use crate::policy::file::http::{ExpectEntry, HttpEntry, HttpKind};
use crate::policy::model::ChecksNeeded;
use crate::policy::source::{At, Place, Report};
use crate::probe::target::{
    Check, CheckKind, GrpcCheck, HttpCheck, ProxyProtocol, SmtpCheck, Target, Timing, WeightFrom,
};

use super::server::{Destinations, Server};
use super::service::Service;
use super::tls::{self, Authorities};
use super::via::{self, Probe, Way};
use super::{advice, damping};

/// A check whose question is decided.
#[derive(Debug)]
pub(super) struct Resolved<'f> {
    entry: &'f CheckEntry,
    place: Place,
    check: Arc<Check>,
    timing: Timing,
    is_via: bool,
}

/// The checks of a list, without those that are wrong.
pub(super) fn resolve<'f>(
    entries: &'f [At<CheckEntry>],
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Vec<Resolved<'f>> {
    let resolved = |At { value: entry, place }: &'f At<CheckEntry>| {
        let timing = timing(entry, report);
        let kind = kind(entry, *place, authorities, report);
        let fits = kind.as_ref().is_none_or(|kind| advice::fits(entry, kind, timing, report));
        let proxy_protocol = proxy_protocol(entry, kind.as_ref(), report);
        let is_via = via::is_via(entry, kind.as_ref(), report);
        if !fits || entry.port.is_bad() || entry.source.is_bad() || entry.interface.is_bad() {
            return None;
        }
        let check = Arc::new(Check {
            kind: kind?,
            source: entry.source.get().map(|source| source.value),
            interface: entry.interface.get().map(|interface| interface.value.clone()),
            proxy_protocol: proxy_protocol?,
            via: None,
        });
        Some(Resolved { entry, place: *place, check, timing: timing?, is_via: is_via? })
    };
    entries.iter().filter_map(resolved).collect()
}

fn timing(entry: &CheckEntry, report: &mut Report<'_>) -> Option<Timing> {
    let CheckEntry { interval, fast_interval, timeout, rise, fall, .. } = entry;
    let counts_are_bad = rise.is_bad() || fall.is_bad();
    let times_are_bad = interval.is_bad() || fast_interval.is_bad() || timeout.is_bad();
    let timing = Timing {
        interval: interval.unwrap_or(Duration::from_secs(5)),
        fast_interval: fast_interval.get().map(|fast| fast.value),
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        hysteresis: Hysteresis {
            rise: rise.unwrap_or(const { NonZeroU32::new(2).expect("not 0") }),
            fall: fall.unwrap_or(const { NonZeroU32::new(3).expect("not 0") }),
        },
        damping: None,
        expires: entry.expires.get().map(|expires| expires.value),
    };
    let in_doubt = times_are_bad || counts_are_bad;
    let damping = damping::resolve(&entry.damping, (!in_doubt).then_some(timing), report);
    let timing = Timing { damping, ..timing };
    let good = compare_times(entry, timing, report);
    let bad = in_doubt || entry.damping.is_bad() || entry.expires.is_bad();
    (good && !bad).then_some(timing)
}

/// A probe must end before the next one of the same target begins.
fn compare_times(entry: &CheckEntry, timing: Timing, report: &mut Report<'_>) -> bool {
    let show = humantime::format_duration;
    let Timing { interval, timeout, .. } = timing;
    let in_doubt = entry.timeout.is_bad() || entry.interval.is_bad();
    let written = entry.timeout.get().or(entry.interval.get()).filter(|_| !in_doubt);
    let written = written.map(|time| time.place);
    let mut good = true;
    if let Some(place) = written {
        let default = if entry.timeout.is_absent() { "the default " } else { "" };
        if timeout > interval {
            let message = format!(
                "{default}timeout {} is longer than the interval {}",
                show(timeout),
                show(interval)
            );
            let help = "one target is never probed twice at once: write a shorter timeout";
            report.error(place, message, help);
            good = false;
        } else if timeout == interval {
            let message =
                format!("{default}timeout is as long as the interval, {}", show(interval));
            let help = "a real server that hangs is then probed without a pause";
            report.lint(place, message, help);
        }
    }
    let fast = entry.fast_interval.get().filter(|_| !entry.interval.is_bad());
    if let Some(fast) = fast.filter(|fast| fast.value > interval) {
        let message = format!(
            "fast interval {} is longer than the interval {}",
            show(fast.value),
            show(interval)
        );
        report.error(fast.place, message, "it is for probing faster while a streak is open");
        good = false;
    }
    good
}

fn kind(
    entry: &CheckEntry,
    at: Place,
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Option<CheckKind> {
    match &entry.kind {
        KindEntry::Tcp(tcp) => Some(CheckKind::Tcp(tcp.clone())),
        KindEntry::Udp(udp) => Some(CheckKind::Udp(udp.clone())),
        KindEntry::Dns(dns) => super::dns::resolve(dns, report).map(CheckKind::Dns),
        KindEntry::Icmp => Some(CheckKind::Icmp),
        KindEntry::Agent(agent) => Some(CheckKind::Agent(agent.clone())),
        KindEntry::Exec(exec) => Some(CheckKind::Exec(exec.as_ref().clone())),
        KindEntry::File(file) => Some(CheckKind::File(file.clone())),
        KindEntry::Database(database) => super::database::resolve(database),
        KindEntry::Http(http) => {
            let tls = match &http.tls {
                None => Some(None),
                Some(tls) => tls::resolve(tls, Some(&http.host), authorities, at, report),
            };
            let check = http_check(http, report);
            let check = HttpCheck { tls: tls?, ..check? };
            Some(match http.kind {
                HttpKind::Http2 => CheckKind::Http2(check),
                HttpKind::Http | HttpKind::Https => CheckKind::Http(check),
            })
        }
        KindEntry::Tls(tls) => {
            tls::resolve(tls, None, authorities, at, report)?.map(CheckKind::Tls)
        }
        KindEntry::Grpc(grpc) => {
            let tls = tls::resolve(&grpc.tls, Some(&grpc.host), authorities, at, report)?;
            let good = !grpc.service.is_bad() && !grpc.host.is_bad();
            good.then(|| {
                CheckKind::Grpc(GrpcCheck {
                    tls,
                    host: grpc.host.get().map(|host| host.value.clone()),
                    service: grpc.service.unwrap_or(String::new()),
                })
            })
        }
        KindEntry::Smtp(smtp) => {
            let starttls = tls::resolve(&smtp.starttls, None, authorities, at, report)?;
            let ehlo = smtp.ehlo.get().map(|ehlo| ehlo.value.clone());
            (!smtp.ehlo.is_bad()).then_some(CheckKind::Smtp(SmtpCheck { ehlo, starttls }))
        }
    }
}

/// Whether the check begins with a PROXY header, and which one.
fn proxy_protocol(
    entry: &CheckEntry,
    kind: Option<&CheckKind>,
    report: &mut Report<'_>,
) -> Option<Option<ProxyProtocol>> {
    let Some(version) = entry.proxy_protocol.get() else {
        return (!entry.proxy_protocol.is_bad()).then_some(None);
    };
    if let Some(kind) = kind.filter(|kind| !kind.is_over_tcp()) {
        let message = format!("`proxy_protocol` before a check by `{}`", kind.name());
        report.error(version.place, message, "it goes before checks over one TCP connection");
        return None;
    }
    Some(Some(version.value))
}

fn http_check(http: &HttpEntry, report: &mut Report<'_>) -> Option<HttpCheck> {
    let HttpEntry { method, path, host, headers, expect, .. } = http;
    let empty = ExpectEntry { status: Field::Absent, body: Field::Absent, headers: Field::Absent };
    let expect = match expect {
        Field::Bad | Field::Absent => empty,
        Field::Is(expect) => expect.value.clone(),
    };
    let mut bad = http.expect.is_bad();
    if let (Some("HEAD"), Some(body)) =
        (method.get().map(|method| method.value.as_str()), expect.body.get())
    {
        let help = "use `GET`, or leave `body` out";
        report.error(body.place, "the answer to `HEAD` has no body", help);
        bad = true;
    }
    let weight_from = http.weight_from.get();
    if let (Some("HEAD"), Some(At { value: WeightFrom::Body, place })) =
        (method.get().map(|method| method.value.as_str()), weight_from)
    {
        report.error(*place, "the answer to `HEAD` has no body", "use `GET`, or a header");
        bad = true;
    }
    bad |= [method, path, host].into_iter().any(Field::is_bad) || headers.is_bad();
    bad |= http.weight_from.is_bad();
    if bad || expect.status.is_bad() || expect.body.is_bad() || expect.headers.is_bad() {
        return None;
    }
    Some(HttpCheck {
        tls: None,
        method: method.unwrap_or("GET".to_owned()),
        path: path.unwrap_or("/".to_owned()),
        host: host.get().map(|host| host.value.clone()),
        headers: headers.unwrap_or(Vec::new()),
        status: expect.status.unwrap_or(vec![(200, 399)]),
        body: expect.body.unwrap_or(Vec::new()),
        response_headers: expect.headers.unwrap_or(Vec::new()),
        weight_from: weight_from.map(|weight_from| weight_from.value.clone()),
    })
}

/// More checks cannot be needed than there are; of a policy without other errors.
pub(super) fn needed_are_there(file: &PolicyFile, report: &mut Report<'_>) {
    let Some(At { value: ChecksNeeded::Count(count), place }) = file.checks_needed.get() else {
        return;
    };
    let all = file.checks.get().map_or(0, |checks| {
        checks.value.iter().filter(|check| !check.value.kind.is_advisor()).count()
    });
    if *count as usize > all {
        let message = format!("{count} checks needed, but there are {all}");
        report.error(*place, message, "no real server could ever be up: write fewer, or `all`");
    }
}

/// What is probed for each real server.
pub(super) fn targets(
    checks: &[Resolved<'_>],
    services: &[Service],
    servers: &[Server<'_>],
    destinations: &Destinations,
    report: &mut Report<'_>,
) -> Vec<Vec<Probe>> {
    let mut vips = |check: &Resolved<'_>| match check.is_via {
        true => via::vips((check.entry, &check.check.kind), check.place, services, report),
        false => Vec::new(),
    };
    let vips: Vec<_> = checks.iter().map(&mut vips).collect();
    let mut of_server = |(index, server)| {
        let mut probes = Vec::new();
        for (check, vips) in checks.iter().zip(&vips) {
            if check.is_via {
                probes.extend(through(check, vips, server, index, destinations, report));
            } else {
                let target = target(check, server, index, destinations, report);
                probes.extend(target.map(|target| Probe { target, way: None }));
            }
        }
        probes
    };
    servers.iter().enumerate().map(&mut of_server).collect()
}

/// One target for each virtual address that the check goes through.
fn through(
    resolved: &Resolved<'_>,
    vips: &[(usize, SocketAddr)],
    server: &Server<'_>,
    index: usize,
    destinations: &Destinations,
    report: &mut Report<'_>,
) -> Vec<Probe> {
    let Resolved { entry, check, timing, .. } = resolved;
    let mut probes = Vec::new();
    for (service, vip) in vips {
        if !reaches(entry, vip.ip(), report) {
            continue;
        }
        let declared = destinations[*service].get(index).copied().flatten();
        let Some(declared) = declared else { continue };
        let address = SocketAddr::new(server.address(), vip.port());
        let target = Target { address, check: check.clone(), timing: *timing };
        probes.push(Probe { target, way: Some(Way::new(*vip, &declared)) });
    }
    probes
}

/// Whether the source that a check says, if it says one, is of the family of an address.
fn reaches(entry: &CheckEntry, address: IpAddr, report: &mut Report<'_>) -> bool {
    let Some(source) = entry.source.get() else { return true };
    if Family::of(source.value) == Family::of(address) {
        return true;
    }
    let message = format!("source `{}` cannot reach `{address}`", source.value);
    let help = "they are of two address families: write a policy for each";
    report.error(source.place, message, help);
    false
}

fn target(
    resolved: &Resolved<'_>,
    server: &Server<'_>,
    index: usize,
    destinations: &Destinations,
    report: &mut Report<'_>,
) -> Option<Target> {
    let Resolved { entry, place, check, timing, .. } = resolved;
    let address = server.entry.check_address.unwrap_or(server.address());
    if !reaches(entry, address, report) {
        return None;
    }
    let port = match (server.entry.check_port.get(), entry.port.get()) {
        // The agent's is its own.
        (_, Some(port)) if check.kind.is_advisor() => port.value,
        (None, None) if matches!(check.kind, CheckKind::Exec(_)) => told_port(index, destinations),
        _ if !check.kind.has_port() && !matches!(check.kind, CheckKind::Exec(_)) => 0,
        (Some(port), _) | (None, Some(port)) => port.value,
        (None, None) => destination_port(index, destinations, *place, report)?,
    };
    let address = SocketAddr::new(address, port);
    Some(Target { address, check: check.clone(), timing: *timing })
}

/// The port that a program is told: that of the real server, where it has one; else 0.
fn told_port(index: usize, destinations: &Destinations) -> u16 {
    match ports(index, destinations).as_deref() {
        Some([port]) => *port,
        _ => 0,
    }
}

/// The ports that a real server has in the services of the policy; `None` where one is in doubt.
fn ports(index: usize, destinations: &Destinations) -> Option<Vec<u16>> {
    let ports = destinations.iter().map(|of_service| of_service.get(index).copied().flatten());
    let ports: Option<BTreeSet<u16>> =
        ports.map(|destination| Some(destination?.key.port)).collect();
    Some(ports?.into_iter().collect())
}

/// The port that a real server has in every service of the policy.
fn destination_port(
    index: usize,
    destinations: &Destinations,
    at: Place,
    report: &mut Report<'_>,
) -> Option<u16> {
    let ports = ports(index, destinations)?;
    let message = match ports.as_slice() {
        [port] if *port != 0 => return Some(*port),
        [] => return None,
        [0] => "which port to check? the virtual service has none".to_owned(),
        ports => {
            let list: Vec<_> = ports.iter().map(u16::to_string).collect();
            format!("which port to check? the virtual services have {}", list.join(", "))
        }
    };
    report.error(at, message, "add `port:` to the check, or `check_port` to the real server");
    None
}
