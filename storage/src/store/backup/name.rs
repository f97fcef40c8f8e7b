// SPDX-License-Identifier: AGPL-3.0-only
//! Names of snapshots: the moment of the backup in UTC, so that their order is that of time.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::digest::shorten;
use crate::error::{Error, Result};

/// The name of a snapshot, such as `20261124T205500.123Z`. It is always one plain part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// The name of a snapshot that is taken now.
    pub(super) fn of(now: Timestamp) -> Self {
        let [year, month, day, hour, minute, second, millis] = now.utc();
        SnapshotName(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{millis:03}Z"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SnapshotName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const FORM: &[u8] = b"00000000T000000.000Z";
        let fits =
            |(have, want): (u8, &u8)| if *want == b'0' { have.is_ascii_digit() } else { have == *want };
        if text.len() == FORM.len() && text.bytes().zip(FORM).all(fits) {
            return Ok(SnapshotName(text.to_owned()));
        }
        Err(Error::Refused(format!(
            "{:?} is not the name of a snapshot: those look like 20261124T205500.123Z",
            shorten(text)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_moments_in_utc() {
        for (at, name, text) in [
            (0, "19700101T000000.000Z", "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "20000228T235959.999Z", "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "20000229T000000.000Z", "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "20000301T000000.000Z", "2000-03-01T00:00:00.000Z"),
            (1_700_000_000_000, "20231114T221320.000Z", "2023-11-14T22:13:20.000Z"),
            (4_107_542_400_001, "21000301T000000.001Z", "2100-03-01T00:00:00.001Z"),
        ] {
            assert_eq!(SnapshotName::of(Timestamp(at)).to_string(), name);
            assert_eq!(Timestamp(at).rfc3339(), text);
            assert_eq!(name.parse::<SnapshotName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_order_of_names_is_the_order_of_time_and_every_name_can_be_read() {
        let mut last = None;
        for number in 0..5_000u64 {
            let name = SnapshotName::of(Timestamp(number * 40_123_457_891 / 50));
            assert_eq!(name.to_string().parse::<SnapshotName>().unwrap(), name);
            assert!(Some(&name) > last.as_ref(), "{name}");
            last = Some(name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".", "..", "../20261124T205500.123Z", "20261124T205500.123z", "2026112٤T205500.123Z"]
        {
            let error = bad.parse::<SnapshotName>().unwrap_err();
            assert!(error.to_string().contains("not the name of a snapshot"), "{error}");
        }
    }
}
