// SPDX-License-Identifier: AGPL-3.0-only
//! Answers off the wire: read up to a limit of bytes and of time, and what a failed exchange means to a
//! person. How patient we are is a value, so that tests need not wait.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use rustls::CertificateError;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Error, Result};
use super::text::printable;

/// How long we wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection, the head of an answer, and the next bytes of a body.
    pub(crate) idle: Duration,
    /// For the whole of an answer that is not a blob.
    pub(crate) small: Duration,
    /// How often something is tried.
    pub(crate) attempts: u32,
    /// The pause before the second attempt; each later one is twice as long.
    pub(crate) pause: Duration,
    /// The longest `Retry-After` that we wait for.
    pub(crate) longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            idle: Duration::from_mins(1),
            small: Duration::from_mins(2),
            attempts: 4,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// How long to wait after a failure; `None` when it is time to give up. `failures` counts from 1.
    pub(super) fn after(&self, failures: u32, error: &Error) -> Option<Duration> {
        let Error::Transient { after, .. } = error else { return None };
        if failures >= self.attempts {
            return None;
        }
        let doubled = self.pause * 2_u32.saturating_pow(failures - 1).min(64);
        // Not all clients at the same moment: up to half more, by what no clock gives twice.
        let jitter = doubled.mul_f64(f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 512.0);
        let pause = (doubled + jitter).max(after.unwrap_or_default());
        (pause <= self.longest_pause).then_some(pause)
    }
}

/// The body of an answer, at most `limit` bytes of it, which must be there within `patience.small`.
pub(super) async fn whole(mut response: Response, limit: usize, patience: &Patience) -> Result<Bytes> {
    let deadline = Instant::now() + patience.small;
    let too_large = || Error::OverLimit(format!("the answer is larger than {limit} bytes"));
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    loop {
        let late = |_| Error::transient("the registry stopped sending in the middle of an answer");
        let next = timeout(patience.idle, response.chunk());
        let chunk = timeout_at(deadline, next).await.map_err(late)?.map_err(late)?;
        match chunk.map_err(|error| explain(error, "the connection was lost in the middle of an answer"))? {
            Some(chunk) if body.len() + chunk.len() > limit => return Err(too_large()),
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(body.freeze()),
        }
    }
}

/// What a failed exchange means.
pub(super) fn explain(error: reqwest::Error, what: &str) -> Error {
    let tls = tls_error(&error);
    let cause = innermost(&error.without_url());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            reason @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        )) => Error::Failed(format!(
            "{what}: its certificate has another name ({reason}); ask for it by that name"
        )),
        Some(rustls::Error::InvalidCertificate(reason)) => Error::Failed(format!(
            "{what}: its certificate is not trusted ({reason}); name the CA with --cacert FILE or SSL_CERT_FILE"
        )),
        Some(rustls::Error::InvalidMessage(_)) => Error::Failed(format!(
            "{what}: it does not speak TLS; if it is meant to speak plain HTTP, add --plain-http"
        )),
        _ => Error::transient(format!("{what}: {cause}")),
    }
}

/// The TLS error at the bottom of a failed exchange.
pub(super) fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // An I/O error's source is that of the error inside, which it hides.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_obey_the_registry_and_end() {
        let patience = Patience { attempts: 3, pause: Duration::from_secs(1), ..Patience::default() };
        let busy = |after: Option<u64>| Error::Transient {
            message: String::new(),
            after: after.map(Duration::from_secs),
        };
        let first = patience.after(1, &busy(None)).unwrap();
        assert!(first >= Duration::from_secs(1) && first <= Duration::from_millis(1500), "{first:?}");
        assert!(patience.after(2, &busy(None)).unwrap() >= Duration::from_secs(2));
        assert_eq!(patience.after(3, &busy(None)), None);
        assert_eq!(patience.after(1, &busy(Some(7))), Some(Duration::from_secs(7)));
        assert_eq!(patience.after(1, &busy(Some(3600))), None, "who asks for an hour gets an answer now");
        assert_eq!(patience.after(1, &Error::Failed(String::new())), None);
    }
}
