// SPDX-License-Identifier: AGPL-3.0-only
//! The OCI distribution API: which handler answers a method on a route.
//!
//! Each file below holds the handlers of one noun. A handler extracts, makes one call to the store,
//! and answers. Nothing here converts a manifest or looks at `Accept`: what was pushed is served.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LINK, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use stella_storage::{Actor, Digest, RepoName};

use crate::access::{Action, Identity, Wanted};
use crate::app::App;
use crate::body::RequestBody;
use crate::connection::Notes;
use crate::direct::Direct;
use crate::error::ApiError;
use crate::evidence;
use crate::gate::Gated;
use crate::headers;
use crate::query::Query;
use crate::route::{self, Route};

mod blobs;
mod catalog;
mod manifests;
mod paging;
pub(crate) mod policy;
mod reading;
mod referrers;
mod releases;
mod tags;
pub(crate) mod token;
mod uploads;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

type Answer = Result<Response<Body>, ApiError>;
/// An answer that is being made.
type Answering<'r> = Pin<Box<dyn Future<Output = Answer> + Send + 'r>>;

/// A request below `/v2/`, taken apart.
struct Call<'r> {
    app: &'r Arc<App>,
    method: &'r Method,
    headers: &'r HeaderMap,
    query: Query,
    /// Who asks.
    who: &'r Identity,
    /// Where parts of files may be put instead of their bytes.
    direct: Option<&'r Direct>,
}

impl Call<'_> {
    /// Who makes a change, as the store records it.
    fn actor(&self) -> Actor {
        Actor { subject: self.who.subject.clone(), session: self.who.session.clone() }
    }

    /// Whether the client may change protected tags: no token is given for that, so it is as the rules say.
    fn is_admin(&self, repo: &RepoName) -> bool {
        self.app.access.decide(self.who, Action::Admin, Some(repo)).allowed
    }

    /// The most bytes that the client may bring of one blob, beside those that it has brought: who may only sign brings
    /// what signatures are made of.
    fn most(&self, repo: &RepoName, brought: u64) -> Option<u64> {
        (!self.may(Action::Push, repo)).then(|| evidence::MAX_LAYER.saturating_sub(brought))
    }

    /// The error for a manifest of who may only sign.
    fn not_evidence(&self, repo: &RepoName) -> ApiError {
        ApiError::denied(format!(
            "{} may push to {repo} only signatures, attestations and Sigstore bundles, and this manifest has something \
             else in it; for images allow it `push`",
            self.who.name()
        ))
    }

    /// The policies about a repository; none if nothing is asked of what is in it.
    fn gated(&self, repo: &RepoName) -> Option<Gated> {
        self.app.gate.gated(repo)
    }

    /// Whether the client sees what is not released. Anonymous never does, whatever the rules say.
    fn previews(&self, repo: &RepoName) -> bool {
        !self.who.is_anonymous() && self.may(Action::Preview, repo)
    }

    /// Whether the client gets only what the policies let through.
    fn is_reader(&self, gated: Option<&Gated>, repo: &RepoName) -> bool {
        gated.is_some_and(Gated::enforces_pull) && !self.previews(repo)
    }

    /// The gate's refusal, as this client must hear it.
    fn refused(&self, repo: &RepoName, error: ApiError) -> ApiError {
        if self.app.access.could_log_in(self.who) {
            error.or_log_in(Wanted::of(Action::Pull, repo))
        } else {
            error
        }
    }

    /// Whether the client may do something in a repository.
    fn may(&self, action: Action, repo: &RepoName) -> bool {
        self.app.access.allowed(self.who, action, Some(repo))
    }

    /// Fails unless the client may do one of these in a repository.
    fn require(&self, actions: &[Action], repo: &RepoName) -> Result<Action, ApiError> {
        self.app.access.require(self.who, actions, repo)
    }
}

/// Whoever previews sees all that readers see.
const READ: &[Action] = &[Action::Pull, Action::Preview];
/// Clients look before they push.
const LOOK: &[Action] = &[Action::Pull, Action::Preview, Action::Push];
/// Who signs writes too, what signatures are made of.
const WRITE: &[Action] = &[Action::Push, Action::Sign];
const DELETE: &[Action] = &[Action::Delete];

