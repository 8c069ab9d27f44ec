//! How IPVS objects are written for people: one spelling in YAML, plans, logs, JSON and messages.
//!
//! `tcp://192.0.2.1:80`, `sctp://[2001:db8::1]:0`, `fwmark://7`, `fwmark://7/inet6` name virtual
//! services; `192.0.2.1:80` names a destination.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::model::{
    DestinationConfig, DestinationKey, Family, Forwarding, Persistence, Protocol, Scheduler,
    ServiceConfig, ServiceKey, Tunnel, TunnelChecksum,
};

/// Why a text does not name a virtual service or a destination.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct ParseKeyError {
    /// What is wrong, as a lowercase fragment.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

impl ParseKeyError {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

const SERVICE_FORMS: &str =
    "write `tcp://192.0.2.1:80`, `udp://[2001:db8::1]:53`, `fwmark://7` or `fwmark://7/inet6`";

impl FromStr for ServiceKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(ParseKeyError::new(
                format!("`{text}` does not say its protocol"),
                match text.parse::<SocketAddr>() {
                    Ok(address) => format!("write `tcp://{address}`"),
                    Err(_) => SERVICE_FORMS.to_owned(),
                },
            ));
        };
        let protocol = match scheme {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            "fwmark" => return parse_fwmark(rest),
            other => {
                return Err(ParseKeyError::new(
                    format!("`{other}` is not a protocol of IPVS"),
                    "use `tcp`, `udp`, `sctp` or `fwmark`",
                ));
            }
        };
        let (address, port) = parse_socket_address(rest, scheme)?;
        Ok(Self::Address { protocol, address, port })
    }
}

fn parse_fwmark(rest: &str) -> Result<ServiceKey, ParseKeyError> {
    let (mark, family) = match rest.split_once('/') {
        None | Some((_, "inet")) => (rest.trim_end_matches("/inet"), Family::Inet),
        Some((mark, "inet6")) => (mark, Family::Inet6),
        Some((_, family)) => {
            return Err(ParseKeyError::new(
                format!("`{family}` is not an address family"),
                "use `inet` or `inet6`",
            ));
        }
    };
    if mark.len() > 1 && mark.starts_with('0') {
        return Err(leading_zeros(mark));
    }
    match mark.parse() {
        Ok(number) if number > 0 && !mark.starts_with('+') => {
            Ok(ServiceKey::Fwmark { mark: number, family })
        }
        _ => Err(ParseKeyError::new(
            format!("`{mark}` is not a firewall mark"),
            "a firewall mark is a whole number from 1 to 4294967295",
        )),
    }
}

/// The port of an address and a port, if it is written with zeros in front: one address has one
/// spelling.
pub(crate) fn port_with_zeros(socket: &str) -> Option<&str> {
    let (_, port) = socket.rsplit_once(':')?;
    (port.len() > 1 && port.starts_with('0')).then_some(port)
}

fn leading_zeros(number: &str) -> ParseKeyError {
    let plain = match number.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    ParseKeyError::new(
        format!("`{number}` has leading zeros"),
        format!("write `{plain}`: zeros in front mean different numbers to different programs"),
    )
}

fn parse_socket_address(rest: &str, scheme: &str) -> Result<(IpAddr, u16), ParseKeyError> {
    if let Ok(address) = rest.parse::<SocketAddr>() {
        if let Some(port) = port_with_zeros(rest) {
            return Err(leading_zeros(port));
        }
        return match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Err(ParseKeyError::new(
                format!("`{rest}` has a zone, which IPVS cannot hold"),
                "use an address that is valid without a zone",
            )),
            _ => Ok((address.ip(), address.port())),
        };
    }
    if let Ok(address) = rest.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(address, 80);
        return Err(ParseKeyError::new(
            format!("`{rest}` has no port"),
            format!("write `{scheme}://{example}`, or port 0 for every port with persistence"),
        ));
    }
    if let Some((host, port)) = rest.rsplit_once(':') {
        let host = host.trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_ok() {
            return Err(ParseKeyError::new(
                format!("`{port}` is not a port"),
                "a port is a whole number from 0 to 65535",
            ));
        }
        return Err(ParseKeyError::new(
            format!("`{host}` is not an IP address"),
            "names are not resolved: write the address itself",
        ));
    }
    Err(ParseKeyError::new(format!("`{rest}` is not an address and a port"), SERVICE_FORMS))
}

