//! The HTTP check: one HTTP/1.1 request on an open connection, and the verdict on its answer.
//!
//! hyper frames the messages; this file builds the request, drives the connection inside the
//! probe's own future (nothing is spawned) and judges. Redirects are answers and never followed;
//! interim (1xx) responses are not answers. A wrong status or header fails at once, without
//! waiting for the body.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{Builder, Connection};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::advice::{Heard, Said};
use super::http_error::{self, During};
use super::outcome::Reason;
use super::progress::{Failure, Progress, bytes, excerpt, wanted};
use super::target::{HttpCheck, TlsCheck, WeightFrom};
use super::tls::{self, Alpn, Hello};
use super::wire::{self, Wire};

/// Most bytes of a response head that are read.
pub const HEAD_LIMIT: usize = 16 * 1024;
/// Most bytes of a response body that are read and looked at.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A check that cannot even be asked says nothing about the real server.
pub(super) fn nothing_asked(problem: String) -> Failure {
    Failure::new(Reason::Resources, format!("nothing asked: {problem}"))
}

/// Asks in the clear and judges; the text says what passed.
///
/// hyper has 16 KiB of buffers from its first moment, and of probes thousands may wait for an
/// answer. So the request is written without it, nothing of it is kept, and hyper comes when there
/// is something to read.
pub(super) async fn ask(
    mut stream: TcpStream,
    check: &HttpCheck,
    address: SocketAddr,
    progress: &Progress,
) -> Result<String, Failure> {
    let broken = |error: &io::Error| {
        let place = http_error::place(During::Head, progress);
        http_error::explain_io(error, During::Head, &place, progress)
    };
    let head = head_of(&request(check, address).map_err(nothing_asked)?);
    let refused = match stream.write_all(&head).await {
        Ok(()) => None,
        Err(error) if wire::is_refusal(&error) => Some(error),
        Err(error) => return Err(broken(&error)),
    };
    drop(head);
    stream.readable().await.map_err(|error| broken(&error))?;
    let wire = Wire::after_request(stream, progress, refused);
    Box::pin(exchange(wire, check, address, progress)).await
}

/// The same over TLS.
pub(super) async fn ask_over_tls(
    stream: TcpStream,
    check: &HttpCheck,
    tls: &TlsCheck,
    address: SocketAddr,
    configs: &tls::Configs,
    progress: &Progress,
) -> Result<String, Failure> {
    let hello = Hello::new(tls, host_of(check), address.ip(), Alpn::Http1)?;
    let mut session = tls::handshake(stream, hello, configs, progress).await?;
    let result = exchange(Wire::new(&mut session, progress), check, address, progress).await;
    tls::say_goodbye(&mut session).await;
    result
}

/// A request as hyper would write it.
fn head_of(request: &Request<Empty<Bytes>>) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

/// One request and its answer, by hyper.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    wire: Wire<'_, S>,
    check: &HttpCheck,
    address: SocketAddr,
    progress: &Progress,
) -> Result<String, Failure> {
    let request = request(check, address).map_err(nothing_asked)?;
    let io = TokioIo::new(wire);
    let (mut sender, connection) = Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(io)
        .await
        .map_err(|error| http_error::explain(&error, During::Head, progress))?;
    let mut driver = Driver { connection, ended: None };
    let response = driver
        .run(sender.send_request(request))
        .await
        .map_err(|error| http_error::explain(&error, During::Head, progress))?;
    progress.mark_first_byte();
    let (head, body) = response.into_parts();
    let status = head.status;
    let head = Response::from_parts(head, ());
    judge_head(check, &head)?;
    let declared = declared_length(&head);
    let content = read_body(&mut driver, body, check, progress).await?;
    if let Some(declared) = declared
        && !has_no_body(check, status)
    {
        refuse_excess(driver, declared)?;
    }
    judge_body(check, &content)?;
    advise(check, &head, &content, progress);
    Ok(format!("status {}", status.as_u16()))
}

/// Listens to what an answer that passes says about the real server's weight.
pub(super) fn advise(check: &HttpCheck, head: &Response<()>, content: &[u8], progress: &Progress) {
    let line = match &check.weight_from {
        None => return,
        Some(WeightFrom::Header(name)) => match head.headers().get(name.as_str()) {
            Some(value) => Ok(value.as_bytes()),
            None => Err(format!("no response header `{name}`")),
        },
        Some(WeightFrom::Body) => Ok(content.split(|byte| *byte == b'\n').next().unwrap_or(&[])),
    };
    let said = line.and_then(|line| Said::parse(&String::from_utf8_lossy(line)));
    progress.advise(said.map_or_else(|why| Heard::Nothing(why.into()), Heard::All));
}

