//! Leaving and returning under load: who leaves the policy keeps its connections, who comes back
//! gets its weight bit by bit, and who is cut is cut at once. No user loses a request by it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock::{PATIENCE, now, until};
use crate::daemon::{
    Daemon, FALL, INTERVAL, Policies, TIMEOUT, order, policy, status, until_status,
};
use crate::observer::{Lines, direct, holds, services};
use crate::server::Mode;
use crate::site::{Site, VIP1};

const KEYS: [&str; 2] = ["tcp://202.96.128.166:80", "tcp://202.96.128.166:443"];

/// A long request goes on while its real server drains, over a restart of the daemon, and the
/// destination goes when the request has ended.
pub(crate) fn drains() {
    const DEADLINE: Duration = Duration::from_secs(60);
    let site = Site::new();
    // The director sees only one half of a connection under direct routing, and remembers a
    // closed one for two minutes unless told otherwise.
    site.by_hand("--set 900 1 300");
    let all = site.addresses();
    let www = |servers: &[&str]| {
        let settings = "forwarding: direct\nweight: 80\ndrain: { deadline: 60s }";
        policy(&KEYS, settings, servers, 80)
    };
    let policies = Policies::new("www.yaml", &www(&all));
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &direct(&KEYS, 80, &all));
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let mut long = begin_request(&site, 0);

    policies.replace("www.yaml", &www(&all[1..]));
    let is_quiesced =
        |lines: &Lines| lines.contains(&format!("{} {}:80 weight 0 direct", KEYS[0], all[0]));
    let begun = site.table.until("it drains", PATIENCE, is_quiesced);
    let shown = until_status("status says so", |status| {
        let rows = status.services[0].destinations.iter();
        rows.clone().any(|row| row.drain_left.is_some() && row.connections.active > 0)
    });
    let row = shown.services[0].destinations.iter().find(|row| row.drain_left.is_some()).unwrap();
    println!("  while it drains: {}", row.why);
    assert!(row.why.contains("no policy declares it; drains"), "{}", row.why);
    let left = row.drain_left.unwrap();

    // A restart neither gives it new connections nor begins the deadline anew.
    daemon.kill();
    traffic.carry_on(50);
    let daemon = Daemon::start(&policies, &[]);
    let shown = until_status("it still drains", |status| {
        status.services[0].destinations.iter().any(|row| row.drain_left.is_some())
    });
    let rows = shown.services[0].destinations.iter();
    let now_left = rows.filter_map(|row| row.drain_left).next().unwrap();
    assert!(now_left < left, "{now_left} of {left}");
    site.table.until("the other service needs it no more", PATIENCE, |lines| {
        !lines.iter().any(|line| line.starts_with(KEYS[1]) && line.contains(all[0]))
    });
    assert!(is_quiesced(&site.table.lines()), "its long request was cut");
    traffic.carry_on(50);

    assert_eq!(finish_request(&mut long), "rs232");
    drop(long);
    let gone = site.table.until_exactly("drained", PATIENCE, &direct(&KEYS, 80, &all[1..]));
    println!("  drained after {:?} of at most {DEADLINE:?}", gone - begun);
    traffic.carry_on(50);
    let drained = daemon.changes();
    assert!(drained.iter().any(|line| line.ends_with("declares it; drained")), "{drained:#?}");
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);

    // One that comes back while it drains is at work again once it has been probed.
    let traffic = site.traffic(&[&format!("{VIP1}:80"), &format!("{VIP1}:443")]);
    let _long = begin_request(&site, 1);
    policies.replace("www.yaml", &www(&all[2..]));
    let still = format!("{} {}:80 weight 0 direct", KEYS[0], all[1]);
    site.table.until("the next one drains", PATIENCE, |lines| lines.contains(&still));
    policies.replace("www.yaml", &www(&all[1..]));
    site.table.until_exactly("it is back", PATIENCE, &direct(&KEYS, 80, &all[1..]));
    traffic.hears(&["rs233"]);
    site.assert_none_failed(&traffic.stop(), |_| false);
    assert_eq!(status().table.drift_repaired, 0);
}

