// SPDX-License-Identifier: AGPL-3.0-only
//! Points in time as people write them: RFC 3339, such as `2026-11-23T10:00:00Z`. Fractions of a second are read and
//! dropped; what is no date of the calendar is refused. Nothing here asks for the present.

use crate::Time;

const DAY: i64 = 86_400;

/// Reads it; none if it is no such text. Years 1970 to 9999.
pub(crate) fn parse(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !bytes.is_ascii() {
        return None;
    }
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if fixed.iter().any(|(at, byte)| bytes.get(*at) != Some(byte)) {
        return None;
    }
    let year = number(text.get(0..4)?)?;
    let month = number(text.get(5..7)?)?;
    let day = number(text.get(8..10)?)?;
    let hour = number(text.get(11..13)?)?;
    let minute = number(text.get(14..16)?)?;
    let second = number(text.get(17..19)?)?;
    let is_date = year >= 1970 && (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = offset(fraction_cut(text.get(19..)?)?)?;
    let seconds = days_before(year, month, day) * DAY + hour * 3_600 + minute * 60 + second - offset;
    Some(Time(seconds))
}

/// Writes it. Times before 1970 or after 9999 are written as the nearest of those.
pub(crate) fn format(time: Time) -> String {
    let seconds = time.0.clamp(0, days_before(9999, 12, 31) * DAY + DAY - 1);
    let (mut days, rest) = (seconds / DAY, seconds % DAY);
    let mut year = 1970;
    while days >= days_in(year) {
        days -= days_in(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

/// What stands after the seconds, without their fraction.
fn fraction_cut(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix('.') else { return Some(text) };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    (after.len() < rest.len()).then_some(after)
}

/// `Z`, `+02:00`: how far ahead of universal time, in seconds.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this one.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(days_in).sum();
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-23T10:00:00Z", 1_795_428_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(Time(seconds)), "{text}");
            assert_eq!(format(Time(seconds)), text);
        }
        assert_eq!(parse("2026-11-23T12:00:00.25+02:00"), Some(Time(1_795_428_000)));
        assert_eq!(parse("2026-11-23T04:30:00-05:30"), Some(Time(1_795_428_000)));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23 10:00:00Z",
            "2026-11-23T10:00:00",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-11-31T10:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:00:60Z",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00+2:00",
            "2026-11-23T10:00:00z",
            "+026-11-23T10:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-23T10:00:00Z ",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0_i64..253_402_300_800) {
            prop_assert_eq!(parse(&format(Time(seconds))), Some(Time(seconds)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
