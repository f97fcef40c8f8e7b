// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a range of a blob as a stream of large pieces.
//!
//! What lies in the page cache is read at once, on the calling thread (`preadv2` with
//! `RWF_NOWAIT`); only a miss goes to the blocking pool. No memory map: a disk error would end the
//! process instead of one request. Buffers come from a small pool and return to it when the
//! network is done with them.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::disk::DiskFile;
use crate::error::{Error, Result};

/// Large enough for few calls, small enough for the processor's cache.
const PIECE: usize = 256 << 10;
const POOLED: usize = 32;
/// EAGAIN; EOPNOTSUPP and ENOSYS, where the file system or the kernel cannot say; EINTR.
const NOT_CACHED: [io::ErrorKind; 3] =
    [io::ErrorKind::WouldBlock, io::ErrorKind::Unsupported, io::ErrorKind::Interrupted];

/// A stream of a blob's bytes.
pub struct BlobReader {
    file: Arc<DiskFile>,
    path: Arc<Path>,
    rest: Range<u64>,
    buffers: BufferPool,
    waiting: Option<JoinHandle<io::Result<Buffer>>>,
}

impl BlobReader {
    pub(super) fn new(file: Arc<DiskFile>, path: Arc<Path>, range: Range<u64>, buffers: BufferPool) -> Self {
        BlobReader { file, path, rest: range, buffers, waiting: None }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.rest.end.saturating_sub(self.rest.start)
    }

    fn deliver(&mut self, buffer: Buffer) -> Result<Bytes> {
        if buffer.filled == 0 {
            let path = self.path.display();
            return Err(Error::Corrupt(format!("{path} ends at byte {}", self.rest.start)));
        }
        self.rest.start += buffer.filled as u64;
        Ok(Bytes::from_owner(buffer))
    }
}

impl Stream for BlobReader {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(waiting) = &mut this.waiting {
                let read = ready!(Pin::new(waiting).poll(context));
                this.waiting = None;
                let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
                let piece = read.map_err(|error| Error::io("read", &*this.path, error));
                return Poll::Ready(Some(piece.and_then(|buffer| this.deliver(buffer))));
            }
            if this.remaining() == 0 {
                return Poll::Ready(None);
            }
            let want = usize::try_from(this.remaining()).unwrap_or(PIECE).min(PIECE);
            let mut buffer = this.buffers.take();
            let at = this.rest.start;
            match this.file.read_cached(&mut buffer.bytes[..want], at) {
                Ok(filled) => {
                    buffer.filled = filled;
                    return Poll::Ready(Some(this.deliver(buffer)));
                }
                // Not cached, or the file system cannot say.
                Err(error) if NOT_CACHED.contains(&error.kind()) => {
                    let file = Arc::clone(&this.file);
                    this.waiting = Some(tokio::task::spawn_blocking(move || {
                        buffer.filled = file.read_full_at(&mut buffer.bytes[..want], at)?;
                        Ok(buffer)
                    }));
                }
                Err(error) => return Poll::Ready(Some(Err(Error::io("read", &*this.path, error)))),
            }
        }
    }
}

/// Buffers that are not in use.
#[derive(Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Box<[u8]>>>>);

impl BufferPool {
    fn take(&self) -> Buffer {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = pooled.unwrap_or_else(|| vec![0; PIECE].into());
        Buffer { bytes, filled: 0, pool: self.clone() }
    }
}

struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    pool: BufferPool,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED {
            pool.push(std::mem::take(&mut self.bytes));
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