/// A real server that recovers gets more and more of the requests, and fails none. So does one that an
/// operator lets in again, also over a death of the daemon.
pub(crate) fn comes_back_slowly() {
    const RAMP: Duration = Duration::from_secs(6);
    let site = Site::new();
    let all = site.addresses();
    let settings = "forwarding: direct\nweight: 100\nslow_start: 6s";
    let text = policy(&KEYS[..1], settings, &all, 80).replace("scheduler: rr", "scheduler: wrr");
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &[]);
    let row = |address: &str, weight: u32| format!("{address}:80 weight {weight} direct");
    let full = |addresses: &[&str]| {
        let rows: Vec<_> = addresses.iter().map(|address| row(address, 100)).collect();
        services(&KEYS[..1], "wrr", &rows)
    };
    site.table.until_exactly("all in", PATIENCE, &full(&all));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    let failed = site.servers[0].turn(Mode::Unavailable);
    let limit = INTERVAL * FALL + TIMEOUT + crate::clock::SLACK;
    let gone = site.table.until_exactly("one out", limit, &full(&all[1..]));
    site.servers[0].turn(Mode::Serve);
    let back = site.table.until("it is back", PATIENCE, |lines| holds(lines, all[0]));
    let shown = until_status("its ramp is shown", |status| {
        let rows = status.services[0].destinations.iter();
        rows.filter_map(|row| row.weight.as_ref()).any(|weight| weight.ramp_percent.is_some())
    });
    assert!(shown.services[0].destinations[0].why.starts_with("slow start, "), "{shown:?}");
    let done = site.table.until_exactly("all of its weight", RAMP + PATIENCE, &full(&all));
    let weights_since = |moment: Instant| -> Vec<u32> {
        let weighs = |lines: &Lines, weight: u32| {
            lines.contains(&format!("{} {}", KEYS[0], row(all[0], weight)))
        };
        let states = site.table.states_since(moment);
        states.iter().filter_map(|lines| (1..=100).find(|weight| weighs(lines, *weight))).collect()
    };
    let weights = weights_since(back);
    println!("  back {RAMP:?} ramp took {:?}, weights {weights:?}", done - back);
    assert!(weights.len() >= 10 && weights[0] <= 10 && weights.is_sorted(), "{weights:?}");
    traffic.carry_on(100);
    let requests = traffic.stop();
    let of = |from: Instant, to: Instant| {
        let of = requests.0.iter().filter(|it| it.begun >= from && it.begun < to);
        let all = of.clone().count();
        let its = of.filter(|it| it.answer.as_deref() == Ok("rs232")).count();
        its * 100 / all.max(1)
    };
    let middle = back + (done - back) / 2;
    let (first, second, after) = (of(back, middle), of(middle, done), of(done, now()));
    println!("  its share: {first}% in the first half, {second}% in the second, {after}% after");
    assert!(first < second && second < after, "{first} {second} {after}");
    site.assert_none_failed(&requests, |it| it.ended >= failed && it.begun <= gone);

    // Let in again by an operator, and the daemon dies on the way: for half of the ramp nobody raises
    // the weight, and then it goes on from there.
    order(&["disable", "www", all[0]]);
    site.table.until_exactly("disabled", PATIENCE, &full(&all[1..]));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    order(&["enable", "www", all[0]]);
    let back = site.table.until("it is back", PATIENCE, |lines| holds(lines, all[0]));
    until("it rises", PATIENCE, || weights_since(back).last().filter(|it| **it >= 15).copied());
    daemon.kill();
    let killed = now();
    until("half of the ramp", PATIENCE, || (now() - killed >= RAMP / 2).then_some(()));
    let _daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all of its weight", RAMP + PATIENCE, &full(&all));
    let (before, weights) = (weights_since(back), weights_since(killed));
    println!("  enabled, weights {before:?}; killed, and after a new start {weights:?}");
    assert!(before[0] <= 10 && before.is_sorted(), "{before:?}");
    let jump = before.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(jump < Some(35), "{before:?}");
    site.assert_none_failed(&traffic.stop(), |_| false);
}

/// `on_down: cut`: with the kernel's help an established connection to a dead real server is
/// reset; without it, and the lint says so, it hangs.
pub(crate) fn is_cut() {
    let site = Site::new();
    let all = site.addresses();
    let text = policy(&KEYS[..1], "forwarding: direct\nweight: 80\non_down: cut", &all, 80);
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &[]);
    daemon.until_log("the lint", |line| line.message.contains("expire_nodest_conn is 0"));
    for (victim, help) in [(0, "0"), (1, "1")] {
        site.table.until_exactly("all in", PATIENCE, &direct(&KEYS[..1], 80, &all));
        site.director.sysctl("net/ipv4/vs/expire_nodest_conn", help);
        let mut idle = begin_request(&site, victim);
        site.servers[victim].turn(Mode::Unavailable);
        site.table.until("it is out", PATIENCE, |lines| !holds(lines, all[victim]));
        idle.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        idle.write_all(b"X-More: 1\r\n").unwrap();
        let answer = idle.read(&mut [0; 64]).map_err(|error| error.kind());
        match help {
            "0" => assert_eq!(answer, Err(ErrorKind::WouldBlock), "it should hang"),
            _ => assert_eq!(answer, Err(ErrorKind::ConnectionReset), "it should be cut"),
        }
        println!("  expire_nodest_conn {help}: {answer:?}");
        site.servers[victim].turn(Mode::Serve);
    }
}

