// SPDX-License-Identifier: AGPL-3.0-only
//! The application: what every request shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use stella_storage::{Store, Taken};
use uuid::Uuid;

use crate::access::Access;
use crate::audit::Audit;
use crate::config::{Config, ExternalUrl};
use crate::error::ApiError;
use crate::evidence::Readers;
use crate::gate::Gate;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::proxy::Scheme;

/// How long an answer waits for memory before the client is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Built once; every request holds a reference.
pub(crate) struct App {
    /// Everything that is kept.
    pub(crate) store: Store,
    /// The largest manifest, in bytes.
    pub(crate) max_manifest: usize,
    /// What changes while the server runs.
    pub(crate) live: Live,
    /// Where each change is written down.
    pub(crate) audit: Arc<Audit>,
    /// Who may do what.
    pub(crate) access: Arc<Access>,
    /// What `/metrics` needs.
    pub(crate) metrics: Metrics,
    /// Lets few manifests be looked into at once.
    pub(crate) evidence: Readers,
    /// What readers get.
    pub(crate) gate: Gate,
    external_url: Option<ExternalUrl>,
    draining: AtomicBool,
    /// This process's half of request ids, and the next request's number.
    ids: (u64, AtomicU64),
}

impl App {
    pub(crate) fn new(
        store: Store,
        max_manifest: usize,
        config: &Config,
        metrics: Metrics,
        audit: Audit,
        access: Access,
        gate: Gate,
    ) -> Self {
        let (live, audit, access) = (Live::new(config), Arc::new(audit), Arc::new(access));
        let ids = (Uuid::new_v4().as_u64_pair().0, AtomicU64::new(0));
        let (external_url, draining) = (config.external_url.clone(), AtomicBool::new(false));
        let evidence = Readers::default();
        App { store, max_manifest, live, audit, access, metrics, evidence, gate, external_url, draining, ids }
    }

    /// An id for a request: unlike any other's, and no secret.
    pub(crate) fn request_id(&self) -> Uuid {
        let (process, next) = &self.ids;
        Uuid::from_u64_pair(*process, next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes `bytes` of the memory for answers, and waits a while for them.
    pub(crate) async fn answer_memory(&self, bytes: u64) -> Result<Room, ApiError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match tokio::time::timeout(PATIENCE, self.store.memory().answers().take(bytes)).await {
            Ok(Some(taken)) => Ok(Room(taken)),
            _ => Err(ApiError::unavailable()),
        }
    }

    /// What we are called: `external_url`, or else what the client calls us.
    pub(crate) fn base_url(&self, scheme: Scheme, called: Option<&str>) -> String {
        match &self.external_url {
            Some(url) => url.to_string(),
            None => format!("{scheme}://{}", called.unwrap_or("localhost")),
        }
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Memory that was reserved for an answer.
pub(crate) struct Room(Taken);

impl Room {
    /// Counts `bytes` until the last reference to them is dropped, wherever that is: an HTTP/2 connection
    /// keeps what its client has no window for.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _taken: self.0 })
    }
}

struct Counted {
    bytes: Bytes,
    _taken: Taken,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
