//! The record of owned services on disk: `owned.json` in the state directory.
//!
//! Written by rename, so that a reader or a crash finds the old record or the new one, never a
//! part. A record that cannot be understood is kept aside for people, never overwritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ownership::Owned;

/// Name of the record in the state directory.
const FILE: &str = "owned.json";
/// The same for a table in memory: trying things out must not touch what is known of the kernel's.
const MEMORY_FILE: &str = "owned-memory.json";
/// The version of its format.
const VERSION: u32 = 1;
/// How many damaged records are kept aside under names of their own.
const MOST_ASIDE: u32 = 100;

/// The record of one state directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    file: String,
    on_disk: OnDisk,
}

/// What is known of the file.
#[derive(Debug, PartialEq)]
enum OnDisk {
    /// Not looked at, or a write was cut.
    Unclear,
    /// Not usable, and to be kept aside.
    Unusable,
    /// This; a missing file is an empty record.
    Record(Owned),
}

/// Why the record could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is there but says nothing that can be used.
    #[error(
        "the record of owned services {} is damaged: {why}; going on with the declared services only, it is kept aside at the next write",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file could not be read.
    #[error("cannot read the record of owned services {}; make it readable to this user", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory or a file in it could not be written.
    #[error(
        "cannot record the owned services: cannot {action} {}; give this user a writable directory with --state-dir",
        path.display()
    )]
    Write {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    services: Owned,
}

/// The part of the content that every version has.
#[derive(Deserialize)]
struct AnyRecord {
    version: u32,
}

impl Store {
    /// The record of the kernel's table in this state directory. Touches nothing yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), file: FILE.to_owned(), on_disk: OnDisk::Unclear }
    }

    /// The record of a table in memory in this state directory. Touches nothing yet.
    pub fn of_memory(directory: impl Into<PathBuf>) -> Self {
        Self { file: MEMORY_FILE.to_owned(), ..Self::new(directory) }
    }

    /// The record of the kernel's table in a named network namespace: the same service there is
    /// another one. Touches nothing yet.
    pub fn of_namespace(directory: impl Into<PathBuf>, name: &str) -> Self {
        Self { file: format!("owned@{name}.json"), ..Self::new(directory) }
    }

    /// Where the record is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.file)
    }

    /// Reads the record; a missing one is empty. Writes nothing.
    ///
    /// # Errors
    /// When it cannot be read or understood. The run goes on with an empty record: then only
    /// declared services are touched.
    pub fn load(&mut self) -> Result<Owned, StoreError> {
        self.on_disk = OnDisk::Unusable;
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.on_disk = OnDisk::Record(Owned::default());
                return Ok(Owned::default());
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let owned = decode(&bytes).map_err(|why| StoreError::Damaged { path, why })?;
        self.on_disk = OnDisk::Record(owned.clone());
        Ok(owned)
    }

    /// Writes the record and waits until it is on disk; says whether it was necessary.
    ///
    /// Creates the directory. What is on disk already is not written again, unless somebody
    /// deleted it.
    ///
    /// # Errors
    /// When the directory cannot be written; the old record is then as it was.
    pub fn save(&mut self, owned: &Owned) -> Result<bool, StoreError> {
        if self.on_disk == OnDisk::Unclear {
            // The result only matters for what is known of the file.
            let _ = self.load();
        }
        match &self.on_disk {
            OnDisk::Record(known) if known == owned && (owned.is_empty() || self.is_there()) => {
                return Ok(false);
            }
            OnDisk::Record(_) => {}
            OnDisk::Unclear | OnDisk::Unusable => self.keep_aside()?,
        }
        self.on_disk = OnDisk::Unclear;
        self.write(owned)?;
        self.on_disk = OnDisk::Record(owned.clone());
        Ok(true)
    }

    fn write(&self, owned: &Owned) -> Result<(), StoreError> {
        let (path, directory) = (self.path(), &self.directory);
        let draft = directory.join(format!("{}.new", self.file));
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        encode(owned)
            .and_then(|bytes| write_synced(&draft, &bytes))
            .map_err(failed("write", &draft))?;
        fs::rename(&draft, &path).map_err(failed("replace", &path))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", directory))
    }

    /// Renames a record that could not be used, if there is one.
    fn keep_aside(&self) -> Result<(), StoreError> {
        if !self.is_there() {
            return Ok(());
        }
        let path = self.path();
        fs::rename(&path, self.free_name()).map_err(failed("keep aside", &path))
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

fn decode(bytes: &[u8]) -> Result<Owned, String> {
    let any: AnyRecord = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if any.version != VERSION {
        return Err(format!("its format is version {}, not {VERSION}", any.version));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(record.services)
}

fn encode(owned: &Owned) -> io::Result<Vec<u8>> {
    let record = Record { version: VERSION, services: owned.clone() };
    let mut bytes = serde_json::to_vec_pretty(&record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> StoreError + 'p {
    move |source| StoreError::Write { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

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
        assert!(Store::new(&state).load().unwrap().is_empty());
        assert!(!state.exists(), "reading made the directory");
        let set = owned(&["tcp://192.0.2.1:80", "udp://[2001:db8::1]:53", "fwmark://7/inet6"]);
        assert!(Store::new(&state).save(&set).unwrap());
        assert_eq!(Store::new(&state).load().unwrap(), set);
        assert_eq!(names(&state), ["owned.json"]);
    }

    #[test]
    fn an_unchanged_record_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(directory.path());
        let set = owned(&["tcp://192.0.2.1:80"]);
        assert!(store.save(&set).unwrap());
        let inode = fs::metadata(store.path()).unwrap().ino();
        assert!(!store.save(&set).unwrap());
        assert!(!Store::new(directory.path()).save(&set).unwrap(), "it did not look first");
        assert_eq!(fs::metadata(store.path()).unwrap().ino(), inode);
        assert!(store.save(&owned(&[])).unwrap());
        assert!(store.load().unwrap().is_empty());
    }

    #[test]
    fn an_empty_record_is_written_only_where_there_was_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(directory.path().join("state"));
        assert!(!store.save(&owned(&[])).unwrap());
        assert!(!directory.path().join("state").exists());
    }

    #[test]
    fn a_record_that_somebody_deleted_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(directory.path());
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
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut store = Store::new(directory.path());
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
        let mut store = Store::new(directory.path());
        fs::create_dir(store.path()).unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, StoreError::Read { .. }), "{error}");
        store.save(&owned(&["fwmark://7"])).unwrap();
        assert_eq!(names(directory.path()), ["owned.json", "owned.json.damaged.1"]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let mut store = Store::new(&file);
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
        Store::new(directory.path()).save(&set).unwrap();
        assert_eq!(Store::new(directory.path()).load().unwrap(), set);
    }
}
