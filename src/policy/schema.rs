//! The keys of a policy as a JSON Schema, for editors.
//!
//! It is written beside the decoder and held to it by a test, which asks the decoder at every
//! place what it knows there. A schema knows values one by one; what two of them must be together
//! is said by `check` alone.

mod check;

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::ipvs::model::Scheduler;

/// Where a schema of this kind is defined.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keys of a mapping with what each may be.
type Keys = Vec<(&'static str, Value)>;

/// The schema of one document of a policy file.
pub fn schema() -> Value {
    let mut schema = object(policy(), &["virtual_services", "real_servers", "checks"]);
    schema["$schema"] = DIALECT.into();
    schema["title"] = "A policy of pointsman".into();
    schema["$defs"] = json!({ "check": check::check(), "real_server": real_server(&[]) });
    schema
}

fn policy() -> Keys {
    let mut keys = vec![
        ("name", text("Unique among all policies; else the name of the file")),
        ("virtual_services", doc(some(virtual_service()), "Each may be in one policy only")),
        ("real_servers", doc(some(reference("real_server")), "Who stands behind all of them")),
        (
            "checks",
            doc(
                json!({ "type": "array", "items": reference("check"), "maxItems": 32 }),
                "All of them must pass; `[]`: real servers always count as up",
            ),
        ),
        (
            "checks_needed",
            doc(
                any(vec![
                    json!({ "const": "all" }),
                    json!({ "const": "any" }),
                    json!({ "type": "integer", "minimum": 1 }),
                ]),
                "How many checks must pass; else all",
            ),
        ),
        (
            "on_down",
            doc(word(&["remove", "quiesce", "cut"]), "What a down verdict does to destinations"),
        ),
        (
            "drain",
            object(
                vec![("deadline", time("So long may connections last; `0s`: at once"))],
                &["deadline"],
            ),
        ),
        ("slow_start", time("Time to the whole weight after coming up; 1s to 1h")),
        ("health_floor", health_floor()),
        ("sorry_server", doc(sorry_server(), "Answers while no real server takes connections")),
    ];
    keys.extend(service_settings());
    keys.extend(server_settings());
    keys
}

fn virtual_service() -> Value {
    let name = doc(
        json!({ "type": "string", "pattern": "^(tcp|udp|sctp|fwmark)://" }),
        "tcp://192.0.2.1:80, udp://[2001:db8::1]:53, fwmark://7, fwmark://7/inet6",
    );
    let mut keys =
        vec![("service", name.clone()), ("port", port("The port its real servers listen on"))];
    keys.extend(service_settings());
    any(vec![name, object(keys, &["service"])])
}

fn service_settings() -> Keys {
    let flags = ["sh-port", "sh-fallback", "mh-port", "mh-fallback", "ops"];
    let timeout = time("1s to 31days, in whole seconds");
    let netmask = any(vec![
        number("Prefix length of clients that count as one", 0..=128),
        json!({ "type": "string", "pattern": r"^\d+(\.\d+\.\d+\.\d+)?$" }),
    ]);
    let persistence = object(
        vec![
            ("timeout", timeout.clone()),
            ("netmask", netmask),
            ("engine", doc(word(&["sip"]), "By Call-ID")),
        ],
        &[],
    );
    vec![
        ("scheduler", doc(word(&Scheduler::KNOWN), "How connections are spread; else wlc")),
        ("flags", json!({ "type": "array", "items": word(&flags), "uniqueItems": true })),
        (
            "persistence",
            doc(
                any(vec![json!({ "const": "none" }), timeout, persistence]),
                "Clients stay with their real server for so long",
            ),
        ),
    ]
}

/// A real server, with these keys more.
fn real_server(more: &[(&'static str, Value)]) -> Value {
    let mut keys = vec![
        ("name", text("What people call it, unique in its policy; else its address")),
        ("address", address("Its address")),
        ("port", port("The port it listens on, in every service of the policy")),
        ("check_address", address("The address to probe")),
        ("check_port", port("The port to probe, for every check")),
    ];
    keys.extend(server_settings());
    keys.extend_from_slice(more);
    let written = "192.0.2.10, 192.0.2.10:8080, 2001:db8::10, \"[2001:db8::10]:8080\"";
    any(vec![address(written), object(keys, &["address"])])
}

fn sorry_server() -> Value {
    let checks = json!({ "type": "array", "items": reference("check"), "maxItems": 32 });
    real_server(&[("checks", doc(checks, "Without any it always counts as up"))])
}

fn server_settings() -> Keys {
    let tunnel = object(
        vec![
            ("kind", word(&["ipip", "gue", "gre"])),
            ("port", port("UDP port that decapsulates; gue only, and required there")),
            ("checksum", word(&["none", "full", "remote"])),
        ],
        &[],
    );
    let threshold = |words| number(words, 0..=u32::MAX);
    vec![
        (
            "forwarding",
            doc(word(&["masq", "direct", "tunnel"]), "How packets get there; else direct"),
        ),
        ("tunnel", doc(tunnel, "For `forwarding: tunnel`")),
        ("weight", number("0 takes no new connections; else 1", 0..=2_147_483_647)),
        ("upper_threshold", threshold("No new connections above this many; 0: no limit")),
        ("lower_threshold", threshold("New connections again below this many")),
    ]
}

fn health_floor() -> Value {
    let floor = object(
        vec![
            ("min_up", share("So many real servers probes may not take out")),
            (
                "at_floor",
                doc(word(&["keep", "withdraw"]), "The rest stays in, or all go; else keep"),
            ),
            ("return_at", share("With `withdraw`: so many must be up before they come back")),
        ],
        &["min_up"],
    );
    doc(floor, "How many real servers probes may not take out")
}

fn doc(mut value: Value, words: &str) -> Value {
    value["description"] = words.into();
    value
}

fn object(keys: Keys, required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut object =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// A mapping with keys of any name.
fn map(value: Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

fn any(of: Vec<Value>) -> Value {
    json!({ "anyOf": of })
}

fn some(entry: Value) -> Value {
    json!({ "type": "array", "items": entry, "minItems": 1 })
}

fn one_or_some(entry: Value) -> Value {
    any(vec![entry.clone(), some(entry)])
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn word(words: &[&str]) -> Value {
    json!({ "enum": words })
}

/// Text: without quotes YAML may take it for something else, and the decoder does not mind.
fn text(words: &str) -> Value {
    doc(scalar(), words)
}

fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn number(words: &str, range: RangeInclusive<u32>) -> Value {
    let (least, most) = range.into_inner();
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": words })
}

fn port(words: &str) -> Value {
    number(words, 1..=65535)
}

fn time(words: &str) -> Value {
    let pattern = r"^\s*\d+\s*[A-Za-zµ]+(\s*\d+\s*[A-Za-zµ]+)*\s*$";
    json!({ "type": "string", "pattern": pattern, "description": words })
}

fn address(words: &str) -> Value {
    json!({ "type": "string", "pattern": r"^[\[\]0-9A-Fa-f:.]+$", "description": words })
}

fn share(words: &str) -> Value {
    doc(
        any(vec![
            json!({ "type": "integer", "minimum": 1 }),
            json!({ "type": "string", "pattern": r"^\s*\d+\s*%?\s*$" }),
        ]),
        words,
    )
}

#[cfg(test)]
mod tests;
