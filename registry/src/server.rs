// SPDX-License-Identifier: AGPL-3.0-only
//! The server: opens the store, accepts connections, ends gracefully.
//!
//! The accept loop is our own, on hyper: it limits connections, gives clients a time in which to send
//! their headers, opens HTTP/2's windows for large uploads, and at the end lets running requests
//! finish within a limit.

use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stella_storage::{Budget, Clock as _, GcSummary, ScrubNext, Store, StoreOptions, SystemClock};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::admin::Admin;
use crate::app::App;
use crate::body::Unread;
use crate::config::Config;
use crate::connection::{Connection, Stream};
use crate::in_use::InUse;
use crate::metrics::Metrics;
use crate::proxy::{Proxies, Scheme};
use crate::tls::{Accepted, Tls};
use crate::{health, request};

/// HTTP/2 flow-control windows: hyper's defaults let one push fill a connection over a long line.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_STREAMS: u32 = 100;
/// HTTP/2 request heads over this are refused.
const MAX_HEAD: u32 = 64 << 10;
/// What is read at once from an HTTP/1.1 connection: a good piece of an upload, and little enough for
/// thousands of connections. It limits a request's head too.
const READ_BUFFER: usize = 128 << 10;
const FLUSH_PULLS: Duration = Duration::from_mins(1);
/// How long the scrub waits at most, so that a clock that is set is noticed.
const SCRUB_AGAIN: Duration = Duration::from_mins(10);

/// Serves the registry until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let addresses = config.listen_addresses()?;
    let tls = Tls::load(&config)?.map(Arc::new);
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    raise_file_limit();
    let options = store_options(&config)?;
    let store = Store::open(&options).await.context("cannot open the store")?;
    let header_timeout = config.limits.header_timeout.duration();
    let idle_timeout = config.limits.idle_timeout.duration();
    let max_manifest = usize::try_from(config.push.max_manifest_size.bytes())?;
    let metrics = Metrics::new(config.data.clone(), tls.clone());
    let app = Arc::new(App::new(store, max_manifest, idle_timeout, metrics));
    let server = Server {
        others: health::router(Arc::clone(&app)),
        app: Arc::clone(&app),
        builder: builder(header_timeout),
        tls: tls.clone(),
        proxies: Arc::new(Proxies::new(config.trusted_proxies.clone())),
        places: Arc::new(Semaphore::new(config.limits.connections)),
        drain: watch::Sender::new(false),
        header_timeout,
        idle_timeout,
    };
    let listeners = bind(&addresses).await?;
    let admin = match Admin::listen(&config.data, Arc::clone(&app)) {
        Ok(admin) => Some(admin),
        Err(error) => {
            tracing::warn!(%error, "cannot listen for administration: `stella gc` and others will not work");
            None
        }
    };
    for listener in &listeners {
        announce(if tls.is_some() { Scheme::Https } else { Scheme::Http }, listener.local_addr()?)?;
    }
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(server.clone().accept(listener))).collect();
    let flushing = tokio::spawn(flush_pulls(Arc::clone(&app)));
    let collecting = tokio::spawn(collect(Arc::clone(&app), config.collection.interval.duration()));
    let scrubbing = tokio::spawn(scrub(Arc::clone(&app), config.scrub.rate.bytes()));
    let certificates = match tls {
        Some(tls) => {
            for warning in tls.warnings(&config, SystemClock.now()) {
                tracing::warn!("{warning}");
            }
            Some(tokio::spawn(renew(tls, hangup)))
        }
        None => None,
    };
    let name = signals.next().await;
    tracing::info!(signal = name, "shutting down");
    app.drain();
    for task in accepting {
        task.abort();
    }
    server.drain.send_replace(true);
    if let Some(admin) = &admin {
        admin.stop();
    }
    let limit = config.limits.shutdown_timeout.duration();
    // Every place is free again once every connection has ended.
    let all = u32::try_from(config.limits.connections)?;
    let ended = async {
        let _all = server.places.acquire_many(all).await;
        if let Some(admin) = &admin {
            admin.stopped().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(limit) => tracing::warn!("connections were still busy and are cut off"),
        name = signals.next() => tracing::warn!(signal = name, "told twice: connections are cut off"),
    }
    flushing.abort();
    collecting.abort();
    scrubbing.abort();
    if let Some(certificates) = certificates {
        certificates.abort();
    }
    app.store.flush_pulls().await.context("cannot record the last pulls")?;
    Ok(())
}

/// How the configuration wants the store.
pub(crate) fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    Ok(StoreOptions {
        memory: Budget::of(
            usize::try_from(config.limits.memory.bytes())?,
            usize::try_from(config.push.max_manifest_size.bytes())?,
        ),
        engine: config.engine()?,
        allow_missing: config.push.allow_missing,
        periods: config.collection.periods(),
        rules: config.repositories.iter().cloned().map(Into::into).collect(),
        disk_reserve: config.limits.disk_reserve.bytes(),
        upgrade: config.upgrade,
        ..StoreOptions::new(config.data.clone())
    })
}

/// Each connection and each blob that is read takes a file descriptor, and the usual soft limit of 1 024
/// is below `limits.connections`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut failure = None;
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // `localhost` may have an IPv6 address where IPv6 is off: one listener will do.
            Err(error) => {
                failure = Some(anyhow::Error::new(error).context(format!("cannot listen on {address}")));
            }
        }
    }
    match failure {
        Some(failure) if listeners.is_empty() || addresses.iter().all(SocketAddr::is_ipv4) => Err(failure),
        _ => Ok(listeners),
    }
}

