//! The byte stream below hyper: counts what comes, stops floods, and lets a hasty server speak.
//!
//! Three things hyper does not do by itself: a bound on everything read, so that a server that
//! talks without end (interim responses, one-byte chunks) costs no more than [`LONGEST`]; an
//! answer that is already there before the request is written is an answer, not an error; and a
//! server that answers, closes and then refuses the request has still answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::Progress;

/// Most bytes read in one attempt, head, body and framing together.
pub(super) const LONGEST: u64 = 512 * 1024;

/// The error of a read past [`LONGEST`].
#[derive(Debug, thiserror::Error)]
#[error("more than {} KiB without an end", LONGEST / 1024)]
pub(super) struct Flood;

/// A stream that is read only after something was written on it.
#[derive(Debug)]
pub(super) struct Wire<'a, S> {
    inner: S,
    progress: &'a Progress,
    open: bool,
    held: bool,
    /// Whether what is written has been said already.
    spoken: bool,
    /// Why the peer does not listen any more; told once it also has nothing more to say.
    deaf: Option<io::Error>,
}

/// Whether the peer does not listen any more, which does not mean that it has said nothing.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PIPE | Errno::CONNRESET))
}

impl<'a, S> Wire<'a, S> {
    pub(super) fn new(inner: S, progress: &'a Progress) -> Self {
        Self { inner, progress, open: false, held: false, spoken: false, deaf: None }
    }

    /// One on which the request was written before, or refused for this reason: what is written on it
    /// goes nowhere.
    pub(super) fn after_request(
        inner: S,
        progress: &'a Progress,
        refused: Option<io::Error>,
    ) -> Self {
        Self { spoken: true, deaf: refused, ..Self::new(inner, progress) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.open {
            this.held = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            // A TLS peer that closes without saying so first has ended what it had to say.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            other => return other,
        }
        let count = buf.filled().len() - before;
        if count == 0
            && buf.remaining() > 0
            && let Some(error) = this.deaf.take()
        {
            return Poll::Ready(Err(error));
        }
        if this.progress.add_received(count) > LONGEST {
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match this.spoken {
            true => Poll::Ready(Ok(buf.len())),
            false => Pin::new(&mut this.inner).poll_write(cx, buf),
        };
        let written = match written {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) if is_refusal(&error) => {
                this.deaf.get_or_insert(error);
                buf.len()
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        };
        this.open = true;
        if std::mem::take(&mut this.held) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    /// Nothing: the socket is closed as soon as the answer is judged.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
