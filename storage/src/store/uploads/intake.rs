// SPDX-License-Identifier: AGPL-3.0-only
//! A request's body on its way to the writer: gathered into batches, within the memory budget.
//!
//! One batch is written while the next one arrives. Memory is reserved from the first byte of a
//! batch on, so a client that sends nothing holds none.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{Batch, Intake};
use super::sessions::Holder;
use crate::error::{Error, Result};

/// A client that falls silent for this long gets its bytes written, and its memory goes to others.
const SILENCE: Duration = Duration::from_millis(20);
/// One that trickles would have to be written for all the time: so who brought less than this before falling
/// silent ...
const TRICKLE: usize = 64 << 10;
/// ... gets this long for its next batch, from the first byte on.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a writer gets; boxed, because a channel has room for many more than it may hold.
pub(super) struct Message {
    pub(super) batch: Option<Batch>,
    /// Nothing comes after it.
    pub(super) end: Option<End>,
}

/// How a request's body ended.
pub(super) enum End {
    Complete,
    /// The client went away: what came counts.
    Cut(Error),
    /// The request contradicts itself: what came does not count.
    Refused(Error),
}

impl End {
    /// The end of a body of `received` bytes.
    fn of(received: u64, expected: Option<u64>) -> Self {
        match expected {
            Some(expected) if expected != received => {
                End::Refused(Error::SizeMismatch { expected, actual: received })
            }
            _ => End::Complete,
        }
    }

    fn cut(error: &impl std::fmt::Display) -> Self {
        End::Cut(Error::Body(error.to_string()))
    }
}

/// Passes a body on in batches, and how it ended with the last one. Returns early once the writer has ended.
pub(super) async fn forward<S, E>(
    mut body: S,
    expected: Option<u64>,
    intake: &Intake,
    holder: &Holder,
    sender: &mpsc::Sender<Box<Message>>,
) where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let begin = holder.written().unwrap_or(0);
    let (mut received, mut trickles) = (0u64, false);
    // What has come and found no room in the last batch.
    let mut left = Bytes::new();
    loop {
        // One batch is written while the next one arrives; a third would only take memory.
        let Ok(place) = sender.reserve().await else { return };
        let mut end = None;
        if left.is_empty() {
            // Once the writer has ended, its result is the answer; a client may be silent for long.
            holder.wait_for_client(true);
            let first = tokio::select! {
                biased;
                () = sender.closed() => return,
                first = body.next() => first,
            };
            holder.wait_for_client(false);
            match first {
                None => end = Some(End::of(received, expected)),
                Some(Ok(piece)) => left = piece,
                Some(Err(error)) => end = Some(End::cut(&error)),
            }
        }
        let mut gathered = if end.is_some() {
            None
        } else {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                // Boxed, as what a client that is waited for does not need.
                batch = Box::pin(intake.begin(begin + received)) => batch,
            }
        };
        let Some(batch) = &mut gathered else {
            let end = end.unwrap_or_else(|| End::Cut(Error::Unavailable("the store is closing".to_owned())));
            place.send(Box::new(Message { batch: None, end: Some(end) }));
            return;
        };
        let full_by = Instant::now() + PATIENCE;
        let mut silent = false;
        loop {
            let copied = batch.fill(&left);
            left = left.split_off(copied);
            // A batch that finds no more memory is written as it is. After the last byte the end is no byte away.
            let all = expected == Some(received + batch.len() as u64);
            if !left.is_empty() || batch.is_full() && !all {
                break;
            }
            let until = if trickles { full_by } else { full_by.min(Instant::now() + SILENCE) };
            match tokio::time::timeout_at(until, body.next()).await {
                Ok(Some(Ok(piece))) => left = piece,
                Ok(Some(Err(error))) => end = Some(End::cut(&error)),
                Ok(None) => end = Some(End::of(received + batch.len() as u64, expected)),
                Err(_) => silent = true,
            }
            if left.is_empty() {
                break;
            }
        }
        trickles = silent && batch.len() < TRICKLE;
        received += batch.len() as u64;
        if let Some(expected) = expected
            && received > expected
        {
            end = Some(End::of(received, Some(expected)));
        }
        let ended = end.is_some();
        place.send(Box::new(Message { batch: gathered, end }));
        if ended {
            return;
        }
    }
}
