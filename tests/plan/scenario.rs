//! The text of a golden scenario: tables, policies and health in the spelling that plans use.
//!
//! Sections, each on a line of its own without indent; a service is indented by two spaces, its
//! destinations by four:
//! * `observed`, `believed`, `owned`;
//! * `policy NAME [quiesce] [drain=1m] [slow_start=40s] [keep=2|50%] [withdraw=2:3] [sorry=ADDRESS:PORT] [needed=any|2]
//!   [via=vip]`;
//! * `health` with `ADDRESS up|down|unknown [AGO ago] [REASON]`, `*` for all the others; up for a
//!   long time unless said; each line of the same address is a check of it; `up?` and `down?` are
//!   on record from a run that died;
//! * `advice` with `ADDRESS [75%|=40] [drain|maint|down REASON]`;
//! * `unadvised` with `ADDRESS`: it may advise and has had no turn yet;
//! * `overrides` with `POLICY ADDRESS drain|disable|WEIGHT [REASON]`;
//! * `standing` with `begun` (it is not the first pass), `withdrawn POLICY`, `draining SERVICE DESTINATION AGO`, `drains SERVICE
//!   DURATION` (what its policy said when there was one), `kept-out SERVICE DESTINATION` and `back SERVICE DESTINATION AGO`;
//! * `guarded`: the guard at the start holds what no policy declares;
//! * `blast` with the addresses that the blast-radius limit holds as `ADDRESS up|unknown`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::{FromStr, SplitWhitespace};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::health::Health;
use pointsman::ipvs::model::{
    Connections, Destination, DestinationConfig, Forwarding, Persistence, Scheduler, Service,
    ServiceConfig, ServiceFlags, ServiceKey, Table, Tunnel, TunnelChecksum,
};
use pointsman::policy::model::{
    AtFloor, ChecksNeeded, DeclaredDestination, HealthFloor, OnDown, Share,
};
use pointsman::probe::advice::{Advice, AdvisedState, AdvisedWeight};
use pointsman::reconcile::overrides::{Action, Override, Overrides};
use pointsman::reconcile::ownership::Owned;
use pointsman::reconcile::standing::Standing;
use pointsman::reconcile::view::{HealthView, Verdict};

use crate::world::{Draft, Safety, now, verdict, view};

/// What a plan is made from.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) observed: Table,
    pub(crate) believed: Option<Table>,
    pub(crate) owned: Owned,
    pub(crate) standing: Standing,
    pub(crate) now: Instant,
    pub(crate) guarded: bool,
    drafts: Vec<Draft>,
    health: BTreeMap<String, Vec<Verdict>>,
    advice: BTreeMap<String, Advice>,
    unadvised: BTreeSet<String>,
    held: BTreeMap<String, Health>,
    overrides: Overrides,
}

/// A service with its destinations and their connections.
type Block = (ServiceKey, ServiceConfig, Vec<(DeclaredDestination, u32)>);

impl Scenario {
    /// Panics with the line on a mistake: it is a test.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scenario = Self::empty();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
        for section in lines.chunk_by(|_, line| line.starts_with(' ')) {
            scenario.section(section[0], &section[1..]);
        }
        scenario
    }

    fn empty() -> Self {
        Self {
            observed: Table::new(),
            believed: None,
            owned: Owned::default(),
            standing: Standing::default(),
            // Late enough for everything that was before.
            now: now() + Duration::from_secs(100_000),
            guarded: false,
            drafts: Vec::new(),
            health: BTreeMap::new(),
            advice: BTreeMap::new(),
            unadvised: BTreeSet::new(),
            held: BTreeMap::new(),
            overrides: Overrides::default(),
        }
    }

    pub(crate) fn view(&self) -> HealthView {
        let mut drafts = self.drafts.clone();
        for draft in &mut drafts {
            let declared = draft.services.first().map(|(_, _, declared)| declared.as_slice());
            let addresses = declared.unwrap_or_default().iter().map(|one| one.key.address);
            draft.verdicts = addresses.map(|address| self.verdicts(address)).collect();
            if let Some((declared, verdict)) = &mut draft.safety.sorry {
                *verdict = self.verdicts(declared.key.address).remove(0);
            }
        }
        HealthView { overrides: Arc::new(self.overrides.clone()), ..view(&drafts) }
    }

    fn verdicts(&self, address: std::net::IpAddr) -> Vec<Verdict> {
        let said = self.health.get(&address.to_string()).or_else(|| self.health.get("*"));
        let long_ago = self.now.checked_sub(Duration::from_secs(50_000));
        let up = || vec![Verdict { since: long_ago, ..verdict(Health::Up, "") }];
        let mut verdicts = said.cloned().unwrap_or_else(up);
        for verdict in &mut verdicts {
            verdict.advice = self.advice.get(&address.to_string()).cloned();
            verdict.unadvised = self.unadvised.contains(&address.to_string());
            let held = self.held.get(&address.to_string()).copied();
            verdict.held = held.filter(|_| verdict.health == Health::Down);
        }
        verdicts
    }

    fn section(&mut self, head: &str, lines: &[&str]) {
        let words: Vec<&str> = head.split(' ').collect();
        match words.as_slice() {
            ["guarded"] => self.guarded = true,
            ["observed"] => self.observed = table(blocks(lines)),
            ["believed"] => self.believed = Some(table(blocks(lines))),
            ["owned"] => self.owned = lines.iter().map(|line| parse(line.trim())).collect(),
            ["health"] => {
                for line in lines {
                    let (address, verdict) = health(line.trim(), self.now);
                    self.health.entry(address).or_default().push(verdict);
                }
            }
            ["advice"] => self.advice = lines.iter().map(|line| advice(line.trim())).collect(),
            ["unadvised"] => {
                self.unadvised = lines.iter().map(|line| line.trim().to_owned()).collect();
            }
            ["blast"] => {
                let held = |line: &&str| {
                    let (address, word) = line.trim().split_once(' ').unwrap();
                    (address.to_owned(), health_word(word))
                };
                self.held = lines.iter().map(held).collect();
            }
            ["overrides"] => {
                for line in lines {
                    self.override_by(line.trim());
                }
            }
            ["standing"] => {
                for line in lines {
                    self.stand(line.trim());
                }
            }
            ["policy", name, rest @ ..] => self.drafts.push(Draft {
                name: (*name).to_owned(),
                on_down: match rest.contains(&"quiesce") {
                    false => OnDown::Remove,
                    true => OnDown::Quiesce,
                },
                needed: rest.iter().find_map(|word| needed(word)).unwrap_or_default(),
                safety: rest
                    .iter()
                    .filter(|word| **word != "quiesce" && needed(word).is_none())
                    .fold(Safety::default(), |safety, word| setting(safety, word)),
                services: blocks(lines)
                    .into_iter()
                    .map(|(key, config, ones)| {
                        (key, config, ones.into_iter().map(|(one, _)| one).collect())
                    })
                    .collect(),
                verdicts: Vec::new(),
            }),
            _ => panic!("`{head}` is not a section"),
        }
    }
}

