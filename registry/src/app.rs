// SPDX-License-Identifier: AGPL-3.0-only
//! The application: what every request shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stella_storage::{Actor, Store};
use tokio::sync::Semaphore;

/// Built once; every request holds a reference.
pub(crate) struct App {
    /// Everything that is kept.
    pub(crate) store: Store,
    /// The largest manifest, in bytes.
    pub(crate) max_manifest: usize,
    /// Bytes of manifests that may be in memory on their way in.
    pub(crate) manifest_memory: Arc<Semaphore>,
    /// How long a client may send nothing.
    pub(crate) idle_timeout: Duration,
    draining: AtomicBool,
}

impl App {
    /// `memory` is the whole budget in bytes; a quarter of it is for manifests.
    pub(crate) fn new(store: Store, max_manifest: usize, memory: usize, idle_timeout: Duration) -> Self {
        let manifests = (memory / 4).clamp(max_manifest, Semaphore::MAX_PERMITS);
        App {
            store,
            max_manifest,
            manifest_memory: Arc::new(Semaphore::new(manifests)),
            idle_timeout,
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
