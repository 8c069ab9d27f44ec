//! The SMTP check: greeting, `EHLO`, optionally `STARTTLS` and `EHLO` again, `QUIT` (RFC 5321,
//! RFC 3207).
//!
//! Replies may have many lines; all of a dialogue is read up to [`LONGEST`] bytes. A server that
//! was reached is told `QUIT`, whatever came of it, so that it logs no lost connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes, excerpt};
use super::socket::kernel_words;
use super::target::{SmtpCheck, TlsCheck};
use super::tls::{self, Alpn, Hello};
use super::tls_error;

/// Most bytes that are read of a dialogue.
const LONGEST: usize = 64 * 1024;

/// How long the answer to `QUIT` is waited for, which no verdict depends on.
const FAREWELL: Duration = Duration::from_millis(100);

/// Speaks and judges; the text says what passed.
pub(super) async fn ask(
    mut stream: TcpStream,
    check: &SmtpCheck,
    timeout: Duration,
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<String, Failure> {
    let ends = stream.local_addr().and_then(|from| Ok((from, stream.peer_addr()?)));
    let (from, to) = ends.map_err(|error| broken(&error, 0))?;
    let name = check.ehlo.clone().unwrap_or_else(|| literal(from.ip()));
    let mut dialogue = Dialogue::new(&mut stream, progress);
    let begun = match &check.starttls {
        None => dialogue.greet(&name).await.map(drop),
        Some(_) => dialogue.start_tls(&name).await,
    };
    let (Ok(()), Some(tls)) = (&begun, &check.starttls) else {
        dialogue.quit(timeout).await;
        return begun.map(|()| "EHLO answered with 250".to_owned());
    };
    let mut session = secure(stream, tls, to, configs, progress).await?;
    let mut dialogue = Dialogue::new(&mut session, progress);
    let introduced = dialogue.introduce(&name).await;
    dialogue.quit(timeout).await;
    tls::say_goodbye(&mut session).await;
    introduced.map(|_| "EHLO answered with 250 over TLS".to_owned())
}

/// The address literal of a client without a name (RFC 5321 section 4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

async fn secure(
    stream: TcpStream,
    tls: &TlsCheck,
    to: SocketAddr,
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    progress.wait_for(Reason::TlsTimeout, "TLS session after STARTTLS");
    let hello = Hello::new(tls, None, to.ip(), Alpn::Nothing)?;
    tls::handshake(stream, hello, configs, progress).await
}

/// One side of a conversation in lines.
struct Dialogue<'a, S> {
    stream: &'a mut S,
    progress: &'a Progress,
    /// Read, but not yet part of a reply.
    rest: Vec<u8>,
    /// Whether the server can still be told something.
    alive: bool,
}

/// One reply, all of its lines.
struct Reply {
    code: u16,
    /// What follows the code in each line.
    texts: Vec<Vec<u8>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialogue<'a, S> {
    fn new(stream: &'a mut S, progress: &'a Progress) -> Self {
        Self { stream, progress, rest: Vec::new(), alive: true }
    }

    /// Hears the greeting and introduces the probe.
    async fn greet(&mut self, name: &str) -> Result<Reply, Failure> {
        self.progress.wait_for(Reason::HeadTimeout, "greeting");
        self.reply().await?.must_be(220, "the connection")?;
        if !self.rest.is_empty() {
            let detail = format!("it speaks before it is asked: {}", excerpt(&self.rest));
            return Err(Failure::new(Reason::Protocol, detail));
        }
        self.introduce(name).await
    }

    async fn introduce(&mut self, name: &str) -> Result<Reply, Failure> {
        self.progress.wait_for(Reason::HeadTimeout, "answer to EHLO");
        self.say(&format!("EHLO {name}\r\n")).await;
        let reply = self.reply().await?;
        reply.must_be(250, "EHLO")?;
        Ok(reply)
    }

    async fn start_tls(&mut self, name: &str) -> Result<(), Failure> {
        let offers = self.greet(name).await?;
        if !offers.has_line(b"STARTTLS") {
            return Err(Failure::new(Reason::Tls, "the server does not offer STARTTLS"));
        }
        self.progress.wait_for(Reason::HeadTimeout, "answer to STARTTLS");
        self.say("STARTTLS\r\n").await;
        self.reply().await?.must_be(220, "STARTTLS")?;
        if self.rest.is_empty() {
            return Ok(());
        }
        // What comes in cleartext must not count as said in the session.
        self.alive = false;
        let detail = format!("more in cleartext after STARTTLS: {}", excerpt(&self.rest));
        Err(Failure::new(Reason::Protocol, detail))
    }

