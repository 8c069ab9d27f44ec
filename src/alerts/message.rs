//! What a receiver gets: a subject, a text and a value for programs.

use serde::{Deserialize, Serialize};

use super::collect::News;
use super::problem::{Kind, Problem};

/// One message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Whether anything in it is wrong from now on, or happened; otherwise all of it is over.
    pub status: Status,
    /// The director that says so.
    pub director: String,
    /// When, RFC 3339.
    pub at: String,
    /// One line.
    pub subject: String,
    /// All of it in words.
    pub text: String,
    /// One by one.
    pub problems: Vec<Item>,
    /// How many others are still wrong.
    pub still: usize,
}

/// Whether a message is a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something is wrong or happened.
    Firing,
    /// It is over.
    Resolved,
}

/// One problem of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Whether it begins or is over.
    pub status: Status,
    /// What kind of thing.
    pub kind: Kind,
    /// The policy it is about.
    pub policy: Option<String>,
    /// The real server it is about.
    pub real_server: Option<String>,
    /// In words.
    pub text: String,
    /// How often it happened; 1 for what lasts.
    pub times: u64,
}

/// As many problems as a text names.
const NAMED: usize = 50;

impl Message {
    /// In the name of a director, at a time.
    pub fn new(news: News, director: &str, at: &str) -> Self {
        let item = |status: Status, times: u64| {
            move |problem: Problem| Item {
                status,
                kind: problem.kind,
                policy: problem.policy,
                real_server: problem.real_server,
                text: one_line(&problem.text),
                times,
            }
        };
        let begun = news.begun.into_iter().map(item(Status::Firing, 1));
        let happened =
            news.happened.into_iter().map(|(problem, times)| item(Status::Firing, times)(problem));
        let over = news.over.into_iter().map(item(Status::Resolved, 1));
        let problems: Vec<Item> = begun.chain(happened).chain(over).collect();
        let bad = problems.iter().filter(|it| it.status == Status::Firing).count();
        let status = if bad > 0 { Status::Firing } else { Status::Resolved };
        let subject = subject(&problems, bad, director);
        let text = text(&problems, news.still, director, at);
        let (director, at) = (director.to_owned(), at.to_owned());
        Self { status, director, at, subject, text, problems, still: news.still }
    }

    /// One with a problem in it whose words are as awkward as words may be.
    pub fn sample() -> Self {
        let problem = Problem {
            kind: Kind::Down,
            policy: Some("www".to_owned()),
            real_server: Some("192.0.2.1".to_owned()),
            text: "192.0.2.1 of www is down: not \"alive\", but \\n {{ é }}".to_owned(),
        };
        let news = News { begun: vec![problem], ..News::default() };
        Self::new(news, "director", "2026-01-02T03:04:05Z")
    }

    /// The message of `alert-test`.
    pub fn test(director: &str, at: &str) -> Self {
        let text = "This is a test of pointsman's alerts: nothing is wrong.";
        Self {
            status: Status::Resolved,
            director: director.to_owned(),
            at: at.to_owned(),
            subject: format!("[pointsman {director}] test"),
            text: format!("{text}\n\ndirector {director}, {at}\n"),
            problems: Vec::new(),
            still: 0,
        }
    }
}

fn subject(problems: &[Item], bad: usize, director: &str) -> String {
    let over = problems.len() - bad;
    let words = match (bad, over, problems.first()) {
        (1, 0, Some(only)) => short(&only.text),
        (0, 1, Some(only)) => format!("resolved: {}", short(&only.text)),
        (_, 0, _) => format!("{bad} problems"),
        (0, _, _) => format!("{over} resolved"),
        _ => format!("{bad} problems, {over} resolved"),
    };
    format!("[pointsman {director}] {words}")
}

fn text(problems: &[Item], still: usize, director: &str, at: &str) -> String {
    let mut text = String::new();
    for (heading, status) in [("Wrong:", Status::Firing), ("Over:", Status::Resolved)] {
        let items: Vec<&Item> = problems.iter().filter(|it| it.status == status).collect();
        if items.is_empty() {
            continue;
        }
        text += heading;
        text += "\n";
        for item in items.iter().take(NAMED) {
            let times =
                if item.times > 1 { format!(" ({} times)", item.times) } else { String::new() };
            text += &format!("  {}{times}\n", item.text);
        }
        if let Some(more @ 1..) = items.len().checked_sub(NAMED) {
            text += &format!("  and {more} more\n");
        }
        text += "\n";
    }
    if still > 0 {
        text += &format!("Still wrong from before: {still}\n\n");
    }
    text + &format!("director {director}, {at}; `pointsman status` shows all of it\n")
}

/// Without line ends and other control characters, which come from the network.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What fits into a subject.
fn short(text: &str) -> String {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: Kind, text: &str) -> Problem {
        Problem { kind, policy: Some("www".into()), real_server: None, text: text.to_owned() }
    }

    #[test]
    fn in_words() {
        let news = News {
            begun: vec![problem(Kind::Down, "192.0.2.1 of www is down: status\r\n503")],
            over: vec![problem(Kind::Down, "192.0.2.2 of www is down: refused")],
            happened: vec![(problem(Kind::Drift, "somebody removed tcp://192.0.2.9:80"), 3)],
            still: 2,
        };
        let message = Message::new(news, "lvs1", "2026-01-02T03:04:05Z");
        assert_eq!(message.subject, "[pointsman lvs1] 2 problems, 1 resolved");
        assert_eq!(message.status, Status::Firing);
        assert_eq!(
            message.text,
            "Wrong:\n  192.0.2.1 of www is down: status  503\n  somebody removed \
             tcp://192.0.2.9:80 (3 times)\n\nOver:\n  192.0.2.2 of www is down: refused\n\nStill \
             wrong from before: 2\n\ndirector lvs1, 2026-01-02T03:04:05Z; `pointsman status` \
             shows all of it\n"
        );
    }

    #[test]
    fn subjects_by_table() {
        let one = |text: &str| vec![problem(Kind::Down, text)];
        for (begun, over, expected) in [
            (one("a is down"), vec![], "a is down"),
            (vec![], one("a is down"), "resolved: a is down"),
            (vec![], [one("a"), one("b")].concat(), "2 resolved"),
            (one(&"x".repeat(200)), vec![], &format!("{}…", "x".repeat(100))),
        ] {
            let news = News { begun, over, ..News::default() };
            let message = Message::new(news, "d", "t");
            assert_eq!(message.subject, format!("[pointsman d] {expected}"));
        }
    }
}
