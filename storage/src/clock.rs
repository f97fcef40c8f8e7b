// SPDX-License-Identifier: AGPL-3.0-only
//! Time as a parameter: whatever decides by time takes a [`Clock`], so tests decide what time it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    /// This moment plus a span.
    #[must_use]
    pub fn plus(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment less a span.
    #[must_use]
    pub fn minus(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whole days since the Unix epoch.
    pub fn day(self) -> u64 {
        self.0 / 86_400_000
    }

    /// Whole hours since the Unix epoch.
    pub fn hour(self) -> u64 {
        self.0 / 3_600_000
    }

    /// This moment as people write it (RFC 3339), in UTC.
    pub fn rfc3339(self) -> String {
        let [year, month, day, hour, minute, second, millis] = self.utc();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }

    /// Year, month, day, hour, minute, second and millisecond.
    pub(crate) fn utc(self) -> [u64; 7] {
        let (days, millis) = (self.day(), self.0 % 86_400_000);
        // Years are counted from March here, so that the leap day is a year's last; a cycle has 400 of them.
        let days = days + 719_468;
        let (cycle, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = 400 * cycle + year + next;
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        [year, month, day, hour, minute, millis / 1_000 % 60, millis % 1_000]
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Time that has really passed since some fixed moment, however the clock was set meanwhile.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        // Unlike the monotonic clock, this one goes on while the machine is suspended.
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let nanos = u32::try_from(since.tv_nsec).unwrap_or_default();
        Duration::new(u64::try_from(since.tv_sec).unwrap_or_default(), nanos)
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    elapsed: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        ManualClock { now: AtomicU64::new(start.0), elapsed: AtomicU64::new(0) }
    }

    /// Moves the clock on.
    pub fn advance(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the clock to `now`, although no time passes.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}
