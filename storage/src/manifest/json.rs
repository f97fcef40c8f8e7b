// SPDX-License-Identifier: AGPL-3.0-only
//! What JSON a manifest may be, before its meaning: one reading for every parser.
//!
//! Go's parsers match keys without regard to case and let the last of several win; others do
//! neither. A document that two parsers read differently could show one image to us and another to
//! the client, so names that occur twice, or that differ from a known name only in case, are
//! refused. (I-JSON, RFC 7493; image-spec: unknown names are allowed.)

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::digest::shorten;

const MANIFEST_NAMES: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
    "signatures",
];
const DESCRIPTOR_NAMES: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

const PLATFORM_NAMES: [&str; 6] = ["architecture", "os", "os.version", "os.features", "variant", "features"];

/// Checks that `bytes` are one JSON object that every parser reads alike.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    Place::Manifest
        .deserialize(&mut parser)
        .and_then(|()| parser.end())
        .map_err(|error| format!("the manifest is not acceptable JSON: {error}"))
}

/// Where in the document a value stands, hence which names are known there.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Manifest,
    Descriptor,
    Descriptors,
    Platform,
    Elsewhere,
}

impl Place {
    fn names(self) -> &'static [&'static str] {
        match self {
            Place::Manifest => &MANIFEST_NAMES,
            Place::Descriptor => &DESCRIPTOR_NAMES,
            Place::Platform => &PLATFORM_NAMES,
            Place::Descriptors | Place::Elsewhere => &[],
        }
    }

    fn below(self, name: &str) -> Place {
        match (self, name) {
            (Place::Manifest, "config" | "subject") => Place::Descriptor,
            (Place::Manifest, "layers" | "manifests") => Place::Descriptors,
            (Place::Descriptor, "platform") => Place::Platform,
            _ => Place::Elsewhere,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self == Place::Manifest {
            deserializer.deserialize_map(self)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let known = self.names();
            if !known.contains(&name.as_str())
                && let Some(meant) = known.iter().find(|known| folds_to(&name, known))
            {
                return Err(A::Error::custom(format_args!("write {meant:?}, not {:?}", shorten(&name))));
            }
            map.next_value_seed(self.below(&name))?;
            if let Some(twice) = seen.replace(name) {
                return Err(A::Error::custom(format_args!(
                    "{:?} occurs twice in one object",
                    shorten(&twice)
                )));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let element = if self == Place::Descriptors { Place::Descriptor } else { Place::Elsewhere };
        while seq.next_element_seed(element)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Whether Go's `encoding/json` would take `name` for `known`: it folds case, and with it the two
/// letters outside ASCII that fold into ASCII.
fn folds_to(name: &str, known: &str) -> bool {
    name.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .eq(known.chars().map(|c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_fine_anywhere() {
        check(br#"{"x":{"Digest":1,"y":[{"a":null},2.5e3,-1,true,"s"]},"layers":[{"other":{}}]}"#).unwrap();
        check(br#"{"annotations":{"Layers":"free text"},"config":{"annotations":{"Digest":"d"}}}"#).unwrap();
    }

    #[test]
    fn names_that_occur_twice_are_refused() {
        for text in [
            r#"{"layers":[],"layers":[]}"#,
            r#"{"x":{"y":[{"a":1,"a":2}]}}"#,
            r#"{"lay\u0065rs":[],"layers":[]}"#,
            r#"{"annotations":{"a":"1","a":"2"}}"#,
        ] {
            assert!(check(text.as_bytes()).unwrap_err().contains("occurs twice"), "{text}");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_are_refused() {
        for text in [
            r#"{"Layers":[]}"#,
            r#"{"SCHEMAVERSION":2}"#,
            r#"{"layer\u017f":[]}"#,
            r#"{"config":{"Digest":"d"}}"#,
            r#"{"manifests":[{"SIZE":1}]}"#,
            r#"{"subject":{"mediatype":"x"}}"#,
            r#"{"manifests":[{"platform":{"OS":"linux"}}]}"#,
        ] {
            assert!(check(text.as_bytes()).unwrap_err().contains("write \""), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let latin: &[u8] = b"{\"x\":\"\xe9\"}";
        for text in
            [b"".as_slice(), b"[]", b"null", b"{}{}", b"{\"a\":}", b"\xef\xbb\xbf{}", latin, deep.as_bytes()]
        {
            assert!(check(text).is_err());
        }
    }
}
