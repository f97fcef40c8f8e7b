// SPDX-License-Identifier: AGPL-3.0-only
//! Lengths of time as people write them: `500ms`, `30s`, `5m`, `24h`, `90d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A length of time in whole milliseconds. Written with the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Period {
    /// The same length as the standard library knows it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// A length of `count` milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(count)
    }

    /// A length of `count` seconds.
    pub const fn seconds(count: u32) -> Self {
        Self(count as u64 * 1000)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.duration()
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, scale)| *scale);
        let (false, Some(scale)) = (number.is_empty(), scale) else {
            return Err(format!(
                "{text:?} is not a length of time; write a number with one of the units ms, s, m, h, d, such as 30s"
            ));
        };
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
        millis.map(Self).ok_or_else(|| format!("{text:?} is too long a time"))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale));
        let (name, scale) = unit.unwrap_or(&("s", 1000));
        write!(f, "{}{name}", self.0 / scale)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as 30s")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Period, E> {
                Err(E::custom(format!("{number} has no unit; write for example {number}s")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(PeriodVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("90d", 7_776_000_000),
            ("1 h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Period(millis)), "{text}");
        }
        assert_eq!(Period::seconds(2).duration(), Duration::from_secs(2));
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_the_units_that_are() {
        for text in
            ["", "s", "30", "-1s", "1.5h", "1h30m", "30S", "30s ", "99999999999999999999ms", "213503982335d"]
        {
            assert!(text.parse::<Period>().unwrap_err().contains("time"), "{text}");
        }
        let error = serde_json::from_str::<Period>("30").unwrap_err().to_string();
        assert!(error.contains("write for example 30s"), "{error}");
    }

    proptest! {
        #[test]
        fn a_time_is_read_back_as_it_was_written(millis in any::<u64>(), count in 0u64..2000, unit in 0..UNITS.len()) {
            for period in [Period(millis), Period(count * UNITS[unit].1)] {
                prop_assert_eq!(period.to_string().parse(), Ok(period));
                let json = serde_json::to_string(&period).unwrap();
                prop_assert_eq!(serde_json::from_str::<Period>(&json).unwrap(), period);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Period>();
        }
    }
}
