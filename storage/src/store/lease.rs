// SPDX-License-Identifier: AGPL-3.0-only
//! Leases: a positive answer to someone who may push is a promise that what was found stays.
//!
//! Whoever is told "exists" skips an upload, so the object must be there when the manifest that
//! names it arrives. A lease is written only when less than half of it is left, so a registry that
//! is asked a thousand times a minute writes twice a day.

use std::time::Duration;

use crate::clock::Timestamp;

/// How long a promise lasts.
pub(super) const LEASE: Duration = Duration::from_hours(24);

/// The lease that an answer given now must leave behind; `None` when the present one will do.
pub(super) fn extended(lease_until: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (lease_until < now.plus(LEASE / 2)).then(|| now.plus(LEASE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_answer_leaves_at_least_half_a_lease(until: u32, now: u32) {
            let (until, now) = (Timestamp(until.into()), Timestamp(now.into()));
            let after = extended(until, now).unwrap_or(until);
            prop_assert!(after >= now.plus(LEASE / 2));
            prop_assert!(after >= until);
            // An answer right after it writes nothing.
            prop_assert_eq!(extended(after.max(now.plus(LEASE)), now), None);
        }
    }
}
