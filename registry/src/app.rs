// SPDX-License-Identifier: AGPL-3.0-only
//! The application: what every request shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stella_storage::{Actor, Store};

/// Built once; every request holds a reference.
pub(crate) struct App {
    /// Everything that is kept.
    pub(crate) store: Store,
    /// The largest manifest, in bytes.
    pub(crate) max_manifest: usize,
    /// How long a client may send nothing.
    pub(crate) idle_timeout: Duration,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(store: Store, max_manifest: usize, idle_timeout: Duration) -> Self {
        App { store, max_manifest, idle_timeout, draining: AtomicBool::new(false) }
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
