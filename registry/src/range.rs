// SPDX-License-Identifier: AGPL-3.0-only
//! Byte ranges of a download (RFC 9110, section 14): one, a suffix, or several.
//!
//! A range that is backwards or malformed gets 416, not the whole blob: whoever asked for a part of
//! a large layer should not receive gigabytes, and the official suite expects it so.

use std::ops::Range;

use http::HeaderMap;
use http::header::{ETAG, IF_RANGE, RANGE};

/// Ranges in one request. Lazy pullers ask for up to 16 at a time.
const MAX_RANGES: usize = 64;

/// What a request wants of `len` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no range was asked for, or only in a unit that is not ours, or more than there is.
    Whole,
    /// These ranges, none empty, in the order of the request.
    Parts(Vec<Range<u64>>),
    /// Nothing that exists.
    Unsatisfiable,
}

/// Reads `Range` (and `If-Range`, against the `ETag` that the answer will have).
pub(crate) fn wanted(request: &HeaderMap, answer: &HeaderMap, len: u64) -> Wanted {
    let mut ranges = request.get_all(RANGE).iter();
    let Some(range) = ranges.next() else { return Wanted::Whole };
    if ranges.next().is_some() {
        return Wanted::Unsatisfiable;
    }
    if let Some(validator) = request.get(IF_RANGE)
        && Some(validator) != answer.get(ETAG)
    {
        return Wanted::Whole;
    }
    range.to_str().map_or(Wanted::Unsatisfiable, |range| parse(range, len))
}

fn parse(text: &str, len: u64) -> Wanted {
    let Some((unit, set)) = text.split_once('=') else { return Wanted::Unsatisfiable };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    for (count, spec) in set.split(',').enumerate() {
        if count == MAX_RANGES {
            return Wanted::Unsatisfiable;
        }
        let spec = spec.trim_matches([' ', '\t']);
        // RFC 9110, section 5.6.1: empty elements of a list do not count.
        if spec.is_empty() {
            continue;
        }
        match parse_spec(spec, len) {
            Err(()) => return Wanted::Unsatisfiable,
            Ok(None) => {}
            Ok(Some(part)) => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Wanted::Unsatisfiable;
    }
    // Ranges that overlap so much are no saving (RFC 9110, section 14.2): a small request must not
    // fetch a large blob many times over.
    let asked = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.end - part.start));
    if asked > len { Wanted::Whole } else { Wanted::Parts(parts) }
}

/// One range; `Ok(None)` when it is well formed and lies behind the end.
fn parse_spec(spec: &str, len: u64) -> Result<Option<Range<u64>>, ()> {
    let (first, last) = spec.split_once('-').ok_or(())?;
    let number = |text: &str| {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Beyond 64 bits is beyond every end.
            Ok(text.parse::<u64>().unwrap_or(u64::MAX))
        } else {
            Err(())
        }
    };
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Err(()),
        (true, false) => len.saturating_sub(number(last)?)..len,
        (false, true) => number(first)?..len,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(());
            }
            first..last.saturating_add(1).min(len)
        }
    };
    Ok((range.start < range.end).then_some(range))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_clipped_to_what_there_is() {
        for (text, expected) in [
            ("bytes=500-1499", vec![500..1500]),
            ("bytes=500-", vec![500..2048]),
            ("bytes=-500", vec![1548..2048]),
            ("bytes=-5000", vec![0..2048]),
            ("bytes=2000-5000", vec![2000..2048]),
            ("bytes=0-0", vec![0..1]),
            ("Bytes=0-99999999999999999999999", vec![0..2048]),
            ("bytes=,0-1, ,5-6,-1,", vec![0..2, 5..7, 2047..2048]),
            ("bytes=0-1,9999-", vec![0..2]),
        ] {
            assert_eq!(parse(text, 2048), Wanted::Parts(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_satisfied_is_said_to_be_so() {
        for text in [
            "bytes=500-0",
            "bytes=5000-10000",
            "bytes=2048-",
            "bytes=-0",
            "bytes=",
            "bytes=x-y",
            "bytes=-",
            "bytes 0-1",
            "bytes=1-2-3",
            "bytes=,",
        ] {
            assert_eq!(parse(text, 2048), Wanted::Unsatisfiable, "{text}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        let flood = format!("bytes={}", vec!["0-1"; MAX_RANGES + 1].join(","));
        assert_eq!(parse(&flood, 2048), Wanted::Unsatisfiable);
    }

    #[test]
    fn other_units_and_stale_validators_mean_everything() {
        assert_eq!(parse("items=0-1", 2048), Wanted::Whole);
        assert_eq!(parse("bytes=0-2000,0-2000", 2048), Wanted::Whole);
        let mut request = HeaderMap::new();
        let mut answer = HeaderMap::new();
        answer.insert(ETAG, "\"a\"".parse().unwrap());
        request.insert(RANGE, "bytes=0-1".parse().unwrap());
        request.insert(IF_RANGE, "\"a\"".parse().unwrap());
        assert_eq!(wanted(&request, &answer, 9), Wanted::Parts(vec![0..2]));
        request.insert(IF_RANGE, "\"b\"".parse().unwrap());
        assert_eq!(wanted(&request, &answer, 9), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn every_part_lies_inside(text in "bytes=[-0-9, ]{0,30}", len in 0u64..3000) {
            if let Wanted::Parts(parts) = parse(&text, len) {
                for part in parts {
                    prop_assert!(part.start < part.end && part.end <= len);
                }
            }
        }

        #[test]
        fn a_proper_range_is_read_as_it_was_written(first in 0u64..1000, more in 0u64..1000) {
            let expected = Wanted::Parts(vec![first..first + more + 1]);
            prop_assert_eq!(parse(&format!("bytes={first}-{}", first + more), 2000), expected);
        }
    }
}
