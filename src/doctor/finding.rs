//! What was found: a value, ready for JSON and for [`super::text`].

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that the policies rely on does not work.
    Error,
    /// It works until something happens.
    Warning,
    /// Worth knowing, or not to be seen from here.
    Note,
    /// As it should be.
    Ok,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Names the kind of finding, for programs; stable.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a sysctl, an address, a process.
    pub subject: String,
    /// What is.
    pub is: String,
    /// What should be; empty if that is what is.
    pub should: String,
    /// Why it matters; empty if all is well and there is nothing to explain.
    pub why: String,
    /// What mends it, or shows what cannot be seen from here.
    pub command: Option<String>,
    /// The machine that the command is for.
    pub run_on: Machine,
}

/// Where a command is to be run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// This machine.
    #[default]
    Director,
    /// Each real server.
    RealServer,
}

impl Finding {
    /// A finding that says nothing yet.
    pub(super) fn new(severity: Severity, id: &'static str, subject: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            subject: subject.into(),
            is: String::new(),
            should: String::new(),
            why: String::new(),
            command: None,
            run_on: Machine::Director,
        }
    }

    /// All is well, because this is.
    pub(super) fn ok(id: &'static str, subject: impl Into<String>, is: impl Into<String>) -> Self {
        Self::new(Severity::Ok, id, subject).is(is)
    }

    /// A note of what cannot be seen, with the reason.
    pub(super) fn unseen(id: &'static str, subject: impl Into<String>, reason: &str) -> Self {
        Self::new(Severity::Note, id, subject).is(format!("cannot tell: {reason}"))
    }

    pub(super) fn is(mut self, is: impl Into<String>) -> Self {
        self.is = is.into();
        self
    }

    pub(super) fn should(mut self, should: impl Into<String>) -> Self {
        self.should = should.into();
        self
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(super) fn run(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    pub(super) fn run_on_real_servers(mut self, command: impl Into<String>) -> Self {
        self.run_on = Machine::RealServer;
        self.run(command)
    }
}
