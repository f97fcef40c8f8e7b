// SPDX-License-Identifier: AGPL-3.0-only
//! Errors as clients see them: one type, one JSON body (OCI distribution-spec, "Error Codes").
//!
//! What a client is told and what the operator is told are two fields: `message` says what is wrong
//! and how to mend it; `cause` goes to the log and never into an answer. Codes of
//! 4xx answers are those of the specification only. Layers below know no status codes; the table that gives them one is
//! [`From<stella_storage::Error>`].

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde_json::json;
use stella_storage::{DigestError, Error, What};

use crate::access::{Claimed, Refused, Wanted};
use crate::gate::Judged;

/// An answer that is not a success.
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    code: &'static str,
    message: String,
    /// One entry each becomes one error in the body; without any there is one, without detail.
    details: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the operator.
    cause: Option<Box<str>>,
    /// Boxed, because few errors are refusals.
    refusal: Option<Box<Refusal>>,
}

/// What a refused client is asked for, and why it was refused.
#[derive(Default)]
struct Refusal {
    wanted: Option<Wanted>,
    refused: Option<Refused>,
    claimed: Option<Claimed>,
    judged: Option<(Judged, Option<ReasonPhrase>)>,
}

impl std::fmt::Debug for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, code, message, cause, .. } = self;
        f.debug_struct("ApiError")
            .field("status", status)
            .field("code", code)
            .field("message", message)
            .field("cause", cause)
            .finish_non_exhaustive()
    }
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
            cause: None,
            refusal: None,
        }
    }

    pub(crate) fn unsupported(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(crate) fn size_invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
    }

    pub(crate) fn digest_invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn manifest_invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(crate) fn manifest_too_large(limit: usize) -> Self {
        let message = format!("the manifest is larger than {limit} bytes (push.max_manifest_size)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
    }

    pub(crate) fn upload_invalid(message: String) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    pub(crate) fn chunk_malformed(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(crate) fn too_many_tags(limit: usize) -> Self {
        let message = format!("one request may set at most {limit} tags");
        Self::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", message)
    }

    pub(crate) fn range_unsatisfiable(len: u64) -> Self {
        let message = format!("the range does not lie inside the {len} bytes of the blob");
        let mut error = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
        error.push_header(http::header::CONTENT_RANGE, &format!("bytes */{len}"));
        error
    }

    pub(crate) fn body_timeout() -> Self {
        let message = "the request body stopped arriving (limits.idle_timeout)";
        Self::new(StatusCode::REQUEST_TIMEOUT, "SIZE_INVALID", message)
    }

    pub(crate) fn body_broken(cause: String) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", "the request body ended early");
        error.cause = Some(cause.into());
        error
    }

    /// A fault of ours, and its cause for the log.
    pub(crate) fn failed(cause: String) -> Self {
        let mut error = Self::internal();
        error.cause = Some(cause.into());
        error
    }

    pub(crate) fn signature_too_large(limit: u64) -> Self {
        let message =
            format!("who may only sign may push blobs of at most {limit} bytes; for more it needs `push`");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "DENIED", message)
    }

    pub(crate) fn form_too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "UNSUPPORTED",
            format!("the form is larger than {limit} bytes"),
        )
    }

    /// Who it is may help: the answer says how to tell.
    pub(crate) fn unauthorized(message: impl Into<String>, wanted: Wanted) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        error.refusal.get_or_insert_default().wanted = Some(wanted);
        error
    }

    /// Notes for the audit trail why.
    pub(crate) fn refused(mut self, refused: Refused) -> Self {
        self.refusal.get_or_insert_default().refused = Some(refused);
        self
    }

    /// Notes for the audit trail who it said it was.
    pub(crate) fn claimed(mut self, name: &str) -> Self {
        self.refusal.get_or_insert_default().claimed = Some(Claimed::of(name));
        self
    }

    /// Notes for the audit trail what the policy gate decided, and puts `phrase` behind the status: all that some clients
    /// show of a HEAD.
    pub(crate) fn judged(self, judged: Judged, phrase: &str) -> Self {
        let mut error = self.refused(Refused { rule: None });
        let phrase = ReasonPhrase::try_from(phrase.as_bytes()).ok();
        error.refusal.get_or_insert_default().judged = Some((judged, phrase));
        error
    }

    /// The same for a client that has not said who it is: it may be somebody who may see more, and most clients say so only
    /// when they are asked. The token that it gets for nobody is told the refusal itself.
    pub(crate) fn or_log_in(mut self, wanted: Wanted) -> Self {
        if self.status == StatusCode::FORBIDDEN {
            (self.status, self.code) = (StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
            self.refusal.get_or_insert_default().wanted = Some(wanted);
        }
        self
    }

    /// Who it is does not help.
    pub(crate) fn denied(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(crate) fn too_many_logins(seconds: u64) -> Self {
        let message = format!("too many failed logins from this address; try again in {seconds} s");
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
        error.push_header(RETRY_AFTER, &seconds.to_string());
        error
    }

    pub(crate) fn host_missing() -> Self {
        Self::unsupported("the request needs one Host header".to_owned())
    }

    pub(crate) fn unknown_path() -> Self {
        let message = "this registry has no such endpoint; see the OCI distribution specification";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
    }

    pub(crate) fn api_v1() -> Self {
        let message = "the Docker registry API v1 is not supported; use a client that speaks v2";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("this endpoint answers {allowed}");
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message);
        error.push_header(ALLOW, allowed);
        error
    }

    pub(crate) fn panicked() -> Self {
        let mut error = Self::internal();
        error.cause = Some("the handler panicked".into());
        error
    }

    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "internal error; the server's log says more")
    }

    pub(crate) fn unavailable() -> Self {
        Self::unavailable_because("the registry cannot do this at present; try again")
    }

    pub(crate) fn unavailable_because(why: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", why);
        error.push_header(RETRY_AFTER, "5");
        error
    }

    /// Whether the client can go on with its upload from where that stands.
    pub(crate) fn can_resume(&self) -> bool {
        self.status == StatusCode::RANGE_NOT_SATISFIABLE
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.code == "SIZE_INVALID"
            || self.code == "BLOB_UPLOAD_INVALID"
    }

    /// Adds a header to the answer.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.push_header(name, value);
        self
    }

    fn push_header(&mut self, name: HeaderName, value: &str) {
        self.headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
    }

    /// The answer; a cause goes to the log on the way.
    pub(crate) fn into_response(self) -> Response<Body> {
        if let Some(cause) = &self.cause {
            if self.status.is_server_error() {
                tracing::error!(cause = &**cause, "request failed");
            } else {
                tracing::debug!(cause = &**cause, "request failed");
            }
        }
        let error = |detail: Option<&String>| match detail {
            None => json!({"code": self.code, "message": self.message}),
            Some(detail) => json!({"code": self.code, "message": self.message, "detail": detail}),
        };
        let errors: Vec<_> = if self.details.is_empty() {
            vec![error(None)]
        } else {
            self.details.iter().map(|detail| error(Some(detail))).collect()
        };
        let mut response = Response::new(Body::from(json!({ "errors": errors }).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        // Who knows what we are called turns it into a header.
        let Refusal { wanted, refused, claimed, judged } =
            self.refusal.map(|refusal| *refusal).unwrap_or_default();
        if let Some((judged, phrase)) = judged {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
            response.headers_mut().insert(VARY, HeaderValue::from_static("Authorization"));
            response.extensions_mut().insert(judged);
            if let Some(phrase) = phrase {
                response.extensions_mut().insert(phrase);
            }
        }
        if let Some(wanted) = wanted {
            response.extensions_mut().insert(wanted);
        }
        if let Some(refused) = refused {
            response.extensions_mut().insert(refused);
        }
        if let Some(claimed) = claimed {
            response.extensions_mut().insert(claimed);
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let mut api = match &error {
            Error::InvalidName { .. } => Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message),
            Error::InvalidTag(_) | Error::InvalidManifest(_) => Self::manifest_invalid(message),
            Error::Digest(_) | Error::DigestMismatch { .. } => Self::digest_invalid(message),
            Error::SizeMismatch { .. } => Self::size_invalid(message),
            Error::MissingBlobs(missing) => {
                let mut api = Self::new(
                    StatusCode::BAD_REQUEST,
                    "MANIFEST_BLOB_UNKNOWN",
                    "the repository does not have this blob; push it first",
                );
                api.details = missing.iter().map(ToString::to_string).collect();
                api
            }
            Error::NotFound(what) => {
                let code = match what {
                    What::Repository => "NAME_UNKNOWN",
                    What::Blob => "BLOB_UNKNOWN",
                    What::Manifest => "MANIFEST_UNKNOWN",
                    What::Upload => "BLOB_UPLOAD_UNKNOWN",
                    What::Robot | What::RefreshToken | What::Allowance => "UNSUPPORTED",
                };
                Self::new(StatusCode::NOT_FOUND, code, message)
            }
            Error::OffsetMismatch { .. } | Error::UploadTaken => Self::upload_invalid(message),
            Error::Referenced { .. } => Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
                .with_header(ALLOW, "GET, HEAD"),
            Error::ConditionFailed => Self::new(StatusCode::PRECONDITION_FAILED, "DENIED", message),
            Error::TagImmutable { .. } | Error::TagProtected { .. } | Error::TagNotEvidence { .. } => {
                Self::new(StatusCode::FORBIDDEN, "DENIED", message)
            }
            Error::Unreleased(_) => Self::denied(message),
            Error::LayersDropped { .. } => Self::new(StatusCode::CONFLICT, "DENIED", message),
            Error::RobotExists(_) => Self::unsupported(message),
            Error::Body(_) => Self::body_broken(message),
            Error::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message),
            Error::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message),
            Error::Reserve { .. } => {
                let message = format!("{message} (limits.disk_reserve)");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message)
            }
            Error::Data(_) => Self::unavailable_because(message),
            Error::Io { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the registry's disk failed; the server's log says more",
            ),
            Error::Unavailable(_) | Error::CommitUnknown(_) => Self::unavailable(),
            _ => Self::internal(),
        };
        if error.is_internal() {
            api.cause = Some(error.to_string().into());
        }
        api
    }
}

impl From<DigestError> for ApiError {
    fn from(error: DigestError) -> Self {
        Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use stella_storage::Digest;

    async fn body(error: ApiError) -> serde_json::Value {
        let bytes = error.into_response().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn each_missing_blob_is_an_error_of_its_own() {
        let digest = |byte: &str| -> Digest { format!("sha256:{}", byte.repeat(32)).parse().unwrap() };
        let body = body(Error::MissingBlobs(vec![digest("aa"), digest("bb")]).into()).await;
        assert_eq!(body["errors"].as_array().unwrap().len(), 2);
        assert_eq!(body["errors"][1]["code"], "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(body["errors"][1]["detail"], digest("bb").to_string());
    }

    #[tokio::test]
    async fn what_is_for_the_operator_never_reaches_a_client() {
        let body = body(Error::Corrupt("/srv/secret/path is damaged".to_owned()).into()).await;
        assert!(!body.to_string().contains("secret"), "{body}");
    }

    #[test]
    fn a_transient_fault_says_when_to_try_again() {
        let response = ApiError::from(Error::Unavailable(String::new())).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(RETRY_AFTER));
    }
}
