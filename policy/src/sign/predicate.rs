// SPDX-License-Identifier: AGPL-3.0-only
//! Types of predicates: cosign's short names, and any other by its URI. A name is kept, because it decides how the file
//! with the predicate is read: `spdx` is text, `spdxjson` of the same type is JSON, `custom` is wrapped.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::referrer::rfc3339;
use crate::{Error, Result, Time};

const CUSTOM: &str = "https://cosign.sigstore.dev/attestation/v1";
const SPDX: &str = "https://spdx.dev/Document";
const NAMES: [(&str, &str); 10] = [
    ("custom", CUSTOM),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", SPDX),
    ("spdxjson", SPDX),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
];

/// What kind of predicate: `--type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredicateType {
    name: Option<&'static str>,
    uri: String,
}

impl PredicateType {
    /// The short names that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().map(|(name, _)| name)
    }

    /// What stands in the statement.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The predicate that a file means.
    pub(super) fn predicate(&self, file: &[u8], now: Time) -> Result<Value> {
        let text = || {
            let text = String::from_utf8(file.to_vec());
            text.map_err(|_| Error::Malformed("the predicate is no text in UTF-8".to_owned()))
        };
        if self.name == Some("spdx") {
            return Ok(Value::String(text()?));
        }
        if self.uri == CUSTOM {
            let fields = [("Data", text()?), ("Timestamp", rfc3339(now))];
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value)));
            return Ok(Value::Object(fields.collect()));
        }
        let fields: Map<String, Value> = serde_json::from_slice(file)
            .map_err(|error| Error::Malformed(format!("the predicate is no JSON object: {error}")))?;
        Ok(Value::Object(fields))
    }
}

impl FromStr for PredicateType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((name, uri)) = NAMES.into_iter().find(|(name, _)| *name == text) {
            return Ok(PredicateType { name: Some(name), uri: uri.to_owned() });
        }
        // As cosign: what has no scheme is a mistyped name.
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let is_uri = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_uri {
            let names: Vec<_> = Self::names().collect();
            return Err(Error::Load(format!(
                "not a type of predicate: write a URI, or one of {}",
                names.join(", ")
            )));
        }
        Ok(PredicateType { name: None, uri: text.to_owned() })
    }
}

impl fmt::Display for PredicateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}
