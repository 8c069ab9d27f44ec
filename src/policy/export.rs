//! From a table to the policies that say the same.
//!
//! Whether a policy can say a service is not judged by rules of its own: the service is written
//! as it is and read by those who read policies. What they refuse is left out, with their words.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::decode::show_time;
use super::resolve::read_text;
use crate::ipvs::model::{
    DestinationConfig, Family, Forwarding, Persistence, Service, ServiceConfig, ServiceKey, Table,
    Tunnel, TunnelChecksum,
};

/// Policies for a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// A YAML document for each policy, with comments; empty if there is none.
    pub yaml: String,
    /// What no policy can say, and why. The daemon leaves such a service alone.
    pub left_out: Vec<(ServiceKey, String)>,
}

/// Writes policies that declare exactly this table, so that a plan against it has nothing to do.
/// Services with equal settings and real servers share a policy.
pub fn export(table: &Table) -> Export {
    let mut left_out = Vec::new();
    let mut policies: Vec<Draft> = Vec::new();
    for (key, service) in table {
        let draft = Draft::of(*key, service);
        if let Err(problem) = read_text(&draft.yaml()) {
            left_out.push((*key, problem.message));
        } else if let Some(equal) = policies.iter_mut().find(|other| other.takes(&draft)) {
            equal.services.extend(draft.services);
        } else {
            policies.push(draft);
        }
    }
    Export { yaml: document(&policies, &left_out), left_out }
}

fn document(policies: &[Draft], left_out: &[(ServiceKey, String)]) -> String {
    let mut yaml = String::new();
    if !policies.is_empty() {
        yaml.push_str("# The IPVS table as policies, written by `pointsman export`.\n");
        if !left_out.is_empty() {
            yaml.push_str("#\n# Left out, and left alone by the daemon:\n");
        }
        for (key, reason) in left_out {
            let _ = writeln!(yaml, "#   {key}: {reason}");
        }
    }
    for draft in policies {
        yaml.push_str("---\n");
        yaml.push_str(&draft.yaml());
    }
    yaml
}

/// A policy to be written.
#[derive(Debug)]
struct Draft {
    /// Each with the port of its real servers, where that is one and not its own.
    services: Vec<(ServiceKey, Option<u16>)>,
    config: ServiceConfig,
    servers: Vec<Server>,
}

/// An entry of `real_servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Server {
    address: IpAddr,
    /// Where neither the service nor its entry says it.
    port: Option<u16>,
    config: DestinationConfig,
}

impl Draft {
    fn of(key: ServiceKey, service: &Service) -> Self {
        let own = match key {
            ServiceKey::Address { port, .. } => port,
            ServiceKey::Fwmark { .. } => 0,
        };
        let mut ports = service.destinations.keys().map(|destination| destination.port);
        let first = ports.next().unwrap_or(own);
        let common = ports.all(|port| port == first).then_some(first);
        let servers = service.destinations.iter().map(|(destination, found)| Server {
            address: destination.address,
            port: Some(destination.port).filter(|port| common.is_none() && *port != own),
            config: found.config,
        });
        Self {
            services: vec![(key, common.filter(|port| *port != own))],
            config: service.config.clone(),
            servers: servers.collect(),
        }
    }

    fn takes(&self, other: &Self) -> bool {
        self.config == other.config && self.servers == other.servers
    }

    fn yaml(&self) -> String {
        let mut yaml = String::new();
        self.write(&mut yaml).unwrap_or_default();
        yaml
    }

    fn write(&self, yaml: &mut String) -> std::fmt::Result {
        if let Some((key, _)) = self.services.first() {
            writeln!(yaml, "name: {}", name(key))?;
        }
        writeln!(yaml, "virtual_services:")?;
        for (key, port) in &self.services {
            match port {
                None => writeln!(yaml, "  - {key}")?,
                Some(port) => writeln!(yaml, "  - {{ service: \"{key}\", port: {port} }}")?,
            }
        }
        writeln!(yaml, "scheduler: {}", self.config.scheduler)?;
        let flags = self.config.flag_names();
        if !flags.is_empty() {
            writeln!(yaml, "flags: [{}]", flags.join(", "))?;
        }
        if let Some(persistence) = &self.config.persistence {
            let whole = |(key, _): &(ServiceKey, _)| persistence.prefix == most(key.family());
            let netmask = !self.services.iter().all(whole);
            writeln!(yaml, "persistence: {}", sticky(persistence, netmask))?;
        }
        self.write_servers(yaml)?;
        writeln!(yaml, "# Add a check: without one every real server counts as up. For example")?;
        writeln!(yaml, "#   - http: {{ path: /healthz }}")?;
        writeln!(yaml, "checks: []")
    }

