// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a range of a blob as a stream of large pieces.
//!
//! What lies in the page cache is read at once, on the calling thread (`preadv2` with
//! `RWF_NOWAIT`); only a miss goes to the blocking pool. No memory map: a disk error would end the
//! process instead of one request. Buffers come from a small pool and return to it when the
//! network is done with them.
//!
//! Each piece is taken from the budget's share of answers. While slow clients hold all of it, others go
//! on with small pieces, so that nobody waits for them.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::local::open::{Buffer, OpenBlob};
use crate::local::part::FilePart;

/// EAGAIN; EOPNOTSUPP and ENOSYS, where the file system or the kernel cannot say; EINTR.
const NOT_CACHED: [io::ErrorKind; 3] =
    [io::ErrorKind::WouldBlock, io::ErrorKind::Unsupported, io::ErrorKind::Interrupted];

/// A stream of a blob's bytes.
pub struct BlobReader {
    source: Source,
    rest: Range<u64>,
}

enum Source {
    /// What is left of bytes in memory.
    Memory(Bytes),
    File {
        blob: Arc<OpenBlob>,
        waiting: Option<JoinHandle<io::Result<Buffer>>>,
    },
}

impl BlobReader {
    pub(super) fn new(blob: Arc<OpenBlob>, range: Range<u64>) -> Self {
        BlobReader { source: Source::File { blob, waiting: None }, rest: range }
    }

    /// A range of bytes that are in memory.
    pub(crate) fn of(bytes: &Bytes, range: Range<u64>) -> Self {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let inside = at(range.start).min(at(range.end))..at(range.end);
        BlobReader { source: Source::Memory(bytes.slice(inside)), rest: range }
    }

    /// What comes next, up to `most` bytes, as a part of the file; the stream goes on behind it. `None` if it
    /// lies in no file, or at the end.
    pub fn next_part(&mut self, most: usize) -> Option<FilePart> {
        let Source::File { blob, waiting: None } = &self.source else { return None };
        let end = self.rest.end.min(self.rest.start.saturating_add(most as u64));
        if end <= self.rest.start {
            return None;
        }
        let part = FilePart::new(Arc::clone(blob), self.rest.start..end);
        self.rest.start = end;
        Some(part)
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.rest.end.saturating_sub(self.rest.start)
    }
}

fn deliver(rest: &mut Range<u64>, blob: &OpenBlob, buffer: Buffer) -> Result<Bytes> {
    if buffer.filled == 0 {
        let path = blob.path.display();
        return Err(Error::Corrupt(format!("{path} ends at byte {}", rest.start)));
    }
    rest.start += buffer.filled as u64;
    Ok(Bytes::from_owner(buffer))
}

impl Stream for BlobReader {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let left = self.remaining();
        let BlobReader { source, rest } = &mut *self;
        let (blob, waiting) = match source {
            Source::Memory(bytes) => {
                rest.start += bytes.len() as u64;
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)));
            }
            Source::File { blob, waiting } => (blob, waiting),
        };
        let failed = |error| Error::io("read", &blob.path, error);
        loop {
            if let Some(reading) = waiting {
                let read = ready!(Pin::new(reading).poll(context));
                *waiting = None;
                let read = read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed);
                return Poll::Ready(Some(read.and_then(|buffer| deliver(rest, blob, buffer))));
            }
            if left == 0 {
                return Poll::Ready(None);
            }
            let mut buffer = blob.buffers.take(&blob.memory);
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.bytes.len());
            let at = rest.start;
            match blob.file.read_cached(&mut buffer.bytes[..want], at) {
                Ok(filled) => {
                    buffer.filled = filled;
                    return Poll::Ready(Some(deliver(rest, blob, buffer)));
                }
                // Not cached, or the file system cannot say.
                Err(error) if NOT_CACHED.contains(&error.kind()) => {
                    let open = Arc::clone(blob);
                    *waiting = Some(tokio::task::spawn_blocking(move || {
                        buffer.filled = open.file.read_full_at(&mut buffer.bytes[..want], at)?;
                        Ok(buffer)
                    }));
                }
                Err(error) => return Poll::Ready(Some(Err(failed(error)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_says_that_nothing_is_cached_is_known_by_its_kind() {
        for error in [Errno::AGAIN, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INTR] {
            assert!(NOT_CACHED.contains(&io::Error::from(error).kind()), "{error:?}");
        }
        assert!(!NOT_CACHED.contains(&io::Error::from(Errno::IO).kind()));
    }
}
