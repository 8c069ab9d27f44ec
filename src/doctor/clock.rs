//! What the kernel knows of its clock. The only unsafe code there is: adjtimex(2), which no crate here
//! offers without.

use std::io;

use nix::libc;

use super::facts::{Clock, Seen};

/// Asks the kernel, which takes no privilege, and changes nothing.
#[expect(unsafe_code, reason = "a system call that only libc has")]
pub(super) fn look() -> Seen<Clock> {
    // SAFETY: the struct has integers only, for each of which all bits 0 is a value. 0 in `modes`
    // means that nothing is to be set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such struct, to where one is, and keeps no pointer to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        // A container may forbid it.
        return Err(format!("the kernel does not say: {}", io::Error::last_os_error()));
    }
    Ok(Clock {
        unsynchronised: state == libc::TIME_ERROR || timex.status & libc::STA_UNSYNC != 0,
        max_error_micros: u64::try_from(timex.maxerror).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the clock of this machine is like: what the kernel lets it be off by is bounded.
    #[test]
    fn the_kernel_says() {
        match look() {
            Ok(clock) => assert!(clock.max_error_micros <= 16_000_000, "{clock:?}"),
            Err(reason) => assert!(reason.starts_with("the kernel does not say: "), "{reason}"),
        }
    }

    /// The lint that forbids it elsewhere can be lifted line by line; nobody does.
    #[test]
    fn nothing_else_is_unsafe() {
        let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read_to_string(&path).unwrap().contains("unsafe_code") {
                    found.push(path.file_name().unwrap().to_owned());
                }
            }
        }
        assert_eq!(found, ["clock.rs"]);
    }
}
