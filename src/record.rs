//! What must survive a restart: one JSON file in the state directory for each kind of it.
//!
//! Written by rename, so that a reader or a crash finds the old record or the new one, never a
//! part. A record that cannot be understood is kept aside for people, never overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::regular_file;

/// The version of its format.
const VERSION: u32 = 1;
/// The largest record, in bytes; one that was cut there is damaged.
const MOST: usize = 1 << 30;
/// How many damaged records are kept aside under names of their own.
const MOST_ASIDE: u32 = 100;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its file's name without the ending.
    pub name: &'static str,
    /// The key its content has in the file.
    pub key: &'static str,
    /// What it is, in messages.
    pub what: &'static str,
    /// What is lost without it, and what happens all the same; for messages.
    pub without: &'static str,
}

/// Which table a record belongs to: the same service in another one is another service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The kernel's, in the network namespace the machine begins with.
    Kernel,
    /// The kernel's, in a named network namespace.
    Namespace(String),
    /// One in memory: trying things out must not touch what is known of the kernel's.
    Memory,
}

impl Scope {
    /// A file in the state directory that is about this table: `events.jsonl`.
    pub fn file_name(&self, name: &str, ending: &str) -> String {
        match self {
            Self::Kernel => format!("{name}.{ending}"),
            Self::Namespace(namespace) => format!("{name}@{namespace}.{ending}"),
            Self::Memory => format!("{name}-memory.{ending}"),
        }
    }
}

/// A record in a state directory.
#[derive(Debug)]
pub struct Record<T> {
    directory: PathBuf,
    file: String,
    kind: Kind,
    on_disk: OnDisk<T>,
}

/// What is known of the file.
#[derive(Debug, PartialEq)]
enum OnDisk<T> {
    /// Not looked at, or a write was cut.
    Unclear,
    /// Not usable, and to be kept aside.
    Unusable,
    /// This; a missing file is an empty record.
    Record(T),
}

