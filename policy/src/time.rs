// SPDX-License-Identifier: AGPL-3.0-only
//! Points in time, in whole seconds. Nothing here asks for the present: it is always handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time: seconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

/// As RFC 3339 has it, in universal time.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::rfc3339::format(*self))
    }
}
