//! The user that programs run as.

use std::fmt;

use nix::unistd::Uid;
use rustix::process::geteuid;

use super::outcome::Reason;
use super::progress::Failure;

/// Who a root daemon runs programs as, unless the policy says otherwise.
const NOBODY: &str = "nobody";
/// Its number where it has no entry.
const OVERFLOW: u32 = 65_534;

/// As whom a program is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum User {
    /// As the daemon does.
    Ours,
    /// As somebody else.
    Other { name: String, uid: u32, gid: u32 },
}

impl fmt::Display for User {
    /// `nobody`, `uid 998`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => write!(f, "uid {}", geteuid()),
            Self::Other { name, .. } => f.write_str(name),
        }
    }
}

/// Finds the user of this name or number. Blocks on the system's list of users.
pub(super) fn of(written: Option<&str>) -> Result<User, Failure> {
    let name = match (written, geteuid().is_root()) {
        (Some(name), _) => name,
        (None, true) => NOBODY,
        (None, false) => return Ok(User::Ours),
    };
    let found = match name.parse() {
        Ok(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid))
            .map(|user| Some(user.map_or((uid, uid), ids))),
        Err(_) => nix::unistd::User::from_name(name).map(|user| user.map(ids)),
    };
    let found = found.unwrap_or(None).or((written.is_none()).then_some((OVERFLOW, OVERFLOW)));
    let Some((uid, gid)) = found else {
        let detail = format!("there is no user `{name}` on this director: add it, or name another");
        return Err(Failure::new(Reason::Setup, detail));
    };
    match uid == geteuid().as_raw() && uid != 0 {
        true => Ok(User::Ours),
        false => Ok(User::Other { name: name.to_owned(), uid, gid }),
    }
}

fn ids(user: nix::unistd::User) -> (u32, u32) {
    (user.uid.as_raw(), user.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let root = geteuid().is_root();
        let expected = |name: &str, uid, gid| User::Other { name: name.to_owned(), uid, gid };
        if root {
            assert!(
                matches!(of(None), Ok(User::Other { uid: 1.., gid: 1.., .. })),
                "{:?}",
                of(None)
            );
            assert_eq!(of(Some("root")), Ok(expected("root", 0, 0)));
        }
        assert_eq!(of(Some("4000001")), Ok(expected("4000001", 4_000_001, 4_000_001)));
        let unknown = of(Some("no-such-user")).unwrap_err();
        assert_eq!(unknown.reason, Reason::Setup);
        assert!(unknown.detail.contains("no user `no-such-user`"), "{unknown:?}");
    }
}
