// SPDX-License-Identifier: AGPL-3.0-only
//! `/token`: the Docker token service (the Docker token specification, and its `OAuth2` variant with POST).
//!
//! A client proves who it is with a name and a password, an ID token, a refresh token, or not at all, names what it
//! wants, and gets a token for as much of that as it may have. Getting less is no error.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::bytes;
use crate::access::{Identity, MAX_TOKEN, Peer, Proven, Wish};
use crate::app::App;
use crate::body::RequestBody;
use crate::error::ApiError;
use crate::query::Query;

pub(crate) const PATH: &str = "/token";
/// What a client may send; ID tokens are the largest part of it.
const MAX_FORM: usize = 64 << 10;
/// What an answer usually has beside its token.
const AROUND: usize = 128;

/// What a client is given. Some clients look for `token`, some for `access_token`.
#[derive(Serialize)]
struct Given<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

impl Given<'_> {
    fn written(&self, size: usize) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(size);
        serde_json::to_writer(&mut json, self)?;
        Ok(json)
    }
}

/// Answers a request for a token. Who asked is put into `who` once it is known.
pub(crate) async fn answer(
    app: &App,
    who: &OnceLock<Arc<Identity>>,
    peer: Peer,
    request: &Request<()>,
    body: Body,
) -> Response<Body> {
    match exchange(app, who, peer, request, body).await {
        Ok(response) => response,
        Err(error) => super::refuse(request, error),
    }
}

async fn exchange(
    app: &App,
    who: &OnceLock<Arc<Identity>>,
    peer: Peer,
    request: &Request<()>,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let Some(service) = app.access.token_service() else { return Err(ApiError::unknown_path()) };
    let form = match *request.method() {
        Method::GET | Method::HEAD => parameters(request.uri().query().unwrap_or_default())?,
        Method::POST => form(app, body).await?,
        _ => return Err(ApiError::method_not_allowed("GET, HEAD, POST")),
    };
    if form.get("service").is_some_and(|named| !named.is_empty() && named != service.service()) {
        let message = format!("this is the token service of {:?}, and no other", service.service());
        return Err(ApiError::unsupported(message));
    }
    let posted = *request.method() == Method::POST;
    let authorization = request.headers().get_all(AUTHORIZATION);
    let proven = match form.get("grant_type").filter(|_| posted) {
        Some("password") => {
            let (name, password) = (form.get("username"), form.get("password"));
            let name = name.unwrap_or("").to_owned();
            app.access.prove_password(&app.store, name, password.unwrap_or(""), peer).await?
        }
        Some("refresh_token") => {
            app.access.prove_refresh_token(&app.store, form.get("refresh_token").unwrap_or(""), peer).await?
        }
        Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
            app.access.prove_id_token(form.get("subject_token").unwrap_or(""), peer).await?
        }
        Some(other) => {
            return Err(ApiError::unsupported(format!(
                "grant_type {other:?} is not known; there are password, refresh_token and \
                 urn:ietf:params:oauth:grant-type:token-exchange"
            )));
        }
        None => app.access.prove(&app.store, authorization.iter(), peer).await?,
    };
    let Proven { identity, named } = proven;
    if let (Some(account), Some(named)) = (form.get("account").filter(|text| !text.is_empty()), &named)
        && account != named
    {
        let message = format!("`account` is {account:?}, and the credentials are those of {named:?}");
        return Err(ApiError::unsupported(message));
    }
    let identity = who.get_or_init(|| Arc::new(identity));
    let wish = Wish::of(form.all("scope"));
    let granted = app.access.mint(identity, &wish).map_err(|error| ApiError::failed(error.to_string()))?;
    if granted.token.len() > MAX_TOKEN {
        return Err(ApiError::unsupported(format!(
            "a token for all this would be longer than the {} KiB that a request can carry; ask for fewer repositories \
             at once (`scope`)",
            MAX_TOKEN >> 10
        )));
    }
    let offline = form.get("offline_token") == Some("true") || form.get("access_type") == Some("offline");
    let refresh = if offline && *request.method() != Method::HEAD {
        let client = form.get("client_id").unwrap_or("");
        app.access.refresh_token(&app.store, identity, client).await?
    } else {
        None
    };
    let answer = Given {
        token: &granted.token,
        access_token: &granted.token,
        expires_in: granted.lifetime.as_secs(),
        issued_at: granted.issued.rfc3339(),
        scope: posted.then(|| granted.scope.text()),
        token_type: posted.then_some("Bearer"),
        refresh_token: refresh,
    };
    let answer = answer.written(2 * granted.token.len() + AROUND);
    let answer = answer.map_err(|error| ApiError::failed(error.to_string()))?;
    let json = HeaderValue::from_static("application/json");
    let mut response = bytes(request.method(), json, answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Our public keys, for whoever wants to check our tokens.
pub(crate) fn jwks(app: &App) -> Response<Body> {
    let Some(service) = app.access.token_service() else { return ApiError::unknown_path().into_response() };
    let mut response = Response::new(Body::from(service.jwks()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// What a client has posted (`application/x-www-form-urlencoded`).
async fn form(app: &App, body: Body) -> Result<Query, ApiError> {
    let body = RequestBody::new(body, app.live.idle_timeout().min(Duration::from_secs(30)));
    let (bytes, _memory) = body.collect(MAX_FORM, app.store.memory().manifests()).await.map_err(|error| {
        if error.status == StatusCode::PAYLOAD_TOO_LARGE { ApiError::form_too_large(MAX_FORM) } else { error }
    })?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| ApiError::unsupported("the form is not UTF-8".to_owned()))?;
    parameters(text)
}

/// As forms are encoded, also in a query: here, unlike below `/v2`, a plus is a space.
fn parameters(text: &str) -> Result<Query, ApiError> {
    if text.contains('+') { Query::parse(Some(&text.replace('+', "%20"))) } else { Query::parse(Some(text)) }
}
