//! Whether a file is a program that the kernel can start.
//!
//! One that is neither a script with an interpreter nor an ELF file of this machine would be handed to a
//! shell by `execvp` (execvp(3), ENOEXEC), and whatever that thinks of it would be the verdict: an
//! empty file would pass.

use std::fs::File;
use std::io::Read;

/// Begins the first line of a script.
const SCRIPT: &[u8] = b"#!";
/// Begins an ELF file (elf(5)).
const ELF: &[u8] = b"\x7fELF";
/// The bytes of an ELF head that say which machine it is for: class and byte order, and the number
/// of the machine.
const MACHINE: [std::ops::Range<usize>; 2] = [4..6, 18..20];
const HEAD: usize = 20;

/// Why it cannot be started, as far as its beginning shows. One that may be run and not be read is
/// given the benefit of the doubt.
pub(super) fn trouble(path: &str) -> Option<&'static str> {
    let ours = head("/proc/self/exe");
    judge(&head(path)?, ours.as_deref())
}

fn judge(head: &[u8], ours: Option<&[u8]>) -> Option<&'static str> {
    if head.starts_with(SCRIPT) {
        return None;
    }
    if !head.starts_with(ELF) {
        return Some("is no program: a script begins with `#!` and its interpreter");
    }
    let same = |part: &std::ops::Range<usize>| {
        let ours = ours.and_then(|ours| ours.get(part.clone()));
        ours.is_none_or(|ours| head.get(part.clone()) == Some(ours))
    };
    (!MACHINE.iter().all(same)).then_some("is a program for another kind of machine")
}

/// The first bytes of a regular file; `None` where they cannot be read.
fn head(path: &str) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_what_a_shell_would_try() {
        let ours = head("/proc/self/exe").unwrap();
        let mut other = ours.clone();
        other[18] ^= 0x55;
        for (head, is_program) in [
            (b"#!/bin/sh\n".as_slice(), true),
            (&ours, true),
            (b"", false),
            (b"echo up\n", false),
            (&other, false),
            (&ours[..10], false),
        ] {
            assert_eq!(judge(head, Some(&ours)).is_none(), is_program, "{head:?}");
        }
        assert_eq!(trouble("/no/such/file"), None);
        assert_eq!(trouble("/"), None);
        assert_eq!(trouble("/bin/true"), None);
    }
}
