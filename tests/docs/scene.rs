//! A policy of a document at work: on loopback, with the table in memory.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use regex::Regex;

use crate::backend::Backend;
use crate::scratch::{Scratch, finish, pointsman};

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
        Self { scratch, backends, policy, file, port, network }
    }

    /// What `plan` says of this policy in a directory of its own, as a user calls it there.
    pub(crate) fn plan_of(&self, directory: &str, policy: &str) -> String {
        fs::create_dir(self.scratch.path(directory)).unwrap();
        fs::write(self.scratch.path(directory).join(self.file), policy).unwrap();
        let mut plan = pointsman(&["plan", "--policies", directory, "--socket", "sock"]);
        plan.current_dir(self.scratch.path(""));
        let answer = finish(plan).exit(0).stdout;
        fs::remove_dir_all(self.scratch.path(directory)).unwrap();
        answer
    }

    /// What `check` says of a policy with mistakes in it.
    pub(crate) fn complaints(&self, directory: &str, policy: &str) -> String {
        fs::create_dir(self.scratch.path(directory)).unwrap();
        fs::write(self.scratch.path(directory).join(self.file), policy).unwrap();
        let mut check = pointsman(&["check", directory]);
        check.current_dir(self.scratch.path(""));
        finish(check).exit(2).stderr
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
