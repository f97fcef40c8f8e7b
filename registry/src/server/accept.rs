// SPDX-License-Identifier: AGPL-3.0-only
//! Connections: the accept loop is our own, on hyper. It limits connections, gives clients a time in which to send
//! their headers, opens HTTP/2's windows for large uploads, and at the end lets running requests finish.
//!
//! Invariant: thousands of connections may stand still, so a connection holds nothing that it does not need then.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Version;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{self, Builder};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::app::App;
use crate::config::Config;
use crate::connection::{Connection, LargeBuffers, Notes, Stream};
use crate::direct::Direct;
use crate::in_use::InUse;
use crate::proxy::{Proxies, Scheme};
use crate::request;
use crate::tls::{Accepted, Tls};

/// HTTP/2 flow-control windows: hyper's defaults let one push fill a connection over a long line.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_STREAMS: u32 = 100;
/// How HTTP/2 begins (RFC 9113, section 3.4), and no other request.
const HTTP2: &[u8; 4] = b"PRI ";
/// HTTP/2 request heads over this are refused.
const MAX_HEAD: u32 = 64 << 10;
/// What an HTTP/1.1 connection reads at once, at most; a request's head may not be longer.
const READ_BUFFER: usize = 64 << 10;

/// What all connections have in common.
pub(super) struct Server {
    pub(super) app: Arc<App>,
    others: Router,
    http1: http1::Builder,
    http2: Builder<TokioExecutor>,
    /// Without it, plain HTTP is spoken.
    tls: Option<Arc<Tls>>,
    proxies: Arc<Proxies>,
    /// One for each connection that may be open.
    pub(super) places: Arc<Semaphore>,
    buffers: LargeBuffers,
    /// Tells connections when to end.
    pub(super) phase: watch::Sender<Phase>,
    header_timeout: Duration,
}

/// How far the server's end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Connections finish what they are doing, and end.
    Draining,
    /// They end.
    Cut,
}

/// Which HTTP a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    /// It has sent too little to tell.
    Either,
}

impl Server {
    /// `others` answers what is not below `/v2` and of the registry; `memory` is the budget, in bytes.
    pub(super) fn new(
        app: &Arc<App>,
        others: Router,
        tls: Option<Arc<Tls>>,
        config: &Config,
        memory: usize,
    ) -> Self {
        let header_timeout = config.limits.header_timeout.duration();
        Server {
            app: Arc::clone(app),
            others,
            http1: http1_builder(header_timeout),
            http2: http2_builder(header_timeout),
            tls,
            proxies: Arc::new(Proxies::new(config.trusted_proxies.clone())),
            places: Arc::new(Semaphore::new(config.limits.connections)),
            buffers: LargeBuffers::within(memory),
            phase: watch::Sender::new(Phase::Serving),
            header_timeout,
        }
    }

    /// Serves who comes to a listener, until it is aborted.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // Without a place nothing is accepted: newcomers wait in the kernel's queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(Arc::clone(&self).serve(stream, peer, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, most likely: let some be closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Serves a connection. What it gives is small, because there may be thousands: an `async fn` would hold what it is
    /// given twice.
    fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        async move {
            let (idle_timeout, counted) = (self.app.live.idle_timeout(), self.app.metrics.traffic.open());
            let in_use = InUse::new();
            let direct = self.tls.is_none().then(Direct::default);
            let notes = Notes { direct, ..Notes::default() };
            let buffers = self.buffers.clone();
            let guard =
                |stream| Connection::new(stream, idle_timeout, in_use.clone(), &notes, counted, buffers);
            // Boxed, as all that is not needed for as long as the connection stays.
            let (stream, speaks, scheme) = match Box::pin(self.open(stream, peer)).await {
                Ok(opened) => opened,
                Err(None) => return,
                Err(Some(plain)) => {
                    notes.unread.store(true, Ordering::Relaxed);
                    return Box::pin(refuse_plain_http(guard(Stream::Plain(plain)))).await;
                }
            };
            let stream = TokioIo::new(guard(stream));
            let (server, requests) = (Arc::clone(&self), in_use.clone());
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (app, others) = (Arc::clone(&server.app), server.others.clone());
                let handling = requests.handle();
                let client = server.proxies.client(peer.ip(), scheme, request.headers());
                let mut notes = notes.clone();
                // HTTP/2 puts its own heads between the bytes.
                notes.direct = notes.direct.filter(|_| request.version() <= Version::HTTP_11);
                let (head, body) = request.into_parts();
                let head = Box::new(hyper::Request::from_parts(head, ()));
                // Made here: an async block that took the request would have room for it until the answer comes.
                let handled = Box::pin(request::handle(app, others, client, notes, head, Body::new(body)));
                async move {
                    let response = handled.await;
                    drop(handling);
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            // Not both in one: an HTTP/1.1 connection is a small part of what an HTTP/2 connection is.
            if speaks == Speaks::Http1 {
                let connection = pin!(self.http1.serve_connection(stream, service));
                self.attend(connection, http1::Connection::graceful_shutdown, &in_use, idle_timeout).await;
            } else {
                let http2 = self.http2.clone();
                let http2 = if speaks == Speaks::Http2 { http2.http2_only() } else { http2 };
                let mut connection = Box::pin(http2.serve_connection(stream, service).into_owned());
                drop(http2);
                self.attend(connection.as_mut(), auto::Connection::graceful_shutdown, &in_use, idle_timeout)
                    .await;
            }
            drop(place);
        }
    }