/// Answers a request below `/v2/`.
pub(crate) async fn answer(
    app: &Arc<App>,
    who: &Identity,
    notes: &Notes,
    request: &Request<()>,
    body: Body,
) -> Response<Body> {
    let body = RequestBody::new(body, app.live.idle_timeout()).telling(Arc::clone(&notes.unread));
    let answer = match dispatch(app, who, request, notes.direct.as_ref(), body) {
        Ok(answering) => answering.await,
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(|error| refuse(request, error))
}

/// The answer to a request that fails.
pub(crate) fn refuse(request: &Request<()>, error: ApiError) -> Response<Body> {
    let response = error.into_response();
    if request.method() == Method::HEAD { without_body(response) } else { response }
}

/// An answer to who sends no body, or one that is not read: it stays, unread, until there is the answer.
macro_rules! unread {
    ($body:ident, $answer:expr) => {
        Box::pin(async move {
            let answer = $answer.await;
            drop($body);
            answer
        })
    };
}

/// Chooses who answers. Each is boxed for itself, so that an upload which waits for its client has no room for what other
/// requests need.
fn dispatch<'r>(
    app: &'r Arc<App>,
    who: &'r Identity,
    request: &'r Request<()>,
    direct: Option<&'r Direct>,
    body: RequestBody,
) -> Result<Answering<'r>, ApiError> {
    let route = route::parse(request.uri().path())?.ok_or_else(ApiError::unknown_path)?;
    let query = Query::parse(request.uri().query())?;
    let method = request.method();
    let call = Call { app, method, headers: request.headers(), query, who, direct };
    authorize(&call, &route)?;
    Ok(match route {
        Route::Base => match *method {
            Method::GET | Method::HEAD => {
                app.access.greets(who)?;
                Box::pin(ready(json(method, "{}".into())))
            }
            _ => return Err(ApiError::method_not_allowed("GET, HEAD")),
        },
        Route::Catalog => match *method {
            Method::GET | Method::HEAD => unread!(body, catalog::list(call)),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD")),
        },
        Route::Tags(repo) => match *method {
            Method::GET | Method::HEAD => unread!(body, tags::list(call, repo)),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD")),
        },
        Route::Manifest(repo, reference) => match *method {
            Method::GET => unread!(body, manifests::get(call, repo, &reference)),
            Method::HEAD => unread!(body, manifests::head(call, repo, &reference)),
            Method::PUT => Box::pin(async move { manifests::put(call, repo, &reference, body).await }),
            Method::DELETE => unread!(body, manifests::delete(call, repo, &reference)),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD, PUT, DELETE")),
        },
        Route::Blob(repo, digest) => match *method {
            Method::GET | Method::HEAD => unread!(body, blobs::get(call, repo, &digest)),
            Method::DELETE => unread!(body, blobs::delete(call, repo, &digest)),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD, DELETE")),
        },
        Route::Uploads(repo) => match *method {
            Method::POST => Box::pin(uploads::post(call, repo, body)),
            _ => return Err(ApiError::method_not_allowed("POST")),
        },
        Route::Upload(repo, id) => match *method {
            Method::GET | Method::HEAD => {
                let id = id.parse()?;
                unread!(body, uploads::status(call, repo, id))
            }
            Method::PATCH => uploads::patch(call, repo, id.parse()?, body),
            Method::PUT => uploads::put(call, repo, id.parse()?, body),
            Method::DELETE => {
                let id = id.parse()?;
                unread!(body, uploads::cancel(call, repo, id))
            }
            _ => return Err(ApiError::method_not_allowed("GET, HEAD, PATCH, PUT, DELETE")),
        },
        Route::Referrers(repo, digest) => match *method {
            Method::GET | Method::HEAD => unread!(body, referrers::list(call, repo, &digest)),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD")),
        },
    })
}

/// Fails unless the client may do this at all: the one place that says which action a request needs. It comes before
/// anything is looked up, so that whoever may not learns nothing.
fn authorize(call: &Call<'_>, route: &Route<'_>) -> Result<(), ApiError> {
    let reads = *call.method == Method::GET;
    let looks = *call.method == Method::HEAD;
    let deletes = *call.method == Method::DELETE;
    let allowed = match route {
        // Its handler decides: clients learn there how to log in.
        Route::Base => return Ok(()),
        Route::Catalog => return call.app.access.require_catalog(call.who),
        Route::Tags(repo) | Route::Referrers(repo, _) => call.require(READ, repo),
        Route::Manifest(repo, _) | Route::Blob(repo, _) if reads => call.require(READ, repo),
        Route::Manifest(repo, _) | Route::Blob(repo, _) if looks => call.require(LOOK, repo),
        Route::Manifest(repo, _) | Route::Blob(repo, _) if deletes => call.require(DELETE, repo),
        Route::Manifest(repo, _) | Route::Blob(repo, _) | Route::Uploads(repo) | Route::Upload(repo, _) => {
            call.require(WRITE, repo)
        }
    };
    allowed.map(drop)
}

/// An answer with nothing in it yet.
fn blank() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers::empty();
    response
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = blank();
    *response.status_mut() = status;
    // RFC 9110, section 8.6: not with 204.
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// Bytes of a known type; for HEAD the same headers without them.
fn bytes(method: &Method, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = blank();
    fill(&mut response, method, content_type, bytes);
    response
}

/// The same in an answer that has other headers already.
fn fill(response: &mut Response<Body>, method: &Method, content_type: HeaderValue, bytes: impl Into<Bytes>) {
    let bytes = bytes.into();
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
    if method != Method::HEAD {
        *response.body_mut() = Body::from(bytes);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "reads as an answer where it is used")]
fn json(method: &Method, text: String) -> Answer {
    Ok(bytes(method, HeaderValue::from_static("application/json"), text.into_bytes()))
}

fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| Body::empty())
}

/// Sets a header whose value is made of names, digests and numbers, which are always legal there.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}

fn set_digest(response: &mut Response<Body>, digest: &Digest) {
    set(response, CONTENT_DIGEST, &digest.to_string());
}

fn set_etag(response: &mut Response<Body>, digest: &Digest) {
    set(response, http::header::ETAG, &format!("\"{digest}\""));
}

/// 201 for a blob that can now be read.
fn blob_created(repo: &RepoName, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{repo}/blobs/{digest}"));
    set_digest(&mut response, digest);
    response
}

/// Points at the next page (RFC 8288). Relative, so that it is right behind any proxy.
fn set_next(response: &mut Response<Body>, target: &str) {
    set(response, LINK, &format!("<{target}>; rel=\"next\""));
}
