// SPDX-License-Identifier: AGPL-3.0-only
//! Leases: a positive answer to someone who may push is a promise that what was found stays.
//!
//! Whoever is told "exists" skips an upload, so the object must be there when the manifest that
//! names it arrives. A lease is written only when less than half of it is left, so a registry that
//! is asked a thousand times a minute writes twice a day.

use std::time::Duration;

use crate::clock::Timestamp;

/// How long things last before collection may take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// A promise that what was found stays, made to someone who may push.
    pub lease: Duration,
    /// From an object's last name to its deletion: readers that found it may finish.
    pub grace: Duration,
    /// From an upload's last byte to its end.
    pub uploads: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Periods { lease: day, grace: Duration::from_hours(1), uploads: day }
    }
}

/// The present, as a transaction function judges by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) periods: Periods,
}

impl Moment {
    /// Until when a promise holds that is made now.
    pub(super) fn lease(&self) -> Timestamp {
        self.now.plus(self.periods.lease)
    }

    /// The lease that an answer given now must leave behind; `None` when the present one will do.
    pub(super) fn extended(&self, lease_until: Timestamp) -> Option<Timestamp> {
        (lease_until < self.now.plus(self.periods.lease / 2)).then(|| self.lease())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_answer_leaves_at_least_half_a_lease(until: u32, now: u32) {
            let (until, now) = (Timestamp(until.into()), Timestamp(now.into()));
            let moment = Moment { now, periods: Periods::default() };
            let after = moment.extended(until).unwrap_or(until);
            prop_assert!(after >= now.plus(moment.periods.lease / 2));
            prop_assert!(after >= until);
            // An answer right after it writes nothing.
            prop_assert_eq!(moment.extended(after.max(moment.lease())), None);
        }
    }
}
