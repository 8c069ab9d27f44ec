//! The agent: one line from a program on the real server about the share of the traffic it wants.
//!
//! The protocol is that of HAProxy's agent checks: connect, say something if that was agreed on,
//! read one line up to its end or to that of the connection.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::advice::{Heard, Said};
use super::dialogue::words;
use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes};
use super::socket::kernel_words;

/// Longest line that is read.
const LONGEST: usize = 4096;

/// What is said to an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentCheck {
    /// Bytes to send once connected.
    pub send: Vec<u8>,
}

/// Asks and listens; the text is what the agent said.
pub(super) async fn exchange(
    mut stream: TcpStream,
    check: &AgentCheck,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::HeadTimeout, "whole line from the agent");
    // An agent that has spoken and closed may refuse what is sent; what it said is what counts.
    let _ = stream.write_all(&check.send).await;
    let line = line(&mut stream, progress).await?;
    let shown = words(&line);
    match Said::parse(&String::from_utf8_lossy(&line)) {
        Ok(said) => progress.advise(Heard::More(said)),
        Err(why) => progress.advise(Heard::Nothing(why.into())),
    }
    Ok(format!("says {:?}", shown.trim()))
}

async fn line(stream: &mut TcpStream, progress: &Progress) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    let mut part = [0; 512];
    loop {
        let after = bytes(line.len() as u64);
        let count = match stream.read(&mut part).await {
            Ok(count) => count,
            // Closing with something unread resets; what was said before is whole all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !line.is_empty() => 0,
            Err(error) => {
                let detail = format!("{} after {after} of the answer", kernel_words(&error));
                return Err(Failure::new(Reason::Reset, detail));
            }
        };
        if count > 0 && line.is_empty() {
            progress.mark_first_byte();
        }
        progress.add_received(count);
        let read = &part[..count];
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&read[..end]);
            return Ok(line);
        }
        line.extend_from_slice(read);
        if line.len() > LONGEST {
            let detail = format!("more than {LONGEST} bytes without an end of line");
            return Err(Failure::new(Reason::Protocol, detail));
        }
        match (count, line.is_empty()) {
            (0, true) => {
                return Err(Failure::new(Reason::Closed, "closed without saying anything"));
            }
            (0, false) => return Ok(line),
            _ => {}
        }
    }
}
