//! A mail over SMTP.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mime};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::chain;
use crate::alerts::config::{Mail, MailTls};
use crate::alerts::message::Message;

pub(super) async fn send(mail: &Mail, message: &Message) -> Result<(), String> {
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
    let sent = transport.build().send(mime).await;
    let port = mail.port;
    sent.map(drop).map_err(|error| format!("{server}:{port}: {}", chain(&error)))
}

fn mime(mail: &Mail, message: &Message) -> Result<Mime, String> {
    let mailbox = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no mail address: {error}"))
    };
    let mut mime = Mime::builder()
        .from(mailbox(&mail.from)?)
        .subject(&message.subject)
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
