//! The shipped unit under a real systemd, on a real kernel: started, reloaded, killed, hung, stopped,
//! and with files of root's that it may not read. It is installed as the README says, and the lines
//! of the book that take a systemd are run.

mod common;
#[path = "docs/lines.rs"]
mod lines;

use std::time::Duration;

use common::uml::{Guest, available};
use lines::Runner;

#[test]
fn systemd_runs_it_as_an_operator_expects() {
    if !available("the shipped unit") {
        return;
    }
    let tree = env!("CARGO_MANIFEST_DIR");
    let guest = Guest::new("/bin/sh")
        .args([&format!("{tree}/tests/unit/boot.sh"), env!("CARGO_BIN_EXE_pointsman"), tree])
        .memory("1G")
        .deadline(Duration::from_secs(300));
    let output = guest.run();
    let well =
        output.text.lines().rev().find(|line| !line.trim().is_empty()) == Some("all is well");
    assert!(output.status == Some(0) && well, "{:?}: {}", output.status, output.text);
    lines::all_run(Runner::Unit, &lines::on_record(&output.text));
}
