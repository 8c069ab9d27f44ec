//! What policy files look like from outside, without reading them; part of the shell.
//!
//! Two fingerprints that differ mean that something changed. Symlinks are followed, so a swapped
//! link shows.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::load::policies_of;

/// Names, sizes, times and inodes of the policies at a path, and of files they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// `None` for a file that cannot be looked at; empty when the path cannot.
    files: Vec<(PathBuf, Option<File>)>,
    /// Whether the path itself could be looked at.
    there: bool,
}

/// One file: device, inode, length, time of change of content and of inode.
type File = (u64, u64, u64, (i64, i64), (i64, i64));

impl Fingerprint {
    /// Looks at a policy directory or file, and at files that policies name.
    pub(super) fn of(path: &Path, named: &BTreeSet<PathBuf>) -> Self {
        let (files, there) = match fs::metadata(path) {
            Err(_) => (Vec::new(), false),
            Ok(metadata) if metadata.is_dir() => match policies_of(path) {
                Err(_) => (Vec::new(), false),
                Ok(paths) => (paths, true),
            },
            Ok(_) => (vec![path.to_owned()], true),
        };
        let look = |path: PathBuf| {
            let file = fs::metadata(&path).ok().map(|metadata| file(&metadata));
            (path, file)
        };
        let files = files.into_iter().chain(named.iter().cloned());
        Self { files: files.map(look).collect(), there }
    }
}

fn file(metadata: &Metadata) -> File {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

/// Which directory a path leads to; inodes are used again, so the time of birth belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity(u64, u64, Option<SystemTime>);

impl Identity {
    /// `None` when there is nothing.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino(), metadata.created().ok()))
    }
}
