//! YAML text to a tree in which every key and value knows its place.
//!
//! The only file that knows the YAML parser. It works on the parser's events, without recursion,
//! so that scalars keep the text they were written with and every duplicate key is found. Depth,
//! number of nodes and copies made by aliases are bounded; what exceeds them is refused before it
//! costs memory.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
};

use super::source::{At, Place, Report};

/// Levels of lists and mappings in each other; a policy needs eight.
const MAX_DEPTH: usize = 32;

/// Keys, values and list entries in one file, copies made by aliases included.
const MAX_NODES: usize = 500_000;

/// Documents with a syntax error after which a file is not read on.
const MAX_BROKEN: usize = 50;

/// A value of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What a node is, as far as YAML itself says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar without quotes, as written: what it means is up to who reads it.
    Plain(String),
    /// A scalar in quotes, or a block of text, or one tagged `!!str`.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping without duplicate keys.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
pub(crate) type Key = At<String>;

/// The documents of a file, leaving out those that are empty or broken.
pub(crate) fn parse(report: &mut Report<'_>) -> Vec<Node> {
    let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
    let mut parser = Parser::new_from_str_with_options(report.source().text(), options);
    let mut composer = Composer::default();
    let mut broken = 0;
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if composer.take(event, span, report).is_none() {
                    break;
                }
            }
            Err(error) => {
                report_scan_error(&error, report);
                composer.abandon();
                broken += 1;
                if broken == MAX_BROKEN || !resume(&mut parser) {
                    break;
                }
            }
        }
    }
    composer.documents
}

/// Goes on after a syntax error at the next document.
fn resume<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> bool {
    parser.proceed_next_document().unwrap_or(false)
}

/// Builds nodes from events on a stack of its own.
#[derive(Debug, Default)]
struct Composer {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Finished anchored nodes of this document, with the nodes in them.
    anchors: HashMap<usize, (Node, usize)>,
    /// Nodes made so far in this file.
    nodes: usize,
}

/// A list or mapping whose end has not come.
#[derive(Debug)]
struct Open {
    place: Place,
    anchor: usize,
    flow: bool,
    /// What `nodes` was before it.
    before: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Node, Node)>, key: Option<Node> },
}

impl Composer {
    /// Takes one event; `None` means that a limit was exceeded and the file is not read on.
    fn take(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> Option<()> {
        let place = place_of(span);
        match event {
            Event::DocumentStart(..) => {
                self.abandon();
                Some(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, place, report)?;
                let value = scalar(text, style, tag.as_deref(), place, report);
                self.complete(Node { value, place }, anchor, 1, report)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let content = Content::List(Vec::new());
                self.begin(content, style, anchor, tag.as_deref(), place, report)
            }
            Event::MappingStart(style, anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), key: None };
                self.begin(content, style, anchor, tag.as_deref(), place, report)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(place, report),
            Event::Alias(anchor) => self.alias(anchor, place, report),
            Event::UnresolvedAlias(name) => {
                self.count(1, place, report)?;
                let help = format!("define it before with `&{name}`");
                report.error(place, format!("no anchor `&{name}` before this"), help);
                report.settle(place);
                self.complete(Node { value: Value::Null, place }, 0, 1, report)
            }
            _ => Some(()),
        }
    }

    /// Drops what is open: its document is broken.
    fn abandon(&mut self) {
        self.open.clear();
        self.anchors.clear();
    }

    fn begin(
        &mut self,
        content: Content,
        style: StructureStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
        report: &mut Report<'_>,
    ) -> Option<()> {
        if let Some(tag) = tag {
            refuse_tag(tag, place, report);
        }
        if self.open.len() == MAX_DEPTH {
            report_depth(place, report);
            return None;
        }
        let before = self.nodes;
        self.count(1, place, report)?;
        let flow = matches!(style, StructureStyle::Flow);
        self.open.push(Open { place, anchor, flow, before, content });
        Some(())
    }

    fn end(&mut self, end: Place, report: &mut Report<'_>) -> Option<()> {
        let Some(open) = self.open.pop() else { return Some(()) };
        let mut place = Place { len: 1, ..open.place };
        if open.flow && end.line == place.line {
            place.len = (end.column + end.len).saturating_sub(place.column).max(1);
        }
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(mapping(entries, report)),
        };
        let inside = self.nodes - open.before;
        self.complete(Node { value, place }, open.anchor, inside, report)
    }

    /// Puts a finished node where it belongs.
    fn complete(
        &mut self,
        node: Node,
        anchor: usize,
        inside: usize,
        report: &mut Report<'_>,
    ) -> Option<()> {
        if anchor != 0 {
            self.count(inside, node.place, report)?;
            self.anchors.insert(anchor, (node.clone(), inside));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
            None if node.value == Value::Null => {}
            None => self.documents.push(node),
        }
        Some(())
    }

    fn alias(&mut self, anchor: usize, place: Place, report: &mut Report<'_>) -> Option<()> {
        let Some((_, inside)) = self.anchors.get(&anchor) else {
            self.count(1, place, report)?;
            report.error(place, "an alias inside the anchor it names", "");
            report.settle(place);
            return self.complete(Node { value: Value::Null, place }, 0, 1, report);
        };
        let inside = *inside;
        self.count(inside, place, report)?;
        let node = self.anchors.get(&anchor)?.0.clone();
        self.complete(node, 0, inside, report)
    }

    /// Charges nodes to the budget of the file, before they are made.
    fn count(&mut self, nodes: usize, place: Place, report: &mut Report<'_>) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, copies made by aliases included");
            report.error(place, message, "split the file, or use fewer aliases");
            return None;
        }
        Some(())
    }
}

