//! A file of lines with a bounded size: `PATH`, and `keep` older ones as `PATH.1` (the newest) and
//! so on.
//!
//! A write never fails the daemon: a full disk or a lost directory costs lines, not traffic, and
//! whoever opened it is told once. The file is opened anew when somebody else has moved it away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::regular_file;

/// Such a file; one write is one line.
#[derive(Debug)]
pub struct BoundedFile {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    file: File,
    size: u64,
    /// Where to say that lines are being lost.
    complain: fn(&str),
    /// They are, and it was said.
    losing: bool,
}

impl BoundedFile {
    /// Opens or creates the file for appending. `max_size` is in bytes; `complain` is told when
    /// lines begin to be lost.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, max_size: u64, keep: u32, complain: fn(&str)) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self { path: path.to_owned(), max_size, keep, file, size, complain, losing: false })
    }

    /// The files it consists of, the oldest first; those that are missing are left out by whoever
    /// reads them.
    pub fn paths(path: &Path, keep: u32) -> impl Iterator<Item = PathBuf> + '_ {
        (1..=keep).rev().map(|number| numbered(path, number)).chain([path.to_owned()])
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.was_moved() {
            self.reopen()?;
        }
        if self.size > 0 && self.size + length > self.max_size {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }

    /// Says when lines begin to be lost.
    fn note(&mut self, written: io::Result<()>) {
        let lost = written.err();
        if let (Some(error), false) = (&lost, self.losing) {
            let path = self.path.display();
            (self.complain)(&format!("lines are lost: cannot write to {path}: {error}"));
        }
        self.losing = lost.is_some();
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            // A gap in the sequence is no reason to stop.
            let _ = fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1));
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    fn was_moved(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(here)) => there.ino() != here.ino() || there.dev() != here.dev(),
            _ => true,
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    // A pipe that nobody reads is an error, and no reason to wait.
    options.create(true).append(true).custom_flags(regular_file::nonblock());
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Write for BoundedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.write_line(line);
        self.note(written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn size_and_number_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = BoundedFile::open(&path, 30, 2, |_| ()).unwrap();
        for number in 0..10 {
            log.write_all(format!("line number {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(content(path.clone()), "line number 8\nline number 9\n");
        assert_eq!(content(dir.path().join("log.1")), "line number 6\nline number 7\n");
        assert_eq!(content(dir.path().join("log.2")), "line number 4\nline number 5\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn appends_after_a_restart_and_follows_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        BoundedFile::open(&path, 1000, 0, |_| ()).unwrap().write_all(b"one\n").unwrap();
        let mut log = BoundedFile::open(&path, 1000, 0, |_| ()).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(content(path.clone()), "one\ntwo\n");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(content(path), "three\n");
    }

    #[test]
    fn a_full_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = BoundedFile::open(&path, 10, 2, |_| ()).unwrap();
        log.write_all(b"12345678\n").unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        log.write_all(b"abcdefgh\n").unwrap();
        log.write_all(b"ijklmnop\n").unwrap();
        assert_eq!(content(path), "ijklmnop\n");
        assert_eq!(content(dir.path().join("log.1")), "abcdefgh\n");
    }

    #[test]
    fn a_lost_directory_costs_lines_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let mut log = BoundedFile::open(&logs.join("log"), 1000, 1, |_| ()).unwrap();
        fs::remove_dir_all(&logs).unwrap();
        log.write_all(b"lost\n").unwrap();
        fs::create_dir(&logs).unwrap();
        log.write_all(b"kept\n").unwrap();
        assert_eq!(content(logs.join("log")), "kept\n");
    }

    #[test]
    fn keeping_none_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = BoundedFile::open(&path, 10, 0, |_| ()).unwrap();
        log.write_all(b"12345678\n").unwrap();
        log.write_all(b"abcdefgh\n").unwrap();
        assert_eq!(content(path), "abcdefgh\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
