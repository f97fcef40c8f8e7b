// SPDX-License-Identifier: AGPL-3.0-only
//! A guarded connection, with or without TLS: gives up on a client that no longer reads, and closes so that
//! an answer sent before the request's end still arrives.
//!
//! When a server closes a socket that holds unread bytes, the kernel resets the connection and the
//! client may lose the answer ("connection reset by peer" instead of the error). So closing sends
//! our end first, then reads and drops what still comes, within limits (RFC 9112, section 9.6). Over TLS our
//! end is an alert and the socket's own, and what still comes is dropped as it is, unopened.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use crate::direct::Direct;
use crate::in_use::InUse;
use crate::metrics::CountedConnection;

/// How long, and how many bytes, a closing connection is read for.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// What is read at once at first: less than hyper's smallest buffer, which therefore stays small.
const FEW: usize = (8 << 10) - 1;

/// What it gets when there is much: its buffer grows to no more than the next power of two.
const MUCH: usize = (32 << 10) - 1;
/// What TLS gives at once (RFC 8446, section 5.1).
const RECORD: usize = 16 << 10;

/// Connections that may read much at once. hyper keeps a large buffer for as long as its connection lives, so they
/// are few: thousands of clients that fall silent in the middle of an upload hold small ones.
#[derive(Clone)]
pub(crate) struct LargeBuffers(Arc<Semaphore>);

impl LargeBuffers {
    /// As many as a budget of so many bytes has room for beside what it is for.
    pub(crate) fn within(budget: usize) -> Self {
        LargeBuffers(Arc::new(Semaphore::new((budget / (32 << 20)).clamp(8, 1024))))
    }
}

pub(crate) struct Connection {
    stream: Stream,
    /// Whether it may read much at once, which it asks for when there is much to read.
    large: Option<OwnedSemaphorePermit>,
    buffers: LargeBuffers,
    idle: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
    /// Is told what is written.
    in_use: InUse,
    /// Whether a request's body was left unread: then more of it may come while we close.
    unread: Arc<AtomicBool>,
    /// Parts of files that answers are waiting to send.
    direct: Option<Direct>,
    /// Counts all bytes, for metrics.
    counted: CountedConnection,
}

/// What the requests on a connection leave for it.
#[derive(Clone, Default)]
pub(crate) struct Notes {
    /// Set when a request's body was not read to its end.
    pub(crate) unread: Arc<AtomicBool>,
    /// Where answers put parts of files, if the bytes go out as they are.
    pub(crate) direct: Option<Direct>,
}

/// What the bytes go through.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    dropped: usize,
}

impl Stream {
    /// The socket itself.
    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_mut().0,
        }
    }

    /// Reads up to `most` bytes.
    fn poll_read_some(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => loop {
                ready!(stream.poll_read_ready(context))?;
                match stream.try_read_buf(&mut (&mut *buffer).limit(most)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.map(drop)),
                }
            },
            // A record has 16 KiB at most.
            Stream::Tls(stream) => {
                let mut scratch = [MaybeUninit::uninit(); RECORD];
                let most = most.min(RECORD).min(buffer.remaining());
                let mut some = ReadBuf::uninit(scratch.get_mut(..most).unwrap_or_default());
                ready!(Pin::new(stream.as_mut()).poll_read(context, &mut some))?;
                buffer.put_slice(some.filled());
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Calls a method of the stream, whichever it is.
macro_rules! of {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        idle: Duration,
        in_use: InUse,
        notes: &Notes,
        counted: CountedConnection,
        buffers: LargeBuffers,
    ) -> Self {
        let Notes { unread, direct } = notes.clone();
        Connection {
            stream,
            large: None,
            buffers,
            idle,
            stalled: None,
            closing: None,
            in_use,
            unread,
            direct,
            counted,
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.in_use.wrote(bytes);
        self.counted.sent(bytes);
    }

    /// Passes a write's outcome on, unless it has been waiting for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let idle = self.idle;
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Connection { stream, large, buffers, counted, .. } = &mut *self;
        let before = buffer.filled().len();
        let most = if large.is_some() { MUCH } else { FEW };
        ready!(stream.poll_read_some(context, buffer, most))?;
        let read = buffer.filled().len() - before;
        counted.received(read);
        if large.is_none() && read >= FEW {
            *large = Arc::clone(&buffers.0).try_acquire_owned().ok();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Connection { stream, direct, .. } = &mut *self;
        let outcome = match (stream, direct) {
            (Stream::Plain(stream), Some(direct)) => {
                direct.poll_write(stream, context, &[io::IoSlice::new(bytes)])
            }
            (stream, _) => of!(*stream, poll_write, context, bytes),
        };
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.wrote(bytes);
        }
        self.watch(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Connection { stream, direct, .. } = &mut *self;
        let outcome = match (stream, direct) {
            (Stream::Plain(stream), Some(direct)) => direct.poll_write(stream, context, bytes),
            (stream, _) => of!(*stream, poll_write_vectored, context, bytes),
        };
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.wrote(bytes);
        }
        self.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = of!(self.stream, poll_flush, context);
        self.watch(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            let outcome = of!(this.stream, poll_shutdown, context);
            ready!(this.watch(context, outcome))?;
        }
        let closing = this
            .closing
            .get_or_insert_with(|| Closing { deadline: Box::pin(tokio::time::sleep(LINGER)), dropped: 0 });
        let mut scratch = [MaybeUninit::uninit(); 16 << 10];
        loop {
            if closing.deadline.as_mut().poll(context).is_ready() || closing.dropped >= LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(this.stream.socket()).poll_read(context, &mut buffer) {
                Poll::Pending if this.unread.load(Ordering::Relaxed) => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    closing.dropped += buffer.filled().len();
                    this.counted.received(buffer.filled().len());
                }
                // The client has closed too, is gone, or had sent no more than what was read: the end of a
                // TLS client that has closed its half is such a rest.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
