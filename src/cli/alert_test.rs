//! `pointsman alert-test`: sends a test message to receivers, from this process, and says what
//! came of it.

use std::time::SystemTime;

use super::args::AlertTest;
use super::{Exit, Failure, answer, open, runtime};
use crate::alerts::config::Receiver;
use crate::alerts::deliver::{Refusal, deliver};
use crate::alerts::message::Message;

pub(super) fn alert_test(args: &AlertTest) -> Result<Exit, Failure> {
    let Some(path) = open::alerts_file(args.alerts.as_deref()) else {
        let text = "nobody is told of anything: there is no /etc/pointsman/alerts.yaml; write one, \
                    or name another with --alerts";
        return Err(Failure::text(text));
    };
    let alerts = open::alerts(&path)?;
    let is_there = |name: &&String| !alerts.receivers.iter().any(|it| it.name == **name);
    if let Some(stranger) = args.receivers.iter().find(is_there) {
        let names: Vec<&str> = alerts.receivers.iter().map(|it| it.name.as_str()).collect();
        let text = format!(
            "no receiver `{stranger}` in {}; there are: {}",
            path.display(),
            names.join(", ")
        );
        return Err(Failure { exit: Exit::Usage, message: text });
    }
    let is_meant = |it: &&Receiver| args.receivers.is_empty() || args.receivers.contains(&it.name);
    let at = humantime::format_rfc3339_seconds(now()).to_string();
    let message = Message::test(&open::director(), &at);
    let runtime = runtime()?;
    let mut exit = Exit::Done;
    for receiver in alerts.receivers.iter().filter(is_meant) {
        let line = match runtime.block_on(deliver(receiver, &message)) {
            Ok(()) => format!("{}: delivered\n", receiver.name),
            Err(Refusal { reason, .. }) => {
                exit = Exit::Failed;
                format!("{}: FAILED: {reason}\n", receiver.name)
            }
        };
        answer(&line)?;
    }
    Ok(exit)
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: the message says when")]
fn now() -> SystemTime {
    SystemTime::now()
}
