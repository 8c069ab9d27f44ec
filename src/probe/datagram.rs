//! Questions and answers by datagrams, which may be lost: the part that UDP, DNS and ICMP share.
//!
//! A question is sent at the start, after a third and after two thirds of the deadline, so that
//! one lost datagram is no failure. ICMP errors arrive as errors of the socket and end the attempt
//! at once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::outcome::Reason;
use super::progress::{Failure, Progress};
use super::socket;

/// How often a question is sent at most.
pub(super) const SENDINGS: u32 = 3;

/// Most bytes of a datagram that are looked at; what is beyond them is cut off by the kernel.
pub(super) const LONGEST: usize = 4096;

/// A socket for datagrams, the other end, and when to ask again.
pub(super) struct Exchange<'p> {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    pub(super) timeout: Duration,
    pub(super) progress: &'p Progress,
}

impl Exchange<'_> {
    /// Asks until `judge` takes a datagram for the answer; it passes by those it has no use for.
    ///
    /// Never ends by itself when nothing comes: the caller keeps the deadline.
    pub(super) async fn ask<T>(
        &self,
        question: &[u8],
        mut judge: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let mut sent = 0;
        let mut datagram = vec![0; LONGEST];
        loop {
            let again = start + self.timeout * sent / SENDINGS;
            // Dropping a sleep or a receive that is not ready loses nothing.
            let received = tokio::select! {
                biased;
                received = self.socket.recv(&mut datagram), if sent > 0 => Some(received),
                () = sleep_until(again), if sent < SENDINGS => None,
            };
            match received {
                None => {
                    self.send(question, sent == 0).await?;
                    sent += 1;
                }
                Some(Err(error)) => return Err(self.broken(&error)),
                Some(Ok(length)) => {
                    if let Some(answer) = judge(&datagram[..length]) {
                        self.progress.mark_first_byte();
                        return Ok(answer);
                    }
                }
            }
        }
    }

    async fn send(&self, question: &[u8], first: bool) -> Result<(), Failure> {
        match self.socket.send(question).await {
            Ok(_) => Ok(()),
            // Nothing can have come back yet, so that this is the director's own.
            Err(error) if first => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Err(socket::not_sent(self.address, errno))
            }
            // The kernel hands an ICMP error to whoever uses the socket next.
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// An ICMP error that is there but has not been seen yet.
    pub(super) fn pending(&self) -> Option<Failure> {
        let error = self.socket.take_error().unwrap_or_else(Some)?;
        Some(self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let icmp = self.address.port() == 0;
        if icmp && Errno::from_io_error(error) == Some(Errno::CONNREFUSED) {
            let detail = format!("a firewall refuses echo requests to {}", self.address.ip());
            return Failure::new(Reason::Refused, detail);
        }
        socket::answered(self.address, error)
    }
}
