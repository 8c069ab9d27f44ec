//! `pointsman events`: what happened, from the file that the daemon keeps. It needs no daemon.

use std::io;
use std::time::{Duration, SystemTime};

use super::args::{Events, Output};
use super::{Exit, Failure, answer, complain, json_line, open};
use crate::count::count;
use crate::events::Event;
use crate::events::file::{Reader, path};

/// How often the file is looked at while it is followed.
const POLL: Duration = Duration::from_millis(250);

pub(super) fn events(args: &Events) -> Result<Exit, Failure> {
    let path = path(&args.state_dir, &open::scope_of(args.ipvs, args.netns.as_deref()));
    if !args.follow && !path.exists() {
        return Err(Failure::text(format!(
            "no events are kept in {}: the daemon has not run with this --state-dir, --ipvs and --netns",
            path.display()
        )));
    }
    let failed = |error: io::Error| {
        Failure::text(format!("cannot read the events in {}: {error}", path.display()))
    };
    let since = now().checked_sub(args.since).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut reader = Reader::new(&path);
    let mut unreadable = 0;
    loop {
        let found = reader.since(since).map_err(failed)?;
        if reader.unreadable > unreadable {
            let lines = reader.unreadable - unreadable;
            let are = if lines == 1 { "is no event" } else { "are no events" };
            let lines = count(lines, "line");
            complain(&format!("pointsman: {lines} of {} {are}", path.display()));
            unreadable = reader.unreadable;
        }
        let text: Vec<String> =
            found.iter().map(|event| line(event, args.output)).collect::<Result<_, _>>()?;
        if !answer(&text.concat())? || !args.follow {
            return Ok(Exit::Done);
        }
        wait();
    }
}

fn line(event: &Event, output: Output) -> Result<String, Failure> {
    match output {
        Output::Text => Ok(format!("{event}\n")),
        Output::Json => json_line(event),
    }
}

#[expect(clippy::disallowed_methods, reason = "the end of the file is polled, as `tail -f` does")]
fn wait() {
    std::thread::sleep(POLL);
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: how far back")]
fn now() -> SystemTime {
    SystemTime::now()
}
