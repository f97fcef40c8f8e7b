// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a connection is of use: a request is being handled, or an answer flows.
//!
//! hyper limits the time for an HTTP/1 head; it does not for the first bytes, which tell HTTP/1 from
//! 2, nor for HTTP/2 heads, connections without streams, and clients that open no window for their
//! answers while they answer pings. So the server looks for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// Bytes that a period must send to count as one in which an answer flowed: more than pings do.
const LEAST: usize = 1024;

/// What a connection is doing.
#[derive(Default)]
pub(crate) struct InUse {
    pub(crate) handling: Arc<watch::Sender<usize>>,
    /// Bytes written since the last look.
    pub(crate) written: Arc<AtomicUsize>,
}

impl InUse {
    /// Returns once no request has begun for `first`, or, after the first one, once for `later` none was
    /// handled and no answer flowed.
    pub(crate) async fn no_more(&self, first: Duration, later: Duration) {
        let mut handling = self.handling.subscribe();
        let mut limit = first;
        loop {
            // The sender lives in `self`.
            let _none = handling.wait_for(|handling| *handling == 0).await.is_ok();
            let begun = tokio::time::timeout(limit, handling.changed()).await.is_ok();
            let flowed = self.written.swap(0, Ordering::Relaxed) >= LEAST;
            if begun {
                limit = later;
            } else if !flowed {
                return;
            }
        }
    }
}

/// A request that is being handled: from its head until its answer begins.
pub(crate) struct Handling(Arc<watch::Sender<usize>>);

impl Handling {
    pub(crate) fn new(handling: &Arc<watch::Sender<usize>>) -> Self {
        handling.send_modify(|handling| *handling += 1);
        Handling(Arc::clone(handling))
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.send_modify(|handling| *handling -= 1);
    }
}
