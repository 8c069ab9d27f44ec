//! A few messages of known length over a TCP connection: the part that checks of binary protocols
//! share.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes};
use super::socket::kernel_words;

/// A connection, and what it does to the attempt's progress.
#[derive(Debug)]
pub(super) struct Dialogue<'p> {
    stream: TcpStream,
    progress: &'p Progress,
}

impl<'p> Dialogue<'p> {
    pub(super) fn new(stream: TcpStream, progress: &'p Progress) -> Self {
        Self { stream, progress }
    }

    /// Writes all of it. A peer that has spoken and closed may refuse what is sent; what it said
    /// is what counts, so that this is for the next read to find out.
    pub(super) async fn say(&mut self, text: &[u8]) -> Result<(), Failure> {
        match self.stream.write_all(text).await {
            Err(error) if !is_gone(&error) => Err(self.broken(&error)),
            _ => Ok(()),
        }
    }

    /// Reads exactly this much.
    pub(super) async fn hear<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Failure> {
        let mut heard = [0; LENGTH];
        self.fill(&mut heard).await?;
        Ok(heard)
    }

    /// Reads exactly `length` bytes, which the caller has found to be no more than it can bear.
    pub(super) async fn hear_much(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut heard = vec![0; length];
        self.fill(&mut heard).await?;
        Ok(heard)
    }

    /// Reads a line of at most `longest` bytes, and gives it without its end.
    pub(super) async fn hear_line(&mut self, longest: usize) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            match self.hear::<1>().await? {
                [b'\n'] => break,
                [byte] if line.len() < longest => line.push(byte),
                _ => {
                    let detail = format!("more than {longest} bytes without an end of line");
                    return Err(Failure::new(Reason::Protocol, detail));
                }
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    async fn fill(&mut self, mut room: &mut [u8]) -> Result<(), Failure> {
        while !room.is_empty() {
            let count = self.stream.read(room).await.map_err(|error| self.broken(&error))?;
            if count == 0 {
                let detail = match self.progress.received() {
                    0 => "closed without saying anything".to_owned(),
                    count => format!("closed after {} of the answer", bytes(count)),
                };
                return Err(Failure::new(Reason::Closed, detail));
            }
            if !self.progress.has_first_byte() {
                self.progress.mark_first_byte();
            }
            self.progress.add_received(count);
            room = &mut room[count..];
        }
        Ok(())
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let after = bytes(self.progress.received());
        let detail = format!("{} after {after} of the answer", kernel_words(error));
        Failure::new(Reason::Reset, detail)
    }
}

/// What a server says for people to read: printable, in one line and not too long for a log.
pub(super) fn words(text: &[u8]) -> String {
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(text);
    let mut letters = text.chars();
    let shown = letters.by_ref().take(LONGEST);
    let mut words: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
    if letters.next().is_some() {
        words.push('…');
    }
    words
}

fn is_gone(error: &io::Error) -> bool {
    let reset = matches!(Errno::from_io_error(error), Some(Errno::PIPE | Errno::CONNRESET));
    reset || error.kind() == ErrorKind::WriteZero
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fit_on_a_line() {
        assert_eq!(words(b"Host 'lb' is blocked"), "Host 'lb' is blocked");
        assert_eq!(words(b"a\x1b[2J\nb\xff"), "a [2J b\u{fffd}");
        assert_eq!(words(&[b'a'; 121]), format!("{}…", "a".repeat(120)));
    }
}
