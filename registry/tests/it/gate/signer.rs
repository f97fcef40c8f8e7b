// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures made here rather than by `stella sign`: parts of them can be pushed by themselves, late, elsewhere, or with a
//! log's word for when they were made.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use stella_policy::sign::{self, Layer, LegacyManifest};
use stella_policy::{Descriptor, PrivateKey, Time};

use super::{Gated, HOST};
use crate::client::{Answer, put};
use crate::role::{OCI_MANIFEST, sha256};

/// A signature as cosign 3 writes it: a bundle, and the manifest that refers to what is signed.
pub(super) struct Referrer {
    pub(super) bundle: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// A signature as cosign 2 writes it, below the tag `sha256-….sig`.
pub(super) struct Legacy {
    pub(super) tag: String,
    pub(super) payload: Vec<u8>,
    config: Vec<u8>,
    pub(super) manifest: Value,
}

fn parsed(digest: &str) -> stella_policy::Digest {
    digest.parse().unwrap()
}

impl Referrer {
    pub(super) fn new(key: &PrivateKey, digest: &str) -> Self {
        let statement = sign::sign_statement(&parsed(digest), &BTreeMap::new()).unwrap();
        Self::with(sign::statement_bundle(key, &statement).unwrap(), digest)
    }

    /// With these bytes in the place of a bundle.
    pub(super) fn with(bundle: Vec<u8>, digest: &str) -> Self {
        let named = Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: parsed(digest),
            size: 1,
            artifact_type: None,
            annotations: None,
        };
        let manifest = sign::referrer(&named, &bundle, sign::SIGN_PREDICATE, Time(1_700_000_000)).unwrap();
        Referrer { bundle, manifest }
    }

    pub(super) fn digest(&self) -> String {
        sha256(&self.manifest)
    }
}

impl Legacy {
    /// One that says to be of an image in `repo`.
    pub(super) fn new(key: &PrivateKey, repo: &str, digest: &str) -> Self {
        let payload = sign::payload(&format!("{HOST}/{repo}"), &parsed(digest), &BTreeMap::new()).unwrap();
        let layer = Layer::signature(key, payload).unwrap();
        let mut manifest = LegacyManifest::default();
        manifest.add(&layer).unwrap();
        Legacy {
            tag: sign::legacy_tag(&parsed(digest), "sig"),
            payload: layer.bytes,
            config: manifest.config().to_vec(),
            manifest: serde_json::from_slice(&manifest.to_json().unwrap()).unwrap(),
        }
    }
}

impl Gated {
    /// The key that the policies ask for.
    pub(super) fn key(&self) -> PrivateKey {
        let text = std::fs::read_to_string(self.path("cosign.key")).unwrap();
        PrivateKey::from_pem(&text, b"secret").unwrap()
    }

    pub(super) fn put(&self, who: &str, repo: &str, reference: &str, bytes: impl AsRef<[u8]>) -> Answer {
        let kind = serde_json::from_slice::<Value>(bytes.as_ref()).unwrap()["mediaType"].clone();
        let request = put(format!("/v2/{repo}/manifests/{reference}"));
        self.send(who, request.header("Content-Type", kind.as_str().unwrap()).body(bytes))
    }

    pub(super) fn refer(&self, repo: &str, referrer: &Referrer) {
        self.push_blob("ci", repo, "{}");
        self.push_blob("ci", repo, &referrer.bundle);
        self.put("ci", repo, &referrer.digest(), &referrer.manifest).is(201);
    }

    pub(super) fn put_legacy(&self, repo: &str, legacy: &Legacy) {
        self.push_blob("ci", repo, &legacy.config);
        self.push_blob("ci", repo, &legacy.payload);
        self.put("ci", repo, &legacy.tag, legacy.manifest.to_string()).is(201);
    }
}

/// A transparency log, which promises to take in what it is shown.
pub(super) struct Log {
    key: PrivateKey,
}

impl Log {
    pub(super) fn new() -> Self {
        Log { key: PrivateKey::generate().unwrap() }
    }

    fn id(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(self.key.hint()).unwrap()
    }

    /// As an operator is given it: `trusted_root.json`.
    pub(super) fn trusted_root(&self) -> String {
        let key = json!({
            "rawBytes": BASE64_STANDARD.encode(self.key.public_der()),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        });
        let log = json!({
            "baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256", "publicKey": key,
            "logId": {"keyId": BASE64_STANDARD.encode(self.id())},
        });
        json!({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [log]})
            .to_string()
    }

    /// Adds to a signature of `key` when the log saw it.
    pub(super) fn stamp(&self, signature: &mut Legacy, key: &PrivateKey, at: i64) {
        let annotations = &mut signature.manifest["layers"][0]["annotations"];
        let content = annotations["dev.cosignproject.cosign/signature"].clone();
        let public = BASE64_STANDARD.encode(key.public_pem());
        let hash = sha256(&signature.payload).replace("sha256:", "");
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hash}},
            "signature": {"content": content, "publicKey": {"content": public}},
        }});
        let (body, id) = (BASE64_STANDARD.encode(body.to_string()), hex::encode(self.id()));
        let entry = json!({"body": body, "integratedTime": at, "logID": id, "logIndex": at});
        let promise = BASE64_STANDARD.encode(self.key.sign(entry.to_string().as_bytes()).unwrap());
        let bundle = json!({"SignedEntryTimestamp": promise, "Payload": entry});
        annotations["dev.sigstore.cosign/bundle"] = bundle.to_string().into();
    }
}
