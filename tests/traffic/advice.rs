//! What real servers ask for themselves, under load: less, nothing, all again, and silence. No
//! request fails by it, and no word brings in who is down.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use pointsman::ipvs::netns::enter_netns;

use crate::clock::{PATIENCE, now, until};
use crate::daemon::{Daemon, Policies, policy, state, until_status};
use crate::observer::{Lines, services};
use crate::server::{ALIVE, Mode, RealServer};
use crate::site::{Site, VIP1};

const KEY: [&str; 1] = ["tcp://202.96.128.166:80"];
const PORT: u16 = 9000;

/// A program beside a real server that says a line to whoever connects.
struct Agent(Arc<Mutex<&'static str>>);

impl Agent {
    fn beside(server: &RealServer) -> Self {
        let words = Arc::new(Mutex::new("ready 100%"));
        let said = Arc::clone(&words);
        let machine = server.name().to_owned();
        thread::spawn(move || {
            enter_netns(&machine).unwrap();
            let listener = TcpListener::bind(("::", PORT)).unwrap();
            for mut stream in listener.incoming().flatten() {
                let line = *said.lock().unwrap();
                let line = if line.is_empty() { String::new() } else { format!("{line}\n") };
                // Whoever asked may have given up.
                let _ = stream.write_all(line.as_bytes());
            }
        });
        Self(words)
    }

    fn say(&self, words: &'static str) {
        *self.0.lock().unwrap() = words;
    }
}

pub(crate) fn weights_from_the_servers() {
    let site = Site::new();
    let all = site.addresses();
    let agents: Vec<Agent> = site.servers.iter().map(Agent::beside).collect();
    let text = policy(&KEY, "forwarding: direct\nweight: 100\non_down: quiesce", &all, 80)
        .replace("scheduler: rr", "scheduler: wrr")
        + "  - agent: { port: 9000 }\n    interval: 500ms\n    timeout: 400ms\n    expires: 2s\n";
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &[]);
    let table = |first: u32, second: u32| -> Lines {
        let weights = [first, second, 100, 100];
        let row = |(address, weight): (&&str, u32)| format!("{address}:80 weight {weight} direct");
        services(&KEY, "wrr", &all.iter().zip(weights).map(row).collect::<Vec<_>>())
    };
    site.table.until_exactly("all in", PATIENCE, &table(100, 100));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);

    agents[0].say("20%");
    site.table.until_exactly("one asks for less", PATIENCE, &table(20, 100));
    traffic.carry_on(200);
    agents[1].say("drain");
    site.table.until_exactly("another one for nothing", PATIENCE, &table(20, 0));
    let shown = until_status("status says who asked", |status| {
        status.services[0].destinations[1].why.contains("the real server asks for drain")
    });
    assert!(shown.degraded.is_empty(), "{:?}", shown.degraded);
    let weight = shown.services[0].destinations[0].weight.as_ref().unwrap();
    println!("  {} configured, {} advised", weight.configured, weight.advised.as_ref().unwrap());
    traffic.carry_on(100);
    agents[1].say("ready 100%");
    site.table.until_exactly("it is ready again", PATIENCE, &table(20, 100));
    traffic.hears(&["rs233"]);

    // An agent that falls silent is believed for a while, and then has no part in it.
    agents[0].say("");
    site.table.until_exactly("its word has expired", PATIENCE, &table(100, 100));
    traffic.hears(&["rs232"]);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);

    // Praise is no verdict.
    site.servers[2].turn(Mode::Unavailable);
    let down = format!("{} {}:80 weight 0 direct", KEY[0], all[2]);
    site.table.until("down is down", PATIENCE, |lines| lines.contains(&down));
    agents[2].say("up ready 100%");
    until_status("it has said so", |status| {
        let advisors = status.real_servers[2].advisors.iter();
        advisors.flat_map(|it| &it.advice).any(|it| it.to_string().contains("up"))
    });
    assert!(site.table.lines().contains(&down), "its agent brought it in");
    drop(daemon);
}

