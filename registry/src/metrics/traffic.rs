// SPDX-License-Identifier: AGPL-3.0-only
//! Connections and the bytes that really went over their sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::text::Page;

/// Counts for all connections together.
#[derive(Default)]
pub(crate) struct Traffic {
    open: AtomicU64,
    accepted: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A connection that is open.
pub(crate) struct Counted(Arc<Traffic>);

impl Traffic {
    /// Counts a connection until the value is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Counted {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }

    pub(super) fn write(&self, page: &mut Page) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.gauge("stella_connections_open", "Connections that are open.", read(&self.open));
        page.counter("stella_connections_total", "Connections that were accepted.", read(&self.accepted));
        let help = "Bytes that came over connections, heads of requests among them.";
        page.counter("stella_http_received_bytes_total", help, read(&self.received));
        let help = "Bytes that went out over connections, heads of answers among them.";
        page.counter("stella_http_sent_bytes_total", help, read(&self.sent));
    }
}

impl Counted {
    pub(crate) fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
