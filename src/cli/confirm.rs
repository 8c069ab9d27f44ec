//! `pointsman confirm`: shows the plan of a reload that is held, and puts it in force.

use std::io::{self, BufRead, IsTerminal};

use super::args::Confirm;
use super::{Exit, Failure, acts_for, answer, complain, runtime};
use crate::control::client;
use crate::control::status::Policies;
use crate::control::{Confirmation, HeldPlan};

/// Where it waits.
const RESOURCE: &str = "/v1/held";

pub(super) fn confirm(args: &Confirm) -> Result<Exit, Failure> {
    let (runtime, socket) = (runtime()?, &args.socket.socket);
    let held: HeldPlan =
        runtime.block_on(client::get(socket, RESOURCE)).map_err(|error| Failure::new(&error))?;
    answer(&format!("{}\nthis would remove {}\n", held.text, held.removal))?;
    if !args.yes && !agreed()? {
        complain("nothing was confirmed: everything stays as it is");
        return Ok(Exit::Failed);
    }
    let confirmation = Confirmation { hash: held.hash, acts_for: acts_for() };
    let policies: Policies = runtime
        .block_on(client::post(socket, RESOURCE, &confirmation))
        .map_err(|error| Failure::new(&error))?;
    answer(&format!("confirmed: {} in force since {}\n", policies.hash, policies.loaded))?;
    Ok(Exit::Done)
}

/// Asks whoever sits at the terminal.
fn agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let message = "standard input is not a terminal: look at the plan and say --yes; nothing was confirmed";
        return Err(Failure { exit: Exit::Usage, message: message.to_owned() });
    }
    complain("Do it? Type `yes`:");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::text(format!("cannot read the answer: {error}")))?;
    Ok(line.trim() == "yes")
}
