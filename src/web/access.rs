//! Who may read. Pure.
//!
//! With a token: whoever knows it, as a bearer token or as the password of HTTP Basic, which
//! browsers ask for. Without one, on a loopback address: whoever calls it by an address or as
//! `localhost`. A page of another site can have its name resolve to 127.0.0.1 and read through its
//! visitor's browser (DNS rebinding); the name in `Host` gives it away.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No token, or not the right one.
    Token,
    /// The name of another site.
    Host,
}

/// Decides on a request: `token` is what it must know, if anything; `only_local` that it must call
/// us by an address or as `localhost`.
///
/// # Errors
/// Why it may not.
pub fn check(
    uri: &Uri,
    headers: &HeaderMap,
    token: Option<&str>,
    only_local: bool,
) -> Result<(), Denied> {
    // It says no more than that the process is there, and who watches it may not have the token.
    let open = uri.path() == "/healthz";
    match token {
        Some(token) if open || knows(headers, token) => Ok(()),
        Some(_) => Err(Denied::Token),
        None if only_local && !is_local(uri, headers) => Err(Denied::Host),
        None => Ok(()),
    }
}

fn knows(headers: &HeaderMap, token: &str) -> bool {
    let Some(said) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, secret)) = said.split_once(' ') else { return false };
    let secret = secret.trim();
    let is_same = |said: &[u8]| bool::from(said.ct_eq(token.as_bytes()));
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_same(secret.as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = STANDARD.decode(secret) else { return false };
    // The name is anything; it ends at the first colon.
    let password = pair.iter().position(|byte| *byte == b':').map(|at| &pair[at + 1..]);
    password.is_some_and(is_same)
}

/// A request without any name comes from no browser.
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let named = headers.get_all(HOST).iter().map(|value| value.to_str().ok());
    let mut hosts = named.chain(uri.authority().map(|it| Some(it.as_str())));
    hosts.all(|host| host.is_some_and(is_local_name))
}

fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(name, _)| name),
        None if host.matches(':').count() > 1 => Some(host),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| {
        name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse battery";

    fn ask(path: &str, headers: &[(&str, &str)], token: Option<&str>) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        check(&path.parse().unwrap(), &map, token, true)
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (said, may) in [
            (format!("Bearer {TOKEN}"), true),
            (format!("bearer  {TOKEN}"), true),
            (basic(&format!("anybody:{TOKEN}")), true),
            (basic(&format!(":{TOKEN}")), true),
            (format!("Bearer {TOKEN}x"), false),
            ("Bearer correct".to_owned(), false),
            ("Bearer ".to_owned(), false),
            ("Bearer".to_owned(), false),
            (TOKEN.to_owned(), false),
            (format!("Digest {TOKEN}"), false),
            (basic(TOKEN), false),
            (basic(&format!("{TOKEN}:")), false),
            ("Basic !!!".to_owned(), false),
        ] {
            let asked = ask("/v1/status", &[("authorization", &said)], Some(TOKEN));
            assert_eq!(asked.is_ok(), may, "{said}");
        }
        assert_eq!(ask("/metrics", &[], Some(TOKEN)), Err(Denied::Token));
        assert_eq!(ask("/healthz", &[], Some(TOKEN)), Ok(()));
        assert_eq!(ask("/healthz/", &[], Some(TOKEN)), Err(Denied::Token));
        // Whoever knows the token may call us what they like.
        let said = format!("Bearer {TOKEN}");
        let headers = [("authorization", said.as_str()), ("host", "lb.example.net")];
        assert_eq!(ask("/metrics", &headers, Some(TOKEN)), Ok(()));
    }

    #[test]
    fn without_a_token_only_local_names_are_answered() {
        for (host, may) in [
            ("127.0.0.1:9100", true),
            ("127.0.0.1", true),
            ("localhost:9100", true),
            ("LOCALHOST", true),
            ("[::1]:9100", true),
            ("::1", true),
            ("evil.example:9100", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("[::1", false),
        ] {
            assert_eq!(ask("/metrics", &[("host", host)], None).is_ok(), may, "{host}");
            assert_eq!(ask("/healthz", &[("host", host)], None).is_ok(), may, "{host}");
        }
        assert_eq!(ask("/metrics", &[], None), Ok(()));
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(ask("/metrics", &two, None), Err(Denied::Host));
        let absolute = "http://evil.example/metrics";
        assert_eq!(ask(absolute, &[("host", "localhost")], None), Err(Denied::Host));
    }
}
