// SPDX-License-Identifier: AGPL-3.0-only
//! The application: what every request shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use stella_storage::{Actor, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::metrics::Metrics;

/// How long an answer waits for memory before the client is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Built once; every request holds a reference.
pub(crate) struct App {
    /// Everything that is kept.
    pub(crate) store: Store,
    /// The largest manifest, in bytes.
    pub(crate) max_manifest: usize,
    /// Bytes of manifests that may be in memory on their way in.
    pub(crate) manifest_memory: Arc<Semaphore>,
    /// Manifests that are in memory on their way out.
    pub(crate) answer_memory: AnswerMemory,
    /// How long a client may send nothing.
    pub(crate) idle_timeout: Duration,
    /// What `/metrics` needs.
    pub(crate) metrics: Metrics,
    draining: AtomicBool,
}

impl App {
    /// `memory` is the whole budget in bytes; an eighth of it is for manifests that come, and another for
    /// those that go.
    pub(crate) fn new(
        store: Store,
        max_manifest: usize,
        memory: usize,
        idle_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let manifests = (memory / 8).clamp(max_manifest, Semaphore::MAX_PERMITS);
        App {
            store,
            max_manifest,
            manifest_memory: Arc::new(Semaphore::new(manifests)),
            answer_memory: AnswerMemory(Arc::new(Semaphore::new(manifests))),
            idle_timeout,
            metrics,
            draining: AtomicBool::new(false),
        }
    }

    /// Who makes a request. There are no identities yet: whoever can connect may do everything.
    #[expect(clippy::unused_self, reason = "who may do what will be asked of the app")]
    pub(crate) fn actor(&self) -> Actor {
        Actor::default()
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Bytes that answers may hold while their clients read them.
pub(crate) struct AnswerMemory(Arc<Semaphore>);

impl AnswerMemory {
    /// Makes room for `bytes`, and waits a while for it.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<Room, ApiError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(PATIENCE, Arc::clone(&self.0).acquire_many_owned(permits)).await;
        match room {
            Ok(Ok(permit)) => Ok(Room(permit)),
            _ => Err(ApiError::unavailable()),
        }
    }
}

/// Memory that was reserved for an answer.
pub(crate) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Counts `bytes` until the last reference to them is dropped, wherever that is: an HTTP/2 connection
    /// keeps what its client has no window for.
    pub(crate) fn hold(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Counted { bytes, _permit: self.0 })
    }
}

struct Counted {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
