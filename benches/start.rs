//! How large the program is, and how long it takes to start: `cargo bench --bench start`.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const RUNS: usize = 51;

fn main() {
    // Without `--bench` this is `cargo test --benches`, which only wants to know that it starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let examples = std::fs::read_dir(&policies).unwrap().count();
    let size = std::fs::metadata(PROGRAM).unwrap().len();
    println!("| the program | measured |");
    println!("|---|---:|");
    println!("| its size, with symbols | {:.1} MB |", size as f64 / 1e6);
    row("`--version`, median", Command::new(PROGRAM).arg("--version"));
    let check = &mut Command::new(PROGRAM);
    row(&format!("`check` of {examples} examples, median"), check.arg("check").arg(&policies));
}

fn row(what: &str, command: &mut Command) {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| time(command)).collect();
    times.sort();
    println!("| {what} | {:.1} ms |", times[RUNS / 2].as_secs_f64() * 1e3);
}

/// From the fork to the end.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn time(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    begun.elapsed()
}
