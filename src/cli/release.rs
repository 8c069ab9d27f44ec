//! `pointsman release`: the failures are real, whatever the blast-radius limit suspects.

use super::args::{Output, Release as Args};
use super::{Exit, Failure, acts_for, answer, json, runtime};
use crate::control::client;
use crate::control::{Release, Released};
use crate::count::count;

pub(super) fn release(args: &Args) -> Result<Exit, Failure> {
    let order = Release { acts_for: acts_for() };
    let released: Released = runtime()?
        .block_on(client::post(&args.ask.socket.socket, "/v1/release", &order))
        .map_err(|error| Failure::new(&error))?;
    let text = match args.ask.output {
        Output::Json => json(&released)?,
        Output::Text => match released.held {
            None => "nothing to release: the blast-radius limit holds nothing\n".to_owned(),
            Some(held) => format!(
                "released: {held} of {} count as down now\n",
                count(released.targets, "check target")
            ),
        },
    };
    answer(&text)?;
    Ok(Exit::Done)
}
