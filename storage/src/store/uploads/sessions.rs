// SPDX-License-Identifier: AGPL-3.0-only
//! Which upload sessions are being written to right now, in this process.
//!
//! A session has one writer at a time. Whoever comes second waits if the first one's client has
//! gone, takes over if it goes on exactly where the first one stands and the first one's client is
//! silent (a client that resumes while its old connection is still half open), and is told the offset
//! otherwise. So of several requests that bring the same chunk at once, one wins. The catalog's epoch
//! fences off a writer that was taken over; this table keeps it from touching the file meanwhile.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::local::Location;

#[derive(Default)]
pub(in crate::store) struct Sessions {
    holders: Mutex<HashMap<Location, Arc<Holder>>>,
    /// Sessions that this process began and nobody has claimed, the oldest first.
    unclaimed: Mutex<VecDeque<Location>>,
    // Here, and so with each writer: one that outlives its request and its store must not meet, in
    // its file, the writer of a store that was opened after it.
    _lock: Option<File>,
}

/// Sessions whose first claim needs no write; one that is forgotten is claimed as any other.
const UNCLAIMED: usize = 1024;

/// How long a client must have sent nothing before another request may take its session over.
const SILENT: Duration = Duration::from_secs(1);

/// The writer of a session, as others see it.
pub(super) struct Holder {
    written: Mutex<Option<u64>>,
    /// Since when the client is being waited for; absent while what it sent is worked on.
    waiting: Mutex<Option<Instant>>,
    abandoned: AtomicBool,
    stage: Mutex<Stage>,
    /// Wakes who waits for a later stage. A `watch` would do the same in ten times the memory.
    advanced: Notify,
}

/// How far a writer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Writing,
    /// Another request wants the session.
    Wanted,
    Done,
}

impl Holder {
    /// Bytes in the file, acknowledged or not; unknown until the claim says where the session stands.
    pub(super) fn written(&self) -> Option<u64> {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_written(&self, written: u64) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
    }

    /// The client's turn begins (`true`) or ends.
    pub(super) fn wait_for_client(&self, waiting: bool) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting.then(Instant::now);
    }

    /// Returns true once the client has been silent for long; false once it has sent more or is done.
    async fn falls_silent(&self, written: u64) -> bool {
        loop {
            let waiting = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let look_again = match waiting {
                Some(since) if since.elapsed() >= SILENT => return self.written() == Some(written),
                Some(since) => since + SILENT,
                None => Instant::now() + SILENT / 10,
            };
            let _early = tokio::time::timeout_at(look_again, self.reaches(Stage::Done)).await.is_ok();
            if self.written() != Some(written) || self.stage() == Stage::Done {
                return false;
            }
        }
    }

    /// The request has gone; what it brought is being put in order.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Returns once another request wants the session.
    pub(super) async fn stopped(&self) {
        self.reaches(Stage::Wanted).await;
    }

    async fn hand_over(&self) {
        self.advance(Stage::Wanted);
        self.reaches(Stage::Done).await;
    }

    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reaches(&self, stage: Stage) {
        loop {
            // Made before the look, so that what is told after it is not missed.
            let advanced = self.advanced.notified();
            if self.stage() >= stage {
                return;
            }
            advanced.await;
        }
    }

    /// A stage never comes back.
    fn advance(&self, to: Stage) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage < to {
            *stage = to;
            drop(stage);
            self.advanced.notify_waiters();
        }
    }
}

/// The right to write to a session; given back when dropped.
pub(super) struct Held {
    id: Location,
    sessions: Arc<Sessions>,
    pub(super) holder: Arc<Holder>,
}

impl Held {
    /// Whether no other session is being written to.
    pub(super) fn is_alone(&self) -> bool {
        self.sessions.lock().len() == 1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
        self.holder.advance(Stage::Done);
    }
}

impl Sessions {
    /// The table of a store that holds its data directory by `lock`.
    pub(in crate::store) fn new(lock: Option<File>) -> Self {
        Sessions { _lock: lock, ..Self::default() }
    }

    /// Takes a session for writing from `start`, or from wherever it stands: at `acknowledged`, as
    /// long as no writer knows better.
    pub(super) async fn take(
        self: &Arc<Self>,
        id: Location,
        start: Option<u64>,
        acknowledged: u64,
    ) -> Result<Held> {
        loop {
            let present = {
                let mut held = self.lock();
                if let Some(holder) = held.get(&id) {
                    Arc::clone(holder)
                } else {
                    let holder = Arc::new(Holder {
                        written: Mutex::new(None),
                        waiting: Mutex::new(None),
                        abandoned: AtomicBool::new(false),
                        stage: Mutex::new(Stage::Writing),
                        advanced: Notify::new(),
                    });
                    held.insert(id, Arc::clone(&holder));
                    return Ok(Held { id, sessions: Arc::clone(self), holder });
                }
            };
            if present.abandoned.load(Ordering::Acquire) {
                present.hand_over().await;
                continue;
            }
            match (start, present.written()) {
                (Some(start), Some(written)) if start == written => {
                    if present.falls_silent(written).await {
                        present.hand_over().await;
                    } else if let Some(have) = present.written().filter(|have| *have != start) {
                        // Not even for a moment: whoever goes on where it stands now must find it free.
                        return Err(Error::OffsetMismatch { have });
                    }
                }
                (_, written) => return Err(Error::OffsetMismatch { have: written.unwrap_or(acknowledged) }),
            }
        }
    }