/// Why the record could not be read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file is there but says nothing that can be used.
    #[error(
        "the record of {} {} is damaged: {why}; going on without: {}; it is kept aside at the next write",
        kind.what, path.display(), kind.without
    )]
    Damaged {
        /// What the record is about.
        kind: Kind,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file could not be read.
    #[error(
        "cannot read the record of {} {}; going on without: {}; make it a file that this user can read",
        kind.what, path.display(), kind.without
    )]
    Read {
        /// What the record is about.
        kind: Kind,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory or a file in it could not be written.
    #[error(
        "cannot record the {}: cannot {action} {}; give this user a writable directory with --state-dir",
        kind.what, path.display()
    )]
    Write {
        /// What the record is about.
        kind: Kind,
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl<T: Serialize + DeserializeOwned + Clone + Default + PartialEq> Record<T> {
    /// The record of one kind for one table. Touches nothing yet.
    pub fn new(directory: impl Into<PathBuf>, kind: Kind, scope: &Scope) -> Self {
        let (directory, file) = (directory.into(), scope.file_name(kind.name, "json"));
        Self { directory, file, kind, on_disk: OnDisk::Unclear }
    }

    /// Where the record is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.file)
    }

    /// Reads the record; a missing one is empty. Writes nothing.
    ///
    /// # Errors
    /// When it cannot be read or understood. The run goes on with an empty record.
    pub fn load(&mut self) -> Result<T, RecordError> {
        self.on_disk = OnDisk::Unusable;
        let path = self.path();
        let bytes = match regular_file::read(&path, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.on_disk = OnDisk::Record(T::default());
                return Ok(T::default());
            }
            Err(source) => return Err(RecordError::Read { kind: self.kind, path, source }),
        };
        let content: T = decode(&bytes, self.kind).map_err(|why| RecordError::Damaged {
            kind: self.kind,
            path,
            why,
        })?;
        self.on_disk = OnDisk::Record(content.clone());
        Ok(content)
    }

    /// Writes the record and waits until it is on disk; says whether it was necessary.
    ///
    /// Creates the directory. What is on disk already is not written again, unless somebody
    /// deleted it.
    ///
    /// # Errors
    /// When the directory cannot be written; the old record is then as it was.
    pub fn save(&mut self, content: &T) -> Result<bool, RecordError> {
        if self.on_disk == OnDisk::Unclear {
            // The result only matters for what is known of the file.
            let _ = self.load();
        }
        match &self.on_disk {
            OnDisk::Record(known)
                if known == content && (*content == T::default() || self.is_there()) =>
            {
                return Ok(false);
            }
            OnDisk::Record(_) => {}
            OnDisk::Unclear | OnDisk::Unusable => self.keep_aside()?,
        }
        self.on_disk = OnDisk::Unclear;
        self.write(content)?;
        self.on_disk = OnDisk::Record(content.clone());
        Ok(true)
    }

    fn write(&self, content: &T) -> Result<(), RecordError> {
        let (path, directory) = (self.path(), &self.directory);
        let failed = |action, path| failed(self.kind, action, path);
        let draft = directory.join(format!("{}.new", self.file));
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        write_synced(&draft, &Content(self.kind, content)).map_err(failed("write", &draft))?;
        fs::rename(&draft, &path).map_err(failed("replace", &path))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", directory))
    }

    /// Renames a record that could not be used, if there is one.
    fn keep_aside(&self) -> Result<(), RecordError> {
        if !self.is_there() {
            return Ok(());
        }
        let path = self.path();
        fs::rename(&path, self.free_name()).map_err(failed(self.kind, "keep aside", &path))
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }

    fn free_name(&self) -> PathBuf {
        let name = |number| self.directory.join(format!("{}.damaged.{number}", self.file));
        (1..MOST_ASIDE)
            .map(name)
            .find(|path| fs::symlink_metadata(path).is_err())
            .unwrap_or_else(|| name(MOST_ASIDE))
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], kind: Kind) -> Result<T, String> {
    let record: BTreeMap<String, &RawValue> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match record.get("version").map(|version| version.get()) {
        Some(version) if version == VERSION.to_string() => {}
        Some(version) => return Err(format!("its format is version {version}, not {VERSION}")),
        None => return Err("it has no version".to_owned()),
    }
    let content = record.get(kind.key).ok_or_else(|| format!("it has no `{}`", kind.key))?;
    serde_json::from_str(content.get()).map_err(|error| error.to_string())
}

/// A record as it is in its file: nothing is built in memory to write it.
struct Content<'c, T>(Kind, &'c T);

impl<T: Serialize> Serialize for Content<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_map(Some(2))?;
        record.serialize_entry("version", &VERSION)?;
        record.serialize_entry(self.0.key, self.1)?;
        record.end()
    }
}

fn write_synced<T: Serialize>(path: &Path, content: &Content<'_, T>) -> io::Result<()> {
    // What is left of a write that was cut, or is not a file at all.
    let _ = fs::remove_file(path);
    let mut file = BufWriter::new(File::create_new(path)?);
    serde_json::to_writer_pretty(&mut file, content)?;
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()
}

