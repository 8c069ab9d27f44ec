//! Who is told, and of what.

use std::time::Duration;

use regex::Regex;

use super::problem::Kind;

/// Receivers and the ways to them.
#[derive(Debug, Clone, Default)]
pub struct Alerts {
    /// By name, each once.
    pub receivers: Vec<Receiver>,
    /// All that match apply; a receiver named by two of them is told once.
    pub routes: Vec<Route>,
    /// Certificates that end within so many days are a problem.
    pub certificate_days: u32,
}

/// Somebody to tell.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// What routes and messages call it.
    pub name: String,
    /// How to reach it.
    pub way: Way,
    /// How long to collect before the first message.
    pub wait: Duration,
    /// The shortest time between two messages.
    pub interval: Duration,
    /// The most messages within an hour.
    pub per_hour: u32,
}

/// How a receiver is reached.
#[derive(Debug, Clone)]
pub enum Way {
    /// A mail over SMTP.
    Mail(Mail),
    /// An HTTP POST.
    Webhook(Webhook),
    /// A program with the message on its standard input; the first word is an absolute path.
    Command(Vec<String>),
}

/// A mail over SMTP.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Host name or address of the server that takes it.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// User and password for it.
    pub login: Option<(String, Secret)>,
    /// The sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// Not at all; for a server on this machine.
    None,
    /// STARTTLS, or no mail.
    StartTls,
    /// From the first byte.
    Tls,
}

/// An HTTP POST.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where to.
    pub url: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// A template for the body; the message as JSON by default.
    pub body: Option<String>,
    /// Signs the body: HMAC-SHA256.
    pub secret: Option<Secret>,
}

/// A text that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Which problems go to whom.
#[derive(Debug, Clone)]
pub struct Route {
    /// Names of policies, with `*` for anything; empty: all, and what is about no policy.
    pub policies: Vec<Glob>,
    /// Kinds of problems; empty: all.
    pub kinds: Vec<Kind>,
    /// Names of receivers.
    pub to: Vec<String>,
}

/// A pattern of names, with `*` for any text.
#[derive(Debug, Clone)]
pub struct Glob(Regex);

impl Glob {
    /// From its text; any text is one.
    pub fn new(text: &str) -> Self {
        let parts: Vec<String> = text.split('*').map(regex::escape).collect();
        let pattern = format!("^(?s:{})$", parts.join(".*"));
        #[expect(clippy::expect_used, reason = "every part is escaped")]
        Self(Regex::new(&pattern).expect("an escaped pattern"))
    }

    fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl Route {
    fn takes(&self, kind: Kind, policy: Option<&str>) -> bool {
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&kind);
        let is_policy = self.policies.is_empty()
            || policy.is_some_and(|name| self.policies.iter().any(|glob| glob.matches(name)));
        is_kind && is_policy
    }
}

impl Alerts {
    /// Whether some receiver is a program.
    pub fn have_commands(&self) -> bool {
        self.receivers.iter().any(|receiver| matches!(receiver.way, Way::Command(_)))
    }

    /// The receivers of a problem of this kind, about this policy, as indices into
    /// [`Self::receivers`]. Without routes everybody is told everything.
    pub fn receivers_of(&self, kind: Kind, policy: Option<&str>) -> Vec<usize> {
        let routes: Vec<&Route> =
            self.routes.iter().filter(|route| route.takes(kind, policy)).collect();
        let is_told = |name: &str| {
            self.routes.is_empty()
                || routes.iter().any(|route| route.to.iter().any(|to| to == name))
        };
        let told = self.receivers.iter().enumerate().filter(|(_, it)| is_told(&it.name));
        told.map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_by_table() {
        let receiver = |name: &str| Receiver {
            name: name.to_owned(),
            way: Way::Command(vec!["/bin/true".to_owned()]),
            wait: Duration::ZERO,
            interval: Duration::ZERO,
            per_hour: 1,
        };
        let route = |policies: &[&str], kinds: &[Kind], to: &[&str]| Route {
            policies: policies.iter().map(|text| Glob::new(text)).collect(),
            kinds: kinds.to_vec(),
            to: to.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut alerts = Alerts {
            receivers: ["all", "shop", "ill"].map(receiver).into(),
            routes: vec![
                route(&[], &[], &["all"]),
                route(&["shop-*", "till"], &[], &["shop", "all"]),
                route(&["*"], &[Kind::Floor], &["ill"]),
            ],
            certificate_days: 14,
        };
        for (kind, policy, told) in [
            (Kind::Down, Some("www"), vec![0]),
            (Kind::Down, Some("shop-1"), vec![0, 1]),
            (Kind::Down, Some("my-shop-1"), vec![0]),
            (Kind::Floor, Some("till"), vec![0, 1, 2]),
            (Kind::BlastLimit, None, vec![0]),
            (Kind::Floor, None, vec![0]),
        ] {
            assert_eq!(alerts.receivers_of(kind, policy), told, "{kind:?} {policy:?}");
        }
        alerts.routes.clear();
        assert_eq!(alerts.receivers_of(Kind::Drift, None), [0, 1, 2]);
    }

    #[test]
    fn secrets_stay_secret() {
        assert_eq!(format!("{:?}", Secret("hunter2".to_owned())), "…");
    }
}
