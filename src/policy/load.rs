//! Reads policies from disk: which files, and how much of them; part of the shell.
//!
//! What the files say is judged by the pure stages.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::model::PolicySet;
use super::problem::{self, Location, Problem};
use super::resolve::{Resolved, resolve};
use super::source::{MAX_FILE, Source};
use crate::regular_file;

/// The largest file of certificate authorities, in bytes.
const MAX_PEM: usize = 4 * 1024 * 1024;

/// Policies that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The policies.
    pub set: PolicySet,
    /// What is legal but suspicious about them, in the order of places.
    pub lints: Vec<Problem>,
}

/// Loads a policy file, or every `*.yaml` and `*.yml` of a directory whose name does not begin
/// with a dot, in the order of names.
///
/// Blocks on the file system.
///
/// # Errors
/// Every problem of every file, lints included, at least one of them an error. A missing
/// directory, one without policies and an unreadable file are problems too.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    load_paths(&[path.to_owned()])
}

/// Loads several files and directories as one set; what is named twice is read once.
///
/// # Errors
/// As [`load`].
pub fn load_paths(paths: &[PathBuf]) -> Result<Loaded, Vec<Problem>> {
    load_all(paths).0
}

/// Loads as [`load`] does, and says which files of certificate authorities the policies name.
///
/// # Errors
/// As [`load`].
pub fn load_with_files(path: &Path) -> (Result<Loaded, Vec<Problem>>, BTreeSet<PathBuf>) {
    load_all(&[path.to_owned()])
}

fn load_all(paths: &[PathBuf]) -> (Result<Loaded, Vec<Problem>>, BTreeSet<PathBuf>) {
    let mut problems = Vec::new();
    let mut sources = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        for file in files(path, &mut problems) {
            let identity = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if seen.insert(identity) {
                match source(&file) {
                    Ok(source) => sources.push(source),
                    Err(problem) => problems.push(*problem),
                }
            }
        }
    }
    let read = |path: &Path| match regular_file::read(path, MAX_PEM + 1) {
        Ok(bytes) if bytes.len() > MAX_PEM => Err("is larger than 4 MiB".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {}", reason(&error))),
    };
    let Resolved { set, problems: found, authorities } = resolve(&sources, &read);
    problems.extend(found);
    problem::sort(&mut problems);
    let loaded = match problems.iter().any(Problem::is_error) {
        true => Err(problems),
        false => Ok(Loaded { set, lints: problems }),
    };
    (loaded, authorities)
}

/// Whether a file of this name in a policy directory is a policy.
pub(super) fn is_policy_name(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// The files a path stands for.
pub(crate) fn files(path: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let whole = || Location::whole(path.display().to_string());
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return vec![path.to_owned()],
        Ok(_) => {}
        Err(error) => {
            let message = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => format!("cannot be read: {}", reason(&error)),
            };
            let help = "name a policy file, or a directory with policies in it";
            problems.push(Problem::error(whole(), message).with_help(help));
            return Vec::new();
        }
    }
    match policies_of(path) {
        Ok(found) if found.is_empty() => {
            let message = "no policy in this directory";
            let help = "a policy is a file named *.yaml or *.yml";
            problems.push(Problem::error(whole(), message).with_help(help));
            Vec::new()
        }
        Ok(found) => found,
        Err(error) => {
            let message = format!("cannot be read: {}", reason(&error));
            problems.push(Problem::error(whole(), message));
            Vec::new()
        }
    }
}

/// Paths of all that is named as a policy, sorted by name.
pub(super) fn policies_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_policy_name(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Reads one file.
pub(crate) fn source(path: &Path) -> Result<Source, Box<Problem>> {
    match regular_file::read(path, MAX_FILE + 1) {
        Ok(bytes) => Source::new(path, bytes),
        Err(error) => {
            let message = format!("cannot be read: {}", reason(&error));
            let location = Location::whole(path.display().to_string());
            Err(Box::new(Problem::error(location, message)))
        }
    }
}

/// An error of the system in words, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file (a dangling symlink?)".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
