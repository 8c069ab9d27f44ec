//! An HTTP POST of JSON, or of what a template makes of it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use reqwest::Client;
use reqwest::redirect::Policy;
use ring::hmac;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Refusal, chain};
use crate::alerts::config::{Secret, Webhook};
use crate::alerts::message::Message;

/// As much of an answer as an error quotes, in bytes.
const QUOTED: usize = 200;

pub(super) async fn send(webhook: &Webhook, message: &Message) -> Result<(), Refusal> {
    // What the template makes of it would be the same again.
    let body = body(webhook, message).map_err(|reason| Refusal { reason, for_good: true })?;
    let mut request = client()?
        .post(&webhook.url)
        .header("content-type", "application/json")
        .header("user-agent", concat!("pointsman/", env!("CARGO_PKG_VERSION")));
    if let Some(secret) = &webhook.secret {
        let at = wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        request = request
            .header("x-pointsman-timestamp", at.to_string())
            .header("x-pointsman-signature", format!("sha256={}", sign(secret, at, &body)));
    }
    for (name, value) in &webhook.headers {
        request = request.header(name, value);
    }
    let answer = request.body(body).send().await.map_err(|error| chain(&error.without_url()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut answer = answer;
    let said = answer.chunk().await.ok().flatten().unwrap_or_default();
    let said = String::from_utf8_lossy(&said[..said.len().min(QUOTED)]).trim().to_owned();
    let reason = match said.is_empty() {
        true => format!("answered {status}"),
        false => format!("answered {status}: {said}"),
    };
    // RFC 9110, 15.5: the request itself is wrong; but for those that ask to come later, and those
    // that a change of the settings mends.
    let may_pass = [401, 403, 404, 408, 425, 429].contains(&status.as_u16());
    Err(Refusal { reason, for_good: status.is_client_error() && !may_pass })
}

fn client() -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| chain(&error))
}

fn body(webhook: &Webhook, message: &Message) -> Result<String, String> {
    match &webhook.body {
        None => serde_json::to_string(message).map_err(|error| chain(&error)),
        Some(template) => {
            let body = render(template, message)?;
            must_be_json(&body)?;
            Ok(body)
        }
    }
}

fn must_be_json(body: &str) -> Result<(), String> {
    serde_json::from_str::<serde::de::IgnoredAny>(body)
        .map(drop)
        .map_err(|error| format!("what it makes is no JSON ({error}): {body}"))
}

fn render(template: &str, message: &Message) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(100_000));
    environment.render_str(template, Value::from(Serde(message))).map_err(|error| chain(&error))
}

/// Whether a template for a body makes JSON of any message, or why not.
///
/// # Errors
/// What is wrong, with the line of the template where there is one.
pub fn check_template(template: &str) -> Result<(), String> {
    let sample = Message::sample();
    let known = serde_json::to_value(&sample).map_err(|error| chain(&error))?;
    let environment = Environment::new();
    let parsed = environment.template_from_str(template).map_err(|error| chain(&error))?;
    let mut names: Vec<String> = parsed.undeclared_variables(false).into_iter().collect();
    names.sort();
    if let Some(name) = names.iter().find(|name| {
        let is_function = environment.globals().any(|(global, _)| global == name.as_str());
        known.get(name.as_str()).is_none() && !is_function
    }) {
        let known = known.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(format!("undefined: `{name}`; there are {known}"));
    }
    [sample, Message::test("director", "2026-01-02T03:04:05Z")]
        .iter()
        .try_for_each(|message| must_be_json(&render(template, message)?))
}

/// HMAC-SHA256 of `seconds since 1970` `.` `body`, in hexadecimal digits.
fn sign(secret: &Secret, at: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: a signature has a time")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        assert_eq!(check_template(r#"{"text": {{ text|tojson }}}"#), Ok(()));
        let each = r#"[{% for it in problems %}{{ it|tojson }}{% if not loop.last %},{% endif %}{% endfor %}]"#;
        assert_eq!(check_template(each), Ok(()));
        for (template, why) in [
            ("{{ text }", "syntax error"),
            (r#"{"text": {{ texte|tojson }}}"#, "undefined: `texte`; there are "),
            (r#""{% for it in problems %}{{ it.text }}{% endfor %}""#, "no JSON"),
            ("{{ texte }}", "undefined"),
            (r#"{"text": {{ text }}}"#, "no JSON"),
            ("{% for a in range(90000) %}{{ a }}{% endfor %}[]", "fuel"),
        ] {
            let error = check_template(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }

    #[test]
    fn a_signature_is_the_one_others_compute() {
        // printf '%s' '1700000000.{}' | openssl dgst -sha256 -hmac key
        let signature = sign(&Secret("key".to_owned()), 1_700_000_000, "{}");
        assert_eq!(signature, "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae");
    }
}
