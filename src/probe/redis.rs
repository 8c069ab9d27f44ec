//! The Redis check: `PING`, and what the server says to it.
//!
//! A server that asks for a password first is alive: it has read a command and answered it. One
//! that loads its data set, has lost its master or takes no more clients says so, and fails.

use tokio::net::TcpStream;

use super::dialogue::{Dialogue, words};
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt};

/// Longest line that is read.
const LONGEST: usize = 1024;

/// Asks and judges; the text says what passed.
pub(super) async fn exchange(stream: TcpStream, progress: &Progress) -> Result<String, Failure> {
    progress.wait_for(Reason::HeadTimeout, "answer to PING");
    let mut dialogue = Dialogue::new(stream, progress);
    dialogue.say(b"*1\r\n$4\r\nPING\r\n").await?;
    judge(&dialogue.hear_line(LONGEST).await?)
}

fn judge(line: &[u8]) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(line);
    match text.split_whitespace().next() {
        Some("+PONG") => Ok("PONG".to_owned()),
        Some("-NOAUTH") => Ok("asks for a password".to_owned()),
        Some("-NOPERM") => Ok("refuses PING to this client".to_owned()),
        Some(word) if word.starts_with('-') => {
            Err(Failure::new(Reason::Status, format!("answers PING with: {}", words(&line[1..]))))
        }
        _ => {
            Err(Failure::new(Reason::Protocol, format!("not an answer to PING: {}", excerpt(line))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_table() {
        use Reason::{Ok, Protocol, Status};
        for (line, reason) in [
            ("+PONG", Ok),
            ("-NOAUTH Authentication required.", Ok),
            ("-NOPERM this user has no permissions to run the 'ping' command", Ok),
            ("-LOADING Redis is loading the dataset in memory", Status),
            ("-MASTERDOWN Link with MASTER is down", Status),
            ("-ERR max number of clients reached", Status),
            ("-DENIED Redis is running in protected mode", Status),
            ("-", Status),
            ("-NOAUTHORITY", Status),
            ("+OK", Protocol),
            ("HTTP/1.1 400 Bad Request", Protocol),
            ("", Protocol),
        ] {
            let found = judge(line.as_bytes()).map_or_else(|failure| failure.reason, |_| Ok);
            assert_eq!(found, reason, "{line}");
        }
    }
}
