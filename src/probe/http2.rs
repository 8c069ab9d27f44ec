//! The HTTP/2 check: one request, over TLS or in cleartext, judged as the HTTP check does.
//!
//! Over TLS the server must choose `h2` by ALPN; in cleartext it is taken to know (prior
//! knowledge, RFC 9113 section 3.3): nothing is upgraded.

use std::net::SocketAddr;

use hyper::header::{self, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http::{self, BODY_LIMIT, nothing_asked};
use super::http2_session::Session;
use super::outcome::Reason;
use super::progress::{Failure, Progress};
use super::target::{HttpCheck, TlsCheck};
use super::tls::{self, Alpn, Hello};
use super::tls_error::not_over_tls;

/// Asks and judges; the text says what passed.
pub(super) async fn ask(
    stream: TcpStream,
    check: &HttpCheck,
    address: SocketAddr,
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<String, Failure> {
    let request = request(check, address).map_err(nothing_asked)?;
    let Some(tls) = &check.tls else { return exchange(stream, check, request, progress).await };
    let to = (http::host_of(check), address);
    let mut session = secure(stream, tls, to, configs, progress).await?;
    let result = exchange(&mut session, check, request, progress).await;
    tls::say_goodbye(&mut session).await;
    result
}

/// A TLS session in which HTTP/2 is spoken, to a host or else an address.
pub(super) async fn secure(
    stream: TcpStream,
    tls: &TlsCheck,
    (host, address): (Option<&str>, SocketAddr),
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<TlsStream<TcpStream>, Failure> {
    let hello = Hello::new(tls, host, address.ip(), Alpn::Http2)?;
    let session = tls::handshake(stream, hello, configs, progress).await?;
    if session.get_ref().1.alpn_protocol() != Some(b"h2") {
        let detail = format!("{}: it did not choose `h2` (ALPN)", not_over_tls(Alpn::Http2));
        return Err(Failure::new(Reason::Protocol, detail));
    }
    Ok(session)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    check: &HttpCheck,
    request: Request<()>,
    progress: &Progress,
) -> Result<String, Failure> {
    let mut session = Session::open(stream, progress).await?;
    let result = judge(&mut session, check, request, progress).await;
    session.close().await;
    result
}

async fn judge<S: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session<'_, S>,
    check: &HttpCheck,
    request: Request<()>,
    progress: &Progress,
) -> Result<String, Failure> {
    let (head, mut body) = session.ask(request, None).await?.into_parts();
    progress.mark_first_byte();
    let status = head.status;
    let head = Response::from_parts(head, ());
    http::judge_head(check, &head)?;
    let promised = http::declared_length(&head);
    progress.promise(promised);
    let (mut content, mut count) = (Vec::new(), 0);
    while let Some(data) = session.data(&mut body).await {
        let data = data?;
        count += data.len();
        progress.set_body(count);
        if http::keeps_body(check) {
            content.extend_from_slice(&data);
        }
        if count >= BODY_LIMIT {
            content.truncate(BODY_LIMIT);
            match promised {
                Some(_) => break,
                None if count == BODY_LIMIT => {}
                None => return Err(http::endless()),
            }
        }
    }
    http::judge_body(check, &content)?;
    http::advise(check, &head, &content, progress);
    Ok(format!("status {}", status.as_u16()))
}

fn request(check: &HttpCheck, address: SocketAddr) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(check.method.as_bytes())
        .map_err(|_| format!("`{}` is not an HTTP method", check.method))?;
    let host = http::host_of(check).map(str::to_owned);
    let host = host.unwrap_or_else(|| http::authority(address, check.tls.is_some()));
    *request.uri_mut() = uri(&host, &check.path, check.tls.is_some())?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(http::USER_AGENT));
    http::add_headers(check, headers, [Some(header::USER_AGENT)])?;
    // The authority says it (RFC 9113 section 8.3.1).
    headers.remove(header::HOST);
    Ok(request)
}

/// A URI with all that HTTP/2 sends in fields of its own.
pub(super) fn uri(host: &str, path: &str, tls: bool) -> Result<Uri, String> {
    let path = PathAndQuery::try_from(path).map_err(|error| format!("path `{path}`: {error}"))?;
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    let built = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
    built.map_err(|error| format!("host `{host}`: {error}"))
}