    fn write_servers(&self, yaml: &mut String) -> std::fmt::Result {
        let forwarding = most_common(self.servers.iter().map(|it| it.config.forwarding));
        let weight = most_common(self.servers.iter().map(|it| it.config.weight));
        let thresholds = most_common(self.servers.iter().map(|it| thresholds(&it.config)));
        if let Some(forwarding) = forwarding {
            writeln!(yaml, "{}", method(forwarding).join("\n"))?;
        }
        if let Some(weight) = weight {
            writeln!(yaml, "weight: {weight}")?;
        }
        if let Some((upper, lower)) = thresholds.filter(|it| *it != (0, 0)) {
            writeln!(yaml, "upper_threshold: {upper}\nlower_threshold: {lower}")?;
        }
        if self.servers.is_empty() {
            return writeln!(yaml, "real_servers: []");
        }
        writeln!(yaml, "real_servers:")?;
        for Server { address, port, config } in &self.servers {
            let mut own = Vec::new();
            if Some(config.forwarding) != forwarding {
                own.extend(method(config.forwarding));
            }
            if Some(config.weight) != weight {
                own.push(format!("weight: {}", config.weight));
            }
            if Some(self::thresholds(config)) != thresholds {
                own.push(format!("upper_threshold: {}", config.upper_threshold));
                own.push(format!("lower_threshold: {}", config.lower_threshold));
            }
            writeln!(yaml, "  - {}", entry(*address, *port, &own))?;
        }
        Ok(())
    }
}

/// A name that no other service gives.
fn name(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address, port } => format!("{protocol}-{address}-{port}"),
        ServiceKey::Fwmark { mark, family: Family::Inet } => format!("fwmark-{mark}"),
        ServiceKey::Fwmark { mark, family: Family::Inet6 } => format!("fwmark-{mark}-inet6"),
    }
}

/// The value of `persistence`, with its netmask where that is not one address.
fn sticky(persistence: &Persistence, netmask: bool) -> String {
    let Persistence { timeout, prefix, engine } = persistence;
    let timeout = show_time(Duration::from_secs(u64::from(*timeout)));
    let mut keys = vec![format!("timeout: {timeout}")];
    if netmask {
        keys.push(format!("netmask: {prefix}"));
    }
    keys.extend(engine.iter().map(|engine| format!("engine: {engine}")));
    match keys.len() {
        1 => timeout,
        _ => format!("{{ {} }}", keys.join(", ")),
    }
}

fn most(family: Family) -> u8 {
    match family {
        Family::Inet => 32,
        Family::Inet6 => 128,
    }
}

/// The keys that say a forwarding method.
fn method(forwarding: Forwarding) -> Vec<String> {
    let tunnel = |kind: &str, port: Option<u16>, checksum: TunnelChecksum| {
        let mut keys = vec![format!("kind: {kind}")];
        keys.extend(port.map(|port| format!("port: {port}")));
        if checksum != TunnelChecksum::None {
            keys.push(format!("checksum: {checksum}"));
        }
        vec!["forwarding: tunnel".to_owned(), format!("tunnel: {{ {} }}", keys.join(", "))]
    };
    match forwarding {
        Forwarding::Tunnel(Tunnel::Ipip) => tunnel("ipip", None, TunnelChecksum::None),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => tunnel("gue", Some(port), checksum),
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => tunnel("gre", None, checksum),
        other => vec![format!("forwarding: {other}")],
    }
}

fn thresholds(config: &DestinationConfig) -> (u32, u32) {
    (config.upper_threshold, config.lower_threshold)
}

/// An entry of `real_servers`: text, or a mapping where it has settings of its own.
fn entry(address: IpAddr, port: Option<u16>, own: &[String]) -> String {
    let quoted = |text: String| match address {
        IpAddr::V4(_) => text,
        // Its colons and brackets mean something in YAML.
        IpAddr::V6(_) => format!("\"{text}\""),
    };
    match port {
        // Port 0 has no text.
        Some(port) if own.is_empty() && port != 0 => {
            quoted(SocketAddr::new(address, port).to_string())
        }
        None if own.is_empty() => quoted(address.to_string()),
        _ => {
            let port = port.map(|port| format!(", port: {port}")).unwrap_or_default();
            let own: String = own.iter().map(|key| format!(", {key}")).collect();
            format!("{{ address: {}{port}{own} }}", quoted(address.to_string()))
        }
    }
}

/// The first of those that occur most often.
fn most_common<T: PartialEq + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(other, _)| *other == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(value, _)| value)
}

#[cfg(test)]
mod tests;
