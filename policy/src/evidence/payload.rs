// SPDX-License-Identifier: AGPL-3.0-only
//! Simple-signing payloads, as strict as containers/image: exactly the known fields, the type checked, no name twice,
//! `optional` may be null. cosign compares the digest only; a payload of another type would pass there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::json;
use crate::limits::SIGNATURE_BYTES;
use crate::refusal::Refusal;
use crate::{Claim, Digest};

const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    critical: Critical,
    // Not `Option` alone: null is allowed, leaving it out is not.
    #[serde(deserialize_with = "present")]
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<BTreeMap<String, Value>>, D::Error> {
    Option::deserialize(d)
}

/// Reads a payload.
pub(super) fn read(bytes: &[u8]) -> Result<Claim, Refusal> {
    let wire: Wire = json::read(bytes, SIGNATURE_BYTES).map_err(|refusal| refusal.at("the payload"))?;
    if wire.critical.kind != TYPE {
        return Err(Refusal::malformed(format!("the payload: critical.type is {:?}", wire.critical.kind)));
    }
    let annotations = wire.optional.unwrap_or_default();
    if annotations.get("creator").is_some_and(|creator| !creator.is_string()) {
        return Err(Refusal::malformed("the payload: optional.creator is no text"));
    }
    if annotations.get("timestamp").is_some_and(|time| time.as_i64().is_none()) {
        return Err(Refusal::malformed("the payload: optional.timestamp is no whole number"));
    }
    Ok(Claim::Image {
        digest: wire.critical.image.digest,
        repository: wire.critical.identity.reference,
        annotations,
        payload: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload() -> Value {
        json!({
            "critical": {
                "identity": {"docker-reference": "example.org/app"},
                "image": {"docker-manifest-digest": format!("sha256:{}", "0a".repeat(32))},
                "type": TYPE,
            },
            "optional": {"k": "v", "creator": "x", "timestamp": 1},
        })
    }

    #[test]
    fn what_cosign_writes_is_read() {
        let Claim::Image { digest, repository, annotations, .. } =
            read(payload().to_string().as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!((digest.hex(), repository.as_str()), (&*"0a".repeat(32), "example.org/app"));
        assert_eq!(annotations["k"], "v");
        let mut null = payload();
        null["optional"] = json!(null);
        assert!(read(null.to_string().as_bytes()).is_ok());
    }

    /// The table of containers/image, internal/signature, for the same type.
    #[test]
    fn a_payload_has_exactly_the_known_fields() {
        for (pointer, bad) in [
            ("/critical", json!(1)),
            ("/critical/type", json!(1)),
            ("/critical/type", json!("atomic container signature")),
            ("/critical/image", json!(1)),
            ("/critical/image/docker-manifest-digest", json!(1)),
            ("/critical/image/docker-manifest-digest", json!("sha256:../..")),
            ("/critical/image/docker-manifest-digest", json!(format!("sha256:{}", "0A".repeat(32)))),
            ("/critical/identity", json!(1)),
            ("/critical/identity/docker-reference", json!(1)),
            ("/optional", json!(1)),
            ("/optional/creator", json!(1)),
            ("/optional/timestamp", json!("x")),
            ("/optional/timestamp", json!(0.5)),
        ] {
            let mut value = payload();
            *value.pointer_mut(pointer).unwrap() = bad;
            assert!(read(value.to_string().as_bytes()).is_err(), "{value}");
        }
        for (parent, name) in [
            ("", "critical"),
            ("", "optional"),
            ("/critical", "type"),
            ("/critical", "image"),
            ("/critical", "identity"),
            ("/critical/image", "docker-manifest-digest"),
            ("/critical/identity", "docker-reference"),
        ] {
            let mut less = payload();
            let object = less.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let removed = object.remove(name).unwrap();
            assert!(read(less.to_string().as_bytes()).is_err(), "{less}");
            // Go's readers take names of another case for the same.
            let object = less.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            object.insert(name[..1].to_uppercase() + &name[1..], removed);
            assert!(read(less.to_string().as_bytes()).is_err(), "{less}");
            let mut more = payload();
            more.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert("unexpected".into(), json!(1));
            assert!(read(more.to_string().as_bytes()).is_err(), "{more}");
            let twice = payload().to_string().replacen(
                &format!("\"{name}\""),
                &format!("\"{name}\": 1, \"{name}\""),
                1,
            );
            assert!(read(twice.as_bytes()).is_err(), "{twice}");
        }
        assert!(read(format!("{} x", payload()).as_bytes()).is_err());
    }
}
