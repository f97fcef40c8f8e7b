// SPDX-License-Identifier: AGPL-3.0-only
//! JSON as it is read where something depends on it: no name twice at any depth, nothing after the value, bounded depth
//! and size, names compared to the letter. Two readers of `{"a": 1, "a": 2}` take it for different things, and an
//! attacker chooses the reader. Texts within it are strict too: hexadecimal in lower case, canonical base64.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::Reason;
use crate::limits::JSON_DEPTH;
use crate::refusal::Refusal;

const DEEP: &str = "nested too deep";

/// The value in `bytes`, and nothing but it: no name twice at any depth, no more than 64 levels, at most `most` bytes.
///
/// # Errors
///
/// [`crate::Error::Malformed`] or [`crate::Error::OverLimit`], with the reason.
pub fn strict_json<T: DeserializeOwned>(bytes: &[u8], most: usize) -> crate::Result<T> {
    read(bytes, most).map_err(|Refusal { reason, why }| match reason {
        Reason::OverLimit => crate::Error::OverLimit(why),
        _ => crate::Error::Malformed(why),
    })
}

/// As [`strict_json`], for what verifies.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], most: usize) -> Result<T, Refusal> {
    check(bytes, most)?;
    serde_json::from_slice(bytes).map_err(|error| Refusal::malformed(error.to_string()))
}

/// Whether `bytes` are one value of strict JSON. It keeps no more of it than the names on the way down.
pub(crate) fn check(bytes: &[u8], most: usize) -> Result<(), Refusal> {
    if bytes.len() > most {
        return Err(Refusal::over(format!("{} bytes of JSON; at most {most} are read", bytes.len())));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { depth: JSON_DEPTH }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| {
        let text = error.to_string();
        if text.starts_with(DEEP) { Refusal::over(text) } else { Refusal::malformed(text) }
    })
}

/// Canonical base64 of the standard alphabet, with padding.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, Refusal> {
    // The engine refuses other alphabets, white space, wrong padding and trailing bits that are not zero.
    STANDARD.decode(text).map_err(|error| Refusal::malformed(format!("not canonical base64: {error}")))
}

/// Hexadecimal digits in lower case.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, Refusal> {
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Refusal::malformed("not hexadecimal in lower case"));
    }
    ::hex::decode(text).map_err(|_| Refusal::malformed("an odd number of hexadecimal digits"))
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn down<E: Error>(&self) -> Result<Strict, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict { depth }),
            None => Err(E::custom(format_args!("{DEEP}: more than {JSON_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if value.is_finite() { Ok(()) } else { Err(E::custom("a number is out of range")) }
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.down()?;
        while list.next_element_seed(Strict { depth: inner.depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.down()?;
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("the name {name:?} stands twice")));
            }
            map.next_value_seed(Strict { depth: inner.depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value(text: &str) -> Result<Value, Refusal> {
        read(text.as_bytes(), 1 << 20)
    }

    #[test]
    fn what_two_readers_may_take_for_different_things_is_refused() {
        let good =
            r#"{"a": [1, -1, 1.5, null, true, "x", {"a": {}}], "b": {"a": 18446744073709551615}, "A": 0}"#;
        assert_eq!(value(good).unwrap(), serde_json::from_str::<Value>(good).unwrap());
        for bad in [
            r#"{"a": 1, "a": 1}"#,
            // The same name, written in another way.
            r#"{"a": 1, "\u0061": 2}"#,
            r#"{"x": {"a": 1, "b": 2, "a": 3}}"#,
            r#"[{"x": [{"a": 1, "a": 2}]}]"#,
            r#"{"a": 1} {}"#,
            "{} x",
            "{},",
            "\u{feff}{}",
            r#"{"a": 1e999}"#,
            r#"{"a": NaN}"#,
            r#"{"a": 01}"#,
            r"{'a': 1}",
            r#"{"a": 1,}"#,
            r#"{"a": "\ud800"}"#,
            "// {}",
            "",
        ] {
            assert_eq!(value(bad).unwrap_err().reason, Reason::Malformed, "{bad}");
        }
        assert!(check(b"{\"a\": \"\xff\"}", 100).is_err());
        // Where nothing is built of it too.
        assert!(check(b"{} x", 100).is_err() && check(b"{}", 100).is_ok());
    }

    #[test]
    fn depth_and_size_are_bounded_before_anything_is_built() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(value(&deep(JSON_DEPTH)).is_ok());
        assert_eq!(value(&deep(JSON_DEPTH + 1)).unwrap_err().reason, Reason::OverLimit);
        let deeper = r#"{"a":"#.repeat(500_000);
        assert_eq!(check(deeper.as_bytes(), usize::MAX).unwrap_err().reason, Reason::OverLimit);
        assert_eq!(check(b"[1, 2]", 5).unwrap_err().reason, Reason::OverLimit);
    }

    #[test]
    fn base64_and_hexadecimal_have_one_spelling() {
        assert_eq!(base64("aGk=").unwrap(), b"hi");
        for bad in ["aGk", "aGl=", "aG k=", "aGk=\n", "-_8=", "aGk==", "=aGk"] {
            assert!(base64(bad).is_err(), "{bad}");
        }
        assert_eq!(hex("00ff").unwrap(), [0, 255]);
        for bad in ["00FF", "0", "0x", " 00"] {
            assert!(hex(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_as_serde_json_does(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if check(&bytes, 64).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
            }
        }

        #[test]
        fn what_it_takes_is_written_and_read_again(text in r#"[\[\]{}",:0-9a truefalsn\\]{0,40}"#) {
            if let Ok(once) = value(&text) {
                prop_assert_eq!(value(&once.to_string()).unwrap(), once);
            }
        }

        #[test]
        fn base64_has_one_spelling_of_every_content(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = STANDARD.encode(&bytes);
            prop_assert_eq!(base64(&text).unwrap(), bytes);
        }

        #[test]
        fn a_text_that_is_base64_is_what_its_content_is_written_as(text in "[A-Za-z0-9+/_=-]{0,12}") {
            if let Ok(bytes) = base64(&text) {
                prop_assert_eq!(STANDARD.encode(bytes), text);
            }
        }
    }
}