fn failed<'p>(
    kind: Kind,
    action: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> RecordError + 'p {
    move |source| RecordError::Write { kind, action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::ownership::{OWNED, Owned};
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::os::unix::fs::{MetadataExt, symlink};

    type Store = Record<Owned>;

    fn record(directory: impl Into<PathBuf>) -> Store {
        Record::new(directory, OWNED, &Scope::Kernel)
    }

    fn owned(keys: &[&str]) -> Owned {
        keys.iter().map(|key| key.parse().unwrap()).collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_record_is_empty_and_a_written_one_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("deeper/state");
        assert!(record(&state).load().unwrap().is_empty());
        assert!(!state.exists(), "reading made the directory");
        let set = owned(&["tcp://192.0.2.1:80", "udp://[2001:db8::1]:53", "fwmark://7/inet6"]);
        assert!(record(&state).save(&set).unwrap());
        assert_eq!(record(&state).load().unwrap(), set);
        assert_eq!(names(&state), ["owned.json"]);
    }

    #[test]
    fn an_unchanged_record_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = record(directory.path());
        let set = owned(&["tcp://192.0.2.1:80"]);
        assert!(store.save(&set).unwrap());
        let inode = fs::metadata(store.path()).unwrap().ino();
        assert!(!store.save(&set).unwrap());
        assert!(!record(directory.path()).save(&set).unwrap(), "it did not look first");
        assert_eq!(fs::metadata(store.path()).unwrap().ino(), inode);
        assert!(store.save(&owned(&[])).unwrap());
        assert!(store.load().unwrap().is_empty());
    }

    #[test]
    fn an_empty_record_is_written_only_where_there_was_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = record(directory.path().join("state"));
        assert!(!store.save(&owned(&[])).unwrap());
        assert!(!directory.path().join("state").exists());
    }

    #[test]
    fn a_record_that_somebody_deleted_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = record(directory.path());
        let set = owned(&["fwmark://7"]);
        store.save(&set).unwrap();
        fs::remove_file(store.path()).unwrap();
        assert!(store.save(&set).unwrap());
        assert_eq!(store.load().unwrap(), set);
    }

    #[test]
    fn a_damaged_record_is_reported_and_kept_aside() {
        for (damage, why) in [
            ("", "EOF"),
            ("{\"version\":1,\"serv", "EOF"),
            ("{\"version\":2,\"services\":[]}", "version 2, not 1"),
            ("{\"version\":1,\"services\":[\"http://192.0.2.1:80\"]}", "not a protocol"),
            ("[]", "invalid"),
            ("{\"version\":1}", "has no `services`"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut store = record(directory.path());
            for number in 1..=2 {
                fs::write(store.path(), damage).unwrap();
                let error = store.load().unwrap_err().to_string();
                assert!(error.contains(why) && error.contains("owned.json"), "{error}");
                assert_eq!(fs::read_to_string(store.path()).unwrap(), damage, "a read wrote");
                assert!(store.save(&owned(&[])).unwrap());
                let aside = directory.path().join(format!("owned.json.damaged.{number}"));
                assert_eq!(fs::read_to_string(aside).unwrap(), damage);
                assert!(store.load().unwrap().is_empty());
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_aside_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = record(directory.path());
        fs::create_dir(store.path()).unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, RecordError::Read { .. }), "{error}");
        store.save(&owned(&["fwmark://7"])).unwrap();
        assert_eq!(names(directory.path()), ["owned.json", "owned.json.damaged.1"]);
    }

    #[test]
    fn pipes_and_devices_keep_nobody_waiting() {
        type Make = fn(&Path);
        let makes: [Make; 2] = [
            |path| mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap(),
            |path| symlink("/dev/zero", path).unwrap(),
        ];
        for make in makes {
            let directory = tempfile::tempdir().unwrap();
            let mut store = record(directory.path());
            make(&store.path());
            make(&directory.path().join("owned.json.new"));
            let error = store.load().unwrap_err();
            assert!(error.to_string().contains("owned.json"), "{error}");
            let why = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(why, "it is not a regular file");
            let set = owned(&["fwmark://7"]);
            store.save(&set).unwrap();
            assert_eq!(record(directory.path()).load().unwrap(), set);
            assert_eq!(names(directory.path()), ["owned.json", "owned.json.damaged.1"]);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let mut store = record(&file);
        for _ in 0..2 {
            let error = store.save(&owned(&["fwmark://7"])).unwrap_err();
            assert!(error.to_string().contains("--state-dir"), "{error}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    #[test]
    fn many_services_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let set: Owned =
            (1..=20_000).map(|mark| format!("fwmark://{mark}").parse().unwrap()).collect();
        record(directory.path()).save(&set).unwrap();
        assert_eq!(record(directory.path()).load().unwrap(), set);
    }
}
