// SPDX-License-Identifier: AGPL-3.0-only
//! Traces: each request is a span, sent to a collector by OTLP over HTTP. A `traceparent` that comes with
//! a request is honoured (W3C Trace Context), sampling included.
//!
//! A thread of its own gathers and sends; a collector that does not answer costs spans, never requests.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Request};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Empty;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Endpoint;
use crate::route::Template;

static ON: AtomicBool = AtomicBool::new(false);

/// What sends.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    pub(super) fn end(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Begins to send to `collector`; what listens to spans is for the subscriber.
pub(super) fn start<S>(collector: &Endpoint) -> Result<(Traces, impl Layer<S> + Send + Sync), String>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{collector}/v1/traces"))
        .build()
        .map_err(|error| error.to_string())?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("stella").build())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("stella"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // The exporter's own spans would make more spans; of events only what went wrong matters.
        .with_filter(filter_fn(|metadata| {
            metadata.target().starts_with("stella")
                && (metadata.is_span() || *metadata.level() <= Level::WARN)
        }));
    ON.store(true, Ordering::Relaxed);
    Ok((Traces(provider), layer))
}

pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Attributes as the semantic conventions of OpenTelemetry name them.
pub(super) fn request_span<B>(id: &str, template: Template, request: &Request<B>) -> Span {
    let (method, route) = (request.method(), template.text());
    let span = tracing::info_span!(
        "request",
        request_id = id,
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
    );
    let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
    // Fails only for a span that nobody traces.
    let _untraced = span.set_parent(parent);
    span
}

pub(super) fn record_status(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

struct Headers<'r>(&'r HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
