// SPDX-License-Identifier: AGPL-3.0-only
//! What verified evidence looks like on stdout: cosign's array of `{critical, optional}` for signatures, and one
//! envelope in a line for attestations. Only what is [`Verified`] can be printed.

use serde_json::{Map, Value, json};
use stella_policy::{Claim, Digest, Fact, Verified};

/// cosign's `verify` (its `PrintVerification`): one object for each signature. A bundle's signature names no
/// repository, so what was asked for stands there, as it was written.
pub(crate) fn signatures(facts: &[Verified<Fact>], image: &Digest, asked: &str) -> String {
    let all: Vec<Value> = facts.iter().filter_map(|fact| signature(fact, image, asked)).collect();
    format!("\n{}\n", Value::Array(all))
}

fn signature(fact: &Fact, image: &Digest, asked: &str) -> Option<Value> {
    let object = |place: &str, kind: &str, optional: Map<String, Value>| {
        json!({
            "critical": {
                "identity": {"docker-reference": place},
                "image": {"docker-manifest-digest": image.as_str()},
                "type": kind,
            },
            "optional": optional,
        })
    };
    match &fact.claim {
        Claim::Image { repository, annotations, .. } => {
            let optional = annotations.clone().into_iter().collect();
            Some(object(repository, "cosign container image signature", optional))
        }
        Claim::Statement { subjects, predicate_type, .. } => {
            let (_, annotations) = subjects.iter().find(|(digest, _)| digest == image)?;
            Some(object(asked, predicate_type, annotations.clone().into_iter().collect()))
        }
        Claim::Blob { .. } => None,
    }
}

/// cosign's `verify-attestation`: the envelopes as they were signed, each in a line of its own.
pub(crate) fn envelopes<'a>(envelopes: impl IntoIterator<Item = &'a Value>) -> String {
    envelopes.into_iter().fold(String::new(), |lines, envelope| lines + &format!("{envelope}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_lines() {
        let both = [json!({"payload": "a\nb"}), json!({})];
        assert_eq!(envelopes(&both), "{\"payload\":\"a\\nb\"}\n{}\n");
        assert_eq!(signatures(&[], &Digest::of(b""), "r.test/a"), "\n[]\n");
    }
}
