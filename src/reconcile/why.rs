//! What decides whether and how a destination is in the table, as a value and in words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What decides whether and how a destination is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its real server is up: as declared.
    Up,
    /// Its real server is up, but its weight is not the declared one; the text says why.
    Weighed(Arc<str>),
    /// No verdict yet: in the table if it was there, with weight 0 if it had that, and otherwise
    /// as declared.
    Unknown,
    /// The verdict is on record from a run that died, and the table, which a dying run leaves as the
    /// last it did, shows another one: as the table has it.
    Unconfirmed,
    /// It may have a word in its weight and has had no turn yet: as the table has it.
    Unadvised,
    /// Its real server is down: out, or quiesced. With the reason where there is one.
    Down(Option<Arc<str>>),
    /// Its real server is down, but too few others are up: in, as declared.
    Kept(Option<Arc<str>>),
    /// Its real server is down, but so many turned down at once that the director may be ill: as
    /// before that.
    HeldBack(Option<Arc<str>>),
    /// Too few real servers of the policy are up: all are out, or quiesced.
    Withdrawn {
        /// How many are up.
        up: usize,
        /// How many must be.
        needed: usize,
    },
    /// An operator said so; the text says what, who and why.
    Overridden(Arc<str>),
    /// Its real server asked for it; the text says for what.
    Advised(Arc<str>),
    /// The sorry server: no real server takes connections.
    Sorry,
    /// The sorry server: a real server takes connections again.
    SorryNoMore,
    /// The one real server of a virtual service for probes, whatever its health.
    Private,
    /// No policy declares it. In a desired service: held as it is until every declared real
    /// server that is not in the table yet has a verdict.
    Undeclared,
    /// No policy declares it, but so much would go that somebody has to say that it is meant.
    Guarded,
    /// It leaves: weight 0 until its connections are gone or the time is up.
    Drains(Box<Drains>),
    /// It has left: removed now.
    Drained {
        /// Why it leaves.
        cause: Box<Why>,
        /// Connections that are cut because the time is up; 0: all are gone.
        cut: u32,
    },
}

/// A destination on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drains {
    /// Why it leaves.
    pub cause: Why,
    /// Connections it had at the last read.
    pub connections: u32,
    /// When it is removed at the latest, from now.
    pub left: Duration,
}

impl Why {
    /// What made it leave, for one that leaves or has left; itself otherwise.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Drains(drains) => &drains.cause,
            Self::Drained { cause, .. } => cause,
            why => why,
        }
    }

    /// Whether a probe has to say first what becomes of it.
    pub fn is_undecided(&self) -> bool {
        matches!(self, Self::Unknown | Self::Unconfirmed | Self::Unadvised)
    }

    /// Whether one that is out may come in with the next word of a probe.
    pub fn may_come(&self) -> bool {
        self.is_undecided() || matches!(self, Self::HeldBack(_))
    }

    /// Whether it is, or was, in the table without a policy that declares it.
    pub fn is_undeclared(&self) -> bool {
        matches!(self, Self::Undeclared | Self::Guarded)
    }

    /// Whether something else than its verdict and an operator decides for now.
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::Unconfirmed
                | Self::Unadvised
                | Self::Undeclared
                | Self::Guarded
                | Self::Kept(_)
                | Self::HeldBack(_)
        )
    }

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Weighed(_) => "weighed",
            Self::Unknown => "no_verdict",
            Self::Unconfirmed => "unconfirmed",
            Self::Unadvised => "no_advice",
            Self::Down(_) => "down",
            Self::Kept(_) => "health_floor",
            Self::HeldBack(_) => "blast_limit",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Overridden(_) => "override",
            Self::Advised(_) => "advice",
            Self::Sorry => "sorry_server",
            Self::SorryNoMore => "sorry_server_no_more",
            Self::Private => "private",
            Self::Undeclared => "undeclared",
            Self::Guarded => "reload_guard",
            Self::Drains(_) => "drains",
            Self::Drained { .. } => "drained",
        }
    }
}

impl fmt::Display for Why {
    /// `up`, `no verdict yet`, `down: connection refused`, `no policy declares it`. Control
    /// characters, which a reason may have from the network, are written as escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Unknown => f.write_str("no verdict yet"),
            Self::Unconfirmed => {
                f.write_str("its verdict on record is not what the table shows; a probe decides")
            }
            Self::Unadvised => f.write_str("not asked yet what it wants"),
            Self::Down(reason) => write_down(f, reason.as_deref()),
            Self::Kept(reason) => {
                f.write_str("kept by the health floor; ")?;
                write_down(f, reason.as_deref())
            }
            Self::HeldBack(reason) => {
                f.write_str("held by the blast-radius limit; ")?;
                write_down(f, reason.as_deref())
            }
            Self::Withdrawn { up, needed } => {
                write!(f, "withdrawn by the health floor: {up} up, {needed} needed")
            }
            Self::Weighed(text) | Self::Overridden(text) | Self::Advised(text) => {
                write_printable(f, text)
            }
            Self::Sorry => f.write_str("sorry server: no real server takes connections"),
            Self::SorryNoMore => f.write_str("sorry server: real servers take connections again"),
            Self::Private => f.write_str("for probes, whatever its health"),
            Self::Undeclared => f.write_str("no policy declares it"),
            Self::Guarded => f.write_str("no policy declares it; held by the reload guard"),
            Self::Drains(drains) => {
                let left = humantime::format_duration(whole_seconds(drains.left));
                write!(f, "{}; drains {left} at most", drains.cause)?;
                match drains.connections {
                    0 => Ok(()),
                    1 => f.write_str(", 1 connection left"),
                    many => write!(f, ", {many} connections left"),
                }
            }
            Self::Drained { cause, cut: 0 } => write!(f, "{cause}; drained"),
            Self::Drained { cause, cut: 1 } => {
                write!(f, "{cause}; drain deadline passed with 1 connection left")
            }
            Self::Drained { cause, cut } => {
                write!(f, "{cause}; drain deadline passed with {cut} connections left")
            }
        }
    }
}

fn write_down(f: &mut fmt::Formatter<'_>, reason: Option<&str>) -> fmt::Result {
    match reason {
        None => f.write_str("down"),
        Some(reason) => {
            f.write_str("down: ")?;
            write_printable(f, reason)
        }
    }
}

fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|letter| match letter.is_control() {
        true => write!(f, "{}", letter.escape_default()),
        false => write!(f, "{letter}"),
    })
}

/// Rounded up: what is left is never said to be less than it is.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
