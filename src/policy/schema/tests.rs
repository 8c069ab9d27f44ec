//! The schema and the decoder know the same keys, words and ranges.
//!
//! The decoder is asked: at every place of the schema it is given what it must refuse, and its
//! answer lists what it would have taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use super::*;
use crate::policy::node::{self, Node};
use crate::policy::problem::Problem;
use crate::policy::resolve::resolve;
use crate::policy::source::{Report, Source};

/// A key that nobody knows.
const STRANGER: &str = "zzzzzzzzzzzz";

/// Where the validator finds the schema.
const ADDRESS: &str = "http://policy.test/schema.json";

/// What may be written somewhere, right or wrong.
const SAMPLES: &[&str] = &[
    "null",
    "0",
    "1",
    "7",
    "80",
    "200",
    "0.5",
    "65536",
    "-1",
    "true",
    "false",
    "yes",
    "\"7\"",
    "\"text\"",
    "none",
    "a b",
    "\"\"",
    "5s",
    "1m 30s",
    "\"500ms\"",
    "5 s",
    "50%",
    "\"50%\"",
    "200-399",
    "24",
    "255.255.255.0",
    "192.0.2.1",
    "192.0.2.1:80",
    "2001:db8::1",
    "\"[2001:db8::1]:80\"",
    "tcp://192.0.2.1:80",
    "fwmark://7/inet6",
    "/path",
    "example.com",
    "NOERROR",
    "[]",
    "[200]",
    "[200-399, 204]",
    "[NOERROR]",
    "[text]",
    "[5s]",
    "[1, true]",
    "{}",
    "{ X-Name: value }",
    "{ X-Name: 7 }",
    "{ hex: 00 ff }",
    "{ contains: a }",
    "{ name: a }",
    "{ X-Name: { regex: a } }",
    "{ deadline: 5s }",
    "{ min_up: 2 }",
    "{ address: 192.0.2.1 }",
    "{ service: tcp://192.0.2.1:80 }",
    "[{ tcp: }]",
    "{ tcp: }",
    "{ icmp: {} }",
    "{ http: }",
];

/// A place in a policy: keys, and 0 for the entry of a list.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Entry,
}

#[test]
fn the_schema_says_what_the_decoder_takes() {
    let mut asker = Asker {
        root: schema(),
        validator: Validator::new(),
        seen: BTreeSet::new(),
        places: 0,
        wrong: Vec::new(),
    };
    asker.walk(&[], "");
    assert!(asker.places > 150, "only {} places", asker.places);
    assert!(asker.wrong.is_empty(), "{}", asker.wrong.join("\n"));
}

struct Asker {
    root: Value,
    validator: Validator,
    /// Definitions whose inside was walked.
    seen: BTreeSet<String>,
    places: usize,
    wrong: Vec<String>,
}

impl Asker {
    /// Asks at a place whose schema is at a pointer, and at all places inside.
    fn walk(&mut self, path: &[Step], pointer: &str) {
        self.places += 1;
        let pointers = self.variants(pointer);
        let variants: Vec<Value> = pointers.iter().map(|it| self.at(it).clone()).collect();
        self.keys(path, &variants);
        self.words(path, &variants);
        self.samples(path, pointer);
        let definition = self.at(pointer)["$ref"].as_str().map(str::to_owned);
        if definition.is_some_and(|it| !self.seen.insert(it)) {
            return;
        }
        for (variant, pointer) in variants.iter().zip(&pointers) {
            for key in variant["properties"].as_object().into_iter().flat_map(Map::keys) {
                let path = [path, &[Step::Key(key.clone())]].concat();
                self.walk(&path, &format!("{pointer}/properties/{key}"));
            }
            if variant.get("items").is_some() {
                self.walk(&[path, &[Step::Entry]].concat(), &format!("{pointer}/items"));
            }
            if variant["additionalProperties"].is_object() {
                let path = [path, &[Step::Key("X-Name".to_owned())]].concat();
                self.walk(&path, &format!("{pointer}/additionalProperties"));
            }
        }
    }

    fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap()
    }

    /// What a schema allows, one kind each.
    fn variants(&self, pointer: &str) -> Vec<String> {
        let schema = self.at(pointer);
        if let Some(name) = schema["$ref"].as_str() {
            return self.variants(name.trim_start_matches('#'));
        }
        match schema["anyOf"].as_array() {
            None => vec![pointer.to_owned()],
            Some(of) => {
                let each = 0..of.len();
                each.flat_map(|at| self.variants(&format!("{pointer}/anyOf/{at}"))).collect()
            }
        }
    }

    /// The keys of a mapping here.
    fn keys(&mut self, path: &[Step], variants: &[Value]) {
        let closed = variants.iter().find(|it| it["additionalProperties"] == json!(false));
        let schema = closed
            .map(|object| object["properties"].as_object().unwrap().keys().cloned().collect());
        let decoder = asked(path, &format!("{{ {STRANGER}: 1 }}")).iter().find_map(known_keys);
        self.same(path, "keys", schema, decoder);
        if !variants.iter().any(|it| it.get("items").is_some()) {
            let entries = asked(path, &format!("[{{ {STRANGER}: 1 }}]"));
            self.same(path, "keys in a list", None, entries.iter().find_map(known_keys));
        }
    }

    /// The words, the range of a number, or truth.
    fn words(&mut self, path: &[Step], variants: &[Value]) {
        let of_variant = |variant: &Value| match variant {
            it if it["enum"].is_array() => Some(strings(&it["enum"])),
            // A status is no number to the decoder: it may be a range.
            it if it["maximum"].is_u64() && it["description"] != json!("A status") => {
                Some(BTreeSet::from([it["minimum"].to_string(), it["maximum"].to_string()]))
            }
            it if it["type"] == json!("boolean") => {
                Some(BTreeSet::from(["true".to_owned(), "false".to_owned()]))
            }
            _ => None,
        };
        let schema = variants.iter().find_map(of_variant);
        let decoder = asked(path, STRANGER).iter().find_map(|it| known_words(&it.message));
        self.same(path, "words", schema, decoder);
    }

    /// What the decoder takes, the schema takes.
    fn samples(&mut self, path: &[Step], pointer: &str) {
        let index = self.validator.compile(pointer);
        let refused = SAMPLES.iter().filter(|sample| {
            let value = &parsed(&format!("- {sample}"))[0][0];
            self.validator.validate_at(value, index).is_err() && asked(path, sample).is_empty()
        });
        let refused: Vec<_> = refused.collect();
        if !refused.is_empty() {
            self.wrong.push(format!("{}: the schema refuses {refused:?}", shown(path)));
        }
    }

    fn same(
        &mut self,
        path: &[Step],
        what: &str,
        schema: Option<BTreeSet<String>>,
        decoder: Option<BTreeSet<String>>,
    ) {
        if schema != decoder {
            let place = shown(path);
            self.wrong.push(format!("{place}: {what}: schema {schema:?}, decoder {decoder:?}"));
        }
    }
}

/// The errors at a value that is written at a place.
fn asked(path: &[Step], value: &str) -> Vec<Problem> {
    let mut lines = Vec::new();
    let first = path.first().map(|step| match step {
        Step::Key(key) => key.as_str(),
        Step::Entry => "",
    });
    for (key, rest) in [
        ("virtual_services", "[udp://192.0.2.1:80]"),
        ("real_servers", "[192.0.2.10, 192.0.2.11]"),
        ("checks", "[]"),
    ] {
        if !path.is_empty() && first != Some(key) {
            lines.push(format!("{key}: {rest}"));
        }
    }
    for (depth, step) in path.iter().enumerate() {
        let indent = "  ".repeat(depth);
        lines.push(match step {
            Step::Key(key) => format!("{indent}{key}:"),
            Step::Entry => format!("{indent}-"),
        });
    }
    lines.push(format!("{}{value}", "  ".repeat(path.len())));
    let line = lines.len();
    let found = problems(&lines.join("\n"));
    found.into_iter().filter(|it| it.is_error() && it.location.line as usize == line).collect()
}

fn problems(text: &str) -> Vec<Problem> {
    let no_file = |_: &Path| Err("is not there".to_owned());
    let source = Source::new(Path::new("asked.yaml"), text.as_bytes().to_vec()).unwrap();
    resolve(&[source], &no_file).problems
}

/// What the decoder knows beside the stranger.
fn known_keys(problem: &Problem) -> Option<BTreeSet<String>> {
    if !problem.message.starts_with(&format!("unknown key `{STRANGER}`")) {
        return None;
    }
    let known = problem.help.as_deref()?.strip_prefix("known here: ").unwrap_or_default();
    Some(known.split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect())
}

