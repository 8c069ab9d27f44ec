//! Writes what a package has beside the program: `cargo run --example generate -- DIR` makes
//! `DIR/man`, `DIR/completions` and `DIR/policy.schema.json`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::aot::{Bash, Fish, Zsh, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use pointsman::cli::args::Cli;
use pointsman::policy::schema::schema;

/// System administration commands.
const SECTION: &str = "8";

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "Something failed; standard error says what and what to do."),
    ("2", "Wrong arguments, or an invalid policy: nothing was touched."),
    (
        "3",
        "plan --detailed-exitcode: changes are pending. status, doctor: something needs you. \
         export: not all of the table is in the answer.",
    ),
];

const FILES: [(&str, &str); 8] = [
    (
        "/etc/pointsman/policies/*.yaml",
        "The policies. Saving a file is enough: it is in force within a second, or not at all.",
    ),
    ("/etc/pointsman/pointsman.yaml", "What flags of the daemon say, if it is there."),
    ("/etc/pointsman/alerts.yaml", "Who is told when something goes wrong, if it is there."),
    (
        "/var/lib/pointsman",
        "What must survive a restart: which services are ours, verdicts, overrides, events.",
    ),
    ("/run/pointsman/pointsman.sock", "The socket of the running daemon."),
    ("/usr/share/pointsman/policy.schema.json", "The keys of a policy, for editors."),
    (
        "/usr/share/doc/pointsman/docs/README.md",
        "The book: every key of policies, settings and alerts, checks, safety, a runbook.",
    ),
    ("/usr/share/doc/pointsman/policies", "Policies to begin with."),
];

/// For each command, lines to type and what they do.
pub(crate) const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "pointsman",
        &[
            ("pointsman policy new shop", "Prints a policy to begin with."),
            ("pointsman check", "Says everything that is wrong with the policies."),
            ("pointsman doctor", "Says what this machine lacks for them."),
            ("pointsman plan", "Shows what the daemon would change."),
            ("pointsman status", "Shows what is up, what is down, and why."),
        ],
    ),
    (
        "pointsman-run",
        &[
            (
                "pointsman run --dry-run",
                "Probes and plans for real beside what is there, and writes nothing.",
            ),
            (
                "pointsman run --policies ./policies --ipvs memory --state-dir ./state --socket ./sock",
                "Tries policies without privileges and without IPVS.",
            ),
        ],
    ),
    (
        "pointsman-plan",
        &[
            (
                "pointsman plan --policies ./edited",
                "Shows what an edit would change, by a copy of the policies.",
            ),
            (
                "pointsman plan --assume up --detailed-exitcode",
                "Tells by its exit status whether the table differs from the policies.",
            ),
        ],
    ),
    (
        "pointsman-check",
        &[(
            "pointsman check --output json ./policies",
            "Checks a directory before it is deployed.",
        )],
    ),
    (
        "pointsman-export",
        &[(
            "pointsman export",
            "Prints the table as policies: save it as /etc/pointsman/policies/NAME.yaml, then add checks.",
        )],
    ),
    ("pointsman-status", &[("pointsman status --watch", "Shows it again every two seconds.")]),
    (
        "pointsman-drain",
        &[(
            "pointsman drain www 10.0.0.11 --for 2h --reason kernel",
            "Takes a real server out gently for at most two hours.",
        )],
    ),
    ("pointsman-weight", &[("pointsman weight www 10.0.0.11 20", "Gives it a smaller share.")]),
    ("pointsman-enable", &[("pointsman enable www 10.0.0.11", "Takes back what was said of it.")]),
    (
        "pointsman-explain",
        &[("pointsman explain www 10.0.0.11", "Says why it has the weight it has.")],
    ),
    (
        "pointsman-events",
        &[("pointsman events --since 2h --follow", "Shows the last two hours and what comes.")],
    ),
    ("pointsman-policy-new", &[("pointsman policy new shop", "Prints a valid policy named shop.")]),
    (
        "pointsman-schema",
        &[(
            "pointsman schema",
            "Prints what /usr/share/pointsman/policy.schema.json has. An editor with yaml-language-server uses it where a policy begins with the line \"# yaml-language-server: $schema=/usr/share/pointsman/policy.schema.json\".",
        )],
    ),
];

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: generate DIR");
        return ExitCode::from(2);
    };
    match generate(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes everything into a directory.
pub(crate) fn generate(directory: &Path) -> io::Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, &command, &man)?;
    generate_to(Bash, &mut command, "pointsman", &completions)?;
    generate_to(Zsh, &mut command, "pointsman", &completions)?;
    generate_to(Fish, &mut command, "pointsman", &completions)?;
    fs::write(directory.join("policy.schema.json"), format!("{:#}\n", schema()))
}

/// The page of a command and those of the commands in it.
fn pages(root: &Command, command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = File::create(directory.join(format!("{name}.{SECTION}")))?;
    let man = Man::new(command.clone()).section(SECTION);
    // Without a date: the pages of one version are the same on every day.
    let version = root.get_version().unwrap_or_default();
    writeln!(page, ".TH {name} {SECTION} \"\" \"pointsman {version}\" \"pointsman\"")?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    list("EXIT STATUS", &EXIT_STATUS, &mut page)?;
    if name == root.get_name() {
        list("FILES", &FILES, &mut page)?;
    }
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == name) {
        list("EXAMPLES", examples, &mut page)?;
    }
    see_also(root, &name, &mut page)?;
    for command in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        pages(root, command, directory)?;
    }
    Ok(())
}

/// A section of terms, each with its text.
fn list(heading: &str, entries: &[(&str, &str)], page: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (term, text) in entries {
        roff.control("TP", []).text([bold(*term)]).text([roman(*text)]);
    }
    roff.to_writer(page)
}

fn see_also(root: &Command, name: &str, page: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    if name != root.get_name() {
        line.extend([bold(root.get_name()), roman(format!("({SECTION}), "))]);
    }
    line.extend([bold("ipvsadm"), roman("(8)")]);
    roff.text(line);
    roff.to_writer(page)
}
