//! From nodes to typed values: keys of a mapping, scalars with ranges, words, durations.
//!
//! Every getter records what is wrong and goes on, so that one mistake never hides another. It
//! knows nothing of policies.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Key, Node, Value, bracket_help};
use super::source::{At, Place, Report};

/// A value of a key that may be missing.
///
/// `Bad` was reported already: who sees it stays silent about what would follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// The key is not there.
    Absent,
    /// The key is there, but what it says is wrong.
    Bad,
    /// The key is there and says this.
    Is(At<T>),
}

impl<T> Field<T> {
    pub(crate) fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Is(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The first of both that is not absent.
    pub(crate) fn or<'f>(&'f self, other: &'f Self) -> &'f Self {
        if self.is_absent() { other } else { self }
    }
}

impl<T: Clone> Field<T> {
    /// The value, or this one when the key is missing or wrong.
    pub(crate) fn unwrap_or(&self, default: T) -> T {
        self.get().map_or(default, |at| at.value.clone())
    }
}

/// The keys of a mapping; remembers which ones were asked for.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    what: &'static str,
    entries: &'n [(Key, Node)],
    known: Vec<&'n str>,
}

impl<'n> Fields<'n> {
    /// Opens a mapping; `what` names it in messages, as `a policy`.
    pub(crate) fn of(node: &'n Node, what: &'static str, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self { what, entries, known: Vec::new() }),
            _ => {
                let message = format!("{what} is a mapping, not {}", describe(node));
                report.error(node.place, message, bracket_help(report, node.place));
                None
            }
        }
    }

    /// The node of a key, which is known from now on.
    pub(crate) fn node(&mut self, key: &'n str) -> Option<(&'n Key, &'n Node)> {
        self.known.push(key);
        let (key, node) = self.entries.iter().find(|(entry, _)| entry.value == key)?;
        Some((key, node))
    }

    /// Reads a key by a getter.
    pub(crate) fn field<T>(
        &mut self,
        key: &'n str,
        report: &mut Report<'_>,
        getter: impl FnOnce(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> Field<T> {
        match self.node(key) {
            None => Field::Absent,
            Some((_, node)) => match getter(node, report) {
                Some(value) => Field::Is(At { value, place: node.place }),
                None => Field::Bad,
            },
        }
    }

    /// Reports every key that nobody asked for. `elsewhere` lists keys that belong to another
    /// place, with the words that name it. Says which keys were probably meant.
    pub(crate) fn finish(
        self,
        elsewhere: &[(&[&str], &str)],
        report: &mut Report<'_>,
    ) -> Misspelt<'n> {
        let mut misspelt = Misspelt(Vec::new());
        for (key, _) in self.entries {
            let name = key.value.as_str();
            if self.known.contains(&name) {
                continue;
            }
            let message = format!("unknown key `{name}` in {}", self.what);
            let moved = elsewhere.iter().find(|(keys, _)| keys.contains(&name));
            let help = match (moved, closest(name, self.known.iter().copied())) {
                (Some((_, place)), _) => format!("`{name}` belongs {place}"),
                (None, Some(word)) => {
                    misspelt.0.push(word);
                    format!("did you mean `{word}`?")
                }
                (None, None) if self.known.is_empty() => "leave it out".to_owned(),
                (None, None) => format!("known here: {}", self.known.join(", ")),
            };
            report.error(key.place, message, help);
        }
        misspelt
    }
}

/// Keys that were probably meant where an unknown one was reported.
#[derive(Debug)]
pub(crate) struct Misspelt<'n>(Vec<&'n str>);

impl Misspelt<'_> {
    /// Lets nobody take a misspelt key for a missing one.
    pub(crate) fn spoil<T>(&self, key: &str, field: &mut Field<T>) {
        if field.is_absent() && self.0.contains(&key) {
            *field = Field::Bad;
        }
    }
}

/// The word that was probably meant.
pub(crate) fn closest<'w>(
    written: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    if written.len() > 40 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let most = (written.chars().count() / 3).clamp(1, 3);
    words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&written, &plain(word)), word))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// What a node is, for messages.
pub(crate) fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "an empty value".to_owned(),
        Value::Plain(text) => format!("`{}`", cut(text)),
        Value::Text(text) => format!("the text \"{}\"", cut(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// At most 60 characters of a text.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Text, in quotes or not.
pub(crate) fn text(node: &Node, report: &mut Report<'_>) -> Option<String> {
    match &node.value {
        Value::Plain(text) | Value::Text(text) => Some(text.clone()),
        _ => {
            let help = match bracket_help(report, node.place) {
                help if help.is_empty() && node.value == Value::Null => {
                    "write a value, or leave it out".to_owned()
                }
                help => help,
            };
            report.error(node.place, format!("expected text, found {}", describe(node)), help);
            None
        }
    }
}

/// A name of this thing, such as `a policy`, that fits into a line, a URL and a command.
pub(crate) fn name(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    let name = text(node, report)?;
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    if name.is_empty() || name.chars().count() > 100 || name.contains(bad) {
        let message = format!("`{}` cannot name {what}", cut(&name));
        report.error(node.place, message, "use 1 to 100 characters without spaces and `/`");
        return None;
    }
    Some(name)
}

/// A whole number in decimal digits, in a range.
pub(crate) fn number(
    node: &Node,
    range: RangeInclusive<u32>,
    report: &mut Report<'_>,
) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let help = match &node.value {
        Value::Plain(text) if digits(text) && (text == "0" || !text.starts_with('0')) => {
            match text.parse() {
                Ok(number) if range.contains(&number) => return Some(number),
                _ => String::new(),
            }
        }
        Value::Plain(text) if digits(text) => {
            let digits = text.trim_start_matches('0');
            format!("write {}, without leading zeros", if digits.is_empty() { "0" } else { digits })
        }
        Value::Text(text) if digits(text) => format!("write {text}, without quotes"),
        Value::Null => "write a value, or leave it out".to_owned(),
        _ => String::new(),
    };
    report.error(node.place, format!("expected {expected}, found {}", describe(node)), help);
    None
}

/// A port that something listens on.
pub(crate) fn port(node: &Node, report: &mut Report<'_>) -> Option<u16> {
    number(node, 1..=65535, report).and_then(|port| u16::try_from(port).ok())
}

/// `true` or `false`.
pub(crate) fn boolean(node: &Node, report: &mut Report<'_>) -> Option<bool> {
    if let Value::Plain(text) = &node.value {
        match text.as_str() {
            "true" => return Some(true),
            "false" => return Some(false),
            _ => {}
        }
    }
    let help = match &node.value {
        Value::Plain(text) | Value::Text(text) => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" | "1" => "write true, without quotes",
            "no" | "off" | "n" | "false" | "0" => "write false, without quotes",
            _ => "",
        },
        _ => "",
    };
    report.error(node.place, format!("expected true or false, found {}", describe(node)), help);
    None
}

