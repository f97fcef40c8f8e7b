// SPDX-License-Identifier: AGPL-3.0-only
//! Pushing a blob: not at all if it is there, by a mount from another repository of the same registry, in one
//! PUT, or, where that is refused as too large (413, mostly by a proxy), in chunks. An upload goes where its
//! `Location` says, kept as the registry wrote it; what we log in with goes there only if that is the
//! registry itself.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use stella_storage::{Digest, RepoName};
use tokio::time::sleep;

use super::auth::Scopes;
use super::content::{Content, Failure, Upload};
use super::error::{Error, Result};
use super::registry::{Call, location};
use super::{Access, Remote};

/// Chunks begin at this size, and shrink where that is too large still.
const CHUNK: usize = 16 << 20;
const SMALLEST_CHUNK: usize = 256 << 10;
const LARGEST_CHUNK: usize = 64 << 20;
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// What it took to get a blob there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It was there.
    Existed,
    /// The registry had it in another repository.
    Mounted,
    /// It was sent.
    Sent,
}

/// An upload that is open.
struct Session {
    url: Url,
    least: usize,
}

impl Remote {
    /// Makes sure that a blob is there. `open` gives its bytes, each time from the start; `from` is a
    /// repository of the same registry that has it.
    pub(crate) async fn push_blob<F, Fut>(
        &self,
        digest: &Digest,
        from: Option<&RepoName>,
        open: F,
    ) -> Result<Pushed>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Content>>,
    {
        if self.has_blob(digest).await? {
            return Ok(Pushed::Existed);
        }
        let mut session = match from {
            Some(from) => match self.mount(digest, from).await? {
                Some(session) => Some(session),
                None => return Ok(Pushed::Mounted),
            },
            None => None,
        };
        let mut chunk = None;
        let mut failures = 0;
        loop {
            let next = match session.take() {
                Some(session) => session,
                None => self.begin(digest).await?,
            };
            let sent = match chunk {
                None => self.in_one(next, digest, &open).await,
                Some(size) => self.in_chunks(next, digest, size, &open).await,
            };
            let error = match sent {
                Ok(()) => return Ok(Pushed::Sent),
                Err(error) => error,
            };
            match (&error, chunk) {
                (Error::TooLarge(_), None) => chunk = Some(CHUNK),
                (Error::TooLarge(_), Some(size)) if size > SMALLEST_CHUNK => chunk = Some(size / 4),
                _ => {
                    failures += 1;
                    match self.registry.patience.after(failures, &error) {
                        Some(pause) => sleep(pause).await,
                        None => return Err(error.about(digest)),
                    }
                }
            }
        }
    }

    /// Asks for a blob that the registry has elsewhere; gives an upload if it will not.
    async fn mount(&self, digest: &Digest, from: &RepoName) -> Result<Option<Session>> {
        let mut call = self.call(Method::POST, Access::Push, "blobs/uploads/")?.body(Bytes::new());
        call.url
            .query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.as_str());
        call.scopes.insert(format!("repository:{from}:pull"));
        match self.registry.send(&call).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(None),
            Ok(response) if response.status() == StatusCode::ACCEPTED => session(&response).map(Some),
            // Who may not mount may push.
            Ok(_) | Err(Error::Auth(_) | Error::Policy(_)) => self.begin(digest).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, digest: &Digest) -> Result<Session> {
        let mut call = self.call(Method::POST, Access::Push, "blobs/uploads/")?.body(Bytes::new());
        if let Digest::Sha512(_) = digest {
            call.url.query_pairs_mut().append_pair("digest-algorithm", "sha512");
        }
        let response = self.registry.send(&call).await?;
        match response.status() {
            StatusCode::ACCEPTED => session(&response),
            _ => Err(self.registry.refusal(response).await),
        }
    }

    async fn in_one<F, Fut>(&self, session: Session, digest: &Digest, open: &F) -> Result<()>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Content>>,
    {
        let content = open().await?;
        let (size, sent, failure) = (content.size, Arc::new(AtomicU64::new(0)), Failure::default());
        let body = Upload::new(content, Arc::clone(&sent), Arc::clone(&failure));
        let call = self.to(Method::PUT, closing(session.url, digest)).header(header::CONTENT_TYPE, OCTETS);
        let outcome = self.registry.stream(&call, reqwest::Body::wrap(body), size, sent).await;
        // What went wrong with the bytes explains whatever the other side made of it.
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        self.closed(outcome?).await
    }

    async fn in_chunks<F, Fut>(&self, session: Session, digest: &Digest, size: usize, open: &F) -> Result<()>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Content>>,
    {
        let mut content = open().await?;
        let size = size.max(session.least);
        let (mut url, mut start) = (session.url, 0);
        let mut chunk = BytesMut::new();
        loop {
            let piece = content.next().await.transpose()?;
            let ended = piece.is_none();
            chunk.extend_from_slice(&piece.unwrap_or_default());
            while chunk.len() >= size || (ended && !chunk.is_empty()) {
                let part = chunk.split_to(size.min(chunk.len())).freeze();
                let end = start + part.len() as u64;
                let range = HeaderValue::from_str(&format!("{start}-{}", end - 1));
                let call = self.to(Method::PATCH, url);
                let call = call.header(header::CONTENT_TYPE, OCTETS).body(part);
                let call = call
                    .header(header::CONTENT_RANGE, range.map_err(|error| Error::Failed(error.to_string()))?);
                let response = self.registry.send(&call).await?;
                match response.status() {
                    StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {}
                    // A chunk that was sent twice, most likely: begin anew.
                    StatusCode::RANGE_NOT_SATISFIABLE => {
                        return Err(Error::transient("the registry lost track of an upload"));
                    }
                    _ => return Err(self.registry.refusal(response).await),
                }
                (url, start) = (location(&response)?, end);
            }
            if ended {
                break;
            }
        }
        let call = self.to(Method::PUT, closing(url, digest)).header(header::CONTENT_TYPE, OCTETS);
        let response = self.registry.send(&call.body(Bytes::new())).await?;
        self.closed(response).await
    }

    async fn closed(&self, response: Response) -> Result<()> {
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => Ok(()),
            _ => Err(self.registry.refusal(response).await),
        }
    }

    fn to(&self, method: Method, url: Url) -> Call {
        let scopes: Scopes = self.scopes(Access::Push);
        Call::new(method, url, scopes)
    }
}

fn session(response: &Response) -> Result<Session> {
    let least = response.headers().get(CHUNK_MIN).and_then(|least| least.to_str().ok()?.parse().ok());
    // A registry does not tell us how much memory to take.
    Ok(Session { url: location(response)?, least: least.unwrap_or(0).min(LARGEST_CHUNK) })
}

/// The URL that closes an upload: the registry's own, with the digest behind what is there.
fn closing(mut url: Url, digest: &Digest) -> Url {
    let digest = format!("digest={digest}");
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{digest}"),
        _ => digest,
    };
    url.set_query(Some(&query));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_of_an_upload_is_kept_as_it_is() {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let close = |url: &str| closing(url.parse().unwrap(), &digest).to_string();
        assert_eq!(
            close("https://r.test/v2/a/u/1?_state=a%2Fb=&x=%3A+"),
            format!("https://r.test/v2/a/u/1?_state=a%2Fb=&x=%3A+&digest={digest}")
        );
        assert_eq!(close("http://r.test/u"), format!("http://r.test/u?digest={digest}"));
        assert_eq!(close("http://r.test/u?"), format!("http://r.test/u?digest={digest}"));
    }
}