    /// Attends to a connection until its end, which it is asked for with `ask_to_end` when the server ends or it is of no
    /// more use.
    async fn attend<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        ask_to_end: fn(Pin<&mut C>),
        in_use: &InUse,
        idle_timeout: Duration,
    ) where
        C: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // The sender lives as long as the server.
        let reached = async |wanted: Phase| {
            let _told = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await.is_ok();
        };
        let of_no_use = || in_use.no_more(self.header_timeout, idle_timeout);
        let mut no_more = pin!(of_no_use());
        let (mut awaited, mut draining) = (Phase::Draining, false);
        loop {
            tokio::select! {
                // First, or a request that has come and was not read yet would get no answer.
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        // Clients that vanish are daily business.
                        tracing::debug!(error = error.into(), "connection ended");
                    }
                    return;
                }
                () = reached(awaited) => draining = true,
                // What is drained has its own limit.
                () = no_more.as_mut(), if !draining => no_more.set(of_no_use()),
            }
            // Asked once already: an HTTP/2 client does not always answer.
            if awaited == Phase::Cut {
                return;
            }
            ask_to_end(connection.as_mut());
            awaited = Phase::Cut;
        }
    }

    /// Learns what a client speaks, and shakes hands where that is TLS, within the time for a request's head.
    /// Fails with a client that speaks plain HTTP where it must not, or with nobody.
    async fn open(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<(Stream, Speaks, Scheme), Option<TcpStream>> {
        let mut phase = self.phase.subscribe();
        let told = async move {
            // The sender lives as long as the server.
            let _told = phase.wait_for(|phase| *phase > Phase::Serving).await.is_ok();
        };
        let Some(tls) = &self.tls else {
            let mut first = [0; HTTP2.len()];
            let come = tokio::select! {
                // Who has asked already is answered.
                biased;
                come = tokio::time::timeout(self.header_timeout, stream.peek(&mut first)) => come,
                () = told => return Err(None),
            };
            let speaks = match come {
                Ok(Ok(1..)) if first == *HTTP2 => Speaks::Http2,
                // Too little to know: hyper reads on, and copies what it has read.
                Ok(Ok(count @ 1..)) if HTTP2.starts_with(&first[..count]) => Speaks::Either,
                Ok(Ok(1..)) => Speaks::Http1,
                _ => return Err(None),
            };
            return Ok((Stream::Plain(stream), speaks, Scheme::Http));
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.header_timeout, tls.accept(stream)) => shaken,
            () = told => return Err(None),
        };
        match shaken {
            Ok(Ok(Accepted::Tls(stream))) => {
                let speaks = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Speaks::Http2,
                    Some(b"http/1.1") => Speaks::Http1,
                    _ => Speaks::Either,
                };
                Ok((Stream::Tls(stream), speaks, Scheme::Https))
            }
            Ok(Ok(Accepted::PlainHttp(stream))) => {
                tracing::debug!(%peer, "plain http on a port that speaks https");
                Err(Some(stream))
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS handshake");
                Err(None)
            }
            Err(_late) => {
                tracing::debug!(%peer, "the TLS handshake took too long");
                Err(None)
            }
        }
    }
}

fn http1_builder(header_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(READ_BUFFER)
        // A client that has sent everything may close its half and still wants the answer.
        .half_close(true);
    builder
}

/// For HTTP/2; it speaks HTTP/1.1 too, with those who have not yet said which one they speak.
fn http2_builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(READ_BUFFER)
        .half_close(true)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .keep_alive_interval(Some(header_timeout))
        .keep_alive_timeout(header_timeout);
    builder
}

/// What Go's servers say, which clients know, and how to mend it.
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                          Content-Length: 70\r\nConnection: close\r\n\r\n\
                          Client sent an HTTP request to an HTTPS server. Use https:// instead.\n";

async fn refuse_plain_http(mut connection: Connection) {
    let told = async {
        connection.write_all(PLAIN_HTTP.as_bytes()).await?;
        connection.shutdown().await
    };
    // Whoever has gone needs no answer.
    let _told: std::io::Result<()> = told.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large the future is that a function gives.
    fn size<F>(_: impl FnOnce(Arc<Server>, TcpStream, SocketAddr, OwnedSemaphorePermit) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_http1_connection_has_no_room_for_what_http2_needs() {
        // Thousands may stand still. It was 2 900 bytes when it held either.
        assert!(size(Server::serve) <= 1700, "{} bytes", size(Server::serve));
    }
}