fn known_words(message: &str) -> Option<BTreeSet<String>> {
    let (expected, _) = message.strip_prefix("expected ")?.split_once(", found")?;
    if expected == "true or false" {
        return Some(BTreeSet::from(["true".to_owned(), "false".to_owned()]));
    }
    if let Some(range) = expected.strip_prefix("a whole number from ") {
        return Some(range.split(" to ").map(str::to_owned).collect());
    }
    let words = expected.strip_prefix("one of ").unwrap_or(expected);
    let words: Option<BTreeSet<String>> = words
        .split(", ")
        .map(|word| Some(word.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect();
    words
}

fn strings(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn shown(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Key(key) => format!("/{key}"),
        Step::Entry => "/0".to_owned(),
    });
    format!("at {}", steps.collect::<String>())
}

#[test]
fn policies_that_are_right_are_right_by_the_schema() {
    let validator = Validator::new();
    let mut files = 0;
    for folder in ["policies", "tests/golden/policy"] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let is_policy = path.extension().is_some_and(|it| it == "yaml");
            if !is_policy || problems(&text).iter().any(Problem::is_error) {
                continue;
            }
            files += 1;
            for document in parsed(&text) {
                let found = validator.validate(&document);
                assert!(found.is_ok(), "{}: {}", path.display(), found.unwrap_err());
            }
        }
    }
    assert!(files > 12, "only {files} files");
}

#[test]
fn mistakes_are_mistakes_by_the_schema() {
    let validator = Validator::new();
    let policy = "virtual_services: [tcp://192.0.2.1:80]\nreal_servers: [192.0.2.10]\n";
    let whole = |rest: &str| match rest.starts_with("checks") {
        true => format!("{policy}{rest}\n"),
        false => format!("{policy}checks: []\n{rest}\n"),
    };
    assert!(validator.validate(&parsed(policy)[0]).is_err(), "without checks");
    assert!(validator.validate(&parsed(&whole(""))[0]).is_ok());
    for mistake in [
        "wieght: 1",
        "weight: -1",
        "weight: many",
        "scheduler: wcl",
        "checks: [tcp]",
        "checks: [{ interval: 5s }]",
        "checks: [{ http: {}, tcp: {} }]",
        "checks: [{ http: { prot: 80 } }]",
        "checks: [{ http: {}, timeout: 2 }]",
        "checks: [{ http: { expect: { status: 20 } } }]",
        "drain: 60s",
        "health_floor: {}",
    ] {
        let document = &parsed(&whole(mistake))[0];
        assert!(validator.validate(document).is_err(), "{mistake}");
    }
}

/// A real validator of JSON Schema.
struct Validator {
    compiler: Compiler,
    schemas: Schemas,
    whole: SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource(ADDRESS, schema()).unwrap();
        let whole = compiler.compile(ADDRESS, &mut schemas);
        let whole = whole.unwrap_or_else(|error| panic!("{error}"));
        Self { compiler, schemas, whole }
    }

    fn compile(&mut self, pointer: &str) -> SchemaIndex {
        self.compiler.compile(&format!("{ADDRESS}#{pointer}"), &mut self.schemas).unwrap()
    }

    fn validate(&self, value: &Value) -> Result<(), String> {
        self.validate_at(value, self.whole)
    }

    fn validate_at(&self, value: &Value, index: SchemaIndex) -> Result<(), String> {
        self.schemas.validate(value, index).map_err(|error| error.to_string())
    }
}

/// Documents of YAML as an editor sees them.
fn parsed(text: &str) -> Vec<Value> {
    let source = Source::new(Path::new("parsed.yaml"), text.as_bytes().to_vec()).unwrap();
    let mut report = Report::new(&source);
    node::parse(&mut report).iter().map(json_of).collect()
}

fn json_of(node: &Node) -> Value {
    match &node.value {
        node::Value::Null => Value::Null,
        node::Value::Text(text) => text.clone().into(),
        node::Value::Plain(text) => match serde_json::from_str::<Value>(text) {
            Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
            _ => text.clone().into(),
        },
        node::Value::List(nodes) => nodes.iter().map(json_of).collect(),
        node::Value::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.value.clone(), json_of(node)));
            Value::Object(entries.collect::<BTreeMap<_, _>>().into_iter().collect())
        }
    }
}
