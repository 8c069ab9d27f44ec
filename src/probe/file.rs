//! The file check: the first line of a file on the director, written by whoever knows.
//!
//! It is opened without waiting for anybody and must be a regular file. What is wrong with the file
//! itself is the director's trouble and inconclusive: only its words are about the real server.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::advice::{Heard, Said};
use super::dialogue::words;
use super::errands::Errands;
use super::outcome::Reason;
use super::progress::{Failure, Progress};
use super::socket::kernel_words;
use super::target::Target;

/// As much of it as is read.
const LONGEST: usize = 4096;

/// What stands for the address in a path.
pub(crate) const ADDRESS: &str = "{address}";

/// Which file, and what it means that there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileCheck {
    /// Absolute; `{address}` stands for the address that is asked about.
    pub path: String,
    /// Whether a real server without a file fails.
    pub missing_fails: bool,
}

impl FileCheck {
    /// The path for one address.
    pub fn path_for(&self, address: IpAddr) -> String {
        self.path.replace(ADDRESS, &address.to_string())
    }
}

/// Reads and judges; the text says what passed.
pub(super) async fn ask(
    target: &Target,
    check: &FileCheck,
    errands: &Errands,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::Resources, "answer of the director's file system");
    let path = check.path_for(target.address.ip());
    let content = errands.run(move || read(&path)).await?;
    progress.mark_first_byte();
    judge(content.as_deref(), check, progress)
}

/// The first bytes of a regular file; `None` when there is none.
fn read(path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let trouble = |what: &str| Failure::new(Reason::Setup, format!("`{path}` {what}"));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
            let detail = format!("opening `{path}`: {}", kernel_words(&errno.into()));
            return Err(Failure::new(Reason::Resources, detail));
        }
        Err(errno) => {
            let words = kernel_words(&io::Error::from(errno));
            let help = if errno == Errno::ACCESS { "; let the daemon read it" } else { "" };
            return Err(trouble(&format!("cannot be opened: {words}{help}")));
        }
    };
    let broken = |error: io::Error| trouble(&format!("cannot be read: {}", kernel_words(&error)));
    if !file.metadata().map_err(broken)?.is_file() {
        return Err(trouble("is not a regular file; write one there"));
    }
    let mut content = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut content).map_err(broken)?;
    Ok(Some(content))
}

/// `down` fails; what it says else is advice. A file in the middle of being written says nothing.
fn judge(
    content: Option<&[u8]>,
    check: &FileCheck,
    progress: &Progress,
) -> Result<String, Failure> {
    let Some(content) = content else {
        progress.advise(Heard::All(Said::default()));
        return match check.missing_fails {
            true => Err(Failure::new(Reason::Content, "there is no such file")),
            false => Ok("there is no such file".to_owned()),
        };
    };
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let said = Said::parse(&String::from_utf8_lossy(line)).map_err(|why| {
        progress.advise(Heard::Nothing(why.as_str().into()));
        Failure::new(Reason::Setup, format!("{why}; write `up`, `down`, `drain`, `50%` or so"))
    })?;
    let down = said.down().cloned();
    progress.advise(Heard::All(said.without_running()));
    match down {
        Some(reason) => Err(Failure::new(Reason::Status, &*reason)),
        None => Ok(format!("says {:?}", words(line).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_table() {
        use Reason::{Content, Ok, Setup, Status};
        let check = |missing_fails| FileCheck { path: String::new(), missing_fails };
        for (content, missing_fails, reason, advised) in [
            (Some("up\n"), false, Ok, None),
            (Some("ready"), false, Ok, None),
            (Some("40"), false, Ok, Some("40")),
            (Some("50%\nnonsense"), false, Ok, Some("50%")),
            (Some("drain"), false, Ok, Some("drain")),
            (Some("maint 10\n"), false, Ok, Some("10 maint")),
            (Some("down # swapping disks"), false, Status, None),
            (Some("stopped 5%"), false, Status, Some("5%")),
            (Some(""), false, Setup, None),
            (Some("\nup"), false, Setup, None),
            (Some("\0\u{1}ELF"), true, Setup, None),
            (None, false, Ok, None),
            (None, true, Content, None),
        ] {
            let progress = Progress::new();
            let judged = judge(content.map(str::as_bytes), &check(missing_fails), &progress);
            let found = judged.map_or_else(|failure| failure.reason, |_| Ok);
            assert_eq!(found, reason, "{content:?}");
            let outcome = progress.outcome(reason, String::new());
            let said = match outcome.advice.as_deref() {
                Some(Heard::All(said)) => said.advice().map(|_| said.to_string()),
                Some(Heard::Nothing(_)) => None,
                other => panic!("{content:?}: {other:?}"),
            };
            assert_eq!(said.as_deref(), advised, "{content:?}");
        }
    }
}
