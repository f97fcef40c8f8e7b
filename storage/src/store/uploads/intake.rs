// SPDX-License-Identifier: AGPL-3.0-only
//! A request's body on its way to the writer: gathered into batches, within the memory budget.
//!
//! One batch is written while the next one arrives. Memory is reserved from the first byte of a
//! batch on, so a client that sends nothing holds none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::sessions::Holder;
use crate::error::{Error, Result};

/// What is hashed and written at once.
pub(in crate::store) const BATCH: usize = 1 << 20;
/// Pieces in one batch: a client that sends byte by byte must not fill memory with bookkeeping.
const MAX_PIECES: usize = 1024;
/// What a batch reserves at least, and by which it grows: clients that trickle share the budget fairly.
const SHARE: usize = 64 << 10;
/// A client that does not fill its batch in this time gets its bytes written, and its memory goes to
/// others. Counted from the batch's first byte: else a client that trickles would hold memory for minutes.
const QUIET: Duration = Duration::from_millis(250);

/// What a writer gets.
pub(super) enum Message {
    Batch(Vec<Bytes>, OwnedSemaphorePermit),
    End(End),
}

/// How a request's body ended.
pub(super) enum End {
    Complete,
    /// The client went away: what came counts.
    Cut(Error),
    /// The request contradicts itself: what came does not count.
    Refused(Error),
}

/// Passes a body on in batches. Returns early, with whatever, once the writer has ended.
pub(super) async fn forward<S, E>(
    mut body: S,
    expected: Option<u64>,
    memory: &Arc<Semaphore>,
    holder: &Holder,
    sender: &mpsc::Sender<Message>,
) -> End
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let (mut received, mut ended) = (0u64, false);
    while !ended {
        // One batch is written while the next one arrives; a third would only take memory.
        let Ok(place) = sender.reserve().await else { return End::Complete };
        // Once the writer has ended, its result is the answer; a client may be silent for long.
        holder.wait_for_client(true);
        let first = tokio::select! {
            biased;
            () = sender.closed() => return End::Complete,
            first = body.next() => first,
        };
        holder.wait_for_client(false);
        let Some(first) = first else { break };
        let size = first.as_ref().map_or(0, Bytes::len);
        let permit = tokio::select! {
            biased;
            () = sender.closed() => return End::Complete,
            permit = Arc::clone(memory).acquire_many_owned(share(size)) => permit,
        };
        let Ok(mut permit) = permit else {
            return End::Cut(Error::Unavailable("the store is closing".to_owned()));
        };
        let full_by = Instant::now() + QUIET;
        let (mut batch, mut bytes, mut next, mut failure) = (Vec::new(), 0, Some(first), None);
        while let Some(piece) = next.take() {
            match piece {
                Err(error) => failure = Some(Error::Body(error.to_string())),
                Ok(piece) => {
                    bytes += piece.len();
                    batch.push(piece);
                    // A batch that finds no more memory is written as it is.
                    if bytes < BATCH && batch.len() < MAX_PIECES && grow(&mut permit, bytes, memory) {
                        match tokio::time::timeout_at(full_by, body.next()).await {
                            Ok(Some(piece)) => next = Some(piece),
                            Ok(None) => ended = true,
                            Err(_) => {}
                        }
                    }
                }
            }
        }
        received += bytes as u64;
        if let Some(expected) = expected
            && received > expected
        {
            return End::Refused(Error::SizeMismatch { expected, actual: received });
        }
        place.send(Message::Batch(batch, permit));
        if let Some(failure) = failure {
            return End::Cut(failure);
        }
    }
    match expected {
        Some(expected) if expected != received => {
            End::Refused(Error::SizeMismatch { expected, actual: received })
        }
        _ => End::Complete,
    }
}

fn share(bytes: usize) -> u32 {
    u32::try_from(bytes.next_multiple_of(SHARE).clamp(SHARE, 4 * BATCH)).unwrap_or(u32::MAX)
}

/// Makes room for another piece beside the `bytes` of a batch, if there is memory for it.
fn grow(permit: &mut OwnedSemaphorePermit, bytes: usize, memory: &Arc<Semaphore>) -> bool {
    let wanted = share(bytes + 1) as usize;
    let more = wanted.saturating_sub(permit.num_permits());
    match Arc::clone(memory).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX)) {
        Ok(more) => {
            permit.merge(more);
            true
        }
        Err(_) => false,
    }
}
