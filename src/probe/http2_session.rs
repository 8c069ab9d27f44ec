//! One HTTP/2 connection, driven inside the probe's own future: nothing is spawned.
//!
//! h2 keeps the frames and its own limits (a header list of at most [`HEAD_LIMIT`], few
//! CONTINUATION frames, resets and small DATA frames); [`Wire`] below it bounds everything read,
//! so that a flood of any frame ends. No push, one request, small windows.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use h2::RecvStream;
use h2::client::{Builder, Connection, SendRequest};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http::{BODY_LIMIT, HEAD_LIMIT};
use super::http_error::{During, explain_io, place};
use super::outcome::Reason;
use super::progress::{Failure, Progress, excerpt};
use super::wire::Wire;

/// What a server may send before it is told to go on: more than is read of a body.
const WINDOW: u32 = 2 * BODY_LIMIT as u32;

/// An open connection.
pub(super) struct Session<'a, S: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<Opening<Wire<'a, S>>, Bytes>,
    ended: Option<Result<(), h2::Error>>,
    sender: SendRequest<Bytes>,
    opening: FirstBytes,
    progress: &'a Progress,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    /// Begins to speak HTTP/2, known to be understood (RFC 9113 section 3.3).
    pub(super) async fn open(stream: S, progress: &'a Progress) -> Result<Self, Failure> {
        let opening = FirstBytes::default();
        let wire = Wire::new(stream, progress);
        let stream = Opening { inner: wire, first: opening.clone(), since_pause: 0 };
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .max_header_list_size(HEAD_LIMIT as u32)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        match builder.handshake(stream).await {
            Ok((sender, connection)) => {
                Ok(Self { connection, ended: None, sender, opening, progress })
            }
            Err(error) => Err(explain(&error, During::Head, false, (&opening, progress))),
        }
    }

    /// Sends one request and waits for the head of its answer; interim responses are none.
    pub(super) async fn ask(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<Response<RecvStream>, Failure> {
        let sent = self.sender.send_request(request, body.is_none());
        let (response, mut upload) = sent.map_err(|error| self.broken(&error, During::Head))?;
        if let Some(body) = body {
            upload.send_data(body, true).map_err(|error| self.broken(&error, During::Head))?;
        }
        self.run(response).await.map_err(|error| self.broken(&error, During::Head))
    }

    /// The next piece of an answer's body, which is then forgotten by flow control.
    pub(super) async fn data(&mut self, body: &mut RecvStream) -> Option<Result<Bytes, Failure>> {
        let data = match self.run(body.data()).await? {
            Ok(data) => data,
            Err(error) => return Some(Err(self.broken(&error, During::Body))),
        };
        let released = body.flow_control().release_capacity(data.len());
        Some(released.map(|()| data).map_err(|error| self.broken(&error, During::Body)))
    }

    /// What follows a body that has ended.
    pub(super) async fn trailers(
        &mut self,
        body: &mut RecvStream,
    ) -> Result<Option<HeaderMap>, Failure> {
        self.run(body.trailers()).await.map_err(|error| self.broken(&error, During::Body))
    }

    /// Tells the server that nothing more comes. Best effort: tried once, never waited for.
    pub(super) async fn close(self) {
        let Self { mut connection, ended, sender, .. } = self;
        drop(sender);
        if ended.is_none() {
            poll_fn(|cx| {
                let _ = Pin::new(&mut connection).poll(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Drives the connection until `wanted` is there.
    async fn run<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = pin!(wanted);
        poll_fn(|cx| {
            if self.ended.is_none()
                && let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx)
            {
                self.ended = Some(result);
            }
            wanted.as_mut().poll(cx)
        })
        .await
    }

    fn broken(&self, error: &h2::Error, during: During) -> Failure {
        // The connection knows what broke it; a request only that it did.
        let cause = self.ended.as_ref().and_then(|ended| ended.as_ref().err());
        let ended = matches!(self.ended, Some(Ok(())));
        explain(cause.unwrap_or(error), during, ended, (&self.opening, self.progress))
    }
}

/// Why an exchange broke; `ended`: the server had closed the connection without a word.
fn explain(
    error: &h2::Error,
    during: During,
    ended: bool,
    (opening, progress): (&FirstBytes, &Progress),
) -> Failure {
    let place = place(during, progress);
    if let Some(failure) = another_protocol(opening) {
        return failure;
    }
    if ended && !error.is_go_away() {
        return Failure::new(Reason::Closed, format!("closed {place}"));
    }
    if let Some(io) = error.get_io() {
        // Only TLS says so; h2 keeps the words of its error, not the error.
        if io.kind() == io::ErrorKind::InvalidData {
            return Failure::new(Reason::Tls, format!("the TLS session broke: {io} ({place})"));
        }
        return explain_io(io, during, &place, progress);
    }
    let code = error.reason().map(|reason| format!("{reason:?}")).unwrap_or_default();
    if !error.is_remote() {
        let detail = format!("not a sound HTTP/2 answer: {code} ({error}) {place}");
        return Failure::new(Reason::Protocol, detail);
    }
    let hint = match error.reason() {
        Some(h2::Reason::HTTP_1_1_REQUIRED) => "; it wants HTTP/1.1",
        _ => "",
    };
    if error.is_go_away() {
        let detail = format!("the server ended the connection {place} (GOAWAY {code}){hint}");
        return Failure::new(Reason::Closed, detail);
    }
    let detail = format!("the server reset the request {place} (RST_STREAM {code}){hint}");
    Failure::new(Reason::Reset, detail)
}

/// A server that speaks something else says so in its first bytes.
fn another_protocol(opening: &FirstBytes) -> Option<Failure> {
    let first = opening.get();
    // The first frame of a server is SETTINGS, of stream 0 (RFC 9113 section 3.4).
    let settings = first.get(3).is_none_or(|kind| *kind == 4) && !first.starts_with(b"HTTP");
    if first.is_empty() || settings {
        return None;
    }
    let begins = excerpt(&first);
    let detail = if first.starts_with(b"HTTP/1.") {
        format!("the server speaks HTTP/1.1, not HTTP/2, on this port: {begins}")
    } else if first.starts_with(&[0x15, 3]) {
        "the server speaks TLS on this port, and was asked without it".to_owned()
    } else {
        format!("not an HTTP/2 answer; it begins {begins}")
    };
    Some(Failure::new(Reason::Protocol, detail))
}

/// The first bytes that a server said.
#[derive(Debug, Clone, Default)]
struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    const KEPT: usize = 61;

    fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = Self::KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }
}

/// Bytes that are read without a pause: thousands of small frames, each with work to do.
const AT_ONCE: usize = 16 * 1024;

/// A stream that remembers the first bytes read from it, and lets others have their turn.
#[derive(Debug)]
struct Opening<S> {
    inner: S,
    first: FirstBytes,
    since_pause: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.since_pause >= AT_ONCE {
            this.since_pause = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        this.since_pause += read.len();
        this.first.add(read);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