impl Scenario {
    fn override_by(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let action = match words[2] {
            "drain" => Action::Drain,
            "disable" => Action::Disable,
            weight => Action::Weight(parse(weight)),
        };
        let entry = Override {
            action,
            by: "alice".to_owned(),
            at: std::time::SystemTime::UNIX_EPOCH,
            until: None,
            reason: words.get(3).map(|reason| (*reason).to_owned()),
        };
        self.overrides.set(words[0], words[1], entry);
    }

    fn stand(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["withdrawn", policy] => {
                self.standing.withdrawn.insert((*policy).to_owned());
            }
            ["begun"] => self.standing.doubted = Some(BTreeSet::new()),
            ["kept-out", service, destination] => {
                self.standing.returning.insert((parse(service), parse(destination)), None);
            }
            ["back", service, destination, ago] => {
                let since = self.now.checked_sub(humantime::parse_duration(ago).unwrap());
                self.standing.returning.insert((parse(service), parse(destination)), since);
            }
            ["draining", service, destination, ago] => {
                let since = self.now - humantime::parse_duration(ago).unwrap();
                self.standing.draining.insert((parse(service), parse(destination)), since);
            }
            ["drains", service, within] => {
                let within = humantime::parse_duration(within).unwrap();
                self.standing.drains.insert(parse(service), within);
            }
            _ => panic!("what is `{line}`?"),
        }
    }
}

fn table(blocks: Vec<Block>) -> Table {
    blocks
        .into_iter()
        .map(|(key, config, declared)| {
            let destination = |(one, connections): &(DeclaredDestination, u32)| {
                let connections = Connections { active: *connections, ..Connections::default() };
                (one.key, Destination { connections, ..Destination::new(one.config) })
            };
            let destinations = declared.iter().map(destination).collect();
            (key, Service { destinations, ..Service::new(config) })
        })
        .collect()
}

fn needed(word: &str) -> Option<ChecksNeeded> {
    word.strip_prefix("needed=").map(|needed| match needed {
        "any" => ChecksNeeded::Any,
        count => ChecksNeeded::Count(parse(count)),
    })
}

fn setting(mut safety: Safety, word: &str) -> Safety {
    let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("what is `{word}`?"));
    match name {
        "via" => safety.via = value == "vip",
        "drain" => safety.drain = humantime::parse_duration(value).unwrap(),
        "slow_start" => safety.slow_start = humantime::parse_duration(value).unwrap(),
        "keep" => {
            safety.floor = Some(HealthFloor { min_up: share(value), at_floor: AtFloor::Keep });
        }
        "withdraw" => {
            let (min_up, return_at) = value.split_once(':').unwrap();
            let at_floor = AtFloor::Withdraw { return_at: share(return_at) };
            safety.floor = Some(HealthFloor { min_up: share(min_up), at_floor });
        }
        "sorry" => {
            let config = destination_config(&mut "".split_whitespace(), word).0;
            let declared = DeclaredDestination { key: parse(value), config };
            safety.sorry = Some((declared, verdict(Health::Up, "")));
        }
        _ => panic!("what is `{word}`?"),
    }
    safety
}