/// Whether anything in the body matters.
pub(super) fn keeps_body(check: &HttpCheck) -> bool {
    !check.body.is_empty() || check.weight_from == Some(WeightFrom::Body)
}

/// The connection, polled by whoever waits for something from it.
struct Driver<'a, S: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<TokioIo<Wire<'a, S>>, Empty<Bytes>>,
    ended: Option<Result<(), hyper::Error>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<'_, S> {
    /// Drives the connection until `wanted` is there.
    ///
    /// Only the connection can make `wanted` ready, so that needs no waker of its own.
    async fn run<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = pin!(wanted);
        poll_fn(|cx| {
            if self.ended.is_none()
                && let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx)
            {
                self.ended = Some(result);
            }
            wanted.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }
}

fn request(check: &HttpCheck, address: SocketAddr) -> Result<Request<Empty<Bytes>>, String> {
    let method = Method::from_bytes(check.method.as_bytes())
        .map_err(|_| format!("`{}` is not an HTTP method", check.method))?;
    let path = PathAndQuery::try_from(check.path.as_str())
        .map_err(|error| format!("path `{}`: {error}", check.path))?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    headers.insert(header::HOST, host(check, address)?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let own = [Some(header::HOST), Some(header::USER_AGENT), Some(header::CONNECTION)];
    add_headers(check, headers, own)?;
    Ok(request)
}

/// Adds the headers of a policy; `own` are those that the probe has set itself.
pub(super) fn add_headers<const N: usize>(
    check: &HttpCheck,
    headers: &mut HeaderMap,
    mut own: [Option<HeaderName>; N],
) -> Result<(), String> {
    for (name, value) in &check.headers {
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("`{name}` is not a header name"))?;
        let value = HeaderValue::try_from(value.as_str())
            .map_err(|_| format!("header `{name}` has a character that cannot be sent"))?;
        // The first header of a policy replaces ours of that name, further ones add to it.
        match own.iter_mut().find(|own| own.as_ref() == Some(&name)).and_then(Option::take) {
            Some(_) => drop(headers.insert(name, value)),
            None => drop(headers.append(name, value)),
        }
    }
    Ok(())
}

/// The host that a check names, as its Host header or as a header of its own.
pub(super) fn host_of(check: &HttpCheck) -> Option<&str> {
    let own = check.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    own.map(|(_, value)| value).or(check.host.as_ref()).map(String::as_str)
}

pub(super) const USER_AGENT: &str = concat!("pointsman/", env!("CARGO_PKG_VERSION"));

/// The Host header: as set, or the target's address, with its port unless that is the default.
fn host(check: &HttpCheck, address: SocketAddr) -> Result<HeaderValue, String> {
    let host = check.host.clone().unwrap_or_else(|| authority(address, check.tls.is_some()));
    HeaderValue::try_from(host.as_str())
        .map_err(|_| format!("host `{host}` has a character that cannot be sent"))
}

/// The address, with its port unless that is the default of `http` or `https`.
pub(super) fn authority(address: SocketAddr, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match (address, address.port() == default_port) {
        (SocketAddr::V4(v4), true) => v4.ip().to_string(),
        (SocketAddr::V4(v4), false) => v4.to_string(),
        (SocketAddr::V6(v6), true) => format!("[{}]", v6.ip()),
        (SocketAddr::V6(v6), false) => format!("[{}]:{}", v6.ip(), v6.port()),
    }
}

pub(super) fn judge_head(check: &HttpCheck, head: &Response<()>) -> Result<(), Failure> {
    let status = head.status().as_u16();
    if !check.status.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
        let mut detail = format!("status {status}, expected {}", ranges(&check.status));
        if head.status().is_redirection()
            && let Some(to) = head.headers().get(header::LOCATION)
        {
            detail += &format!(" (redirects to {}, not followed)", excerpt(to.as_bytes()));
        }
        return Err(Failure::new(Reason::Status, detail));
    }
    for (name, condition) in &check.response_headers {
        let mut values = head.headers().get_all(name.as_str()).iter().peekable();
        let Some(first) = values.peek() else {
            return Err(Failure::new(Reason::Header, format!("no response header `{name}`")));
        };
        let first = excerpt(first.as_bytes());
        if !values.any(|value| condition.is_match(value.as_bytes())) {
            let detail =
                format!("response header `{name}` does not {}: {first}", wanted(condition));
            return Err(Failure::new(Reason::Header, detail));
        }
    }
    Ok(())
}

