//! The text of a golden scenario: tables, policies and health in the spelling that plans use.
//!
//! Sections `observed`, `believed`, `owned`, `policy NAME [quiesce]` and `health`, each on a line
//! of its own without indent. A service is indented by two spaces, its destinations by four.
//! `health` has `ADDRESS up|down|unknown [REASON]`, `*` for all the others; up unless said.

use std::collections::BTreeMap;
use std::str::{FromStr, SplitWhitespace};

use pointsman::health::Health;
use pointsman::ipvs::model::{
    Connections, Destination, DestinationConfig, Forwarding, Persistence, Scheduler, Service,
    ServiceConfig, ServiceFlags, ServiceKey, Table, Tunnel, TunnelChecksum,
};
use pointsman::policy::model::{DeclaredDestination, OnDown};
use pointsman::reconcile::ownership::Owned;
use pointsman::reconcile::view::{HealthView, Verdict};

use crate::world::{Draft, verdict, view};

/// What a plan is made from.
#[derive(Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) observed: Table,
    pub(crate) believed: Option<Table>,
    pub(crate) owned: Owned,
    drafts: Vec<Draft>,
    health: BTreeMap<String, Verdict>,
}

type Block = (ServiceKey, ServiceConfig, Vec<DeclaredDestination>);

impl Scenario {
    /// Panics with the line on a mistake: it is a test.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scenario = Self::default();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
        for section in lines.chunk_by(|_, line| line.starts_with(' ')) {
            scenario.section(section[0], &section[1..]);
        }
        scenario
    }

    pub(crate) fn view(&self) -> HealthView {
        let mut drafts = self.drafts.clone();
        for draft in &mut drafts {
            let declared = draft.services.first().map(|(_, _, declared)| declared.as_slice());
            let addresses = declared.unwrap_or_default().iter().map(|one| one.key.address);
            draft.verdicts = addresses.map(|address| vec![self.verdict(address)]).collect();
        }
        view(&drafts)
    }

    fn verdict(&self, address: std::net::IpAddr) -> Verdict {
        let said = self.health.get(&address.to_string()).or_else(|| self.health.get("*"));
        said.cloned().unwrap_or_else(|| verdict(Health::Up, ""))
    }

    fn section(&mut self, head: &str, lines: &[&str]) {
        let words: Vec<&str> = head.split(' ').collect();
        match words.as_slice() {
            ["observed"] => self.observed = table(blocks(lines)),
            ["believed"] => self.believed = Some(table(blocks(lines))),
            ["owned"] => self.owned = lines.iter().map(|line| parse(line.trim())).collect(),
            ["health"] => self.health = lines.iter().map(|line| health(line.trim())).collect(),
            ["policy", name, rest @ ..] => self.drafts.push(Draft {
                name: (*name).to_owned(),
                on_down: match rest {
                    [] => OnDown::Remove,
                    ["quiesce"] => OnDown::Quiesce,
                    _ => panic!("what is {rest:?} in `{head}`?"),
                },
                services: blocks(lines),
                verdicts: Vec::new(),
            }),
            _ => panic!("`{head}` is not a section"),
        }
    }
}

fn table(blocks: Vec<Block>) -> Table {
    let connections = Connections::default();
    blocks
        .into_iter()
        .map(|(key, config, declared)| {
            let destinations = declared
                .iter()
                .map(|one| (one.key, Destination { config: one.config, connections }))
                .collect();
            (key, Service { config, destinations })
        })
        .collect()
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap();
        if line.starts_with("    ") {
            let config = destination_config(&mut words, line);
            let declared = DeclaredDestination { key: parse(key), config };
            blocks.last_mut().expect("a service comes first").2.push(declared);
        } else {
            blocks.push((parse(key), service_config(&mut words, line), Vec::new()));
        }
    }
    blocks
}

fn health(line: &str) -> (String, Verdict) {
    let (address, rest) = line.split_once(' ').unwrap();
    let (word, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let health = match word {
        "up" => Health::Up,
        "down" => Health::Down,
        "unknown" => Health::Unknown,
        _ => panic!("`{word}` is not a health: `{line}`"),
    };
    (address.to_owned(), verdict(health, reason))
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

fn destination_config(words: &mut SplitWhitespace<'_>, line: &str) -> DestinationConfig {
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
            _ => panic!("what is `{word}` in `{line}`?"),
        }
    }
    config
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