    /// Says a line. A server that hangs up meanwhile may have said why: that is read next.
    async fn say(&mut self, line: &str) {
        let told = async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        };
        self.alive &= told.await.is_ok();
    }

    /// Ends the conversation, and waits a little for the server to do so too.
    async fn quit(mut self, timeout: Duration) {
        let wait = FAREWELL.min(self.progress.left(timeout) / 2);
        if self.alive {
            let farewell = async {
                self.say("QUIT\r\n").await;
                self.reply().await.map(drop)
            };
            let _ = tokio::time::timeout(wait, farewell).await;
        }
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let mut texts = Vec::new();
        let mut first = None;
        loop {
            let line = self.line().await?;
            let Some((code, last, text)) = parse(&line) else {
                self.alive = false;
                let detail = format!("not an SMTP reply: {}", excerpt(&line));
                return Err(Failure::new(Reason::Protocol, detail));
            };
            texts.push(text.to_vec());
            if *first.get_or_insert(code) != code {
                self.alive = false;
                let detail = format!("a reply of two codes: {}", excerpt(&line));
                return Err(Failure::new(Reason::Protocol, detail));
            }
            if last {
                return Ok(Reply { code, texts });
            }
        }
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<_> = self.rest.drain(..=searched + end).collect();
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            searched = self.rest.len();
            let result = self.more().await;
            self.alive &= result.is_ok();
            result?;
        }
    }

    async fn more(&mut self) -> Result<(), Failure> {
        let received = self.progress.received();
        if received >= LONGEST as u64 {
            let detail = format!("more than {} KiB of replies", LONGEST / 1024);
            return Err(Failure::new(Reason::HeadSize, detail));
        }
        let mut part = [0; 2048];
        let count = match self.stream.read(&mut part).await {
            Ok(count) => count,
            Err(error) => return Err(broken(&error, received)),
        };
        if count == 0 {
            let said = if self.rest.is_empty() { String::new() } else { excerpt(&self.rest) };
            let detail = format!("closed after {} of replies {said}", bytes(received));
            return Err(Failure::new(Reason::Closed, detail.trim_end()));
        }
        if received == 0 {
            self.progress.mark_first_byte();
        }
        self.progress.add_received(count);
        self.rest.extend_from_slice(&part[..count]);
        Ok(())
    }
}

fn broken(error: &std::io::Error, received: u64) -> Failure {
    let after = format!("after {} of replies", bytes(received));
    if let Some(tls) = tls_error::inner(error) {
        return Failure::new(Reason::Tls, format!("{} ({after})", tls_error::session(tls)));
    }
    let reason = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Reason::Closed,
        _ => Reason::Reset,
    };
    Failure::new(reason, format!("{} {after}", kernel_words(error)))
}

impl Reply {
    fn must_be(&self, code: u16, to: &str) -> Result<(), Failure> {
        if self.code == code {
            return Ok(());
        }
        let text = excerpt(&self.texts.join(&b' '));
        let detail = format!("answered {} {text} to {to}, expected {code}", self.code);
        Err(Failure::new(Reason::Status, detail))
    }

    fn has_line(&self, word: &[u8]) -> bool {
        self.texts.iter().any(|text| text.trim_ascii().eq_ignore_ascii_case(word))
    }
}

/// Code, whether the line is the last of its reply, and text (RFC 5321 section 4.2).
fn parse(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let good = matches!(digits[0], b'2'..=b'5') && digits.iter().all(u8::is_ascii_digit);
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')));
    match (good, rest) {
        (false, _) => None,
        (true, []) => Some((code, true, b"")),
        (true, [b' ', text @ ..]) => Some((code, true, text)),
        (true, [b'-', text @ ..]) => Some((code, false, text)),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_by_table() {
        for (line, expected) in [
            (&b"220 mail.example ESMTP"[..], Some((220, true, &b"mail.example ESMTP"[..]))),
            (b"250-SIZE 1", Some((250, false, b"SIZE 1"))),
            (b"250", Some((250, true, b""))),
            (b"250-", Some((250, false, b""))),
            (b"25", None),
            (b"", None),
            (b"2x0 x", None),
            (b"120 x", None),
            (b"2200 x", None),
            (b"\xff\xff\xff x", None),
            (b"* OK IMAP4", None),
        ] {
            assert_eq!(parse(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_client_without_a_name_gives_its_address() {
        assert_eq!(literal("192.0.2.1".parse().unwrap()), "[192.0.2.1]");
        assert_eq!(literal("2001:db8::1".parse().unwrap()), "[IPv6:2001:db8::1]");
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            if let Some((code, _, text)) = parse(&line) {
                prop_assert!((200..600).contains(&code) && text.len() + 3 <= line.len());
            }
        }
    }
}
