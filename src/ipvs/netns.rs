//! Network namespaces by the names that `ip netns` gives them.
//!
//! A netlink socket belongs for ever to the namespace of the thread that made it, so whoever wants
//! the table of another namespace enters it first.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

/// Why a network namespace cannot be entered.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// Not a file name.
    #[error("`{0}` is not the name of a network namespace: write it as `ip netns list` does")]
    Name(String),
    /// Nothing of that name.
    #[error(
        "no network namespace `{0}`: {DIRECTORY}/{0} does not exist; `ip netns list` shows those there are"
    )]
    Missing(String),
    /// Something else is in its place.
    #[error("{DIRECTORY}/{0} is not a network namespace: make one with `ip netns add`")]
    Foreign(String),
    /// `EPERM`.
    #[error(
        "not permitted to enter the network namespace `{0}`: it needs CAP_SYS_ADMIN (run as root)"
    )]
    Denied(String),
    /// Anything else.
    #[error("cannot enter the network namespace `{name}`")]
    Other {
        /// The name asked for.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

/// Moves the calling thread, and threads it starts from now on, into the network namespace that
/// `ip netns add NAME` made.
///
/// Threads that already run stay where they are: call it first of all.
///
/// # Errors
/// [`NetnsError`]; the thread is then where it was.
pub fn enter_netns(name: &str) -> Result<(), NetnsError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(NetnsError::Name(name.to_owned()));
    }
    let path = Path::new(DIRECTORY).join(name);
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NetnsError::Missing(name.to_owned()),
        io::ErrorKind::PermissionDenied => NetnsError::Denied(name.to_owned()),
        _ => NetnsError::Other { name: name.to_owned(), source: error },
    })?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|errno| {
        match errno {
            Errno::PERM => NetnsError::Denied(name.to_owned()),
            Errno::INVAL => NetnsError::Foreign(name.to_owned()),
            errno => NetnsError::Other { name: name.to_owned(), source: errno.into() },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_entered_says_why() {
        for (name, says) in [
            ("", "is not the name"),
            ("..", "is not the name"),
            ("a/b", "is not the name"),
            ("there-is-none-of-this-name", "`ip netns list` shows"),
        ] {
            let error = enter_netns(name).unwrap_err().to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
