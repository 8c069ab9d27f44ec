//! Types that mirror the YAML of a policy, with the place of everything.
//!
//! This stage knows keys, types, words and ranges: what can be judged by looking at one value.
//! What needs two values to be seen together is `resolve`'s. Defaults are filled in there too, so
//! that a missing key can still be told from a written one.

mod agent;
pub(crate) mod check;
pub(crate) mod damping;
pub(crate) mod database;
mod datagram;
pub(crate) mod dns;
pub(crate) mod grpc;
pub(crate) mod http;
mod local;
pub(crate) mod safety;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod smtp;
pub(crate) mod tls;

use super::decode::{self, Field, Fields};
use super::model::{ChecksNeeded, OnDown};
use super::node::{Node, Value};
use super::source::{At, Place, Report};

use check::CheckEntry;
use safety::SafetySettings;
use server::{RealServerEntry, ServerSettings};
use service::{ServiceEntry, ServiceSettings};

/// One document of a policy file.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    pub(crate) place: Place,
    pub(crate) name: Field<String>,
    pub(crate) services: Field<Vec<At<ServiceEntry>>>,
    pub(crate) service_settings: ServiceSettings,
    pub(crate) server_settings: ServerSettings,
    pub(crate) on_down: Field<OnDown>,
    pub(crate) safety: SafetySettings,
    pub(crate) real_servers: Field<Vec<At<RealServerEntry>>>,
    pub(crate) checks: Field<Vec<At<CheckEntry>>>,
    pub(crate) checks_needed: Field<ChecksNeeded>,
}

impl PolicyFile {
    /// Reads a document, reporting everything that is wrong with it.
    pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut keys = Fields::of(node, "a policy", report)?;
        let fields = &mut keys;
        let mut policy = Self {
            place: node.place,
            name: fields
                .field("name", report, |node, report| decode::name(node, "a policy", report)),
            services: fields.field("virtual_services", report, |node, report| {
                decode::entries(node, "virtual services", report, ServiceEntry::read)
            }),
            service_settings: ServiceSettings::read(fields, report),
            server_settings: ServerSettings::read(fields, report),
            on_down: fields.field("on_down", report, |node, report| {
                let words = [
                    ("remove", OnDown::Remove),
                    ("quiesce", OnDown::Quiesce),
                    ("cut", OnDown::Cut),
                ];
                decode::word(node, &words, report)
            }),
            safety: SafetySettings::read(fields, report),
            real_servers: fields.field("real_servers", report, |node, report| {
                decode::entries(node, "real servers", report, RealServerEntry::read)
            }),
            checks: fields.field("checks", report, check::read_list),
            checks_needed: fields.field("checks_needed", report, checks_needed),
        };
        let misspelt = keys.finish(ELSEWHERE, report);
        misspelt.spoil("virtual_services", &mut policy.services);
        misspelt.spoil("real_servers", &mut policy.real_servers);
        policy.service_settings.spoil(&misspelt);
        policy.server_settings.spoil(&misspelt);
        policy.require(report);
        Some(policy)
    }

    fn require(&self, report: &mut Report<'_>) {
        if self.services.is_absent() {
            let help = "add `virtual_services:` with entries such as `- tcp://192.0.2.1:80`";
            report.error(self.place, "a policy without virtual services", help);
        }
        if self.real_servers.is_absent() {
            let help = "add `real_servers:` with entries such as `- 192.0.2.10`";
            report.error(self.place, "a policy without real servers", help);
        }
        // What a file that was cut off lacks first, and nobody should do without unawares.
        if self.checks.is_absent() {
            let help = "add `checks:` with entries such as `- tcp: {}`, or write `checks: []` if \
                        its real servers are to count as up whatever happens";
            report.error(self.place, "a policy without checks", help);
        }
    }
}

/// Keys that people write one level too high.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["interval", "timeout", "rise", "fall", "fast_interval", "damping"],
        "in an entry of `checks`",
    ),
    (check::PROTOCOLS, "in an entry of `checks`"),
    (&["netmask", "engine"], "under `persistence`"),
    (&["min_up", "at_floor", "return_at"], "under `health_floor`"),
    (&["deadline"], "under `drain`"),
];

/// `all`, `any`, or a number.
fn checks_needed(node: &Node, report: &mut Report<'_>) -> Option<ChecksNeeded> {
    match &node.value {
        Value::Plain(word) if word == "all" => Some(ChecksNeeded::All),
        Value::Plain(word) if word == "any" => Some(ChecksNeeded::Any),
        Value::Plain(word) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
            decode::number(node, 1..=check::MAX_CHECKS, report).map(ChecksNeeded::Count)
        }
        _ => {
            let found = decode::describe(node);
            let message = format!("expected `all`, `any` or a number of checks, found {found}");
            report.error(node.place, message, "a real server is up when so many of them pass");
            None
        }
    }
}
