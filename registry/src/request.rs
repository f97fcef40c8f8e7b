// SPDX-License-Identifier: AGPL-3.0-only
//! What happens to every request: an id, an answer whatever fails, a count, a line in the audit trail if it
//! changed something, and one in the log.
//!
//! Reads that succeed are most of the traffic and are logged at `debug`, all else at `info`, under the
//! target `access`.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span};
use uuid::Uuid;
use uuid::fmt::Simple;

use crate::access::{Claimed, Identity, Peer, Refused, Wanted};
use crate::app::App;
use crate::audit::Changed;
use crate::connection::Notes;
use crate::error::ApiError;
use crate::gate::{DECISION, Judged};
use crate::headers;
use crate::metrics::CLIENT_GONE;
use crate::proxy::{ClientAddress, Scheme};
use crate::route::Template;
use crate::{api, audit, logging};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As much of a client's name for itself is logged.
const MAX_AGENT: usize = 200;

/// Answers one request of a client that speaks by `scheme`. Its head is boxed: a function that waits while it
/// hands it on would have room for another one.
pub(crate) async fn handle(
    app: Arc<App>,
    others: Router,
    (client, scheme): (ClientAddress, Scheme),
    notes: Notes,
    mut request: Box<Request<()>>,
    body: Body,
) -> Response<Body> {
    if !body.is_end_stream() {
        detach(&mut request);
    }
    let path = request.uri().path();
    let template = Template::of(path);
    let registry = path == "/v2" || path.starts_with("/v2/");
    let uuid = app.request_id();
    let mut text = [0; Simple::LENGTH];
    let id: &str = uuid.simple().encode_lower(&mut text);
    let mut asked = Asked {
        app: &app,
        template,
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        agent: request.headers().get(USER_AGENT).cloned(),
        uuid,
        id,
        client,
        scheme,
        began: Instant::now(),
        span: logging::request_span(id, template, &request),
        who: OnceLock::new(),
        status: None,
        told: false,
    };
    let _being_handled = app.metrics.requests.begin();
    let addressed = addressed(&request);
    let called = called(&request);
    let (path_is_token, path_is_metrics) = (path == api::token::PATH, path == "/metrics");
    let peer = Peer { address: client.0 };
    let answer = async {
        if !addressed {
            ApiError::host_missing().into_response()
        } else if path_is_token {
            Box::pin(api::token::answer(&app, &asked.who, peer, &request, body)).await
        } else if api::policy::is_for(asked.uri.path()) {
            Box::pin(api::policy::answer(&app, &asked.who, peer, &request)).await
        } else if registry {
            let who = match app.access.identify(&app.store, request.headers(), peer).await {
                Ok(who) => asked.who.get_or_init(|| who),
                Err(error) => return api::refuse(&request, error),
            };
            let answer = api::answer(&app, who, &notes, &request, body).await;
            headers::done_with(std::mem::take(request.headers_mut()));
            answer
        } else {
            if path_is_metrics {
                let who = app.access.identify(&app.store, request.headers(), peer).await;
                let who = who.map(|who| asked.who.get_or_init(|| who));
                if let Err(error) = who.and_then(|who| app.access.require_admin(who)) {
                    return api::refuse(&request, error);
                }
            }
            let answered = Box::pin(others.oneshot(request.map(|()| body))).await;
            answered.unwrap_or_else(|never| match never {})
        }
    };
    // A panic ends one request, not its connection's other streams.
    let answer = AssertUnwindSafe(answer).catch_unwind().instrument(asked.span.clone());
    let answer = logging::within(uuid, answer).await;
    let panicked = |_| logging::within_now(uuid, || ApiError::panicked().into_response());
    let mut response = answer.unwrap_or_else(panicked);
    if registry {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(wanted) = response.extensions_mut().remove::<Wanted>() {
        let base = app.base_url(scheme, called.as_deref());
        if let Ok(challenge) = HeaderValue::from_str(&app.access.challenge(&wanted, &base)) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
    let extensions = response.extensions_mut();
    let outcome = Noted {
        changed: extensions.remove(),
        refused: extensions.remove(),
        claimed: extensions.remove(),
        judged: extensions.remove(),
    };
    if outcome.judged.is_some()
        && let Ok(id) = HeaderValue::from_str(id)
    {
        response.headers_mut().insert(DECISION, id);
    }
    let status = response.status().as_u16();
    if let Some(recording) = asked.record(status, &outcome) {
        logging::within(uuid, recording).await;
    }
    asked.told(status);
    response
}

/// What an answer's handler noted for the audit trail.
#[derive(Default)]
struct Noted {
    changed: Option<Changed>,
    refused: Option<Refused>,
    claimed: Option<Claimed>,
    judged: Option<Judged>,
}

/// A request whose answer is on its way. If that never comes, because its client went away, then that is
/// told where the answer would have been.
struct Asked<'r> {
    app: &'r App,
    template: Template,
    method: Method,
    uri: Uri,
    version: Version,
    agent: Option<HeaderValue>,
    uuid: Uuid,
    id: &'r str,
    client: ClientAddress,
    scheme: Scheme,
    began: Instant,
    span: Span,
    /// Who asks, once that is known.
    who: OnceLock<Arc<Identity>>,
    /// The answer's status, once there is an answer.
    status: Option<u16>,
    told: bool,
}

impl<'r> Asked<'r> {
    /// Tells the audit trail that there is an answer, before it is sent, if it is to know.
    fn record(
        &mut self,
        status: u16,
        noted: &Noted,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'r>>> {
        self.status = Some(status);
        let (app, entry) = (self.app, self.entry(status, noted)?);
        Some(Box::pin(app.audit.record(entry)))
    }

    /// Tells everybody else.
    fn told(&mut self, status: u16) {
        self.told = true;
        self.tell(status);
    }

    fn entry(&self, status: u16, noted: &Noted) -> Option<audit::Entry> {
        let Noted { changed, refused, claimed, judged } = noted;
        let noticed = refused.is_some() || judged.is_some();
        let entry = audit::of_request(&self.method, &self.uri, status, changed.as_ref(), noticed)?;
        let who = self.who.get();
        Some(audit::Entry {
            request_id: Some(self.id.to_owned()),
            client: self.client.to_string(),
            actor: who.map_or_else(String::new, |who| who.subject.clone()),
            claimed: claimed.as_ref().map(|Claimed(name)| name.clone()),
            proof: who.map(|who| who.proof.text()),
            rule: refused.as_ref().and_then(|refused| refused.rule),
            decision: judged.as_ref().map(|Judged(decision)| decision.clone()),
            ..entry
        })
    }

    fn tell(&self, status: u16) {
        let took = self.began.elapsed();
        self.app.metrics.requests.count(self.template, &self.method, status, took);
        logging::record_status(&self.span, status);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (method, path, version) = (&self.method, self.uri.path(), self.version);
        let (client, scheme) = (self.client, self.scheme);
        let agent = || {
            let agent = self.agent.as_ref()?.to_str().ok()?;
            Some(agent.get(..MAX_AGENT).unwrap_or(agent))
        };
        let read = *method == Method::GET || *method == Method::HEAD;
        logging::within_now(self.uuid, || {
            if read && status < 400 {
                tracing::debug!(
                    target: "access", %method, path, status, micros, ?version, %scheme, %client, agent = agent(), "answered"
                );
            } else {
                tracing::info!(
                    target: "access", %method, path, status, micros, ?version, %scheme, %client, agent = agent(), "answered"
                );
            }
        });
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let status = self.status.unwrap_or(CLIENT_GONE);
        if let Some(entry) = self.entry(status, &Noted::default()) {
            logging::within_now(self.uuid, || self.app.audit.record_now(&entry));
        }
        self.tell(status);
    }
}

/// Gives a request a head of its own. hyper's would hold the connection's read buffer for as long as the
/// body takes to come, and the body a second one.
fn detach(request: &mut Request<()>) {
    // No larger than it must be, too: hyper's has room for more headers than most requests have.
    let headers = request.headers_mut();
    let mut own = HeaderMap::with_capacity(headers.len());
    for (name, value) in &*headers {
        let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        own.append(name, copy);
    }
    *headers = own;
    if let Ok(own) = Uri::try_from(request.uri().to_string()) {
        *request.uri_mut() = own;
    }
}

/// What a client calls us: a host, and perhaps a port.
fn called(request: &Request<()>) -> Option<String> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let called = request.uri().authority().map(http::uri::Authority::as_str).or(host)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!called.is_empty() && called.bytes().all(plain)).then(|| called.to_owned())
}

/// RFC 9112, section 3.2: a request of HTTP/1.1 has one Host. We use it for nothing, but a proxy that
/// sees another one than we do must not be led astray.
fn addressed(request: &Request<()>) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large the future is that a function gives.
    fn size<F>(
        _: impl FnOnce(Arc<App>, Router, (ClientAddress, Scheme), Notes, Box<Request<()>>, Body) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_has_no_room_for_what_only_others_need() {
        // Each upload that stands still holds one. It was 2 456 bytes before everything else was boxed.
        assert!(size(handle) <= 1024, "{} bytes", size(handle));
    }
}
