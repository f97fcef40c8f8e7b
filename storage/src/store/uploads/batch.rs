// SPDX-License-Identifier: AGPL-3.0-only
//! What has arrived of an upload and is not written yet, in blocks of the memory budget.
//!
//! Bytes are copied from the connection's buffer, which is then free for what comes next: so an upload
//! holds exactly what it took from the budget, however small the pieces in which its client sends.
//!
//! Where a byte lies in a page of memory is where it will lie in a page of the file: only so can whole pages be
//! written past the page cache (`local/draft.rs`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::budget::{Share, Taken};
use crate::disk::PAGE;

/// What is hashed and written at once.
pub(super) const BATCH: usize = 1 << 20;
/// By how much a batch grows: whole pages.
pub(super) const BLOCK: usize = 64 << 10;
/// Blocks that are kept for the next upload.
const POOLED: usize = 16;

/// The share of uploads, and blocks that are not in use.
#[derive(Clone)]
pub(in crate::store) struct Intake {
    memory: Share,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Intake {
    pub(in crate::store) fn new(memory: &Share) -> Self {
        Intake { memory: memory.clone(), idle: Arc::default() }
    }

    /// An empty batch with room for one block, as soon as there is memory for it; `None` once the store
    /// closes. Its first byte will be byte `offset` of the file.
    pub(super) async fn begin(&self, offset: u64) -> Option<Batch> {
        let taken = self.memory.take(BLOCK).await?;
        // Less than a page.
        let skipped = usize::try_from(offset % PAGE as u64).unwrap_or(0);
        Some(Batch { intake: self.clone(), taken, blocks: Vec::new(), skipped, len: 0 })
    }

    /// An empty block whose bytes begin `skipped` bytes behind the begin of a page.
    fn block(&self, skipped: usize) -> Block {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = idle.unwrap_or_else(|| Vec::with_capacity(BLOCK + PAGE));
        let page = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        bytes.resize(page + skipped, 0);
        Block { begin: bytes.len(), end: page + BLOCK, bytes }
    }
}

/// Up to [`BLOCK`] bytes.
pub(super) struct Block {
    bytes: Vec<u8>,
    /// What lies before is not part of it.
    begin: usize,
    /// Where it is full.
    end: usize,
}

impl Block {
    /// Bytes that still find room.
    fn room(&self) -> usize {
        self.end.saturating_sub(self.bytes.len())
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }
}

/// Bytes in their order.
pub(super) struct Batch {
    intake: Intake,
    taken: Taken,
    blocks: Vec<Block>,
    /// How far behind the begin of a page the first byte lies.
    skipped: usize,
    len: usize,
}

impl Batch {
    /// Copies as much of a piece as finds room, and returns how much. A batch that finds no more memory, or
    /// is full, is to be written as it is.
    pub(super) fn fill(&mut self, piece: &[u8]) -> usize {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.blocks.last().is_none_or(|block| block.room() == 0) && !self.grow() {
                break;
            }
            if let Some(block) = self.blocks.last_mut() {
                let (now, later) = rest.split_at(block.room().min(rest.len()));
                block.bytes.extend_from_slice(now);
                rest = later;
            }
        }
        let copied = piece.len() - rest.len();
        self.len += copied;
        copied
    }

    /// Whether nothing more finds room.
    pub(super) fn is_full(&self) -> bool {
        self.skipped + self.len >= BATCH
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes, in blocks.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn grow(&mut self) -> bool {
        if self.blocks.len() * BLOCK >= BATCH {
            return false;
        }
        // The first block was taken at the beginning.
        if !self.blocks.is_empty() {
            match self.intake.memory.try_take(BLOCK) {
                Some(more) => self.taken.merge(more),
                None => return false,
            }
        }
        let skipped = if self.blocks.is_empty() { self.skipped } else { 0 };
        self.blocks.push(self.intake.block(skipped));
        true
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut idle = self.intake.idle.lock().unwrap_or_else(PoisonError::into_inner);
        for Block { mut bytes, .. } in self.blocks.drain(..) {
            if idle.len() < POOLED {
                bytes.clear();
                idle.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_batch_takes_what_it_holds_and_gives_it_back() {
        let memory = Share::of(3 * BLOCK);
        let intake = Intake::new(&memory);
        let mut batch = intake.begin(0).await.unwrap();
        assert_eq!(batch.fill(&[1; 10]), 10);
        assert_eq!(memory.held(), BLOCK);
        assert_eq!(batch.fill(&vec![2; 4 * BLOCK]), 3 * BLOCK - 10, "as much as there is memory for");
        assert!(!batch.is_full());
        assert_eq!((memory.held(), batch.len()), (3 * BLOCK, 3 * BLOCK));
        drop(batch);
        assert_eq!(memory.held(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_full_at_its_size() {
        let intake = Intake::new(&Share::of(4 * BATCH));
        let mut batch = intake.begin(0).await.unwrap();
        assert_eq!(batch.fill(&vec![3; 2 * BATCH]), BATCH);
        assert!(batch.is_full());
        assert_eq!(batch.fill(b"more"), 0);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_and_lies_in_pages_as_in_the_file(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100_000), 0..8),
            offset in 0u64..20_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let intake = Intake::new(&Share::of(4 * BATCH));
            // Twice, so that the second time blocks come from the pool.
            for _ in 0..2 {
                let mut batch = runtime.block_on(intake.begin(offset)).unwrap();
                for piece in &pieces {
                    prop_assert_eq!(batch.fill(piece), piece.len());
                }
                let blocks: Vec<&[u8]> = batch.blocks().iter().map(Block::as_ref).collect();
                prop_assert_eq!(blocks.concat(), pieces.concat());
                let mut at = usize::try_from(offset).unwrap();
                for block in blocks {
                    prop_assert_eq!(block.as_ptr().addr() % PAGE, at % PAGE);
                    at += block.len();
                }
            }
        }
    }
}
