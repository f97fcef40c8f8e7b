// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs of a registry (end-2), as verified streams. A connection that is lost is taken up again where it
//! broke; one that stands still, or brings next to nothing, is given up.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use stella_storage::Digest;
use tokio::time::{Instant, sleep, timeout};

use super::content::Content;
use super::error::{Error, Result};
use super::wire::explain;
use super::{Access, Remote};

/// So many bytes make good for the failures before them: a byte for each connection would go on for ever.
const PROGRESS: u64 = 256 << 10;
/// The least that a connection must bring within `patience.idle`: one byte now and then is no progress.
const LEAST: u64 = 1 << 10;

struct Reading {
    remote: Remote,
    digest: Digest,
    size: u64,
    position: u64,
    response: Option<Response>,
    /// Bytes to drop, where a registry begins anew.
    skip: u64,
    /// Failures without much progress between them.
    failures: u32,
    /// Where the last failure was.
    failed_at: u64,
    window: (Instant, u64),
}

impl Remote {
    /// Whether a blob is there.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let call = self.call(Method::HEAD, Access::Push, &format!("blobs/{digest}"))?;
        let response = self.registry.send(&call).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.registry.refusal(response).await),
        }
    }

    /// A blob of at most `most` bytes, whose size is not known; it has that digest.
    pub(crate) async fn small_blob(&self, digest: &Digest, most: usize) -> Result<Bytes> {
        let algorithm = digest.supported().map_err(|error| Error::Failed(error.to_string()))?;
        let call = self.call(Method::GET, Access::Pull, &format!("blobs/{digest}"))?;
        let bytes = self.registry.exchange(&call, most).await.map_err(|error| error.about(digest))?.body;
        if algorithm.digest(&bytes) != *digest {
            return Err(Error::Integrity(format!("{digest}: the registry sent something else")));
        }
        Ok(bytes)
    }

    /// The bytes of a blob, of which `size` is known from its descriptor.
    pub(crate) async fn blob(&self, digest: &Digest, size: u64) -> Result<Content> {
        let mut reading = Reading {
            remote: self.clone(),
            digest: digest.clone(),
            size,
            position: 0,
            response: None,
            skip: 0,
            failures: 0,
            failed_at: 0,
            window: (Instant::now(), 0),
        };
        // That it is not there at all is told before anything else begins.
        reading.open().await?;
        let pieces = stream::try_unfold(reading, async |mut reading| {
            Ok(reading.next().await?.map(|piece| (piece, reading)))
        });
        Content::verified(digest, size, pieces)
    }
}

impl Reading {
    async fn open(&mut self) -> Result<()> {
        let registry = &self.remote.registry;
        let mut call = self.remote.call(Method::GET, Access::Pull, &format!("blobs/{}", self.digest))?;
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            call = call.header(header::RANGE, range.map_err(|error| Error::Failed(error.to_string()))?);
        }
        let response = registry.send(&call).await?;
        self.skip = match response.status() {
            StatusCode::OK => self.position,
            StatusCode::PARTIAL_CONTENT if self.continues(&response) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(Error::Failed("the registry sent another range than was asked for".to_owned()));
            }
            _ => return Err(registry.refusal(response).await.about(&self.digest)),
        };
        let expected = self.size - self.position + self.skip;
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            return Err(Error::Integrity(format!(
                "{} has {length} bytes there, and its descriptor says {expected}",
                self.digest
            )));
        }
        self.window = (Instant::now(), 0);
        self.response = Some(response);
        Ok(())
    }

    /// Whether a partial answer begins where we stopped.
    fn continues(&self, response: &Response) -> bool {
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        range.is_some_and(|range| range.starts_with(&format!("bytes {}-", self.position)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let error = match self.receive().await {
                Ok(Some(piece)) => return Ok(Some(piece)),
                // More than the whole would be the next piece, which nobody needs to see: the size is checked.
                Ok(None) if self.position >= self.size => return Ok(None),
                Ok(None) => Error::transient(format!("the registry sent only a part of {}", self.digest)),
                Err(error) => error,
            };
            self.response = None;
            if self.position - self.failed_at >= PROGRESS {
                self.failures = 0;
            }
            (self.failures, self.failed_at) = (self.failures + 1, self.position);
            match self.remote.registry.patience.after(self.failures, &error) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.response.is_none() {
                self.open().await?;
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            let slow = || Error::transient(format!("the registry hardly sends any more of {}", self.digest));
            let idle = self.remote.registry.patience.idle;
            let received = timeout(idle, response.chunk()).await.map_err(|_| slow())?;
            let Some(mut piece) = received.map_err(|error| explain(error, "the connection was lost"))? else {
                return Ok(None);
            };
            let (since, bytes) = &mut self.window;
            *bytes += piece.len() as u64;
            if since.elapsed() >= idle {
                if *bytes < LEAST.min(self.size - self.position) {
                    return Err(slow());
                }
                self.window = (Instant::now(), 0);
            }
            let dropped = self.skip.min(piece.len() as u64);
            self.skip -= dropped;
            let piece = piece.split_off(usize::try_from(dropped).unwrap_or(piece.len()));
            if !piece.is_empty() {
                self.position += piece.len() as u64;
                if self.position > self.size {
                    return Err(Error::Integrity(format!(
                        "{} is longer than its descriptor says",
                        self.digest
                    )));
                }
                return Ok(Some(piece));
            }
        }
    }
}
