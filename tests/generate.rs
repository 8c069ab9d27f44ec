//! Man pages and completions: every command has a page that its reader shows without complaints.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[expect(dead_code, reason = "its main is not called")]
#[path = "../examples/generate.rs"]
mod generate;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{CommandFactory, Parser};
use pointsman::cli::args::Cli;

#[test]
fn every_command_has_a_page_without_complaints() {
    let scratch = tempfile::tempdir().unwrap();
    generate::generate(scratch.path()).unwrap();
    let pages = files(&scratch.path().join("man"));
    let names: BTreeSet<String> =
        pages.iter().map(|page| page.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, commands());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH \"EXIT STATUS\""] {
            assert!(text.contains(part), "{part} in {}:\n{text}", page.display());
        }
    }
    let main = fs::read_to_string(scratch.path().join("man/pointsman.8")).unwrap();
    assert!(main.contains(".SH FILES") && main.contains(".SH EXAMPLES"), "{main}");
    complaints(&pages);
}

/// What the formatter of man pages says, where there is one.
fn complaints(pages: &[PathBuf]) {
    let found = Command::new("man").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no man here, so nobody has read the pages");
        return;
    }
    for page in pages {
        let mut man = Command::new("man");
        man.env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "80");
        let read = man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(page);
        let read = read.output().unwrap();
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
}

#[test]
fn what_the_pages_show_can_be_typed() {
    let names = commands();
    for (page, examples) in generate::EXAMPLES {
        assert!(names.contains(&format!("{page}.8")), "no page {page}");
        for (line, _) in *examples {
            let words = line.split_whitespace();
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}

#[test]
fn shells_can_read_the_completions() {
    let scratch = tempfile::tempdir().unwrap();
    generate::generate(scratch.path()).unwrap();
    let completions = scratch.path().join("completions");
    for (shell, file) in
        [("bash", "pointsman.bash"), ("zsh", "_pointsman"), ("fish", "pointsman.fish")]
    {
        let file = completions.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("doctor") && text.contains("state-dir"), "{}", file.display());
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(read) => assert!(read.status.success(), "{shell}: {read:?}"),
            Err(_) => eprintln!("SKIPPED: no {shell} here to read its completions"),
        }
    }
}

/// The pages there should be.
fn commands() -> BTreeSet<String> {
    fn below(command: &clap::Command, prefix: &str, into: &mut BTreeSet<String>) {
        into.insert(format!("{prefix}.8"));
        for command in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            below(command, &format!("{prefix}-{}", command.get_name()), into);
        }
    }
    let mut names = BTreeSet::new();
    below(&Cli::command(), "pointsman", &mut names);
    names
}

fn files(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}
