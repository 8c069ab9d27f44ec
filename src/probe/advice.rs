//! What a real server says about its own share of the traffic: in an HTTP answer, through an agent
//! port, by the exit status of a script or in a file.
//!
//! Advice is never a verdict: it lowers or raises a weight, or asks to be left out, and whether the
//! real server is fit is for its checks to say. Pure: the words and what they add up to; for how long
//! they count is [`super::advising`]'s to say, and who asks for them are the checks.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What one answer said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The weight it asks for; `None`: the declared one.
    pub weight: Option<AdvisedWeight>,
    /// What else it asks for.
    pub state: Option<AdvisedState>,
}

/// A weight that a real server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisedWeight {
    /// This share of the declared weight, in percent; 100 is all of it.
    Percent(u16),
    /// This weight, whatever is declared.
    Absolute(u32),
}

/// A state that a real server asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisedState {
    /// No new connections.
    Drain,
    /// Out of service for maintenance.
    Maint,
    /// It takes itself to be unfit, and says why.
    Down(Arc<str>),
}

impl Advice {
    /// What two that speak for the same real server ask for: the state that takes it out further,
    /// and the lower weight; a weight goes before a share.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let states = [self.state, other.state].into_iter().flatten();
        let weights = [self.weight, other.weight].into_iter().flatten();
        Self {
            weight: weights.min_by_key(|weight| weight.rank()),
            state: states.min_by_key(AdvisedState::rank),
        }
    }
}

impl AdvisedState {
    fn rank(&self) -> u8 {
        match self {
            Self::Maint => 0,
            Self::Down(_) => 1,
            Self::Drain => 2,
        }
    }
}

impl AdvisedWeight {
    fn rank(self) -> (bool, u32) {
        match self {
            Self::Absolute(weight) => (false, weight),
            Self::Percent(percent) => (true, percent.into()),
        }
    }

    /// The weight it makes of the declared one. More than nothing stays more than nothing.
    pub fn of(self, declared: u32) -> u32 {
        match self {
            Self::Absolute(weight) => weight.min(i32::MAX as u32),
            Self::Percent(0) => 0,
            Self::Percent(percent) => scaled(declared, u64::from(percent), 100),
        }
    }
}

impl fmt::Display for AdvisedWeight {
    /// `75%`, `40`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Absolute(weight) => write!(f, "{weight}"),
        }
    }
}

/// `weight × share / whole`, rounded up, within what the kernel takes (2^31 − 1).
pub fn scaled(weight: u32, share: u64, whole: u64) -> u32 {
    let scaled = (u64::from(weight) * share).div_ceil(whole.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX).min(i32::MAX as u32)
}

/// More than this many percent are not given, as by HAProxy.
const MOST_PERCENT: u16 = 256;

/// What one answer said, in the words of agents. `None`: nothing about that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<AdvisedWeight>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running: Option<Running>,
}

/// What it asks to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Ready,
    Drain,
    Maint,
}

/// What it takes itself to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Running {
    Up,
    /// The word, and the text that came with it.
    Down(Arc<str>),
}

impl Said {
    /// Reads a line of words between spaces, tabs or commas: `75%`, `40`, `up`, `ready`, `drain`,
    /// `maint`, `down`, `failed`, `stopped`, whatever their case. What follows `#` is text for
    /// people; `maxconn:` and words that nobody knows are left out, and a bare number counts only
    /// without the latter. Of two words about one thing the last counts.
    ///
    /// # Errors
    /// No word that is known; the text quotes what there was.
    pub fn parse(line: &str) -> Result<Self, String> {
        let (words, text) = line.split_once('#').unwrap_or((line, ""));
        let (mut said, mut strange) = (Self::default(), false);
        for word in words.split([' ', '\t', '\r', '\n', ',']).filter(|word| !word.is_empty()) {
            let lower = word.to_ascii_lowercase();
            match lower.as_str() {
                "up" => said.running = Some(Running::Up),
                "ready" => said.order = Some(Order::Ready),
                "drain" => said.order = Some(Order::Drain),
                "maint" => said.order = Some(Order::Maint),
                "down" | "failed" | "stopped" => {
                    said.running = Some(Running::Down(reason(&lower, text)));
                }
                _ if lower.starts_with("maxconn:") => {}
                number => match weight(number) {
                    Some(weight) => said.weight = Some(weight),
                    None => strange = true,
                },
            }
        }
        // A number among strange words is the status of some HTTP server, or anything.
        if strange && matches!(said.weight, Some(AdvisedWeight::Absolute(_))) {
            said.weight = None;
        }
        match said == Self::default() {
            true => Err(format!("no advice that is understood in {:?}", cut(line.trim()))),
            false => Ok(said),
        }
    }

    /// A weight, whatever is declared.
    pub fn weight(weight: u32) -> Self {
        Self { weight: Some(AdvisedWeight::Absolute(weight)), ..Self::default() }
    }

    /// Why it takes itself to be down, if it does.
    pub fn down(&self) -> Option<&Arc<str>> {
        match &self.running {
            Some(Running::Down(reason)) => Some(reason),
            _ => None,
        }
    }

    /// The same without a word on whether it runs.
    #[must_use]
    pub fn without_running(self) -> Self {
        Self { running: None, ..self }
    }

    /// What this leaves out is as it was before.
    pub(super) fn after(self, before: &Self) -> Self {
        Self {
            weight: self.weight.or(before.weight),
            order: self.order.or(before.order),
            running: self.running.or_else(|| before.running.clone()),
        }
    }

