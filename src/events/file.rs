//! The events on disk: one line of JSON each, in a file of bounded size in the state directory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::SystemTime;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

use super::{Event, What, wall};
use crate::bounded_file::BoundedFile;
use crate::privileges;
use crate::record::Scope;
use crate::regular_file;

/// A file begins anew at this size in bytes.
const MAX_SIZE: u64 = 8 << 20;
/// As many older files are kept.
const KEEP: u32 = 3;

/// Where the events of one table are.
pub fn path(state_dir: &Path, scope: &Scope) -> PathBuf {
    state_dir.join(scope.file_name("events", "jsonl"))
}

/// Writes events down from now on, on a thread of its own, so that a disk that hangs costs events
/// and nothing else. What is returned hangs up when the journal is gone and all is written.
///
/// # Errors
/// When the file cannot be opened, or no thread started.
pub fn keep(path: &Path, events: Receiver<Arc<Event>>) -> io::Result<mpsc::Receiver<()>> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let file = BoundedFile::open(path, MAX_SIZE, KEEP, |text| warn!("events: {text}"))?;
    let (alive, ended) = mpsc::channel();
    thread::Builder::new().name("events".to_owned()).spawn(move || {
        privileges::none();
        write_all(file, events);
        drop(alive);
    })?;
    Ok(ended)
}

fn write_all(mut file: BoundedFile, mut events: Receiver<Arc<Event>>) {
    loop {
        let event = match events.blocking_recv() {
            Ok(event) => event,
            Err(RecvError::Lagged(events)) => {
                Arc::new(Event { at: wall(), what: What::Lost { events } })
            }
            Err(RecvError::Closed) => return,
        };
        let Ok(mut line) = serde_json::to_vec(event.as_ref()) else { continue };
        line.push(b'\n');
        // The file says itself when lines are lost.
        let _ = file.write_all(&line);
    }
}

/// Reads events, the oldest first, and goes on where it stopped when asked again.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// The older files and the current one, not read yet.
    files: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    /// A line whose end has not been written yet.
    rest: Vec<u8>,
    /// Lines that were no events.
    pub unreadable: u64,
}

impl Reader {
    /// A reader of everything that is kept.
    pub fn new(path: &Path) -> Self {
        let mut files: Vec<PathBuf> =
            BoundedFile::paths(path, KEEP).filter(|file| file.exists()).collect();
        files.reverse();
        Self { path: path.to_owned(), files, current: None, rest: Vec::new(), unreadable: 0 }
    }

    /// The next event; `None` when there is none at the moment.
    ///
    /// # Errors
    /// Those of the file system; a file that is not there (any more) is none.
    pub fn read(&mut self) -> io::Result<Option<Event>> {
        let mut is_complete = false;
        loop {
            let Some(current) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            current.read_until(b'\n', &mut self.rest)?;
            if self.rest.ends_with(b"\n") {
                let event = serde_json::from_slice(&self.rest);
                self.rest.clear();
                match event {
                    Ok(event) => return Ok(Some(event)),
                    Err(_) => self.unreadable += 1,
                }
            } else if is_complete {
                is_complete = false;
                self.rest.clear();
                self.current = None;
            } else if !self.files.is_empty() || self.was_replaced()? {
                // Read to its end once more: something may have been added before it was replaced.
                is_complete = true;
            } else {
                return Ok(None);
            }
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let path = self.files.pop().unwrap_or_else(|| self.path.clone());
        match regular_file::open(&path) {
            Ok(file) => self.current = Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Whether the file at the path is another one than the one being read, which is then complete.
    fn was_replaced(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Some(current) = &self.current else { return Ok(false) };
        let here = current.get_ref().metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.ino(), there.dev()) != (here.ino(), here.dev())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The events since then that are there at the moment.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn since(&mut self, since: SystemTime) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.read()? {
            if event.at >= since {
                events.push(event);
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Journal;

    fn stopped(cause: &str) -> What {
        What::Stopped { cause: cause.to_owned() }
    }

    fn causes(reader: &mut Reader) -> Vec<String> {
        let events = reader.since(SystemTime::UNIX_EPOCH).unwrap();
        events.iter().map(|event| event.what.to_string()).collect()
    }

    #[test]
    fn what_is_told_is_on_disk_and_survives() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory.path().join("new"), &Scope::Kernel);
        assert!(path.ends_with("events.jsonl"));
        for run in ["one", "two"] {
            let journal = Journal::default();
            let writer = keep(&path, journal.listen()).unwrap();
            journal.tell(stopped(run));
            drop(journal);
            assert_eq!(writer.recv(), Err(mpsc::RecvError));
        }
        let mut reader = Reader::new(&path);
        assert_eq!(causes(&mut reader), ["by one; the table stays", "by two; the table stays"]);
        assert_eq!(causes(&mut reader), [""; 0]);
    }

    #[test]
    fn a_reader_follows_through_a_new_file_and_over_rubbish() {
        let line = |cause: &str| {
            let event = Event { at: SystemTime::UNIX_EPOCH, what: stopped(cause) };
            serde_json::to_string(&event).unwrap() + "\n"
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut reader = Reader::new(&path);
        assert_eq!(causes(&mut reader), [""; 0]);
        std::fs::write(&path, line("a") + "rubbish\n" + &line("b")[..9]).unwrap();
        assert_eq!(causes(&mut reader), ["by a; the table stays"]);
        assert_eq!(reader.unreadable, 1);
        let mut open = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        open.write_all(&line("b").as_bytes()[9..]).unwrap();
        open.write_all(line("c").as_bytes()).unwrap();
        std::fs::rename(&path, directory.path().join("events.jsonl.1")).unwrap();
        assert_eq!(causes(&mut reader), ["by b; the table stays", "by c; the table stays"]);
        std::fs::write(&path, line("d")).unwrap();
        assert_eq!(causes(&mut reader), ["by d; the table stays"]);
        assert_eq!(causes(&mut Reader::new(&path)).len(), 4, "all files, the oldest first");
    }
}