/// Says where to connect, on stdout: with port 0 nobody else knows.
fn announce(scheme: Scheme, address: SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {scheme}://{address}")
        .and_then(|()| out.flush())
        .context("cannot write to stdout")
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(READ_BUFFER)
        // A client that has sent everything may close its half and still wants the answer.
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

#[derive(Clone)]
struct Server {
    app: Arc<App>,
    others: Router,
    builder: Builder<TokioExecutor>,
    /// Without it, plain HTTP is spoken.
    tls: Option<Arc<Tls>>,
    proxies: Arc<Proxies>,
    /// One for each connection that may be open.
    places: Arc<Semaphore>,
    /// Tells connections to finish what they are doing and end.
    drain: watch::Sender<bool>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        loop {
            // Without a place nothing is accepted: newcomers wait in the kernel's queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(self.clone().serve(stream, peer, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, most likely: let some be closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let in_use = InUse::new();
        let unread = Unread::default();
        let guard =
            |stream| Connection::new(stream, self.idle_timeout, in_use.clone(), Arc::clone(&unread.0));
        let (stream, builder, scheme) = match self.open(stream, peer).await {
            Ok(opened) => opened,
            Err(None) => return,
            Err(Some(plain)) => {
                unread.0.store(true, Ordering::Relaxed);
                return refuse_plain_http(guard(Stream::Plain(plain))).await;
            }
        };
        let stream = TokioIo::new(guard(stream));
        let Server { app, others, proxies, drain, idle_timeout, header_timeout, .. } = self;
        let requests = in_use.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let (app, others, handling) = (Arc::clone(&app), others.clone(), requests.handle());
            let (client, scheme) = proxies.client(peer.ip(), scheme, request.headers());
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(scheme);
            request.extensions_mut().insert(unread.clone());
            async move {
                let response = request::handle(app, others, request.map(Body::new)).await;
                drop(handling);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut connection = pin!(builder.serve_connection(stream, service));
        let mut drain = drain.subscribe();
        let told = async move {
            // The sender lives as long as the server.
            let _told = drain.wait_for(|drain| *drain).await.is_ok();
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = told => {
                connection.as_mut().graceful_shutdown();
                Some(connection.await)
            }
            () = in_use.no_more(header_timeout, idle_timeout) => {
                // An HTTP/2 client is asked to go, and does not always answer.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => Some(ended),
                    () = in_use.no_more(header_timeout, idle_timeout) => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
            // Clients that vanish are daily business.
            tracing::debug!(error, "connection ended");
        }
        drop(place);
    }

    /// Shakes hands where TLS is spoken, within the time for a request's head. Fails with a client that
    /// speaks plain HTTP there, or with nobody.
    async fn open(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<(Stream, Builder<TokioExecutor>, Scheme), Option<TcpStream>> {
        let builder = self.builder.clone();
        let Some(tls) = &self.tls else { return Ok((Stream::Plain(stream), builder, Scheme::Http)) };
        let mut drain = self.drain.subscribe();
        let told = async move {
            // The sender lives as long as the server.
            let _told = drain.wait_for(|drain| *drain).await.is_ok();
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.header_timeout, tls.accept(stream)) => shaken,
            () = told => return Err(None),
        };
        match shaken {
            Ok(Ok(Accepted::Tls(stream))) => {
                let builder = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => builder.http2_only(),
                    Some(b"http/1.1") => builder.http1_only(),
                    _ => builder,
                };
                Ok((Stream::Tls(stream), builder, Scheme::Https))
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

/// Takes over certificates that have changed, at once on SIGHUP.
async fn renew(tls: Arc<Tls>, mut hangup: tokio::signal::unix::Signal) {
    let asked = async {
        while hangup.recv().await.is_some() {
            let good = tls.reload(SystemClock.now()).await;
            tracing::info!(good, "certificates read again on SIGHUP");
        }
    };
    tokio::join!(tls.watch(|| SystemClock.now()), asked);
}

async fn flush_pulls(app: Arc<App>) {
    loop {
        tokio::time::sleep(FLUSH_PULLS).await;
        if let Err(error) = app.store.flush_pulls().await {
            tracing::warn!(%error, "cannot record the last pulls");
        }
    }
}

/// Removes what nothing names any more, round after round.
async fn collect(app: Arc<App>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        // A round in a task of its own: should it ever panic, the next one comes all the same.
        let round = tokio::spawn({
            let app = Arc::clone(&app);
            async move { app.store.collect().await }
        });
        let Ok(round) = round.await else {
            tracing::error!("a round of collection ended abnormally; the next one goes on");
            continue;
        };
        match round {
            Ok(GcSummary { paused: Some(reason), .. }) => tracing::debug!(reason, "nothing was collected"),
            Ok(summary) if summary.manifests + summary.blobs + summary.uploads + summary.files > 0 => {
                tracing::info!(
                    manifests = summary.manifests,
                    blobs = summary.blobs,
                    uploads = summary.uploads,
                    files = summary.files,
                    bytes = summary.bytes,
                    "collected"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a round of collection failed; the next one goes on"),
        }
    }
}

/// Reads everything again and again, at most `rate` bytes a second.
async fn scrub(app: Arc<App>, rate: u64) {
    if rate == 0 {
        return;
    }
    loop {
        let pause = match app.store.scrub(rate).await {
            Ok(ScrubNext::Go) => continue,
            Ok(ScrubNext::Wait(pause)) => pause.min(SCRUB_AGAIN),
            Err(error) => {
                tracing::warn!(%error, "cannot read everything for damage; it goes on in a while");
                SCRUB_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
