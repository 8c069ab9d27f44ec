//! `real_servers` and the settings that a policy and one of its real servers share.

use std::net::{IpAddr, SocketAddr};

use crate::ipvs::model::TunnelChecksum;
use crate::ipvs::text::port_with_zeros;
use crate::policy::decode::{self, Field, Fields, Misspelt};
use crate::policy::node::{Node, Value};
use crate::policy::source::{At, Report};

/// The largest weight the kernel takes.
const MAX_WEIGHT: u32 = 2_147_483_647;

/// An entry of `real_servers`.
#[derive(Debug)]
pub(crate) struct RealServerEntry {
    pub(crate) name: Field<String>,
    pub(crate) address: At<IpAddr>,
    pub(crate) port: Field<u16>,
    pub(crate) settings: ServerSettings,
    pub(crate) check_address: Field<IpAddr>,
    pub(crate) check_port: Field<u16>,
}

/// What a policy says for all its real servers, and an entry for its own.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    pub(crate) forwarding: Field<Method>,
    pub(crate) tunnel: Field<TunnelEntry>,
    pub(crate) weight: Field<u32>,
    pub(crate) upper_threshold: Field<u32>,
    pub(crate) lower_threshold: Field<u32>,
}

/// A forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Masq,
    Direct,
    Tunnel,
}

/// The encapsulation of `forwarding: tunnel`.
#[derive(Debug, Clone)]
pub(crate) struct TunnelEntry {
    pub(crate) kind: Field<TunnelKind>,
    pub(crate) port: Field<u16>,
    pub(crate) checksum: Field<TunnelChecksum>,
}

/// Its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

impl RealServerEntry {
    pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            return Self::from_text(node, report);
        }
        let fields = Fields::of(node, "a real server", report)?;
        Self::from_fields(fields, node, report)
    }

    /// Reads the keys of a mapping that nobody has asked for yet.
    pub(crate) fn from_fields(
        mut fields: Fields<'_>,
        node: &Node,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let mut name = fields.field("name", report, name);
        let mut address = fields.field("address", report, decode::address);
        let mut port = fields.field("port", report, decode::port);
        let mut settings = ServerSettings::read(&mut fields, report);
        let mut check_address = fields.field("check_address", report, decode::address);
        let mut check_port = fields.field("check_port", report, decode::port);
        let elsewhere: &[(&[&str], &str)] =
            &[(&["checks", "scheduler", "on_down", "persistence"], "in the policy itself")];
        let misspelt = fields.finish(elsewhere, report);
        misspelt.spoil("name", &mut name);
        misspelt.spoil("address", &mut address);
        misspelt.spoil("port", &mut port);
        misspelt.spoil("check_address", &mut check_address);
        misspelt.spoil("check_port", &mut check_port);
        settings.spoil(&misspelt);
        if address.is_absent() {
            let help = "write `address: 192.0.2.10`";
            report.error(node.place, "a real server without `address`", help);
        }
        let address = address.get()?.clone();
        Some(Self { name, address, port, settings, check_address, check_port })
    }

    /// `192.0.2.10`, `192.0.2.10:8080`, `2001:db8::10` or `[2001:db8::10]:8080`.
    fn from_text(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let written = decode::text(node, report)?;
        let (address, port) = match (written.parse::<IpAddr>(), written.parse::<SocketAddr>()) {
            (Ok(address), _) => (address, Field::Absent),
            (_, Ok(socket)) if is_plain(&socket) && port_with_zeros(&written).is_none() => {
                let port = At { value: socket.port(), place: node.place };
                (socket.ip(), Field::Is(port))
            }
            _ => {
                report_address(&written, node, report);
                return None;
            }
        };
        let value = decode::unicast(address, node.place, report)?;
        Some(Self {
            name: Field::Absent,
            address: At { value, place: node.place },
            port,
            settings: ServerSettings::none(),
            check_address: Field::Absent,
            check_port: Field::Absent,
        })
    }
}

/// A name that nobody can take for an address: commands understand both.
fn name(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = decode::name(node, "a real server", report)?;
    let bare = name.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok() {
        let message = format!("`{name}` is an address, not a name");
        report.error(node.place, message, "leave `name` out: then it is called by its address");
        return None;
    }
    Some(name)
}

