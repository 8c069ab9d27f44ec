//! What the README says of the tree: it is built, it shows itself, it makes a Debian package. And the
//! package: what is in it, and how it is installed, upgraded, removed and purged, in a root of its own
//! that is thrown away.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "docs/lines.rs"]
mod lines;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use lines::{Runner, all_run, on_record, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_changelog_is_of_this_version() {
    let changelog = fs::read_to_string(root().join("contrib/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("pointsman ({VERSION}-1) ")), "{changelog}");
}

#[test]
fn the_tree_does_what_the_readme_says() {
    if is_impossible("the tree") {
        return;
    }
    let mut record = TREE.record.clone();
    let said = TREE.run(&mut record, "cargo run --release -- demo");
    for expected in ["virtual_services:", "dies standing up", "state      ok: 4 real servers up"] {
        assert!(said.contains(expected), "no {expected} in:\n{said}");
    }
    all_run(Runner::Tree, &record);
    // This one would run itself; what it would do can be seen.
    let steps = TREE.run(&mut BTreeSet::new(), "make --dry-run test");
    for step in ["tests/install-deps", "cargo fmt --check", "cargo clippy", "cargo test"] {
        assert!(steps.lines().any(|it| it.starts_with(step)), "no {step} in:\n{steps}");
    }
}

#[test]
fn the_package_goes_in_and_out_without_a_trace() {
    if is_impossible("the package") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    // Whoever makes the next one takes this one away.
    let old = scratch.path().join(TREE.package().file_name().unwrap());
    fs::copy(TREE.package(), &old).unwrap();
    let new = TREE.revised(scratch.path());
    let mut script = Command::new("unshare");
    script.args(["--mount", "--", "sh", "-eu"]).arg(root().join("tests/package-root.sh"));
    let done = script.args([scratch.path(), &old, &new]).output().unwrap();
    let (answer, said) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let well = done.status.success() && answer.ends_with("all is well\n");
    assert!(well, "{answer}\n--- standard error:\n{said}");
    all_run(Runner::Package, &on_record(&answer));
    complaints(&old);
}

/// Says loudly what is not tested, and why.
fn is_impossible(what: &str) -> bool {
    let missing = match () {
        () if !root().join("target/tools/bin/cargo-deb").exists() => {
            "no target/tools/bin/cargo-deb: `make test` brings it"
        }
        () if !rustix::process::geteuid().is_root() => "not root",
        () if !on_debian() => "no dpkg and mmdebstrap here; run tests/install-deps",
        () => return false,
    };
    let required = ["CI", "POINTSMAN_REQUIRE_PACKAGE"];
    let required = required.iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{what} must be tested here, but: {missing}");
    eprintln!("SKIPPED: {what} is not tested: {missing}");
    true
}

fn on_debian() -> bool {
    Command::new("dpkg-shlibdeps").arg("--version").output().is_ok()
}

/// What is built once for all tests here.
static TREE: LazyLock<Tree> = LazyLock::new(Tree::build);

/// A tree with the files of this one and a `target` of its own, so that what is built here is not
/// what somebody installs from there.
struct Tree {
    place: PathBuf,
    /// The lines that have been run in it.
    record: BTreeSet<String>,
}

impl Tree {
    fn build() -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tree");
        let _ = fs::remove_dir_all(place.join("target/debian"));
        fs::create_dir_all(place.join("target")).unwrap();
        let entries = fs::read_dir(root()).unwrap().map(|it| it.unwrap().file_name());
        let files = entries.map(PathBuf::from);
        let files =
            files.filter(|it| !it.starts_with("target") && !it.to_str().unwrap().starts_with('.'));
        // What has been built for the tests serves here too.
        let built = ["target/tools", "target/debug"].map(PathBuf::from);
        fs::create_dir_all(root().join("target/debug")).unwrap();
        for name in files.chain(built) {
            let _ = fs::remove_file(place.join(&name));
            symlink(root().join(&name), place.join(&name)).unwrap();
        }
        let mut record = BTreeSet::new();
        let tree = Self { place, record: BTreeSet::new() };
        tree.run(&mut record, "cargo build --release");
        let version = Command::new(tree.program()).arg("--version").output().unwrap().stdout;
        assert_eq!(version, format!("pointsman {VERSION}\n").into_bytes());
        tree.run(&mut record, "make deb");
        assert!(tree.package().is_file(), "no {}", tree.package().display());
        Self { record, ..tree }
    }

    /// Runs a line as it stands in the README; what it says. The release that is built is not an
    /// optimised one, which takes longer and does the same.
    fn run(&self, record: &mut BTreeSet<String>, line: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", line]).current_dir(&self.place);
        // What cargo and make say to a test: a build that hears it takes what is there for another one's.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name != "CARGO_HOME" && (name.starts_with("CARGO") || name.starts_with("MAKE")) {
                shell.env_remove(name);
            }
        }
        for (key, quick) in [("LTO", "off"), ("OPT_LEVEL", "0"), ("CODEGEN_UNITS", "256")] {
            shell.env(format!("CARGO_PROFILE_RELEASE_{key}"), quick);
        }
        let done = shell.output().unwrap();
        record.insert(line.to_owned());
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line}: {said}\n--- standard error:\n{errors}");
        said
    }

    fn program(&self) -> PathBuf {
        self.place.join("target/release/pointsman")
    }

    /// What `make deb` has made.
    fn package(&self) -> PathBuf {
        let machine = Command::new("dpkg").arg("--print-architecture").output().unwrap().stdout;
        let machine = String::from_utf8(machine).unwrap();
        self.place.join(format!("target/debian/pointsman_{VERSION}-1_{}.deb", machine.trim()))
    }

    /// The next revision of it.
    fn revised(&self, directory: &Path) -> PathBuf {
        let file = directory.join("pointsman-2.deb");
        let mut make = Command::new("target/tools/bin/cargo-deb");
        make.current_dir(&self.place).args(["--no-build", "--fast", "--deb-revision", "2"]);
        let made = make.arg("--output").arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        file
    }
}

/// What lintian says, where there is one.
fn complaints(package: &Path) {
    let read = Command::new("lintian").arg("--fail-on=error,warning").arg(package).output();
    let read = read.unwrap_or_else(|error| panic!("lintian: {error}; run tests/install-deps"));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stdout));
}
