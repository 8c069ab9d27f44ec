//! The UDP check: a datagram, and what comes back.
//!
//! With an expectation, an answer must come and fit. Without one, silence passes: all that is
//! proven then is that nobody on the way said the port is closed or the address cannot be reached
//! (ICMP), which a machine that is switched off or a firewall that drops does not say either.

use std::time::Duration;

use tokio::time::timeout;

use super::datagram::{Exchange, LONGEST, SENDINGS};
use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes, excerpt, wanted};
use super::socket::{self, Origin};
use super::target::{Target, TextMatch};

/// What to send in a datagram and what to hear.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpCheck {
    /// The datagram, which may be empty.
    pub send: Vec<u8>,
    /// What must appear in the answer, of which the first 4096 bytes are looked at.
    pub expect: Option<TextMatch>,
}

/// Asks and judges; the text says what passed.
pub(super) async fn ask(
    target: &Target,
    check: &UdpCheck,
    origin: &Origin<'_>,
    progress: &Progress,
) -> Result<String, Failure> {
    let address = target.asked_at();
    let exchange = Exchange {
        socket: socket::datagram(address, origin)?,
        address,
        timeout: target.timing.timeout,
        progress,
    };
    match &check.expect {
        None => hear_no_refusal(&exchange, &check.send).await,
        Some(expect) => {
            progress.wait_for(Reason::HeadTimeout, "answer");
            exchange.ask(&check.send, |answer| Some(judge(answer, expect))).await?
        }
    }
}

fn judge(answer: &[u8], expect: &TextMatch) -> Result<String, Failure> {
    let wanted = wanted(expect);
    if expect.is_match(answer) {
        return Ok(format!("the answer does {wanted}"));
    }
    let scope = if answer.len() == LONGEST { "the beginning of the answer" } else { "the answer" };
    let detail = format!(
        "{scope} does not {wanted}; it begins {}, {}",
        excerpt(answer),
        bytes(answer.len() as u64)
    );
    Err(Failure::new(Reason::Content, detail))
}

/// Waits up to where a last datagram would be sent, so that there is time for two refusals.
async fn hear_no_refusal(exchange: &Exchange<'_>, send: &[u8]) -> Result<String, Failure> {
    let patience: Duration = exchange.timeout * (SENDINGS - 1) / SENDINGS;
    match timeout(patience, exchange.ask(send, |_| Some(()))).await {
        Ok(Ok(())) => Ok("answered".to_owned()),
        Ok(Err(failure)) => Err(failure),
        Err(_elapsed) => match exchange.pending() {
            Some(failure) => Err(failure),
            None => Ok("not refused".to_owned()),
        },
    }
}