fn place_of(span: Span) -> Place {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (start, end) = (span.start, span.end);
    let len = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
    Place {
        line: count(start.line()).max(1),
        column: count(start.col()).saturating_add(1),
        len: count(len),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Place,
    report: &mut Report<'_>,
) -> Value {
    let text = text.into_owned();
    match tag {
        Some(tag) if tag.is_yaml_core_schema_tag("str") => return Value::Text(text),
        Some(tag) => refuse_tag(tag, place, report),
        None => {}
    }
    match (style, text.as_str()) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        (ScalarStyle::Plain, _) => Value::Plain(text),
        _ => Value::Text(text),
    }
}

fn refuse_tag(tag: &Tag, place: Place, report: &mut Report<'_>) {
    let message = format!("tag `{}` means nothing in a policy", tag.original());
    report.error(place, message, "leave the tag out");
}

/// Turns entries into a mapping: keys are text and unique, `<<` merges.
fn mapping(entries: Vec<(Node, Node)>, report: &mut Report<'_>) -> Vec<(Key, Node)> {
    let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
    let mut seen: HashMap<String, Place> = HashMap::with_capacity(entries.len());
    let mut merged = Vec::new();
    for (key, value) in entries {
        let place = key.place;
        let name = match key.value {
            Value::Plain(name) if name == "<<" => {
                merged.push((place, value));
                continue;
            }
            Value::Plain(name) | Value::Text(name) => name,
            Value::Null => {
                report.error(place, "a key without a name", "write `key: value`");
                continue;
            }
            Value::List(_) | Value::Map(_) => {
                let message = "a list or mapping in the place of a key";
                report.error(place, message, bracket_help(report, place));
                continue;
            }
        };
        if let Some(first) = seen.get(&name) {
            let message = format!("key `{name}` is written twice");
            let help = format!("it is already in line {}, column {}", first.line, first.column);
            report.error(place, message, format!("{help}: keep one of them"));
            continue;
        }
        seen.insert(name.clone(), place);
        map.push((At { value: name, place }, value));
    }
    for (place, value) in merged {
        merge(&mut map, &mut seen, place, value, report);
    }
    map
}

/// Adds the entries of `<<: *anchor` that the mapping does not have itself.
fn merge(
    map: &mut Vec<(Key, Node)>,
    seen: &mut HashMap<String, Place>,
    place: Place,
    value: Node,
    report: &mut Report<'_>,
) {
    let sources = match value.value {
        Value::List(sources) => sources,
        other => vec![Node { value: other, place: value.place }],
    };
    for source in sources {
        let Value::Map(entries) = source.value else {
            report.error(place, "`<<` merges mappings only", "write `<<: *name_of_a_mapping`");
            continue;
        };
        for (key, node) in entries {
            if !seen.contains_key(&key.value) {
                seen.insert(key.value.clone(), key.place);
                map.push((key, node));
            }
        }
    }
}

fn report_scan_error(error: &ScanError, report: &mut Report<'_>) {
    let place = Place { len: 1, ..place_of(Span::empty(*error.marker())) };
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return report_depth(place, report);
    }
    let help = bracket_help(report, place);
    report.error(place, format!("not valid YAML: {}", error.info()), help);
}

/// Our limit, or the parser's further out, which it meets first when it looks ahead.
fn report_depth(place: Place, report: &mut Report<'_>) {
    let message = format!("nested deeper than {MAX_DEPTH} levels");
    report.error(place, message, "no policy needs that: look for a missing bracket");
}

/// Help for `[2001:db8::1]:80` without quotes, which YAML takes for a list.
pub(crate) fn bracket_help(report: &Report<'_>, place: Place) -> String {
    let line = report.source().line(place.line);
    let found = line.match_indices('[').find_map(|(at, _)| {
        // An address is short: the rest of a long line need not be searched for its end.
        let length = line.as_bytes()[at + 1..].iter().take(40).position(|byte| *byte == b']')?;
        let (inside, after) = (&line[at + 1..][..length], &line[at + length + 2..]);
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        Some((&line[..at], inside, after))
    });
    let Some((before, inside, after)) = found else { return String::new() };
    let ends = |c: char| c.is_whitespace() || ",{}[]\"'#".contains(c);
    let after = &after[..after.find(ends).unwrap_or(after.len())];
    let start = before.rfind(ends).map_or(0, |at| at + 1);
    if before[..start].ends_with(['"', '\'']) {
        return String::new();
    }
    format!("quote it: \"{}[{inside}]{after}\"; without quotes `[` begins a list", &before[start..])
}
