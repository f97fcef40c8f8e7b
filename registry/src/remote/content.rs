// SPDX-License-Identifier: AGPL-3.0-only
//! Bytes on their way from one place to another. A [`Content`] yields exactly what its digest names or an
//! error: its last piece is handed out only after the hash of all has been checked.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use sha2::{Digest as _, Sha256, Sha512};
use stella_storage::Digest;

use super::error::{Error, Result};

/// Verified bytes, as a stream.
pub(crate) struct Content {
    /// How many bytes it is.
    pub(crate) size: u64,
    digest: Digest,
    left: u64,
    hasher: Option<Hasher>,
    source: BoxStream<'static, Result<Bytes>>,
    meter: Option<Box<dyn Fn(u64) + Send>>,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn of(digest: &Digest) -> Result<Self> {
        match digest {
            Digest::Sha256(_) => Ok(Hasher::Sha256(Sha256::new())),
            Digest::Sha512(_) => Ok(Hasher::Sha512(Sha512::new())),
            Digest::Other(_) => Err(Error::Failed(format!(
                "{digest} cannot be verified here, so it is not copied; sha256 and sha512 are known"
            ))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

impl Content {
    /// Will yield what `source` yields as long as that is what `digest` and `size` say.
    pub(crate) fn verified(
        digest: &Digest,
        size: u64,
        source: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Result<Self> {
        let hasher = Some(Hasher::of(digest)?);
        Ok(Content { size, digest: digest.clone(), left: size, hasher, source: source.boxed(), meter: None })
    }

    /// Tells `meter` of each piece that is handed out.
    pub(crate) fn metered(mut self, meter: impl Fn(u64) + Send + 'static) -> Self {
        self.meter = Some(Box::new(meter));
        self
    }

    /// All of it, for what is small.
    pub(crate) async fn whole(mut self) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }

    fn check(&mut self, bytes: &Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        let Some(hasher) = &mut self.hasher else {
            return Err(self.wrong("is longer than its descriptor says"));
        };
        if length > self.left {
            return Err(self.wrong("is longer than its descriptor says"));
        }
        hasher.update(bytes);
        self.left -= length;
        if self.left > 0 {
            return Ok(());
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found == self.digest => Ok(()),
            _ => Err(self.wrong("does not have that digest: it was damaged where it is kept, or on its way")),
        }
    }

    fn wrong(&self, how: &str) -> Error {
        Error::Integrity(format!("{} {how}", self.digest))
    }
}

impl Stream for Content {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.source.poll_next_unpin(context)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    let checked = self.check(&bytes);
                    if let (Ok(()), Some(meter)) = (&checked, &self.meter) {
                        meter(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(checked.map(|()| bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // The end: of nothing at all the hash has not been looked at.
                None if self.left == 0 && self.hasher.is_none() => return Poll::Ready(None),
                None if self.left == 0 => {
                    let checked = self.check(&Bytes::new());
                    return Poll::Ready(checked.err().map(Err));
                }
                None => return Poll::Ready(Some(Err(self.wrong("is shorter than its descriptor says")))),
            }
        }
    }
}

/// The error that ended a body: the HTTP client's own says only that there was one.
pub(super) type Failure = Arc<Mutex<Option<Error>>>;

/// A [`Content`] as the body of a request.
pub(super) struct Upload {
    // Never locked: it makes the body `Sync`, which the HTTP client wants.
    content: Mutex<Content>,
    left: u64,
    sent: Arc<AtomicU64>,
    failure: Failure,
}

impl Upload {
    pub(super) fn new(content: Content, sent: Arc<AtomicU64>, failure: Failure) -> Self {
        Upload { left: content.size, content: Mutex::new(content), sent, failure }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let bytes = this.content.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = ready!(bytes.poll_next_unpin(context));
        Poll::Ready(next.map(|next| match next {
            Ok(bytes) => {
                this.left = this.left.saturating_sub(bytes.len() as u64);
                this.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                *this.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error.clone());
                Err(error)
            }
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use stella_storage::Algorithm;

    use super::*;

    fn read(digest: &Digest, size: u64, pieces: &[&'static [u8]]) -> Result<Vec<u8>> {
        let source =
            stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>());
        let mut content = Content::verified(digest, size, source)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut all = Vec::new();
            while let Some(piece) = content.next().await {
                all.extend(piece?);
            }
            Ok(all)
        })
    }

    #[test]
    fn what_comes_out_is_what_the_digest_names() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            assert_eq!(read(&algorithm.digest(b"hello"), 5, &[b"he", b"", b"llo"]).unwrap(), b"hello");
            assert_eq!(read(&algorithm.digest(b""), 0, &[]).unwrap(), b"");
        }
    }

    #[test]
    fn anything_else_is_an_error_before_its_last_piece() {
        let digest = Algorithm::Sha256.digest(b"hello");
        let empty = Algorithm::Sha256.digest(b"");
        let cases: [(&Digest, u64, &[&'static [u8]], &str); 6] = [
            (&digest, 5, &[b"hel", b"lO"], "damaged"),
            (&digest, 5, &[b"hello", b"!"], "longer"),
            (&digest, 4, &[b"hello"], "longer"),
            (&digest, 6, &[b"hello"], "shorter"),
            (&digest, 0, &[], "damaged"),
            (&empty, 0, &[b"x"], "longer"),
        ];
        for (digest, size, pieces, why) in cases {
            let error = read(digest, size, pieces).unwrap_err();
            assert!(matches!(error, Error::Integrity(_)) && error.to_string().contains(why), "{error}");
        }
        let other: Digest = format!("blake3:{}", "0".repeat(64)).parse().unwrap();
        assert!(read(&other, 1, &[b"x"]).is_err());
    }
}
