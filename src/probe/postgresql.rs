//! The PostgreSQL check: the beginning of a session, up to where a password is asked for.
//!
//! Reading the answer to an `SSLRequest` would prove that the postmaster forks and no more: it is
//! given before the server looks whether it is starting up or full, and going away after it is
//! logged as a broken TLS session. A startup packet is answered by what a user would get, and the
//! server logs nothing when a client goes away instead of giving a password.

use std::fmt;

use tokio::net::TcpStream;

use super::dialogue::{Dialogue, words};
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt};

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;
/// Longest message that is read.
const LONGEST: usize = 16 * 1024;
/// Most messages that are read before the session is ready; real servers send some 15.
const MOST: usize = 64;
/// End of a session.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Who begins a session with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostgresqlCheck {
    /// A role, which need not exist.
    pub user: String,
    /// A database.
    pub database: String,
}

/// Asks and judges; the text says what passed.
pub(super) async fn exchange(
    stream: TcpStream,
    check: &PostgresqlCheck,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::HeadTimeout, "answer to the startup packet");
    let mut dialogue = Dialogue::new(stream, progress);
    dialogue.say(&startup(check)).await?;
    for _ in 0..MOST {
        let (of_type, content) = message(&mut dialogue).await?;
        match (of_type, content.as_slice()) {
            // AuthenticationOk: what follows says whether the session comes about.
            (b'R', [0, 0, 0, 0]) => progress.wait_for(Reason::HeadTimeout, "session"),
            (b'R', [_, _, _, _, ..]) => return Ok("asks for a password".to_owned()),
            (b'E', fields) => return refused(&Refusal::read(fields)),
            (b'Z', _) => {
                dialogue.say(&TERMINATE).await?;
                return Ok("session ready".to_owned());
            }
            (b'S' | b'K' | b'N' | b'v', _) => {}
            (other, _) => return Err(not_postgresql(&[other])),
        }
    }
    Err(Failure::new(Reason::Protocol, format!("{MOST} messages and no session")))
}

fn startup(check: &PostgresqlCheck) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for word in ["user", &check.user, "database", &check.database] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    [&length.to_be_bytes(), body.as_slice()].concat()
}

async fn message(dialogue: &mut Dialogue<'_>) -> Result<(u8, Vec<u8>), Failure> {
    let [of_type] = dialogue.hear().await?;
    if !of_type.is_ascii_alphabetic() {
        return Err(not_postgresql(&[of_type]));
    }
    let length: [u8; 4] = dialogue.hear().await?;
    // The length counts itself.
    let rest =
        u32::from_be_bytes(length).checked_sub(4).and_then(|rest| usize::try_from(rest).ok());
    match rest {
        Some(rest) if rest <= LONGEST => Ok((of_type, dialogue.hear_much(rest).await?)),
        _ => Err(not_postgresql(&[&[of_type], length.as_slice()].concat())),
    }
}

fn not_postgresql(begin: &[u8]) -> Failure {
    let detail = format!("not a PostgreSQL server: an answer that begins {}", excerpt(begin));
    Failure::new(Reason::Protocol, detail)
}

/// Class 28 of SQLSTATE says that this login is not allowed, which a server that works says.
fn refused(refusal: &Refusal) -> Result<String, Failure> {
    if refusal.state.starts_with("28") {
        return Ok("login denied, which is an answer".to_owned());
    }
    Err(Failure::new(Reason::Status, refusal.to_string()))
}

/// What an error message says.
#[derive(Debug, Default)]
struct Refusal {
    state: String,
    text: String,
}

impl Refusal {
    /// Fields, each a letter and text with a zero behind it, then a zero.
    fn read(fields: &[u8]) -> Self {
        let mut refusal = Self::default();
        for field in fields.split(|byte| *byte == 0) {
            match field {
                [b'C', state @ ..] => refusal.state = words(state),
                [b'M', text @ ..] => refusal.text = words(text),
                _ => {}
            }
        }
        refusal
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.state, self.text)
    }
}
