// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a connection is of use: a request is being handled, or an answer flows.
//!
//! hyper limits the time for an HTTP/1 head; it does not for the first bytes, which tell HTTP/1 from
//! 2, nor for HTTP/2 heads, connections without streams, and clients that open no window for their
//! answers while they answer pings. So the server looks for itself. A request only leaves a note, so that
//! it wakes nobody; one timer for each connection looks when there may be something to see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes that a period must send to count as one in which an answer flowed: more than pings do.
const LEAST: usize = 1024;

/// What a connection is doing.
#[derive(Clone)]
pub(crate) struct InUse(Arc<Notes>);

struct Notes {
    opened: Instant,
    /// Requests that are being handled.
    handling: AtomicUsize,
    /// Requests that have begun.
    begun: AtomicUsize,
    /// When the last one was answered, in milliseconds since `opened`.
    answered: AtomicU64,
    /// Bytes written since the last look.
    written: AtomicUsize,
}

impl InUse {
    pub(crate) fn new() -> Self {
        InUse(Arc::new(Notes {
            opened: Instant::now(),
            handling: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            written: AtomicUsize::new(0),
        }))
    }

    /// A request begins; it ends when this is dropped.
    pub(crate) fn handle(&self) -> Handling {
        self.0.handling.fetch_add(1, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Handling(self.clone())
    }

    /// Bytes were written to the client.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.0.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns once no request has begun for `first`, or, after the first one, once for `later` none was
    /// handled and no answer flowed.
    pub(crate) async fn no_more(&self, first: Duration, later: Duration) {
        let notes = &*self.0;
        let mut since = Instant::now();
        let (mut seen, mut limit) = (notes.begun.load(Ordering::Relaxed), first);
        loop {
            tokio::time::sleep_until(since + limit).await;
            let now = Instant::now();
            let begun = notes.begun.load(Ordering::Relaxed);
            let flowed = notes.written.swap(0, Ordering::Relaxed) >= LEAST;
            if begun != seen {
                limit = later;
            }
            // What is handled now, and what has just flowed, is looked at again a whole period later.
            if notes.handling.load(Ordering::Relaxed) > 0 || flowed {
                since = now;
            } else if begun != seen {
                since = notes.opened + Duration::from_millis(notes.answered.load(Ordering::Relaxed));
                // Its answer was long ago already, when it was short.
                if since + limit <= now {
                    return;
                }
            } else {
                return;
            }
            seen = begun;
        }
    }
}

/// A request that is being handled: from its head until its answer begins.
pub(crate) struct Handling(InUse);

impl Drop for Handling {
    fn drop(&mut self) {
        let notes = &self.0.0;
        let millis = u64::try_from(notes.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        notes.answered.store(millis, Ordering::Relaxed);
        notes.handling.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(3);
    const LATER: Duration = Duration::from_secs(10);

    async fn lasts(in_use: &InUse) -> Duration {
        let began = Instant::now();
        in_use.no_more(FIRST, LATER).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_of_no_use() {
        assert_eq!(lasts(&InUse::new()).await, FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_request_another_one_is_waited_for() {
        let in_use = InUse::new();
        let requests = in_use.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(requests.handle());
            }
        });
        let lasted = lasts(&in_use).await;
        assert!(lasted >= Duration::from_secs(30) && lasted <= Duration::from_secs(41), "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_and_an_answer_that_flows_are_waited_for() {
        let in_use = InUse::new();
        let working = in_use.clone();
        tokio::spawn(async move {
            let handling = working.handle();
            tokio::time::sleep(Duration::from_mins(2)).await;
            drop(handling);
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                working.wrote(LEAST);
            }
            // Pings do not count.
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                working.wrote(17);
            }
        });
        let lasted = lasts(&in_use).await;
        assert!(lasted >= Duration::from_secs(250) && lasted <= Duration::from_secs(270), "{lasted:?}");
    }
}
