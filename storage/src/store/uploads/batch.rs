// SPDX-License-Identifier: AGPL-3.0-only
//! What has arrived of an upload and is not written yet, in blocks of the memory budget.
//!
//! Bytes are copied from the connection's buffer, which is then free for what comes next: so an upload
//! holds exactly what it took from the budget, however small the pieces in which its client sends.
//!
//! Where a byte lies in a page of memory is where it will lie in a page of the file: only so can whole pages be
//! written past the page cache (`local/draft.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::budget::{Share, Taken};
use crate::disk::PAGE;

/// What is hashed and written at once.
pub(super) const BATCH: usize = 1 << 20;
/// By how much a batch grows: whole pages.
pub(super) const BLOCK: usize = 64 << 10;
/// Blocks that are kept for the next upload, however long none comes.
const POOLED: usize = 16;

/// The share of uploads, and blocks that are not in use.
#[derive(Clone)]
pub(in crate::store) struct Intake {
    memory: Share,
    pool: Arc<Mutex<Pool>>,
}

/// Blocks are mapped, not taken from the heap: of many that were in use at once the heap would keep what lies between
/// other things, and that is most of it.
#[derive(Default)]
struct Pool {
    idle: Vec<MmapMut>,
    /// Blocks that nobody has wanted since [`Intake::trim`] was called last.
    spare: usize,
}

impl Intake {
    pub(in crate::store) fn new(memory: &Share) -> Self {
        Intake { memory: memory.clone(), pool: Arc::default() }
    }

    /// An empty batch with room for one block, as soon as there is memory for it; `None` once the store
    /// closes, or if the system has no memory. Its first byte will be byte `offset` of the file.
    pub(super) async fn begin(&self, offset: u64) -> Option<Batch> {
        let taken = self.memory.take(BLOCK).await?;
        // Less than a page.
        let skipped = usize::try_from(offset % PAGE as u64).unwrap_or(0);
        let blocks = vec![self.block(skipped)?];
        Some(Batch { intake: self.clone(), taken, blocks, skipped, len: 0 })
    }

    /// Gives back blocks that were not wanted since it was called last.
    pub(in crate::store) fn trim(&self) {
        let mut pool = self.pool();
        let unwanted = pool.spare.saturating_sub(POOLED);
        let kept = pool.idle.len().saturating_sub(unwanted);
        let unwanted = pool.idle.split_off(kept);
        pool.spare = pool.idle.len();
        drop(pool);
        drop(unwanted);
    }

    /// An empty block whose bytes begin `skipped` bytes behind the begin of a page; `None` if the system has no memory.
    fn block(&self, skipped: usize) -> Option<Block> {
        let idle = {
            let mut pool = self.pool();
            let idle = pool.idle.pop();
            pool.spare = pool.spare.min(pool.idle.len());
            idle
        };
        let memory = match idle {
            Some(memory) => memory,
            None => MmapMut::map_anon(BLOCK)
                .inspect_err(|error| tracing::error!(%error, "cannot map memory"))
                .ok()?,
        };
        Some(Block { memory, begin: skipped, end: skipped })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to [`BLOCK`] bytes.
pub(super) struct Block {
    /// Whole pages.
    memory: MmapMut,
    /// What lies before is not part of it.
    begin: usize,
    /// Nor what lies from here on.
    end: usize,
}

impl Block {
    /// Copies as much of a piece as finds room, and returns how much.
    fn fill(&mut self, piece: &[u8]) -> usize {
        let room = self.memory.get_mut(self.end..).unwrap_or_default();
        let copied = room.len().min(piece.len());
        if let (Some(room), Some(piece)) = (room.get_mut(..copied), piece.get(..copied)) {
            room.copy_from_slice(piece);
        }
        self.end += copied;
        copied
    }

    fn is_full(&self) -> bool {
        self.end >= self.memory.len()
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(self.begin..self.end).unwrap_or_default()
    }
}

/// Bytes in their order.
pub(super) struct Batch {
    intake: Intake,
    taken: Taken,
    /// At least one.
    blocks: Vec<Block>,
    /// How far behind the begin of a page the first byte lies.
    skipped: usize,
    len: usize,
}

impl Batch {
    /// Copies as much of a piece as finds room, and returns how much. A batch that finds no more memory, or
    /// is full, is to be written as it is.
    pub(super) fn fill(&mut self, piece: &[u8]) -> usize {
        let mut copied = 0;
        while let Some(rest) = piece.get(copied..).filter(|rest| !rest.is_empty()) {
            if self.blocks.last().is_none_or(Block::is_full) && !self.grow() {
                break;
            }
            copied += self.blocks.last_mut().map_or(0, |block| block.fill(rest));
        }
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
        let Some(more) = self.intake.memory.try_take(BLOCK) else { return false };
        let Some(block) = self.intake.block(0) else { return false };
        self.taken.merge(more);
        self.blocks.push(block);
        true
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let blocks = self.blocks.drain(..).map(|block| block.memory);
        self.intake.pool().idle.extend(blocks);
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

    #[tokio::test]
    async fn blocks_that_nobody_wants_go_back_to_the_system() {
        let intake = Intake::new(&Share::of(64 * BLOCK));
        let idle = || intake.pool().idle.len();
        let mut batches = Vec::new();
        for _ in 0..40 {
            batches.push(intake.begin(0).await.unwrap());
        }
        drop(batches);
        assert_eq!(idle(), 40, "they may be wanted again at once");
        intake.trim();
        assert_eq!(idle(), 40, "they were in use a moment ago");
        let busy: Vec<_> = [intake.begin(0).await, intake.begin(0).await].into_iter().flatten().collect();
        drop(busy);
        intake.trim();
        assert_eq!(idle(), 18, "two of them were wanted");
        intake.trim();
        assert_eq!(idle(), POOLED);
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
