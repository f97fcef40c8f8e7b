// SPDX-License-Identifier: AGPL-3.0-only
//! In-toto statements, v0.1 and v1: what they are about and of which type. The predicate is checked to be strict JSON and
//! left as it is; whoever judges it reads it from the statement's bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::parsed::{Meaning, Subjects, over};
use crate::json;
use crate::limits::{ATTESTATION_BYTES, SUBJECT_DIGESTS, SUBJECTS};
use crate::refusal::Refusal;
use crate::{Claim, Digest};

/// The media type of statements.
pub(super) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of the statements that only say "signed".
pub(crate) const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// Fields that are not known are ignored, as in-toto demands; nobody here depends on one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
    annotations: Option<BTreeMap<String, Value>>,
}

/// Reads a statement.
pub(super) fn read(bytes: &[u8]) -> Result<Claim, Refusal> {
    let wire: Wire = json::read(bytes, ATTESTATION_BYTES).map_err(|refusal| refusal.at("the statement"))?;
    if !TYPES.contains(&wire.kind.as_str()) {
        return Err(Refusal::unsupported(format!("the statement: _type {:?} is not known here", wire.kind)));
    }
    if wire.predicate_type.is_empty() {
        return Err(Refusal::malformed("the statement: predicateType is empty"));
    }
    // cosign 3.0.0 to 3.0.4 left it out of signatures (cosign#4634).
    if wire.predicate.is_none() && wire.predicate_type != SIGN {
        return Err(Refusal::malformed("the statement: no predicate"));
    }
    over("subjects", wire.subject.len(), SUBJECTS)?;
    let mut subjects = Subjects::new();
    for subject in wire.subject {
        over("digests of a subject", subject.digest.len(), SUBJECT_DIGESTS)?;
        let annotations = subject.annotations.unwrap_or_default();
        for (algorithm, hex) in subject.digest {
            if matches!(algorithm.as_str(), "sha256" | "sha512") {
                let digest: Digest = format!("{algorithm}:{hex}")
                    .parse()
                    .map_err(|error| Refusal::malformed(format!("the statement: a subject: {error}")))?;
                subjects.push((digest, annotations.clone()));
            }
        }
    }
    if subjects.is_empty() {
        return Err(Refusal::unsupported("the statement: no subject has a SHA-256 or SHA-512 digest"));
    }
    Ok(Claim::Statement { subjects, predicate_type: wire.predicate_type, statement: bytes.to_vec() })
}

/// Whether it is a statement that says more than "signed".
pub(super) fn is_attestation(meaning: &Meaning) -> bool {
    matches!(meaning, Meaning::Claim(Claim::Statement { predicate_type, .. }) if predicate_type != SIGN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Reason;

    fn statement() -> Value {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "x", "digest": {"sha256": "00".repeat(32), "sha1": "aa"}, "annotations": {"k": "v"}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {},
        })
    }

    fn read_json(value: &Value) -> Result<Claim, Refusal> {
        read(value.to_string().as_bytes())
    }

    #[test]
    fn subjects_keep_their_annotations_and_other_algorithms_are_not_digests() {
        let Claim::Statement { subjects, predicate_type, .. } = read_json(&statement()).unwrap() else {
            panic!()
        };
        assert_eq!(predicate_type, "https://slsa.dev/provenance/v1");
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects[0].0.hex(), "00".repeat(32));
        assert_eq!(subjects[0].1["k"], "v");
    }

    #[test]
    fn a_statement_that_says_nothing_clear_is_refused() {
        for (pointer, bad, reason) in [
            ("/_type", json!("https://in-toto.io/Statement/v2"), Reason::Unsupported),
            ("/subject", json!([]), Reason::Unsupported),
            ("/subject", json!(null), Reason::Malformed),
            ("/subject", json!({}), Reason::Malformed),
            // GO's readers crashed on it (cosign#5016).
            ("/subject/0", json!(null), Reason::Malformed),
            ("/subject/0/digest", json!(null), Reason::Malformed),
            ("/subject/0/digest", json!({"sha1": "aa"}), Reason::Unsupported),
            ("/subject/0/digest/sha256", json!("AB".repeat(32)), Reason::Malformed),
            ("/subject/0/digest/sha256", json!("00"), Reason::Malformed),
            ("/subject/0/digest/sha256", json!(1), Reason::Malformed),
            ("/predicateType", json!(""), Reason::Malformed),
            ("/predicateType", json!(null), Reason::Malformed),
            ("/predicate", json!(null), Reason::Malformed),
            ("/subject", json!(vec![json!({"digest": {}}); SUBJECTS + 1]), Reason::OverLimit),
        ] {
            let mut value = statement();
            *value.pointer_mut(pointer).unwrap() = bad;
            assert_eq!(read_json(&value).unwrap_err().reason, reason, "{value}");
        }
        let text = statement().to_string().replacen("\"subject\"", "\"subject\": [], \"subject\"", 1);
        assert_eq!(read(text.as_bytes()).unwrap_err().reason, Reason::Malformed);
    }

    #[test]
    fn only_signatures_may_leave_the_predicate_out() {
        let mut value = statement();
        value.as_object_mut().unwrap().remove("predicate");
        assert!(read_json(&value).is_err());
        value["predicateType"] = json!(SIGN);
        assert!(read_json(&value).is_ok());
    }
}