fn share(text: &str) -> Share {
    match text.strip_suffix('%') {
        Some(percent) => Share::Percent(parse(percent)),
        None => Share::Count(parse(text)),
    }
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap();
        if line.starts_with("    ") {
            let (config, connections) = destination_config(&mut words, line);
            let declared = DeclaredDestination { key: parse(key), config };
            blocks.last_mut().expect("a service comes first").2.push((declared, connections));
        } else {
            blocks.push((parse(key), service_config(&mut words, line), Vec::new()));
        }
    }
    blocks
}

fn health(line: &str, now: Instant) -> (String, Verdict) {
    let (address, rest) = line.split_once(' ').unwrap();
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (ago, reason) = match rest.split_once("ago") {
        Some((ago, reason)) => (humantime::parse_duration(ago.trim()).unwrap(), reason.trim()),
        None => (Duration::from_secs(50_000), rest),
    };
    let since = now.checked_sub(ago);
    let (word, unconfirmed) = match word.strip_suffix('?') {
        Some(word) => (word, true),
        None => (word, false),
    };
    (address.to_owned(), Verdict { since, unconfirmed, ..verdict(health_word(word), reason) })
}

fn health_word(word: &str) -> Health {
    match word {
        "up" => Health::Up,
        "down" => Health::Down,
        "unknown" => Health::Unknown,
        _ => panic!("`{word}` is not a health"),
    }
}

fn advice(line: &str) -> (String, Advice) {
    let (address, rest) = line.split_once(' ').unwrap();
    let mut advice = Advice::default();
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "drain" => advice.state = Some(AdvisedState::Drain),
            "maint" => advice.state = Some(AdvisedState::Maint),
            "down" => {
                let reason: Vec<&str> = words.by_ref().collect();
                advice.state = Some(AdvisedState::Down(reason.join(" ").into()));
            }
            _ => {
                advice.weight = Some(match (word.strip_suffix('%'), word.strip_prefix('=')) {
                    (Some(percent), _) => AdvisedWeight::Percent(parse(percent)),
                    (_, Some(weight)) => AdvisedWeight::Absolute(parse(weight)),
                    _ => panic!("`{word}` is no advice"),
                });
            }
        }
    }
    (address.to_owned(), advice)
}

fn service_config(words: &mut SplitWhitespace<'_>, line: &str) -> ServiceConfig {
    let scheduler = Scheduler(words.next().expect(line).to_owned());
    let mut config = ServiceConfig { scheduler, flags: ServiceFlags::default(), persistence: None };
    while let Some(word) = words.next() {
        match word {
            "ops" => config.flags.one_packet = true,
            "sh-port" | "mh-port" => config.flags.port = true,
            "sh-fallback" | "mh-fallback" => config.flags.fallback = true,
            "persistent" => {
                let (timeout, prefix) =
                    words.next().and_then(|word| word.split_once("s/")).unwrap();
                let (timeout, prefix) = (parse(timeout), parse(prefix));
                config.persistence = Some(Persistence { timeout, prefix, engine: None });
            }
            "engine" => {
                let engine = words.next().map(str::to_owned);
                config.persistence.as_mut().expect(line).engine = engine;
            }
            _ => panic!("what is `{word}` in `{line}`?"),
        }
    }
    config
}

/// The settings and, where it says so, the connections.
fn destination_config(words: &mut SplitWhitespace<'_>, line: &str) -> (DestinationConfig, u32) {
    let mut connections = 0;
    let mut config = DestinationConfig {
        forwarding: Forwarding::Direct,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    while let Some(word) = words.next() {
        match word {
            "direct" => config.forwarding = Forwarding::Direct,
            "masq" => config.forwarding = Forwarding::Masq,
            "tunnel" => config.forwarding = Forwarding::Tunnel(tunnel(words, line)),
            "weight" => config.weight = parse(words.next().unwrap()),
            "upper" => config.upper_threshold = parse(words.next().unwrap()),
            "lower" => config.lower_threshold = parse(words.next().unwrap()),
            "connections" => connections = parse(words.next().unwrap()),
            _ => panic!("what is `{word}` in `{line}`?"),
        }
    }
    (config, connections)
}

fn tunnel(words: &mut SplitWhitespace<'_>, line: &str) -> Tunnel {
    let kind = words.next();
    let mut after = |name: &str| {
        assert_eq!(words.next(), Some(name), "{line}");
        words.next().unwrap()
    };
    match kind {
        Some("ipip") => Tunnel::Ipip,
        Some("gue") => {
            Tunnel::Gue { port: parse(after("port")), checksum: checksum(after("checksum")) }
        }
        Some("gre") => Tunnel::Gre { checksum: checksum(after("checksum")) },
        _ => panic!("what tunnel is in `{line}`?"),
    }
}

fn checksum(word: &str) -> TunnelChecksum {
    match word {
        "none" => TunnelChecksum::None,
        "full" => TunnelChecksum::Full,
        "remote" => TunnelChecksum::Remote,
        _ => panic!("`{word}` is not a checksum"),
    }
}

fn parse<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap_or_else(|error| panic!("`{text}`: {error:?}"))
}
