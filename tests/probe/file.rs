//! Files that say something, and what else can be in their place.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{CheckKind, FileCheck};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::agent::advised;
use crate::support::{LONG, expect, probe, probe_with, target};

fn file(path: &Path, missing_fails: bool) -> CheckKind {
    CheckKind::File(FileCheck { path: path.display().to_string(), missing_fails })
}

fn somebody() -> SocketAddr {
    "192.0.2.1:0".parse().unwrap()
}

async fn ask(path: &Path) -> Outcome {
    probe(&target(somebody(), file(path, false), LONG)).await
}

#[tokio::test]
async fn the_first_line_decides() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("192.0.2.1.state");
    let template = place.path().join("{address}.state");
    for (content, reason, piece, words) in [
        ("up\n", Reason::Ok, "says \"up\"", "nothing"),
        ("50% # half a disk\n", Reason::Ok, "says \"50% # half a disk\"", "50%"),
        ("drain\ndown\n", Reason::Ok, "says \"drain\"", "drain"),
        ("down # being mended\n", Reason::Status, "it says down: being mended", "nothing"),
        ("", Reason::Setup, "no advice that is understood in \"\"", "not understood"),
        ("\u{7f}ELF\0\0", Reason::Setup, "write `up`, `down`", "not understood"),
        (&"x".repeat(5000), Reason::Setup, "xxx…\"", "not understood"),
    ] {
        fs::write(&path, content).unwrap();
        let outcome = ask(&template).await;
        expect(content, &outcome, reason, piece);
        assert!(advised(&outcome).starts_with(words), "{content}: {outcome:?}");
    }
}

#[tokio::test]
async fn no_file_is_what_the_policy_says() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("none");
    expect("passes", &ask(&path).await, Reason::Ok, "there is no such file");
    let outcome = probe(&target(somebody(), file(&path, true), LONG)).await;
    expect("fails", &outcome, Reason::Content, "there is no such file");
    let dangling = place.path().join("dangling");
    symlink(&path, &dangling).unwrap();
    expect("dangles", &ask(&dangling).await, Reason::Ok, "there is no such file");
}

#[tokio::test]
async fn what_is_no_regular_file_holds_nobody_up() {
    let place = tempfile::tempdir().unwrap();
    let fifo = place.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let looping = place.path().join("loop");
    symlink(&looping, &looping).unwrap();
    let huge = place.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    for (name, path, piece) in [
        ("FIFO", fifo.as_path(), "is not a regular file"),
        ("directory", place.path(), "is not a regular file"),
        ("device", Path::new("/dev/zero"), "is not a regular file"),
        ("loop", &looping, "too many levels of symbolic links"),
        ("a terabyte of zeros", &huge, "no advice that is understood"),
        ("below a file", &huge.join("x"), "cannot be opened: not a directory"),
    ] {
        expect(name, &ask(path).await, Reason::Setup, piece);
    }
    fs::set_permissions(&huge, fs::Permissions::from_mode(0o000)).unwrap();
    if !rustix::process::geteuid().is_root() {
        expect("forbidden", &ask(&huge).await, Reason::Setup, "let the daemon read it");
    }
}

#[tokio::test]
async fn one_prober_asks_many_files_at_once() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("state"), "7").unwrap();
    let prober = std::sync::Arc::new(NetworkProber::new());
    let target = target(somebody(), file(&place.path().join("state"), false), LONG);
    let asks = (0..200).map(|_| {
        let (prober, target) = (prober.clone(), target.clone());
        tokio::spawn(async move { probe_with(&prober, &target).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(advised(&ask.await.unwrap()), "7");
    }
}