    /// What it adds up to; `None`: it asks for nothing.
    pub fn advice(&self) -> Option<Advice> {
        let state = match (self.order, self.down()) {
            (Some(Order::Maint), _) => Some(AdvisedState::Maint),
            (_, Some(reason)) => Some(AdvisedState::Down(Arc::clone(reason))),
            (Some(Order::Drain), None) => Some(AdvisedState::Drain),
            _ => None,
        };
        let advice = Advice { weight: self.weight, state };
        (advice != Advice::default()).then_some(advice)
    }
}

impl fmt::Display for Said {
    /// `75% drain`, `it says failed: disk full`, `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.order.map(|order| match order {
            Order::Ready => "ready",
            Order::Drain => "drain",
            Order::Maint => "maint",
        });
        let running = self.running.as_ref().map(|running| match running {
            Running::Up => "up",
            Running::Down(reason) => reason,
        });
        let weight = self.weight.map(|weight| weight.to_string());
        let words: Vec<&str> = weight.as_deref().into_iter().chain(order).chain(running).collect();
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

fn weight(word: &str) -> Option<AdvisedWeight> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match word.strip_suffix('%') {
        Some(share) if digits(share) => {
            let percent = share.parse().unwrap_or(MOST_PERCENT).min(MOST_PERCENT);
            Some(AdvisedWeight::Percent(percent))
        }
        None if digits(word) => word
            .parse()
            .ok()
            .filter(|weight| *weight <= i32::MAX as u32)
            .map(AdvisedWeight::Absolute),
        _ => None,
    }
}

/// `it says failed: disk full`.
fn reason(word: &str, text: &str) -> Arc<str> {
    match cut(text.trim()) {
        text if text.is_empty() => format!("it says {word}").into(),
        text => format!("it says {word}: {text}").into(),
    }
}

/// In one line and not too long for a log.
fn cut(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut letters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = letters.by_ref().take(LONGEST).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What an attempt heard of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// All there is to say: what it leaves out is not asked for any more.
    All(Said),
    /// What it leaves out is as it was before, as agents have it.
    More(Said),
    /// Nothing that is understood, and why: what was said before counts until it expires.
    Nothing(Arc<str>),
}

impl Heard {
    /// What it asks for, by whom nothing was heard before.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::All(said) | Self::More(said) => said.advice(),
            Self::Nothing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_by_table() {
        use AdvisedWeight::{Absolute, Percent};
        for (advised, declared, weight) in [
            (Percent(100), 80, 80),
            (Percent(75), 80, 60),
            (Percent(1), 80, 1),
            (Percent(0), 80, 0),
            (Percent(50), 0, 0),
            (Percent(200), 80, 160),
            (Percent(200), i32::MAX as u32, i32::MAX as u32),
            (Absolute(7), 80, 7),
            (Absolute(u32::MAX), 80, i32::MAX as u32),
        ] {
            assert_eq!(advised.of(declared), weight, "{advised:?} of {declared}");
        }
    }

    /// The words, and what they add up to.
    fn shown(line: &str) -> String {
        let Ok(said) = Said::parse(line) else { return "-".to_owned() };
        let state = match said.advice().and_then(|advice| advice.state) {
            None => "in".to_owned(),
            Some(AdvisedState::Drain) => "drain".to_owned(),
            Some(AdvisedState::Maint) => "maint".to_owned(),
            Some(AdvisedState::Down(reason)) => format!("down, {reason}"),
        };
        format!("{said} = {state}")
    }

    #[test]
    fn words_by_table() {
        for (line, expected) in [
            ("75%\n", "75% = in"),
            ("0%", "0% = in"),
            ("150%", "150% = in"),
            ("300%", "256% = in"),
            ("99999999999999%", "256% = in"),
            ("40", "40 = in"),
            ("2147483647", "2147483647 = in"),
            ("2147483648", "-"),
            ("UP\t75%, Ready\r\n", "75% ready up = in"),
            ("drain", "drain = drain"),
            ("50% drain", "50% drain = drain"),
            ("maint down", "maint it says down = maint"),
            ("drain stopped", "drain it says stopped = down, it says stopped"),
            ("failed#disk full", "it says failed: disk full = down, it says failed: disk full"),
            ("down # up 50%", "it says down: up 50% = down, it says down: up 50%"),
            ("up # why not", "up = in"),
            ("down up", "up = in"),
            ("10% 20%", "20% = in"),
            ("20% oops%", "20% = in"),
            ("maxconn:30 ready", "ready = in"),
            ("maxconn:30", "-"),
            ("# only text", "-"),
            ("-5%", "-"),
            ("+5", "-"),
            ("7.5%", "-"),
            ("%", "-"),
            ("", "-"),
            ("HTTP/1.1 200 OK", "-"),
            ("up 5 maxconn:7", "5 up = in"),
            ("up 5 users", "up = in"),
            ("SSH-2.0-OpenSSH", "-"),
            ("down #a\u{7}b", "it says down: a b = down, it says down: a b"),
        ] {
            assert_eq!(shown(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_strictest_of_several_counts() {
        let of = |lines: &[&str]| {
            let advice = lines.iter().filter_map(|line| Said::parse(line).unwrap().advice());
            advice.reduce(Advice::with)
        };
        let [percent, absolute] = [AdvisedWeight::Percent(30), AdvisedWeight::Absolute(90)];
        assert_eq!(of(&["50% drain", "30%", "100%"]).unwrap().weight, Some(percent));
        assert_eq!(of(&["50%", "90", "100"]).unwrap().weight, Some(absolute));
        assert_eq!(of(&["drain", "maint", "down"]).unwrap().state, Some(AdvisedState::Maint));
        assert_eq!(of(&["ready", "up"]), None);
    }
}
