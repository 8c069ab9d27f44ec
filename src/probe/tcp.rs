//! The TCP check: a connection, and optionally a short exchange on it.
//!
//! What the peer says is read up to [`LONGEST`] bytes; the check passes as soon as the expectation
//! holds for what has come so far.

use std::io::{self, ErrorKind};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes, excerpt, wanted};
use super::socket::kernel_words;
use super::target::{TcpCheck, TextMatch};

/// Most bytes of the answer that are looked at.
const LONGEST: usize = 64 * 1024;

/// Says and hears what the check asks on an open connection.
pub(super) async fn exchange(
    mut stream: TcpStream,
    check: &TcpCheck,
    progress: &Progress,
) -> Result<String, Failure> {
    let sent = stream.write_all(&check.send).await;
    let Some(expect) = &check.expect else {
        return match sent {
            Ok(()) => Ok("connected".to_owned()),
            Err(error) => Err(broken(&error, &[])),
        };
    };
    // A peer that has spoken and closed may refuse what is sent; what it said is what counts.
    let mut heard = Vec::new();
    loop {
        stream.readable().await.map_err(|error| broken(&error, &heard))?;
        let rest = take_what_is_there(&stream, &mut heard, progress);
        if expect.is_match(&heard) {
            return Ok(format!("the answer does {}", wanted(expect)));
        }
        match rest {
            Rest::ToCome => {}
            Rest::Ended => return Err(not_expected(&heard, expect)),
            Rest::Broken(error) => return Err(broken(&error, &heard)),
        }
    }
}

/// What is to be had after what was there.
enum Rest {
    ToCome,
    /// The peer has closed, or said as much as is looked at.
    Ended,
    Broken(io::Error),
}

/// Reads until the socket is empty.
fn take_what_is_there(stream: &TcpStream, heard: &mut Vec<u8>, progress: &Progress) -> Rest {
    let mut part = [0; 2048];
    loop {
        let room = part.len().min(LONGEST - heard.len());
        match stream.try_read(&mut part[..room]) {
            Ok(0) => return Rest::Ended,
            Ok(count) => {
                if heard.is_empty() {
                    progress.mark_first_byte();
                }
                progress.add_received(count);
                heard.extend_from_slice(&part[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Rest::ToCome,
            Err(error) => return Rest::Broken(error),
        }
    }
}

fn broken(error: &io::Error, heard: &[u8]) -> Failure {
    let (after, words) = (bytes(heard.len() as u64), kernel_words(error));
    Failure::new(Reason::Reset, format!("{words} after {after} of the answer"))
}

fn not_expected(heard: &[u8], expect: &TextMatch) -> Failure {
    let wanted = wanted(expect);
    if heard.is_empty() {
        let detail = format!("closed without saying anything, expected an answer to {wanted}");
        return Failure::new(Reason::Closed, detail);
    }
    let scope = if heard.len() >= LONGEST {
        format!("the first {} KiB of the answer do", LONGEST / 1024)
    } else {
        "the answer does".to_owned()
    };
    let detail = format!(
        "{scope} not {wanted}; it begins {}, {}",
        excerpt(heard),
        bytes(heard.len() as u64)
    );
    Failure::new(Reason::Content, detail)
}
