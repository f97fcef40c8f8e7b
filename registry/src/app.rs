// SPDX-License-Identifier: AGPL-3.0-only
//! The application: what every request shares, and what happens to every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};
use stella_storage::{Actor, Store};
use tower::ServiceExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::api;
use crate::error::ApiError;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Built once; every request holds a reference.
pub(crate) struct App {
    /// Everything that is kept.
    pub(crate) store: Store,
    /// The largest manifest, in bytes.
    pub(crate) max_manifest: usize,
    /// How long a client may send nothing.
    pub(crate) idle_timeout: Duration,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(store: Store, max_manifest: usize, idle_timeout: Duration) -> Self {
        App { store, max_manifest, idle_timeout, draining: AtomicBool::new(false) }
    }

    /// Who makes a request. There are no identities yet: whoever can connect may do everything.
    #[expect(clippy::unused_self, reason = "who may do what will be asked of the app")]
    pub(crate) fn actor(&self) -> Actor {
        Actor::default()
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Answers one request: an id, an answer whatever happens, one line in the log.
pub(crate) async fn handle(app: Arc<App>, others: Router, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let id = Uuid::new_v4().simple().to_string();
    let span = tracing::info_span!("request", request_id = %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let registry = path == "/v2" || path.starts_with("/v2/");
    let answer = async {
        if registry {
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
    span.in_scope(|| tracing::info!(%method, path, status, micros, "answered"));
    response
}
