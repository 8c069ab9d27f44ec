//! Reading files that others name or can replace; part of the shell.
//!
//! Only regular files are opened, so that neither a pipe nor a device can block or flood the
//! director.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file to read it, without waiting for anybody.
///
/// # Errors
/// Those of the file system, and one for whatever is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened: opening a device can have effects.
    regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(nonblock()).open(path)?;
    // And again: it may have been replaced between the two.
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads at most so many bytes of a regular file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let expected = usize::try_from(file.metadata()?.len()).unwrap_or(most).min(most);
    let mut bytes = Vec::with_capacity(expected);
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The flag with which opening a pipe waits for nobody at its other end.
pub fn nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    let what = match metadata.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "it is a directory, not a file",
        _ => "it is not a regular file",
    };
    Err(io::Error::other(what))
}
