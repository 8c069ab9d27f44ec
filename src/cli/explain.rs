//! `pointsman explain`: why a real server has the weight it has.

use super::args::{Explain, Output};
use super::{Exit, Failure, answer, json, runtime};
use crate::control::client;
use crate::control::explain::{Explanation, Question};
use crate::control::explain_text::render;

pub(super) fn explain(args: Explain) -> Result<Exit, Failure> {
    let question = Question { policy: args.which.policy, real_server: args.which.real_server };
    let resource = question.resource();
    let asked = client::get::<Explanation>(&args.ask.socket.socket, &resource);
    let explanation = runtime()?.block_on(asked).map_err(|error| Failure::new(&error))?;
    match args.ask.output {
        Output::Text => answer(&render(&explanation))?,
        Output::Json => answer(&json(&explanation)?)?,
    };
    Ok(Exit::Done)
}
