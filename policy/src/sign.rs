// SPDX-License-Identifier: AGPL-3.0-only
//! What a signer writes, byte for byte as cosign writes it: payloads, statements, envelopes, bundles, and the manifests
//! that carry them. Pure makers: a key and facts go in, bytes come out; who reads and pushes them is `stella-registry`.

use serde::Serialize;

use crate::{Error, Result};

mod blob;
mod bundle;
mod envelope;
mod legacy;
mod payload;
mod predicate;
mod referrer;
mod statement;
#[cfg(test)]
mod tests;

pub use blob::{detached_signature, old_bundle};
pub use bundle::{BUNDLE, message_bundle, statement_bundle};
pub use envelope::{Envelope, IN_TOTO, pae};
pub use legacy::{ATTESTATION, CONFIG, Layer, LegacyManifest, SIMPLE_SIGNING, legacy_tag};
pub use payload::payload;
pub use predicate::PredicateType;
pub(crate) use referrer::MANIFEST;
pub use referrer::{EMPTY, EMPTY_CONFIG, referrer};
pub use statement::{SIGN_PREDICATE, attest_statement, sign_statement};

/// JSON as Go's `encoding/json` writes it: no blanks, and `<`, `>`, `&` and the two line separators escaped. None of
/// those five occurs outside of strings.
fn go_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string(value).map_err(|error| Error::Malformed(error.to_string()))?;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    Ok(out.into_bytes())
}