/// A whole virtual service leaves the policy: a long request through it goes on, over a restart of the
/// daemon, and it goes when that has ended. Nobody notices beside it.
pub(crate) fn service_drains() {
    let site = Site::new();
    site.by_hand("--set 900 1 300");
    let all = site.addresses();
    let www = |keys: &[&str]| policy(keys, "forwarding: direct\nweight: 80", &all, 80);
    let policies = Policies::new("www.yaml", &www(&KEYS));
    let daemon = Daemon::start(&policies, &[]);
    site.table.until_exactly("all in", PATIENCE, &direct(&KEYS, 80, &all));
    let traffic = site.traffic(&[&format!("{VIP1}:443")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    let mut long = begin_request(&site, 0);

    policies.replace("www.yaml", &www(&KEYS[1..]));
    let rest = direct(&KEYS[1..], 80, &all);
    let mut last = rest.clone();
    last.extend(direct(&KEYS[..1], 0, &all[..1]));
    site.table.until_exactly("only who is busy is left of it", PATIENCE, &last);
    daemon.kill();
    traffic.carry_on(50);
    let daemon = Daemon::start(&policies, &[]);
    let shown = until_status("it is shown", |status| {
        let services = &mut status.services.iter().filter(|it| it.policy.is_none());
        services.any(|it| it.destinations.iter().any(|row| row.connections.active > 0))
    });
    let leaving = shown.services.last().unwrap();
    assert_eq!(leaving.service.to_string(), KEYS[0]);
    assert!(leaving.destinations[0].drain_left.is_some(), "{leaving:#?}");
    assert_eq!(site.table.lines(), last, "its long request was cut");

    let begun = now();
    assert_eq!(finish_request(&mut long), "rs232");
    drop(long);
    let gone = site.table.until_exactly("it has left", PATIENCE, &rest);
    println!("  the service was removed {:?} after its last request", gone - begun);
    let removed =
        format!("- {}: rr, with its 1 destination; no policy declares it; drained", KEYS[0]);
    daemon.until_log("that", |line| line.message == removed);
    traffic.carry_on(50);
    site.assert_none_failed(&traffic.stop(), |_| false);
}

/// The key of a service changes from one port to all of them, with a check that takes its time, and back
/// again: what is there serves until the other does.
pub(crate) fn key_changes() {
    const EVERY_PORT: &str = "tcp://202.96.128.166:0";
    let site = Site::new();
    let all = site.addresses();
    let plain = "forwarding: direct\nweight: 80";
    let check = |command: &str| {
        format!("  - exec: {{ command: [{command}] }}\n    interval: 2s\n    timeout: 1900ms\n")
    };
    // A daemon that starts without programs to run gives up the privilege to run them.
    let one = policy(&KEYS[..1], plain, &all, 80) + &check("/bin/true");
    let policies = Policies::new("www.yaml", &one);
    let _daemon = Daemon::start(&policies, &["--reload-guard", "off"]);
    let before = direct(&KEYS[..1], 80, &all);
    site.table.until_exactly("all in", PATIENCE, &before);
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);

    let every = policy(
        &[EVERY_PORT],
        &format!("{plain}\npersistence: 60s\ndrain: {{ deadline: 2s }}"),
        &all,
        80,
    );
    let begun = every.find("  - http:").unwrap();
    let every = format!("{}{}", &every[..begun], check("/bin/sh, -c, sleep 0.4"));
    let edited = now();
    policies.replace("www.yaml", &every);
    let gone = site.table.until("the port is gone", PATIENCE, |lines| {
        !lines.iter().any(|line| line.starts_with(&format!("{} ", KEYS[0])))
    });
    assert!(gone - edited > Duration::from_millis(400), "it went before its successor was ready");
    traffic.carry_on(100);
    let returned = now();
    policies.replace("www.yaml", &one);
    let back = site.table.until_exactly("only the port", PATIENCE, &before);
    println!("  to all ports after {:?}, and back after {:?}", gone - edited, back - returned);
    traffic.carry_on(100);
    let requests = traffic.stop();
    // Those on their way when the port goes have nobody any more.
    site.assert_none_failed(&requests, |it| it.begun <= gone && it.ended >= gone);
}

/// A request to this real server that is not complete yet.
fn begin_request(site: &Site, victim: usize) -> TcpStream {
    let address: SocketAddr = format!("{VIP1}:80").parse().unwrap();
    site.client.within(|| {
        until("a connection to the victim", PATIENCE, || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n").unwrap();
            let source = stream.local_addr().unwrap();
            let met = || site.servers.iter().position(|server| server.has_met(source));
            let who = until("it was accepted", PATIENCE, met);
            (who == victim).then_some(stream)
        })
    })
}

/// The rest of it, and who answered.
fn finish_request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.rsplit("\r\n").next().unwrap().to_owned()
}
