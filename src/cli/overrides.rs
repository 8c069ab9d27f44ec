//! `pointsman drain`, `disable`, `weight`, `enable` and `overrides`: what operators say of single
//! real servers.

use super::args::{Ask, Enable, Output, Override, Terms, Weight, Which};
use super::{Exit, Failure, acts_for, answer, json, runtime};
use crate::control::client;
use crate::control::overrides::{Answer, OverrideStatus, Request, render};
use crate::reconcile::overrides::Action;

/// Where they are kept.
const RESOURCE: &str = "/v1/overrides";

pub(super) fn drain(args: Override) -> Result<Exit, Failure> {
    order(args.which, Some(Action::Drain), Some(args.terms), &args.ask)
}

pub(super) fn disable(args: Override) -> Result<Exit, Failure> {
    order(args.which, Some(Action::Disable), Some(args.terms), &args.ask)
}

pub(super) fn weight(args: Weight) -> Result<Exit, Failure> {
    order(args.which, Some(Action::Weight(args.weight)), Some(args.terms), &args.ask)
}

pub(super) fn enable(args: Enable) -> Result<Exit, Failure> {
    order(args.which, None, None, &args.ask)
}

fn order(
    which: Which,
    action: Option<Action>,
    terms: Option<Terms>,
    ask: &Ask,
) -> Result<Exit, Failure> {
    let (length, reason) = terms.map(|terms| (terms.length, terms.reason)).unwrap_or_default();
    let request = Request {
        policy: which.policy,
        real_server: which.real_server,
        action,
        seconds: length.map(|length| length.as_secs()),
        reason,
        acts_for: acts_for(),
    };
    let asked = client::post::<Answer>(&ask.socket.socket, RESOURCE, &request);
    let answered = runtime()?.block_on(asked).map_err(|error| Failure::new(&error))?;
    match ask.output {
        Output::Text => answer(&answered.text)?,
        Output::Json => answer(&json(&answered)?)?,
    };
    Ok(Exit::Done)
}

pub(super) fn list(args: &Ask) -> Result<Exit, Failure> {
    let asked = client::get::<Vec<OverrideStatus>>(&args.socket.socket, RESOURCE);
    let overrides = runtime()?.block_on(asked).map_err(|error| Failure::new(&error))?;
    match args.output {
        Output::Text => answer(&render(&overrides))?,
        Output::Json => answer(&json(&overrides)?)?,
    };
    Ok(Exit::Done)
}
