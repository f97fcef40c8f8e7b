// SPDX-License-Identifier: AGPL-3.0-only
//! Settings that change while the server runs, as numbers that everyone reads without a lock. What lives
//! in the store, or in the log, is changed there (`reload.rs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::Config;

/// The present values.
#[derive(Default)]
pub(crate) struct Live {
    idle_timeout: Millis,
    shutdown_timeout: Millis,
    drain_delay: Millis,
    collection_interval: Millis,
    disk_reserve: AtomicU64,
    scrub_rate: AtomicU64,
    /// Wakes who sleeps by one of them.
    changed: Notify,
}

#[derive(Default)]
struct Millis(AtomicU64);

impl Millis {
    fn set(&self, value: Duration) {
        self.0.store(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl Live {
    pub(crate) fn new(config: &Config) -> Self {
        let live = Live::default();
        live.set(config);
        live
    }

    pub(crate) fn set(&self, config: &Config) {
        self.idle_timeout.set(config.limits.idle_timeout.duration());
        self.shutdown_timeout.set(config.limits.shutdown_timeout.duration());
        self.drain_delay.set(config.limits.drain_delay.duration());
        self.collection_interval.set(config.collection.interval.duration());
        self.disk_reserve.store(config.limits.disk_reserve.bytes(), Ordering::Relaxed);
        self.scrub_rate.store(config.scrub.rate.bytes(), Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// How long a client may send nothing, or take nothing.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.idle_timeout.get()
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout.get()
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        self.drain_delay.get()
    }

    pub(crate) fn disk_reserve(&self) -> u64 {
        self.disk_reserve.load(Ordering::Relaxed)
    }

    pub(crate) fn scrub_rate(&self) -> u64 {
        self.scrub_rate.load(Ordering::Relaxed)
    }

    /// Returns when a round of collection is due, the last one having ended at `last`.
    pub(crate) async fn collection_due(&self, last: tokio::time::Instant) {
        loop {
            // Taken first: a change after the value was read is not missed.
            let changed = self.changed.notified();
            tokio::select! {
                () = tokio::time::sleep_until(last + self.collection_interval.get()) => return,
                () = changed => {}
            }
        }
    }

    /// Returns after `pause`, or once something has changed.
    pub(crate) async fn changed_within(&self, pause: Duration) {
        let _changed = tokio::time::timeout(pause, self.changed.notified()).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::{Config, Period};

    fn every(seconds: u32) -> Config {
        let mut config = Config::default();
        config.collection.interval = Period::seconds(seconds);
        config
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_interval_counts_from_the_last_round() {
        let live = Live::new(&every(3600));
        let began = Instant::now();
        let due = async {
            live.collection_due(began).await;
            Instant::now()
        };
        let change = async {
            // Changing again and again must not put it off.
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                live.set(&every(30));
            }
        };
        let (due, ()) = tokio::join!(due, change);
        assert_eq!((due - began).as_secs(), 30);
    }
}
