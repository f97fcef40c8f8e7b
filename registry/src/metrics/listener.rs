// SPDX-License-Identifier: AGPL-3.0-only
//! A listener of its own for metrics and health (`metrics.listen`): plain HTTP/1.1, few connections. It
//! goes on while the registry shuts down, so that whoever watches sees that.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// Connections at once: a few that scrape and a few that probe.
const CONNECTIONS: usize = 64;
/// A request's head must arrive within this time, and a connection may be idle for as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection takes no new request after this time, and ends soon after: however slowly a client reads.
const LIFETIME: Duration = Duration::from_mins(10);
const READ_BUFFER: usize = 16 << 10;

/// Answers with `router` on each connection, for ever.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, router).await {
                        tracing::debug!(%error, "a connection to the metrics listener ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) -> hyper::Result<()> {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let answered = router.oneshot(request.map(Body::new)).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(READ_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(PATIENCE, connection).await.unwrap_or(Ok(()))
        }
    }
}
