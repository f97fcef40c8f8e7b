// SPDX-License-Identifier: AGPL-3.0-only
//! What can go wrong with another registry, by what the caller can do about it. A message is for a person:
//! what, where, how to mend it; text that came from a registry is marked as such, shortened and printable.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::text::printable;
use crate::exit;

/// Why something could not be done with a registry or a layout.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Credentials are missing, wrong, or not enough.
    #[error("{0}")]
    Auth(String),
    /// A policy of the registry says no, or not yet.
    #[error("{0}")]
    Policy(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// Bytes are not what their digest, their size or their form says.
    #[error("{0}")]
    Integrity(String),
    /// The same may succeed later.
    #[error("{message}")]
    Transient {
        /// What happened.
        message: String,
        /// When to try again, if the registry said so.
        after: Option<Duration>,
    },
    /// The registry does not want it so big in one piece.
    #[error("{0}")]
    TooLarge(String),
    /// There is more of it than is read.
    #[error("{0}")]
    OverLimit(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What this part of the program gives back.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code that it means.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Error::Usage(_) => exit::USAGE,
            Error::Auth(_) => exit::AUTH,
            Error::Policy(_) => exit::POLICY,
            Error::NotFound(_) => exit::NOT_FOUND,
            Error::Integrity(_) | Error::OverLimit(_) => exit::INTEGRITY,
            Error::Transient { .. } => exit::RETRY,
            Error::TooLarge(_) | Error::Failed(_) => exit::INTERNAL,
        }
    }

    pub(super) fn transient(message: impl Into<String>) -> Self {
        Error::Transient { message: message.into(), after: None }
    }

    /// The same error, saying what it is about.
    pub(crate) fn about(self, what: impl std::fmt::Display) -> Self {
        let with = |message: String| format!("{what}: {message}");
        match self {
            Error::Usage(message) => Error::Usage(with(message)),
            Error::Auth(message) => Error::Auth(with(message)),
            Error::Policy(message) => Error::Policy(with(message)),
            Error::NotFound(message) => Error::NotFound(with(message)),
            Error::Integrity(message) => Error::Integrity(with(message)),
            Error::Transient { message, after } => Error::Transient { message: with(message), after },
            Error::TooLarge(message) => Error::TooLarge(with(message)),
            Error::OverLimit(message) => Error::OverLimit(with(message)),
            Error::Failed(message) => Error::Failed(with(message)),
        }
    }

    /// What an answer that is no success means.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let (code, message) = said(status, body);
        match status {
            StatusCode::FORBIDDEN if headers.contains_key(crate::gate::DECISION) => Error::Policy(message),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Auth(message),
            StatusCode::NOT_FOUND => Error::NotFound(message),
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge(message),
            _ if code.as_deref() == Some("DIGEST_INVALID") => Error::Integrity(message),
            _ if is_transient(status) => Error::Transient { message, after: retry_after(headers) },
            _ => Error::Failed(message),
        }
    }
}

/// Whether a status is one that passes.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 507)
}

/// `Retry-After` in seconds. Dates are left aside: the clocks may differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The code and the text of an error body (OCI distribution-spec, "Error Codes").
fn said(status: StatusCode, body: &[u8]) -> (Option<String>, String) {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        message: Option<String>,
    }
    let errors = serde_json::from_slice::<Body>(body).map(|body| body.errors).unwrap_or_default();
    let code = errors.first().map(|error| error.code.clone());
    let texts = errors.iter().take(3).map(|error| {
        let code = error.code.to_lowercase().replace('_', " ");
        match error.message.as_deref() {
            // Some say in words no more than the code does.
            Some(message) if !message.is_empty() && !message.eq_ignore_ascii_case(&code) => {
                format!("{code}: {message}")
            }
            _ => code,
        }
    });
    let texts = texts.collect::<Vec<_>>().join("; ");
    let text = if texts.is_empty() { status.to_string() } else { texts };
    (code, format!("error response from registry: {}", printable(&text, 1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Error {
        Error::of_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn an_answer_tells_its_exit_code_and_whose_words_they_are() {
        let error =
            of(403, r#"{"errors":[{"code":"DENIED","message":"blocked by policy","detail":{"a":1}}]}"#);
        assert_eq!(error.to_string(), "error response from registry: denied: blocked by policy");
        assert_eq!(error.exit(), exit::AUTH);
        for (status, body, code) in [
            (401, "", exit::AUTH),
            (404, "", exit::NOT_FOUND),
            (400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#, exit::INTEGRITY),
            (429, "", exit::RETRY),
            (503, "<html>", exit::RETRY),
            (400, "", exit::INTERNAL),
        ] {
            assert_eq!(of(status, body).exit(), code, "{status}");
        }
    }

    #[test]
    fn what_only_repeats_the_code_is_said_once() {
        let error = of(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"Manifest unknown"}]}"#);
        assert_eq!(error.to_string(), "error response from registry: manifest unknown");
    }

    #[test]
    fn a_registry_cannot_write_to_the_terminal_as_it_likes() {
        let error = of(400, r#"{"errors":[{"code":"X","message":"a\u001b[2Jb\nc"}]}"#).to_string();
        assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
        let long = format!(r#"{{"errors":[{{"code":"X","message":"{}"}}]}}"#, "x".repeat(100_000));
        assert!(of(400, &long).to_string().len() < 1100);
    }
}