    /// Takes a session whoever holds it, to end it.
    pub(super) async fn seize(self: &Arc<Self>, id: Location, acknowledged: u64) -> Result<Held> {
        loop {
            let present = self.holder(id);
            match present {
                None => match self.take(id, None, acknowledged).await {
                    Err(Error::OffsetMismatch { .. }) => {}
                    taken => return taken,
                },
                Some(holder) => holder.hand_over().await,
            }
        }
    }

    /// This process began a session, whose first epoch is for its first claim here.
    pub(super) fn began(&self, id: Location) {
        let mut unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        if unclaimed.len() >= UNCLAIMED {
            unclaimed.pop_front();
        }
        unclaimed.push_back(id);
    }

    /// Whether this is the first claim of a session that this process began; true once only.
    pub(super) fn is_first_claim(&self, id: Location) -> bool {
        let mut unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients claim what they have just begun: the newest are at the end.
        match unclaimed.iter().rposition(|&other| other == id) {
            None => false,
            Some(at) => unclaimed.remove(at).is_some(),
        }
    }

    /// Whether a session is being written to.
    pub(in crate::store) fn is_held(&self, id: Location) -> bool {
        self.lock().contains_key(&id)
    }

    /// The sessions that are being written to.
    pub(in crate::store) fn held(&self) -> Vec<Location> {
        self.lock().keys().copied().collect()
    }

    /// The present writer of a session.
    pub(super) fn holder(&self, id: Location) -> Option<Arc<Holder>> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Location, Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_goes_on_keeps_its_session() {
        let sessions = Arc::new(Sessions::default());
        let id = Location::new();
        let first = sessions.take(id, None, 0).await.unwrap();
        first.holder.set_written(0);
        // It is busy for minutes, and then it has written.
        let second = tokio::spawn({
            let sessions = Arc::clone(&sessions);
            async move { sessions.take(id, Some(0), 0).await.map(drop) }
        });
        tokio::time::sleep(SILENT * 100).await;
        first.holder.set_written(9);
        assert!(matches!(second.await.unwrap(), Err(Error::OffsetMismatch { have: 9 })));
        assert_eq!(first.holder.stage(), Stage::Writing);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_while_the_first_wrote_on_takes_nothing() {
        let sessions = Arc::new(Sessions::default());
        let id = Location::new();
        let first = sessions.take(id, None, 0).await.unwrap();
        first.holder.set_written(0);
        let late = tokio::spawn({
            let sessions = Arc::clone(&sessions);
            async move { sessions.take(id, Some(0), 0).await.map(drop) }
        });
        tokio::task::yield_now().await;
        first.holder.set_written(9);
        drop(first);
        assert!(matches!(late.await.unwrap(), Err(Error::OffsetMismatch { have: 9 })));
        sessions.take(id, Some(9), 9).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_writer_is_told_the_offset_unless_it_continues_there() {
        let sessions = Arc::new(Sessions::default());
        let id = Location::new();
        let first = sessions.take(id, None, 5).await.unwrap();
        // While the first is still claiming, where it stands is what was acknowledged.
        for start in [None, Some(5), Some(u64::MAX)] {
            assert!(matches!(sessions.take(id, start, 5).await, Err(Error::OffsetMismatch { have: 5 })));
        }
        first.holder.set_written(7);
        for start in [None, Some(0), Some(8)] {
            assert!(matches!(sessions.take(id, start, 5).await, Err(Error::OffsetMismatch { have: 7 })));
        }
        // Its client has sent something just now: only a silent one loses the session.
        first.holder.wait_for_client(true);
        let holder = Arc::clone(&first.holder);
        let began = Instant::now();
        let writer = tokio::spawn(async move {
            holder.stopped().await;
            drop(first);
        });
        let second = sessions.take(id, Some(7), 5).await.unwrap();
        assert!(began.elapsed() >= SILENT);
        writer.await.unwrap();
        drop(second);
        assert!(sessions.holder(id).is_none());
    }

    #[tokio::test]
    async fn a_writer_whose_client_has_gone_is_waited_for() {
        let sessions = Arc::new(Sessions::default());
        let id = Location::new();
        let first = sessions.take(id, None, 0).await.unwrap();
        first.holder.set_written(7);
        first.holder.abandon();
        let next = tokio::spawn({
            let sessions = Arc::clone(&sessions);
            async move { sessions.take(id, None, 0).await.map(drop) }
        });
        first.holder.stopped().await;
        drop(first);
        next.await.unwrap().unwrap();
    }
}
