//! Who is at the other end of a Unix socket, by name where the system has one.

use std::fs::File;
use std::io::Read;

use rustix::process::{RawUid, Uid};

/// Where users have their names.
const PASSWD: &str = "/etc/passwd";
/// As much of it as is read.
const MOST_PASSWD: u64 = 4 << 20;
/// The longest name a client may give.
const LONGEST_HINT: usize = 64;

/// The user at the other end of a connection, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user; `None` if the kernel would not say.
    pub uid: Option<RawUid>,
}

impl Peer {
    /// Its name for the record: `alice`, `uid 1001` if it has none, `root (sudo by alice)` if root
    /// says for whom it acts. Only root is believed that. Blocks on the file system.
    pub fn name(self, acts_for: Option<&str>) -> String {
        let Some(uid) = self.uid else { return "unknown user".to_owned() };
        let name = user_name(uid).unwrap_or_else(|| format!("uid {uid}"));
        match acts_for.filter(|_| uid == Uid::ROOT.as_raw()).filter(|hint| is_name(hint)) {
            Some(hint) if hint != name => format!("{name} (sudo by {hint})"),
            _ => name,
        }
    }
}

fn is_name(hint: &str) -> bool {
    let fits = |letter: char| letter.is_alphanumeric() || "._-@\\".contains(letter);
    !hint.is_empty() && hint.chars().count() <= LONGEST_HINT && hint.chars().all(fits)
}

fn user_name(uid: RawUid) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(PASSWD).ok()?.take(MOST_PASSWD).read_to_end(&mut bytes).ok()?;
    name_in(&String::from_utf8_lossy(&bytes), uid)
}

/// `name:password:uid:…` (passwd(5)); the first line of a user counts.
fn name_in(passwd: &str, uid: RawUid) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid) && is_name(name)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n+\nbroken:x\ntoor:x:0:0::/:/bin/sh\n\
                      alice:x:1001:1001:Alice:/home/alice:/bin/sh\n\x1b[2J:x:7:7::/:/bin/sh\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 1001).as_deref(), Some("alice"));
        assert_eq!(name_in(passwd, 7), None);
        assert_eq!(name_in(passwd, 1002), None);
    }

    #[test]
    fn only_root_is_believed_for_whom_it_acts() {
        let (root, nobody) = (Peer { uid: Some(0) }, Peer { uid: Some(4_000_000) });
        assert_eq!(root.name(Some("alice")), "root (sudo by alice)");
        assert_eq!(root.name(Some("root")), "root");
        for forged in ["", "a b", "x\ny", &"x".repeat(65)] {
            assert_eq!(root.name(Some(forged)), "root", "{forged:?}");
        }
        assert_eq!(nobody.name(Some("alice")), "uid 4000000");
        assert_eq!(Peer { uid: None }.name(Some("alice")), "unknown user");
    }
}