impl FromStr for DestinationKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let (address, port) = parse_socket_address(text, "tcp")?;
        Ok(Self { address, port })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address, port } => {
                write!(f, "{protocol}://{}", SocketAddr::new(*address, *port))
            }
            Self::Fwmark { mark, family: Family::Inet } => write!(f, "fwmark://{mark}"),
            Self::Fwmark { mark, family: Family::Inet6 } => write!(f, "fwmark://{mark}/inet6"),
        }
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TunnelChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Remote => "remote",
        })
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masq => f.write_str("masq"),
            Self::Direct => f.write_str("direct"),
            Self::Tunnel(Tunnel::Ipip) => f.write_str("tunnel ipip"),
            Self::Tunnel(Tunnel::Gue { port, checksum }) => {
                write!(f, "tunnel gue port {port} checksum {checksum}")
            }
            Self::Tunnel(Tunnel::Gre { checksum }) => {
                write!(f, "tunnel gre checksum {checksum}")
            }
            Self::Other(number) => write!(f, "method {number}"),
        }
    }
}

impl fmt::Display for DestinationConfig {
    /// `weight 80 direct`, with thresholds only where set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {} {}", self.weight, self.forwarding)?;
        if self.upper_threshold != 0 {
            write!(f, " upper {}", self.upper_threshold)?;
        }
        if self.lower_threshold != 0 {
            write!(f, " lower {}", self.lower_threshold)?;
        }
        Ok(())
    }
}

impl ServiceConfig {
    /// The flags that are set, as ipvsadm(8) names them: `sh-port`, `mh-fallback`, `ops`, …
    pub fn flag_names(&self) -> Vec<String> {
        let named = self.scheduler.has_flags();
        let name = |suffix: &str, number: u8| {
            if named { format!("{}-{suffix}", self.scheduler) } else { format!("flag-{number}") }
        };
        let flags = self.flags;
        [
            (flags.fallback, name("fallback", 1)),
            (flags.port, name("port", 2)),
            (flags.sched3, "flag-3".to_owned()),
            (flags.one_packet, "ops".to_owned()),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
    }
}

impl fmt::Display for ServiceConfig {
    /// `wlc`, `mh mh-port`, `rr persistent 300s/24 engine sip`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scheduler.fmt(f)?;
        for flag in self.flag_names() {
            write!(f, " {flag}")?;
        }
        if let Some(Persistence { timeout, prefix, engine }) = &self.persistence {
            write!(f, " persistent {timeout}s/{prefix}")?;
            if let Some(engine) = engine {
                write!(f, " engine {engine}")?;
            }
        }
        Ok(())
    }
}

/// Serializes a key as its text, so that it can be a key of a JSON object.
macro_rules! serde_as_text {
    ($key:ty) => {
        impl Serialize for $key {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

serde_as_text!(ServiceKey);
serde_as_text!(DestinationKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_written() {
        for text in [
            "tcp://192.0.2.1:80",
            "udp://[2001:db8::1]:53",
            "sctp://192.0.2.1:0",
            "fwmark://7",
            "fwmark://4294967295/inet6",
        ] {
            assert_eq!(text.parse::<ServiceKey>().unwrap().to_string(), text);
        }
        assert_eq!("fwmark://7/inet".parse::<ServiceKey>().unwrap().to_string(), "fwmark://7");
    }

    #[test]
    fn bad_keys_say_what_and_how() {
        for (text, what, help) in [
            ("192.0.2.1:80", "does not say its protocol", "write `tcp://192.0.2.1:80`"),
            ("http://192.0.2.1:80", "`http` is not a protocol", "use `tcp`"),
            ("tcp://192.0.2.1", "has no port", "`tcp://192.0.2.1:80`"),
            ("tcp://[2001:db8::1]", "has no port", "`tcp://[2001:db8::1]:80`"),
            ("tcp://www.example.com:80", "`www.example.com` is not an IP address", "not resolved"),
            ("tcp://192.0.2.1:70000", "`70000` is not a port", "0 to 65535"),
            ("tcp://[fe80::1%3]:80", "zone", "without a zone"),
            ("fwmark://0", "`0` is not a firewall mark", "1 to 4294967295"),
            ("fwmark://+7", "`+7` is not a firewall mark", "whole number"),
            ("fwmark://007/inet6", "`007` has leading zeros", "write `7`"),
            ("tcp://192.0.2.1:080", "`080` has leading zeros", "write `80`"),
            ("tcp://[2001:db8::1]:00", "`00` has leading zeros", "write `0`"),
            ("tcp://192.0.2.1:+80", "`+80` is not a port", "0 to 65535"),
            ("fwmark://x", "`x` is not a firewall mark", "whole number"),
            ("fwmark://7/ipv6", "`ipv6` is not an address family", "`inet6`"),
            ("tcp://", "is not an address and a port", "fwmark://7"),
        ] {
            let error = text.parse::<ServiceKey>().unwrap_err();
            assert!(error.what.contains(what), "{text}: {}", error.what);
            assert!(error.help.contains(help), "{text}: {}", error.help);
        }
    }
}
