//! The Debian package: what is in it, and how it is installed, upgraded, removed and purged, in a
//! root of its own that is thrown away.
//!
//! The package is made of the program that is tested, so that nothing is built for it; `make deb`
//! makes the same one of the release build.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[expect(dead_code, reason = "only what it writes is needed")]
#[path = "../examples/generate.rs"]
mod generate;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_changelog_is_of_this_version() {
    let changelog = fs::read_to_string(root().join("contrib/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("pointsman ({VERSION}-1) ")), "{changelog}");
}

#[test]
fn it_goes_in_and_out_without_a_trace() {
    let tool = root().join("target/tools/bin/cargo-deb");
    let missing = match () {
        () if !tool.exists() => Some("no target/tools/bin/cargo-deb: `make test` brings it"),
        () if !rustix::process::geteuid().is_root() => Some("not root"),
        () if !on_debian() => Some("no dpkg and mmdebstrap here; run tests/install-deps"),
        () => None,
    };
    if let Some(missing) = missing {
        let required = ["CI", "POINTSMAN_REQUIRE_PACKAGE"];
        let required = required.iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "the package must be tested here, but: {missing}");
        eprintln!("SKIPPED: the package is not tested: {missing}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    generate::generate(&root().join("target/package")).unwrap();
    let [old, new] = ["1", "2"].map(|revision| package(&tool, revision, scratch.path()));
    let mut script = Command::new("unshare");
    script.args(["--mount", "--", "sh", "-eu"]).arg(root().join("tests/package-root.sh"));
    let done = script.args([scratch.path(), &old, &new]).output().unwrap();
    let (answer, said) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let well = done.status.success() && answer.ends_with("all is well\n");
    assert!(well, "{answer}\n--- standard error:\n{said}");
    complaints(&old);
}

fn on_debian() -> bool {
    Command::new("dpkg-shlibdeps").arg("--version").output().is_ok()
}

/// Makes a package of the tested program; nothing is compiled.
fn package(tool: &Path, revision: &str, directory: &Path) -> PathBuf {
    let file = directory.join(format!("pointsman-{revision}.deb"));
    let program = Path::new(env!("CARGO_BIN_EXE_pointsman"));
    let profile = program.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let profile = if profile == "debug" { "dev".to_owned() } else { profile };
    let mut make = Command::new(tool);
    make.current_dir(root()).args(["--no-build", "--fast", "--strip", "--profile", &profile]);
    make.args(["--deb-revision", revision, "--output"]).arg(&file);
    let made = make.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    file
}

/// What lintian says, where there is one.
fn complaints(package: &Path) {
    let read = Command::new("lintian").arg("--fail-on=error,warning").arg(package).output();
    let read = read.unwrap_or_else(|error| panic!("lintian: {error}; run tests/install-deps"));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stdout));
}
