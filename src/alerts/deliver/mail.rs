//! A mail over SMTP.

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mime};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tracing::warn;

use super::{Refusal, chain};
use crate::alerts::config::{Mail, MailTls};
use crate::alerts::message::Message;

/// One envelope for each recipient: a mailbox that is gone must not keep the others from hearing.
pub(super) async fn send(mail: &Mail, message: &Message) -> Result<(), Refusal> {
    let mime = mime(mail, message)?;
    let server = &mail.server;
    let parameters = || TlsParameters::new(server.clone()).map_err(|error| chain(&error));
    let tls = match mail.tls {
        MailTls::None => Tls::None,
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::Tls => Tls::Wrapper(parameters()?),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(super::DEADLINE));
    if let Some((user, password)) = &mail.login {
        transport = transport.credentials(Credentials::new(user.clone(), password.0.clone()));
    }
    let (transport, text) = (transport.build(), mime.formatted());
    let (mut taken, mut refused) = (false, None);
    for to in &mail.to {
        let envelope = Envelope::new(Some(address(&mail.from)?), vec![address(to)?]);
        let envelope = envelope.map_err(|error| chain(&error))?;
        match transport.send_raw(&envelope, &text).await {
            Ok(_) => taken = true,
            Err(error) => {
                let reason = format!("{server}:{}: {}", mail.port, chain(&error));
                warn!(to, reason, "a mail of an alert is refused");
                refused = Some(Refusal { reason, for_good: is_for_good(&error) });
                // With the whole server away, the others need not wait for it too.
                if error.status().is_none() {
                    break;
                }
            }
        }
    }
    match refused {
        Some(refusal) if !taken => Err(refusal),
        _ => Ok(()),
    }
}

/// Refused for what it is, and not for who we are: a login can be mended (RFC 4954, 6).
fn is_for_good(error: &Error) -> bool {
    let code = error.status().map(|code| code.to_string());
    let of_login = ["530", "534", "535", "538"];
    error.is_permanent() && code.is_some_and(|code| !of_login.contains(&code.as_str()))
}

fn address(text: &str) -> Result<Address, String> {
    Ok(mailbox(text)?.email)
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no mail address: {error}"))
}

fn mime(mail: &Mail, message: &Message) -> Result<Mime, String> {
    let mut mime = Mime::builder()
        .from(mailbox(&mail.from)?)
        .subject(&message.subject)
        .message_id(None)
        .header(ContentType::TEXT_PLAIN)
        .raw_header(automatic());
    for to in &mail.to {
        mime = mime.to(mailbox(to)?);
    }
    mime.body(message.text.clone()).map_err(|error| chain(&error))
}

/// Keeps "I am on holiday" from answering (RFC 3834).
fn automatic() -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned())
}

/// Whether a text is a mail address, or why not.
pub fn check_address(text: &str) -> Result<(), String> {
    text.parse::<Mailbox>().map(drop).map_err(|error| error.to_string())
}
