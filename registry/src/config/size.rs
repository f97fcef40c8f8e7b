// SPDX-License-Identifier: AGPL-3.0-only
//! Sizes in bytes as people write them: `64KiB`, `4MiB`, `10MB`, `1000`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes. Written with the largest unit that divides it, those of 1024 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

impl ByteSize {
    /// A size of `bytes`.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    pub(crate) const fn kib(count: u32) -> Self {
        Self((count as u64) << 10)
    }

    pub(crate) const fn mib(count: u32) -> Self {
        Self((count as u64) << 20)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(format!("{text:?} is not a size; write a number with a unit, such as 4MiB"));
        }
        let scale = match unit.trim_start() {
            "" | "B" => 1,
            "KB" => 1000,
            unit => {
                UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(|| {
                    format!(
                        "{text:?} is not a size; its unit must be one of KiB, MiB, GiB, TiB, kB, MB, GB, TB"
                    )
                })?
            }
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
        bytes.map(Self).ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale));
        match unit {
            Some((name, scale)) => write!(f, "{}{name}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 4MiB")
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("4MiB", 4_194_304),
            ("1GiB", 1_073_741_824),
            ("1000", 1000),
            ("10MB", 10_000_000),
            ("5KB", 5000),
            ("5 kB", 5000),
            ("7B", 7),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_the_units_that_are() {
        for text in ["", "MiB", "4mib", "4M", "-1", "1.5MiB", "4MiB ", "99999999999999999999", "17000000TiB"]
        {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("size"), "{text}: {error}");
        }
        assert!("4M".parse::<ByteSize>().unwrap_err().contains("MiB"));
    }

    proptest! {
        #[test]
        fn a_size_is_read_back_as_it_was_written(bytes in any::<u64>(), count in 0u64..2000, unit in 0..UNITS.len()) {
            for size in [ByteSize(bytes), ByteSize(count * UNITS[unit].1)] {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
                let json = serde_json::to_string(&size).unwrap();
                prop_assert_eq!(serde_json::from_str::<ByteSize>(&json).unwrap(), size);
                prop_assert_eq!(serde_json::from_str::<ByteSize>(&size.0.to_string()).unwrap(), size);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