impl ServerSettings {
    pub(crate) fn read(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Self {
        let threshold =
            |node: &Node, report: &mut Report<'_>| decode::number(node, 0..=u32::MAX, report);
        Self {
            forwarding: fields.field("forwarding", report, method),
            tunnel: fields.field("tunnel", report, tunnel),
            weight: fields.field("weight", report, |node, report| {
                decode::number(node, 0..=MAX_WEIGHT, report)
            }),
            upper_threshold: fields.field("upper_threshold", report, threshold),
            lower_threshold: fields.field("lower_threshold", report, threshold),
        }
    }

    /// Lets nobody take a misspelt setting for a missing one.
    pub(super) fn spoil(&mut self, misspelt: &Misspelt<'_>) {
        misspelt.spoil("forwarding", &mut self.forwarding);
        misspelt.spoil("tunnel", &mut self.tunnel);
        misspelt.spoil("upper_threshold", &mut self.upper_threshold);
        misspelt.spoil("lower_threshold", &mut self.lower_threshold);
    }

    fn none() -> Self {
        Self {
            forwarding: Field::Absent,
            tunnel: Field::Absent,
            weight: Field::Absent,
            upper_threshold: Field::Absent,
            lower_threshold: Field::Absent,
        }
    }
}

/// Neither a zone nor port 0.
fn is_plain(socket: &SocketAddr) -> bool {
    let zone = matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0);
    !zone && socket.port() != 0
}

fn report_address(written: &str, node: &Node, report: &mut Report<'_>) {
    let shown = decode::cut(written);
    let inside = written.trim_matches(['[', ']']);
    let (message, help) = if let Ok(socket) = written.parse::<SocketAddr>() {
        match socket.port() {
            port if port_with_zeros(written).is_some() => (
                format!("`{shown}` has leading zeros in its port"),
                format!("write {port}, without them"),
            ),
            0 => (
                format!("`{shown}` has port 0"),
                format!("write `{}`: without a port it is that of the service", socket.ip()),
            ),
            _ => (format!("`{shown}` has a zone, which IPVS cannot hold"), String::new()),
        }
    } else if let Ok(address) = inside.parse::<IpAddr>() {
        (format!("`{shown}` is not a real server"), format!("write `{address}`, without brackets"))
    } else if let Some((_, rest)) = written.split_once("://") {
        (
            format!("`{shown}` is not a real server"),
            format!("write `{}`", decode::cut(rest.split('/').next().unwrap_or(rest))),
        )
    } else if inside.split_once('/').is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok()) {
        (
            format!("`{shown}` is a network, not a real server"),
            "write one address, without a prefix length".to_owned(),
        )
    } else {
        match written.rsplit_once(':') {
            Some((host, port)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => (
                format!("`{}` is not a port", decode::cut(port)),
                "a port is a whole number from 1 to 65535".to_owned(),
            ),
            _ => (
                format!("`{shown}` is not an IP address"),
                "names are not resolved: write the address itself, such as `192.0.2.10` or `192.0.2.10:8080`".to_owned(),
            ),
        }
    };
    report.error(node.place, message, help);
}

fn method(node: &Node, report: &mut Report<'_>) -> Option<Method> {
    let words = [("masq", Method::Masq), ("direct", Method::Direct), ("tunnel", Method::Tunnel)];
    match &node.value {
        Value::Plain(written) | Value::Text(written) => {
            let meant = match written.to_lowercase().as_str() {
                "nat" | "masquerade" | "masquerading" | "m" => Some("masq"),
                "dr" | "gatewaying" | "gateway" | "route" | "g" => Some("direct"),
                "tun" | "ipip" | "i" => Some("tunnel"),
                _ => None,
            };
            if let Some(word) = meant {
                let message = format!("`{written}` is not a forwarding method");
                report.error(node.place, message, format!("write `{word}`"));
                return None;
            }
        }
        _ => {}
    }
    decode::word(node, &words, report)
}

fn tunnel(node: &Node, report: &mut Report<'_>) -> Option<TunnelEntry> {
    let kinds = [("ipip", TunnelKind::Ipip), ("gue", TunnelKind::Gue), ("gre", TunnelKind::Gre)];
    let checksums = [
        ("none", TunnelChecksum::None),
        ("full", TunnelChecksum::Full),
        ("remote", TunnelChecksum::Remote),
    ];
    let mut fields = Fields::of(node, "tunnel", report)?;
    let entry = TunnelEntry {
        kind: fields.field("kind", report, |node, report| decode::word(node, &kinds, report)),
        port: fields.field("port", report, decode::port),
        checksum: fields
            .field("checksum", report, |node, report| decode::word(node, &checksums, report)),
    };
    fields.finish(&[], report);
    let bad = entry.kind.is_bad() || entry.port.is_bad() || entry.checksum.is_bad();
    (!bad).then_some(entry)
}