/// A time with its unit, as `5s` or `1m 30s`, in a range.
pub(crate) fn duration(
    node: &Node,
    range: RangeInclusive<Duration>,
    report: &mut Report<'_>,
) -> Option<Duration> {
    let written = match &node.value {
        Value::Plain(text) | Value::Text(text) => text.as_str(),
        _ => "",
    };
    let found = describe(node);
    if !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = format!("write `{}s` for seconds, or `{0}ms`", cut(written));
        report.error(node.place, format!("{found} is a time without a unit"), help);
        return None;
    }
    match humantime::parse_duration(written) {
        Ok(duration) if range.contains(&duration) => Some(duration),
        Ok(_) => {
            let message = format!(
                "{found} is not from {} to {}",
                show_time(*range.start()),
                show_time(*range.end())
            );
            report.error(node.place, message, "");
            None
        }
        Err(_) => {
            let help = "write a number and a unit, such as `5s`, `500ms` or `1m 30s`";
            report.error(node.place, format!("expected a time, found {found}"), help);
            None
        }
    }
}

/// A duration as an operator would write it.
pub(crate) fn show_time(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        // humantime would write a month and some hours.
        seconds if seconds > DAY && seconds % DAY == 0 => format!("{}days", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// One of a few words.
pub(crate) fn word<T: Clone>(
    node: &Node,
    words: &[(&str, T)],
    report: &mut Report<'_>,
) -> Option<T> {
    let written = text(node, report)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == written) {
        return Some(value.clone());
    }
    let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let help = match closest(&written, words.iter().map(|(word, _)| *word)) {
        Some(word) => format!("did you mean `{word}`?"),
        None => String::new(),
    };
    let message = match words {
        [_] => format!("expected {list}, found `{}`", cut(&written)),
        _ => format!("expected one of {list}, found `{}`", cut(&written)),
    };
    report.error(node.place, message, help);
    None
}

/// An IP address that one machine can have.
pub(crate) fn address(node: &Node, report: &mut Report<'_>) -> Option<IpAddr> {
    let written = text(node, report)?;
    match written.parse() {
        Ok(address) => unicast(address, node.place, report),
        Err(_) => {
            let help = match written.parse::<std::net::SocketAddr>() {
                Ok(_) => "write the port under a key of its own",
                Err(_) if written.contains('/') => "write one address, without a prefix length",
                Err(_) => "names are not resolved: write the address itself",
            };
            let message = format!("`{}` is not an IP address", cut(&written));
            report.error(node.place, message, help);
            None
        }
    }
}

/// Refuses addresses that cannot be those of one machine.
pub(crate) fn unicast(address: IpAddr, at: Place, report: &mut Report<'_>) -> Option<IpAddr> {
    let (what, help) = match address {
        _ if address.is_unspecified() => ("the unspecified address", String::new()),
        _ if address.is_multicast() => ("a multicast address", String::new()),
        IpAddr::V4(v4) if v4.is_broadcast() => ("the broadcast address", String::new()),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => ("an IPv4 address in IPv6 clothes", format!("write `{v4}`")),
            None => return Some(address),
        },
        IpAddr::V4(_) => return Some(address),
    };
    report.error(at, format!("`{address}` is {what}, not that of one machine"), help);
    None
}

/// The entries of a list.
pub(crate) fn list<'n>(node: &'n Node, what: &str, report: &mut Report<'_>) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) => Some(items),
        _ => {
            let message = format!("expected a list of {what}, found {}", describe(node));
            let help = match &node.value {
                Value::Plain(text) => format!("write `[{}]`", cut(text)),
                Value::Map(_) => "begin each entry with `- `".to_owned(),
                _ => String::new(),
            };
            report.error(node.place, message, help);
            None
        }
    }
}

/// A list of at least one entry; entries that are wrong are reported and left out.
pub(crate) fn entries<'n, T>(
    node: &'n Node,
    what: &str,
    report: &mut Report<'_>,
    mut getter: impl FnMut(&'n Node, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<At<T>>> {
    let nodes = list(node, what, report)?;
    if nodes.is_empty() {
        report.error(node.place, format!("an empty list of {what}"), "");
        return None;
    }
    let entry = |node: &'n Node| Some(At { value: getter(node, report)?, place: node.place });
    Some(nodes.iter().filter_map(entry).collect())
}
