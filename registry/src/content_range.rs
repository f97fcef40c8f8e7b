// SPDX-License-Identifier: AGPL-3.0-only
//! The `Content-Range` of an upload's chunk: `<first>-<last>`, without a unit
//! (OCI distribution-spec, "Pushing a blob in chunks"). RFC 9110's `bytes <first>-<last>/<size>` is
//! read too, because some clients send it.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use stella_storage::Chunk;

use crate::error::ApiError;

/// What a request's headers say of the bytes that it carries.
pub(crate) fn chunk(headers: &HeaderMap) -> Result<Chunk, ApiError> {
    let length =
        match headers.get(CONTENT_LENGTH) {
            None => None,
            Some(length) => {
                Some(length.to_str().ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
                    ApiError::size_invalid("Content-Length needs a number of bytes".to_owned())
                })?)
            }
        };
    let mut ranges = headers.get_all(CONTENT_RANGE).iter();
    let Some(range) = ranges.next() else { return Ok(Chunk { start: None, len: length }) };
    let malformed =
        || ApiError::chunk_malformed("Content-Range needs the form <first byte>-<last byte>, such as 0-1023");
    if ranges.next().is_some() {
        return Err(malformed());
    }
    let (first, last) = range.to_str().ok().and_then(parse).ok_or_else(malformed)?;
    let Some(len) = last.checked_sub(first).and_then(|more| more.checked_add(1)) else {
        return Err(ApiError::upload_invalid(format!(
            "Content-Range ends at byte {last}, before its start {first}"
        )));
    };
    if let Some(length) = length
        && length != len
    {
        return Err(ApiError::size_invalid(format!(
            "Content-Range spans {len} bytes, Content-Length says {length}"
        )));
    }
    Ok(Chunk { start: Some(first), len: Some(len) })
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let text = match text.strip_prefix("bytes ") {
        None => text,
        Some(rest) => rest.split_once('/').map_or(rest, |(range, _)| range),
    };
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            None
        } else {
            text.parse::<u64>().ok()
        }
    };
    Some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pairs: &[(http::HeaderName, &str)]) -> Result<Chunk, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), value.parse().unwrap());
        }
        chunk(&headers)
    }

    #[test]
    fn a_range_tells_start_and_length() {
        let chunk = of(&[(CONTENT_RANGE, "5-9"), (CONTENT_LENGTH, "5")]).unwrap();
        assert_eq!((chunk.start, chunk.len), (Some(5), Some(5)));
        let chunk = of(&[(CONTENT_RANGE, "bytes 0-0/*")]).unwrap();
        assert_eq!((chunk.start, chunk.len), (Some(0), Some(1)));
        let chunk = of(&[(CONTENT_LENGTH, "7")]).unwrap();
        assert_eq!((chunk.start, chunk.len), (None, Some(7)));
        let chunk = of(&[]).unwrap();
        assert_eq!((chunk.start, chunk.len), (None, None));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "9-5",
            "a-b",
            "0-1,3-4",
            "0x0-1",
            "+0-1",
            " 0-1",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert!(of(&[(CONTENT_RANGE, bad)]).is_err(), "{bad:?}");
        }
        assert!(of(&[(CONTENT_RANGE, "0-9"), (CONTENT_LENGTH, "9")]).is_err());
        assert!(of(&[(CONTENT_RANGE, "0-9"), (CONTENT_RANGE, "0-9")]).is_err());
    }

    proptest! {
        #[test]
        fn a_range_is_read_as_it_was_written(first in 0u64..u64::MAX / 2, len in 1u64..1 << 40) {
            prop_assert_eq!(parse(&format!("{first}-{}", first + len - 1)), Some((first, first + len - 1)));
        }

        #[test]
        fn reading_never_panics(text in "[-0-9a-z /,*]{0,50}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = text.parse() {
                headers.insert(CONTENT_RANGE, value);
            }
            let _ = chunk(&headers);
        }
    }
}
