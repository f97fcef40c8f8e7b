// SPDX-License-Identifier: AGPL-3.0-only
//! An open blob file, and the buffers into which its readers read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::budget::{Share, Taken};
use crate::disk::DiskFile;

/// Large enough for few calls, small enough for the processor's cache.
pub(super) const PIECE: usize = 256 << 10;
/// What a reader takes that finds the share empty.
const SMALL: usize = 16 << 10;
const POOLED: usize = 16;

/// An open file, and where its readers find memory.
pub(super) struct OpenBlob {
    pub(super) file: DiskFile,
    pub(super) path: PathBuf,
    pub(super) buffers: BufferPool,
    pub(super) memory: Share,
}

/// Buffers that are not in use.
#[derive(Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Box<[u8]>>>>);

impl BufferPool {
    /// A large buffer if the share has room for it, else a small one.
    pub(super) fn take(&self, memory: &Share) -> Buffer {
        let Some(taken) = memory.try_take(PIECE) else {
            return Buffer { bytes: vec![0; SMALL].into(), filled: 0, pooled: None };
        };
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = pooled.unwrap_or_else(|| vec![0; PIECE].into());
        Buffer { bytes, filled: 0, pooled: Some((self.clone(), taken)) }
    }
}

pub(super) struct Buffer {
    pub(super) bytes: Box<[u8]>,
    pub(super) filled: usize,
    /// Where a large one goes back to, and what it takes of the budget.
    pooled: Option<(BufferPool, Taken)>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some((pool, _taken)) = &self.pooled else { return };
        let mut pool = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_the_share_empty_goes_on_with_small_pieces() {
        let (pool, memory) = (BufferPool::default(), Share::of(2 * PIECE));
        let held = [pool.take(&memory), pool.take(&memory)];
        assert!(held.iter().all(|buffer| buffer.bytes.len() == PIECE));
        assert_eq!(pool.take(&memory).bytes.len(), SMALL);
        drop(held);
        assert_eq!(pool.take(&memory).bytes.len(), PIECE);
        assert_eq!(memory.held(), 0);
    }
}