/// One is in maintenance and another one wants less when the director dies, and their agents are
/// silent when the next one starts: no write, and not one request for who is in maintenance.
pub(crate) fn counts_after_a_restart() {
    let site = Site::new();
    let tap = site.tap();
    let all = site.addresses();
    let agents: Vec<Agent> = site.servers.iter().map(Agent::beside).collect();
    let text = policy(&KEY, "forwarding: direct\nweight: 100", &all, 80)
        .replace("scheduler: rr", "scheduler: wrr")
        + "  - agent: { port: 9000 }\n    interval: 500ms\n    timeout: 400ms\n    expires: 2m\n";
    let policies = Policies::new("www.yaml", &text);
    let mut daemon = Daemon::start(&policies, &[]);
    let row = |(address, weight): (&&str, u32)| format!("{address}:80 weight {weight} direct");
    let table = |addresses: &[&str], weights: &[u32]| -> Lines {
        let rows: Vec<_> = addresses.iter().zip(weights.iter().copied()).map(row).collect();
        services(&KEY, "wrr", &rows)
    };
    site.table.until_exactly("all in", PATIENCE, &table(&all, &[100; 4]));
    agents[0].say("maint");
    agents[1].say("25%");
    let advised = table(&all[1..], &[25, 100, 100]);
    site.table.until_exactly("as they want it", PATIENCE, &advised);
    until("it is on record", PATIENCE, || {
        let record = fs::read_to_string(Path::new(&state()).join("health@director.json"));
        record.is_ok_and(|text| text.contains("\"maint\"") && text.contains("25")).then_some(())
    });
    agents[..2].iter().for_each(|agent| agent.say(""));

    let (mark, begun) = (tap.mark(), now());
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs233", "rs234", "rs235"]);
    for _ in 0..2 {
        daemon.kill();
        traffic.carry_on(50);
        daemon = Daemon::start(&policies, &[]);
        until_status("the agents were asked in vain", |status| {
            status.real_servers[..2].iter().all(|server| {
                let advice = server.advisors.iter().flat_map(|it| &it.advice);
                advice.into_iter().any(|it| it.trouble.is_some() && it.expires_in.is_some())
            })
        });
        traffic.carry_on(200);
    }
    assert_eq!(site.table.states_since(begun), [advised]);
    assert_eq!(tap.writes_since(mark), BTreeMap::new());
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    assert!(requests.0.iter().all(|it| it.answer.as_deref() != Ok("rs232")));

    // Back when it says so.
    agents[0].say("ready");
    let back = table(&all, &[100, 25, 100, 100]);
    site.table.until_exactly("it is ready again", PATIENCE, &back);
    drop(daemon);
}

/// One asks by a header, another one by a file on the director, a third one through a program there.
pub(crate) fn by_header_file_and_program() {
    let site = Site::new();
    let all = site.addresses();
    site.servers.iter().for_each(|server| server.want("100%"));
    fs::write("/tmp/want", "#!/bin/sh\n[ ${POINTSMAN_ADDRESS##*.} = 235 ] && exit 52\nexit 0\n")
        .unwrap();
    fs::set_permissions("/tmp/want", fs::Permissions::from_mode(0o755)).unwrap();
    let text = policy(&KEY, "forwarding: direct\nweight: 100", &all, 80)
        .replace("scheduler: rr", "scheduler: wrr")
        .replace(
            &format!("path: {ALIVE}"),
            &format!("path: {ALIVE}, weight_from: {{ header: X-Weight }}"),
        )
        + "  - file: { path: \"/tmp/{address}.state\" }\n    interval: 300ms\n    timeout: 200ms\n"
        + "  - exec: { command: [/tmp/want], weight_from: exit_status }\n    interval: 2s\n    timeout: 1900ms\n";
    let policies = Policies::new("www.yaml", &text);
    let daemon = Daemon::start(&policies, &[]);
    let table = |weights: [u32; 4]| -> Lines {
        let row = |(address, weight): (&&str, u32)| format!("{address}:80 weight {weight} direct");
        services(&KEY, "wrr", &all.iter().zip(weights).map(row).collect::<Vec<_>>())
    };
    site.table.until_exactly("the program has its way", PATIENCE, &table([100, 100, 100, 50]));
    let traffic = site.traffic(&[&format!("{VIP1}:80")]);
    traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
    site.servers[0].want("20%");
    site.table.until_exactly("a header asks for less", PATIENCE, &table([20, 100, 100, 50]));
    fs::write(format!("/tmp/{}.state", all[1]), "drain").unwrap();
    let drained = table([20, 0, 100, 50]);
    let since = site.table.until_exactly("a file asks for nothing", PATIENCE, &drained);
    traffic.carry_on(340);
    let until = now();
    fs::remove_file(format!("/tmp/{}.state", all[1])).unwrap();
    site.table.until_exactly("the file is gone", PATIENCE, &table([20, 100, 100, 50]));
    traffic.hears(&["rs233"]);
    let requests = traffic.stop();
    site.assert_none_failed(&requests, |_| false);
    let heard = |name: &str| {
        let between = requests.0.iter().filter(|it| it.begun > since && it.ended < until);
        between.filter(|it| it.answer.as_deref() == Ok(name)).count()
    };
    let heard = ["rs232", "rs233", "rs234", "rs235"].map(heard);
    assert_eq!(heard[1], 0, "{heard:?}");
    assert!(heard[0] > 0 && heard[0] * 2 < heard[3] && heard[3] < heard[2], "{heard:?}");
    drop(daemon);
}
