//! One daemon per table.
//!
//! A table belongs to a network namespace, and so does the name of an abstract Unix socket: whoever
//! holds [`NAME`] there is the daemon of that table. The kernel takes the name back with the
//! process, however it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::process::{Uid, geteuid};
use rustix::thread::CapabilitySet;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tracing::warn;

/// The abstract name; `ss -xl` shows it as `@pointsman-ipvs`.
const NAME: &str = "pointsman-ipvs";

/// Tries to reach a holder that may be between binding and listening.
const TRIES: usize = 1000;

/// Held while the table is this process's; given back when dropped.
#[derive(Debug)]
pub struct TableLock {
    _name: Option<UnixListener>,
}

/// Why the table cannot be had.
#[derive(Debug, Error)]
pub enum TableLockError {
    /// Another daemon has it.
    #[error(
        "another pointsman (pid {pid}) holds the IPVS table of this network namespace; stop it first, or work in another one with --netns; `--dry-run` may run beside it"
    )]
    Held {
        /// Its process, 0 if it is in a PID namespace that cannot be seen from here.
        pid: i32,
    },
    /// Anything else.
    #[error("cannot claim the IPVS table of this network namespace")]
    Other(#[source] io::Error),
}

/// Claims the table of the calling thread's network namespace.
///
/// The name is free to any user, so only root, this process's own user and processes that may change
/// the table are believed to be a daemon. If somebody else has it, that is logged and the table is taken to be free: a stranger
/// must not be able to keep the daemon from starting.
///
/// # Errors
/// [`TableLockError`].
pub fn lock_table() -> Result<TableLock, TableLockError> {
    lock(NAME)
}

/// The process that holds the table of the calling thread's network namespace, if one does.
pub fn holder_of_the_table() -> Option<u32> {
    let (pid, _) = holder(NAME)?;
    u32::try_from(pid).ok()
}

fn lock(name: &str) -> Result<TableLock, TableLockError> {
    let address = SocketAddr::from_abstract_name(name).map_err(TableLockError::Other)?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(TableLock { _name: Some(listener) }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => judge(holder(name)),
        Err(error) => Err(TableLockError::Other(error)),
    }
}

/// The process and user that hold the name, as the kernel vouches for them; `None` if whoever has
/// it does not listen, as every daemon does.
fn holder(name: &str) -> Option<(i32, u32)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).ok()?;
    let address = SockAddr::unix(format!("\0{name}")).ok()?;
    for _ in 0..TRIES {
        if socket.connect(&address).is_ok() {
            let peer = getsockopt(&socket, PeerCredentials).ok()?;
            return Some((peer.pid(), peer.uid()));
        }
        thread::yield_now();
    }
    None
}

fn judge(holder: Option<(i32, u32)>) -> Result<TableLock, TableLockError> {
    match holder {
        Some((pid, uid))
            if [Uid::ROOT, geteuid()].map(Uid::as_raw).contains(&uid) || may_write(pid) =>
        {
            Err(TableLockError::Held { pid })
        }
        stranger => {
            let (pid, uid) = stranger.unzip();
            warn!(
                pid,
                uid,
                "somebody who cannot be the daemon holds the socket name @{NAME}: a second daemon would not be noticed"
            );
            Ok(TableLock { _name: None })
        }
    }
}

/// Whether a process holds `CAP_NET_ADMIN` (proc(5)); the shipped unit's daemon has a user of its own.
fn may_write(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let permitted = permitted.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    permitted.is_some_and(|set| set & CapabilitySet::NET_ADMIN.bits() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: &str) -> String {
        format!("pointsman-test-{of}-{}", std::process::id())
    }

    #[test]
    fn a_table_has_one_holder_at_a_time() {
        let name = name("held");
        let first = lock(&name).unwrap();
        let refused = lock(&name).unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        assert!(refused.contains(&pid), "{refused}");
        drop(first);
        lock(&name).unwrap();
    }

    #[test]
    fn a_stranger_keeps_nobody_from_the_table() {
        let name = name("squatted");
        let squatter = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        squatter.bind(&SockAddr::unix(format!("\0{name}")).unwrap()).unwrap();
        assert!(lock(&name).unwrap()._name.is_none(), "bound, but without an ear");
        let stranger = geteuid().as_raw() + 1;
        assert!(judge(Some((i32::MAX, stranger))).is_ok(), "another user");
        assert!(judge(Some((7, 0))).is_err(), "root");
        // This process, as if another user had it.
        let ours = i32::try_from(std::process::id()).unwrap();
        let may = rustix::thread::capabilities(None).unwrap().permitted;
        let may = may.contains(CapabilitySet::NET_ADMIN);
        assert_eq!(judge(Some((ours, stranger))).is_err(), may, "whoever may write");
    }
}
