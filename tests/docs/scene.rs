//! A policy of a document at work: on loopback, with the table in memory.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use regex::Regex;

use crate::backend::Backend;
use crate::lines::read;
use crate::scratch::{Finished, Scratch, finish};

/// Where the unit lets the daemon log to.
const LOGS: &str = "/var/log/pointsman";

/// A policy as a document has it, real servers for it, and a place for a daemon.
pub(crate) struct Scene {
    pub(crate) scratch: Scratch,
    pub(crate) backends: Vec<Backend>,
    /// The policy as it is used.
    pub(crate) policy: String,
    file: &'static str,
    port: u16,
    /// What stands for the beginning of the real servers' addresses, and what they begin with.
    network: (&'static str, &'static str),
    /// The lines of the documents that were run here.
    pub(crate) ran: RefCell<BTreeSet<String>>,
}

impl Scene {
    /// The policy of a document, in a file of this name, with real servers at these numbers of a
    /// network whose first number loopback can stand for.
    pub(crate) fn new(
        policy: &str,
        file: &'static str,
        network: (&'static str, &'static str),
        hosts: &[u8],
    ) -> Self {
        let (backends, port) = servers(network.0, hosts);
        let scratch = Scratch::new();
        let policy =
            policy.replace(network.1, network.0).replace("port: 80,", &format!("port: {port},"));
        scratch.write(file, &policy);
        let settings = format!(
            "policies: {}\nstate_dir: {}\nsocket: {}\nipvs: memory\n",
            scratch.policies().display(),
            scratch.state().display(),
            scratch.socket().display()
        );
        fs::write(scratch.path("pointsman.yaml"), settings).unwrap();
        Self { scratch, backends, policy, file, port, network, ran: RefCell::default() }
    }

    /// Runs the line above an output that a document shows.
    pub(crate) fn shown(&self, document: &str, name: &str) -> Finished {
        self.run(&line_above(document, name))
    }

    /// Runs a line as a document has it, to its end.
    pub(crate) fn run(&self, line: &str) -> Finished {
        finish(self.shell(line))
    }

    /// A line as a document has it, with the addresses and directories of this place. A daemon is
    /// the process itself: nothing is left of the shell.
    pub(crate) fn shell(&self, line: &str) -> Command {
        assert!(!line.contains([';', '&']), "more than the shell's last command: {line}");
        self.ran.borrow_mut().insert(line.to_owned());
        let line = line.replace(self.network.1, self.network.0);
        let line = line.replace(LOGS, self.logs().to_str().unwrap());
        let program = env!("CARGO_BIN_EXE_pointsman");
        let script = format!(
            "sudo() {{ \"$@\"; }}\n\
             pointsman() {{ exec {program} --settings \"$SETTINGS\" \"$@\"; }}\n{line}"
        );
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", &script]).current_dir(self.scratch.path("")).stdin(Stdio::null());
        shell.env("SETTINGS", self.scratch.path("pointsman.yaml"));
        for name in ["RUST_LOG", "NO_COLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE", "SUDO_USER"] {
            shell.env_remove(name);
        }
        shell
    }

    /// What stands for the directory of logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.scratch.path("logs")
    }

    /// Saves an edited policy in a directory beside, for lines that name it.
    pub(crate) fn edit(&self, directory: &str, policy: &str) {
        let directory = self.scratch.path(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(self.file), policy).unwrap();
    }

    /// With the addresses, ports and directories of the document. The table of a real daemon is the
    /// kernel's, so what is only said of one in memory goes.
    pub(crate) fn as_shown(&self, text: &str) -> String {
        let in_memory = Regex::new(r"(?m)^table: .*\bin (the )?memory\b.*\n").unwrap();
        let text = in_memory.replace_all(text, "");
        text.replace(self.network.0, self.network.1)
            .replace(&format!(":{}", self.port), ":80")
            .replace(&self.scratch.policies().display().to_string(), "/etc/pointsman/policies")
            .replace("memory table", "kernel table")
    }
}

/// The line above an output that a document shows.
pub(crate) fn line_above(document: &str, name: &str) -> String {
    let above = Regex::new(&format!("(?m)^(.+)\n```\n\n<!-- shown: {name} -->$")).unwrap();
    let text = read(document);
    above.captures(&text).unwrap_or_else(|| panic!("{document}: no {name}"))[1].to_owned()
}

/// Servers at these numbers of a network, all on one port.
fn servers(network: &str, hosts: &[u8]) -> (Vec<Backend>, u16) {
    let on = |host: &u8, port| {
        let address: Ipv4Addr = format!("{network}{host}").parse().unwrap();
        Backend::on(IpAddr::V4(address), port)
    };
    for _ in 0..100 {
        let first = on(&hosts[0], 0).unwrap();
        let port = first.address.port();
        let others: Result<Vec<_>, _> = hosts[1..].iter().map(|host| on(host, port)).collect();
        if let Ok(others) = others {
            return (std::iter::once(first).chain(others).collect(), port);
        }
    }
    panic!("no port is free on all addresses");
}
