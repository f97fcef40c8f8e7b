// SPDX-License-Identifier: AGPL-3.0-only
//! Health endpoints, and every path that is not the registry's API.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{any, get};
use http::{Response, StatusCode};
use stella_storage::Error;

use crate::app::App;
use crate::error::ApiError;
use crate::metrics;

/// Routes beside `/v2/`.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/v1", any(api_v1))
        .route("/v1/", any(api_v1))
        .route("/v1/{*rest}", any(api_v1))
        .fallback(async || ApiError::unknown_path().into_response())
        .with_state(app)
}

/// Clients of the old API ask for `/v1/_ping`, and `docker login` for `/v1/users/`.
async fn api_v1() -> Response<Body> {
    ApiError::api_v1().into_response()
}

async fn scrape(State(app): State<Arc<App>>) -> Response<Body> {
    metrics::page(&app.store, &app.metrics).await
}

/// Ready means: requests that change something can succeed.
async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let (status, text) = if app.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned())
    } else if let Err(error) = app.store.ready().await {
        tracing::warn!(%error, "not ready");
        (StatusCode::SERVICE_UNAVAILABLE, why_not(&error))
    } else {
        (StatusCode::OK, "ready\n".to_owned())
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// Paths and causes are for the operator's log; what is wrong is for whoever asks.
fn why_not(error: &Error) -> String {
    match error {
        Error::Reserve { .. } => format!("{error} (limits.disk_reserve)\n"),
        error if error.is_internal() => "metadata cannot be written; the server's log says why\n".to_owned(),
        error => format!("{error}\n"),
    }
}
