//! The MySQL and MariaDB check: the server's greeting, and a login without a password.
//!
//! A connection that ends after the greeting is an interrupted one to the server: after
//! `max_connect_errors` (100) of them it refuses the director (error 1129). An attempt to log in
//! never counts as that, so each probe makes one and says goodbye if it succeeds. A login that is
//! denied is an answer of a server that works.

use tokio::net::TcpStream;

use super::dialogue::{Dialogue, words};
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt};

/// Longest packet that is read; real ones of this phase have some hundred bytes.
const LONGEST: usize = 4096;

/// The only version of the greeting there is.
const PROTOCOL: u8 = 10;

/// First byte of an error packet.
const ERROR: u8 = 0xff;
/// First byte of an OK packet.
const OK: u8 = 0x00;
/// First byte of a request for another way to authenticate.
const SWITCH: u8 = 0xfe;
/// First byte of a request for more data, as a password.
const MORE: u8 = 0x01;

/// `CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH`.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;
/// The longest packet we would take.
const MAX_PACKET: u32 = 1 << 24;
/// `utf8mb4_general_ci`, which every server of the last 15 years knows.
const CHARACTER_SET: u8 = 45;
/// End of a connection.
const COM_QUIT: u8 = 0x01;

/// `ER_SECURE_TRANSPORT_REQUIRED`: no login without TLS.
const TLS_REQUIRED: u16 = 3159;
/// `ER_HOST_IS_BLOCKED`.
const BLOCKED: u16 = 1129;
/// `ER_HOST_NOT_PRIVILEGED`.
const NOT_PRIVILEGED: u16 = 1130;

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MysqlCheck {
    /// An account without a password, or one that need not exist.
    pub user: String,
}

/// Asks and judges; the text says what passed.
pub(super) async fn exchange(
    stream: TcpStream,
    check: &MysqlCheck,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.wait_for(Reason::HeadTimeout, "greeting");
    let mut dialogue = Dialogue::new(stream, progress);
    let (number, greeting) = packet(&mut dialogue).await?;
    let version = version(&greeting)?;
    progress.wait_for(Reason::HeadTimeout, "answer to the login");
    say(&mut dialogue, number.wrapping_add(1), &login(&check.user)).await?;
    let (number, mut answer) = packet(&mut dialogue).await?;
    if answer.first() == Some(&SWITCH) {
        // No password is an empty answer, whatever the way.
        say(&mut dialogue, number.wrapping_add(1), &[]).await?;
        (_, answer) = packet(&mut dialogue).await?;
    }
    let said = match answer.first() {
        Some(&OK) => {
            say(&mut dialogue, 0, &[COM_QUIT]).await?;
            "login accepted"
        }
        Some(&ERROR) => login_refused(&Refusal::read(&answer))?,
        Some(&MORE) => "asks for a password",
        _ => return Err(not_mysql(&answer)),
    };
    Ok(format!("{version}: {said}"))
}

/// The number and the content of the next packet.
async fn packet(dialogue: &mut Dialogue<'_>) -> Result<(u8, Vec<u8>), Failure> {
    let [low, middle, high, number] = dialogue.hear().await?;
    let length = u32::from_le_bytes([low, middle, high, 0]);
    match usize::try_from(length) {
        Ok(length) if (1..=LONGEST).contains(&length) => {
            Ok((number, dialogue.hear_much(length).await?))
        }
        _ => {
            let begin = excerpt(&[low, middle, high, number]);
            let detail = format!("not a MySQL server: a packet that begins {begin}");
            Err(Failure::new(Reason::Protocol, detail))
        }
    }
}

async fn say(dialogue: &mut Dialogue<'_>, number: u8, content: &[u8]) -> Result<(), Failure> {
    let length = u32::try_from(content.len()).unwrap_or_default().to_le_bytes();
    dialogue.say(&[&length[..3], &[number], content].concat()).await
}

/// The version a greeting tells.
fn version(greeting: &[u8]) -> Result<String, Failure> {
    match greeting {
        [PROTOCOL, rest @ ..] if rest.contains(&0) => {
            let version = words(rest.split(|byte| *byte == 0).next().unwrap_or_default());
            // MariaDB 10 pretends to be older for the sake of old replicas.
            let of_mariadb = version.strip_prefix("5.5.5-").filter(|it| it.contains("MariaDB"));
            Ok(of_mariadb.map(str::to_owned).unwrap_or(version))
        }
        [ERROR, ..] => {
            let refusal = Refusal::read(greeting);
            let hint = match refusal.code {
                BLOCKED | NOT_PRIVILEGED => "; this concerns the director, and perhaps nobody else",
                _ => "",
            };
            Err(Failure::new(Reason::Status, format!("instead of a greeting, {refusal}{hint}")))
        }
        _ => Err(not_mysql(greeting)),
    }
}

/// The answer to a greeting (`HandshakeResponse41`): a user without a password.
fn login(user: &str) -> Vec<u8> {
    let mut login = CAPABILITIES.to_le_bytes().to_vec();
    login.extend(MAX_PACKET.to_le_bytes());
    login.push(CHARACTER_SET);
    login.extend([0; 23]);
    login.extend(user.as_bytes());
    // The end of the name, and a password of no bytes.
    login.extend([0, 0]);
    login.extend(b"mysql_native_password\0");
    login
}

/// An answer that denies the login is as good as one that grants it.
fn login_refused(refusal: &Refusal) -> Result<&'static str, Failure> {
    match refusal {
        Refusal { state, .. } if state == "28000" => Ok("login denied, which is an answer"),
        Refusal { code: TLS_REQUIRED, .. } => Ok("asks for TLS"),
        _ => Err(Failure::new(Reason::Status, format!("to the login, {refusal}"))),
    }
}

fn not_mysql(packet: &[u8]) -> Failure {
    Failure::new(Reason::Protocol, format!("not a MySQL server: {}", excerpt(packet)))
}

/// An error packet.
#[derive(Debug)]
struct Refusal {
    code: u16,
    state: String,
    text: String,
}

impl Refusal {
    /// `ff`, two bytes of code, then `#` and five of state where there is one, then text.
    fn read(packet: &[u8]) -> Self {
        let (code, rest) = match packet {
            [_, low, high, rest @ ..] => (u16::from_le_bytes([*low, *high]), rest),
            _ => (0, &[][..]),
        };
        let (state, text) = match rest {
            [b'#', state @ ..] if state.len() >= 5 => state.split_at(5),
            _ => (&[][..], rest),
        };
        Self { code, state: String::from_utf8_lossy(state).into_owned(), text: words(text) }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error {}: {}", self.code, self.text)
    }
}
