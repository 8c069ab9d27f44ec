//! `pointsman demo`.

use std::io::Read;
use std::process::Stdio;

use crate::scratch::{end_of, finish, pointsman};

#[test]
fn a_server_goes_and_comes_back_and_the_demo_ends_by_itself() {
    let finished = finish(pointsman(&["demo", "--for", "10s"])).exit(0);
    let log = &finished.stderr;
    for expected in ["from=up to=down", "no response head within", "from=down to=up"] {
        assert!(log.contains(expected), "no {expected} in:\n{log}");
    }
    assert!(log.contains("weight 80 → 40"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    for expected in ["virtual_services:", "dies standing up", "state      ok: 4 real servers up"] {
        assert!(finished.stdout.contains(expected), "no {expected} in:\n{}", finished.stdout);
    }
    assert!(finished.stdout.contains("\nusers: "), "{}", finished.stdout);
}

#[test]
fn readers_of_both_streams_may_go_away() {
    let mut command = pointsman(&["demo", "--for", "2s"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    child.stdout.take();
    child.stderr.take();
    assert_eq!(end_of(&mut child, "a demo nobody looks at"), Some(0));
}
