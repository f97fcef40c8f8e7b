// SPDX-License-Identifier: AGPL-3.0-only
//! Health endpoints and metrics, and every path that is not the registry's API.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{any, get};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use stella_storage::Error;

use crate::api;
use crate::app::App;
use crate::error::ApiError;
use crate::metrics;

/// Routes beside `/v2/`. Metrics are among them unless they have a listener of their own.
pub(crate) fn router(app: Arc<App>, metrics_elsewhere: bool) -> Router {
    let router = if metrics_elsewhere { health() } else { monitoring() };
    router
        .route("/.well-known/jwks.json", get(jwks))
        .route("/v1", any(api_v1))
        .route("/v1/", any(api_v1))
        .route("/v1/{*rest}", any(api_v1))
        .fallback(async || ApiError::unknown_path().into_response())
        .with_state(app)
}

/// What a listener of its own serves.
pub(crate) fn monitoring_router(app: Arc<App>) -> Router {
    monitoring().with_state(app)
}

fn monitoring() -> Router<Arc<App>> {
    health().route("/metrics", get(scrape))
}

fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        // Nobody is answered before the store is open and in order.
        .route("/startupz", get(async || "started\n"))
        .route("/readyz", get(ready))
        .route("/healthz", get(report))
}

/// Clients of the old API ask for `/v1/_ping`, and `docker login` for `/v1/users/`.
async fn api_v1() -> Response<Body> {
    ApiError::api_v1().into_response()
}

async fn jwks(State(app): State<Arc<App>>) -> Response<Body> {
    api::token::jwks(&app)
}

async fn scrape(State(app): State<Arc<App>>) -> Response<Body> {
    metrics::page(&app).await
}

async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let reason = why_not_ready(&app).await;
    let text = reason.as_deref().unwrap_or("ready");
    answer(reason.is_none(), format!("{text}\n"))
}

/// The same with numbers, for `stella health` and for people.
async fn report(State(app): State<Arc<App>>) -> Response<Body> {
    let reason = why_not_ready(&app).await;
    let counted = app.metrics.counted(&app.store).await;
    let queues = counted.map(|counted| {
        let queues = counted.queues;
        json!({
            "review": { "length": queues.reviews, "due": queues.reviews_due },
            "garbage": {
                "length": queues.garbage,
                "due": queues.garbage_due,
                "bytes": queues.garbage_bytes,
            },
            "oldest_due_seconds": queues.oldest_due.as_secs(),
        })
    });
    // What cannot be read is told as the reason why it is not ready.
    let collection = app.store.why_collection_waits().await.ok().flatten();
    let body = json!({
        "status": if reason.is_none() { "ok" } else { "unready" },
        "reason": reason,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.metrics.uptime().as_secs(),
        "queues": queues,
        "collection_waits": collection,
        "disk": { "free_bytes": app.metrics.free_bytes(), "reserve_bytes": app.live.disk_reserve() },
        "uploads": counted.map(|counted| counted.uploads),
    });
    let mut response = answer(reason.is_none(), format!("{body}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn answer(well: bool, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    if !well {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// Ready means: requests that change something can succeed.
async fn why_not_ready(app: &App) -> Option<String> {
    if app.is_draining() {
        return Some("shutting down".to_owned());
    }
    let error = app.store.ready().await.err()?;
    tracing::warn!(%error, "not ready");
    Some(why_not(&error))
}

/// Paths and causes are for the operator's log; what is wrong is for whoever asks.
fn why_not(error: &Error) -> String {
    match error {
        Error::Reserve { .. } => format!("{error} (limits.disk_reserve)"),
        error if error.is_internal() => "metadata cannot be written; the server's log says why".to_owned(),
        error => error.to_string(),
    }
}
