// SPDX-License-Identifier: AGPL-3.0-only
//! What happens to every request: an id, an answer whatever fails, one line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Response, Version};
use tower::ServiceExt as _;
use tracing::Instrument as _;
use tracing::field::display;
use uuid::Uuid;

use crate::api;
use crate::app::App;
use crate::error::ApiError;
use crate::proxy::{ClientAddress, Scheme};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As much of a client's name for itself is logged.
const MAX_AGENT: usize = 200;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, others: Router, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let id = Uuid::new_v4().simple().to_string();
    let span = tracing::info_span!("request", request_id = %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let registry = path == "/v2" || path.starts_with("/v2/");
    let addressed = addressed(&request);
    let version = request.version();
    let client = request.extensions().get::<ClientAddress>().copied().map(display);
    let scheme = request.extensions().get::<Scheme>().copied().map(display);
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.map(|agent| agent.get(..MAX_AGENT).unwrap_or(agent).to_owned());
    let answer = async {
        if !addressed {
            ApiError::host_missing().into_response()
        } else if registry {
            api::answer(&app, request).await
        } else {
            others.oneshot(request).await.unwrap_or_else(|never| match never {})
        }
    };
    // A panic ends one request, not its connection's other streams.
    let answer = AssertUnwindSafe(answer).catch_unwind().instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|_| span.in_scope(|| ApiError::panicked().into_response()));
    if registry {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        tracing::info!(%method, path, status, micros, ?version, scheme, client, agent, "answered");
    });
    response
}

/// RFC 9112, section 3.2: a request of HTTP/1.1 has one Host. We use it for nothing, but a proxy that
/// sees another one than we do must not be led astray.
fn addressed(request: &Request<Body>) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}
