//! What systemd is told of the daemon: ready, reloading, stopping, one line of status, alive.
//!
//! The protocol is that of sd_notify(3): datagrams of `KEY=value` lines to the socket that
//! `NOTIFY_SOCKET` names. Without one nothing is sent. Nothing here waits for systemd: a datagram
//! that its queue cannot take is lost, and the next one says the same.

mod life;
mod watchdog;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

pub use life::Life;
pub use watchdog::{Heart, Pulse, pulse, watch};

/// As much of a status as fits on a line of `systemctl status`, in characters.
const LONGEST_STATUS: usize = 300;

/// The way to systemd; clones are the same way.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    way: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

/// The part of the environment that systemd sets.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub socket: Option<OsString>,
    /// `WATCHDOG_USEC`: without a sign of life for so many microseconds the daemon is ended.
    pub watchdog_usec: Option<String>,
    /// `WATCHDOG_PID`: the process that this is about, if set.
    pub watchdog_pid: Option<String>,
}

impl Environment {
    /// As this process has it.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).ok();
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()),
            watchdog_usec: text("WATCHDOG_USEC"),
            watchdog_pid: text("WATCHDOG_PID"),
        }
    }

    fn watchdog(&self) -> Option<Duration> {
        let pid = self.watchdog_pid.as_deref();
        if pid.is_some_and(|pid| pid.parse() != Ok(std::process::id())) {
            return None;
        }
        let microseconds = self.watchdog_usec.as_deref()?.parse().ok()?;
        Some(Duration::from_micros(microseconds)).filter(|length| !length.is_zero())
    }
}

impl Notifier {
    /// Opens the way. Before another network namespace is entered, which has other abstract names.
    ///
    /// # Errors
    /// The name is not one of a socket.
    pub fn new(environment: &Environment) -> io::Result<Self> {
        let Some(name) = &environment.socket else { return Ok(Self::default()) };
        Ok(Self { way: Some(Arc::new(open(name)?)), watchdog: environment.watchdog() })
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.way.is_some()
    }

    /// The time within which systemd wants a sign of life.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start is done, or a reload is.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload has begun, which [`Self::ready`] ends.
    pub fn reloading(&self) {
        // With it systemd knows the answer from one to an earlier signal (Type=notify-reload).
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, line: &str) {
        let line: String =
            line.replace(char::is_control, " ").chars().take(LONGEST_STATUS).collect();
        self.send(&format!("STATUS={line}"));
    }

    fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = self.way.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            debug!(%error, message, "systemd did not take a notification");
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(name: &str, address: &SocketAddr) -> Vec<String> {
        let systemd = UnixDatagram::bind_addr(address).unwrap();
        let environment = Environment { socket: Some(name.into()), ..Environment::default() };
        let notifier = Notifier::new(&environment).unwrap();
        notifier.status(&format!("1 of 1\n{}", "é".repeat(1000)));
        notifier.reloading();
        systemd.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let mut messages = Vec::new();
        while let Ok(length) = systemd.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("pointsman-notify-{}", std::process::id());
        for (name, address) in [
            (path.display().to_string(), SocketAddr::from_pathname(&path).unwrap()),
            (format!("@{name}"), SocketAddr::from_abstract_name(&name).unwrap()),
        ] {
            let messages = heard(&name, &address);
            let [status, reloading] = &messages[..] else { panic!("{messages:?}") };
            assert!(status.starts_with("STATUS=1 of 1 éé"), "{status}");
            assert_eq!(status.chars().count(), "STATUS=".len() + LONGEST_STATUS);
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{time}");
        }
    }

    #[test]
    fn nobody_need_listen() {
        let named = |name: &str| {
            Notifier::new(&Environment { socket: Some(name.into()), ..Environment::default() })
        };
        for name in ["/nowhere/at/all", "@", "relative"] {
            named(name).unwrap().ready();
        }
        assert!(named(&"x".repeat(4000)).is_err());
        assert!(!Notifier::new(&Environment::default()).unwrap().is_heard());
    }

    #[test]
    fn the_watchdog_may_be_for_another_process() {
        let of = |usec: &str, pid: Option<String>| {
            let watchdog_usec = Some(usec.to_owned());
            Environment { socket: None, watchdog_usec, watchdog_pid: pid }.watchdog()
        };
        let own = std::process::id().to_string();
        assert_eq!(of("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", Some(own)), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", Some("1".to_owned())), None);
        for wrong in ["", "0", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(of(wrong, None), None, "{wrong}");
        }
    }
}