fn ranges(ranges: &[(u16, u16)]) -> String {
    let each = ranges.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Reads the body to its end, or to [`BODY_LIMIT`] where a longer one was announced.
async fn read_body<S: AsyncRead + AsyncWrite + Unpin>(
    driver: &mut Driver<'_, S>,
    mut body: Incoming,
    check: &HttpCheck,
    progress: &Progress,
) -> Result<Vec<u8>, Failure> {
    let promised = body.size_hint().exact();
    progress.promise(promised);
    let mut content = Vec::new();
    let mut count = 0;
    while let Some(frame) = driver.run(body.frame()).await {
        let frame = frame.map_err(|error| {
            let cause = driver.ended.as_ref().and_then(|ended| ended.as_ref().err());
            http_error::explain(cause.unwrap_or(&error), During::Body, progress)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        count += data.len();
        progress.set_body(count);
        if keeps_body(check) {
            content.extend_from_slice(&data);
        }
        if count >= BODY_LIMIT {
            content.truncate(BODY_LIMIT);
            match promised {
                Some(_) => break,
                None if count == BODY_LIMIT => {}
                None => return Err(endless()),
            }
        }
    }
    Ok(content)
}

pub(super) fn endless() -> Failure {
    let detail = format!(
        "more than {} KiB of body without an end or a Content-Length; point the check at a smaller page or use HEAD",
        BODY_LIMIT / 1024
    );
    Failure::new(Reason::BodySize, detail)
}

pub(super) fn declared_length(head: &Response<()>) -> Option<u64> {
    head.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// RFC 9112 section 6.3: these have no body, whatever Content-Length says.
fn has_no_body(check: &HttpCheck, status: StatusCode) -> bool {
    check.method == "HEAD" || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A body longer than announced means that users get a cut one.
fn refuse_excess<S: AsyncRead + AsyncWrite + Unpin>(
    driver: Driver<'_, S>,
    declared: u64,
) -> Result<(), Failure> {
    let rest = driver.connection.into_parts().read_buf;
    if declared >= BODY_LIMIT as u64 || rest.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        return Ok(());
    }
    let detail = format!(
        "at least {} more than the Content-Length of {declared}: {}",
        bytes(rest.len() as u64),
        excerpt(&rest)
    );
    Err(Failure::new(Reason::Protocol, detail))
}

pub(super) fn judge_body(check: &HttpCheck, content: &[u8]) -> Result<(), Failure> {
    match check.body.iter().find(|condition| !condition.is_match(content)) {
        None => Ok(()),
        Some(condition) if content.is_empty() => {
            let detail = format!("the body is empty, expected one to {}", wanted(condition));
            Err(Failure::new(Reason::Content, detail))
        }
        Some(condition) => {
            let detail = format!(
                "the body does not {}; it begins {}, {}",
                wanted(condition),
                excerpt(content),
                bytes(content.len() as u64)
            );
            Err(Failure::new(Reason::Content, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Over TLS hyper writes the request, in the clear this file does.
    #[tokio::test]
    async fn a_request_is_the_same_whoever_writes_it() {
        let text = |text: &str| text.to_owned();
        for (method, path) in [("GET", "/"), ("OPTIONS", "*"), ("POST", "/a%20b?c=d&e")] {
            let check = HttpCheck {
                tls: None,
                method: text(method),
                path: text(path),
                host: None,
                headers: vec![
                    (text("X-Two"), text("1")),
                    (text("Accept"), text("a, b;q=0.1")),
                    (text("X-Two"), text("2")),
                    (text("Content-Length"), text("0")),
                ],
                status: vec![(200, 399)],
                body: Vec::new(),
                response_headers: Vec::new(),
                weight_from: None,
            };
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let (address, progress) = ("192.0.2.1:8080".parse().unwrap(), Progress::new());
            let heard = async {
                let mut heard = vec![0; 4096];
                let count = theirs.read(&mut heard).await.unwrap();
                drop(theirs);
                heard.truncate(count);
                String::from_utf8(heard).unwrap()
            };
            let (heard, answer) = tokio::join!(
                heard,
                exchange(Wire::new(ours, &progress), &check, address, &progress)
            );
            assert_eq!(answer.unwrap_err().reason, Reason::Closed);
            let written = head_of(&request(&check, address).unwrap());
            assert_eq!(String::from_utf8(written).unwrap(), heard);
        }
    }
}
