//! A small Sigstore of the tests' own: an authority with a root and an intermediate, a log that promises and proves, and
//! signers. What it makes is as valid as the real one's, so that each test can make exactly one thing wrong.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, PublicKeyData as _, SanType, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::KeyPair;

use crate::evidence::{DSSE, SIMPLE_SIGNING};
use crate::{Descriptor, Digest, Evidence, Form, PublicKey, TrustRoot, der};

/// 2024-01-01T12:00:00Z, when everything is signed unless a test says otherwise.
pub(super) const THEN: i64 = 1_704_110_400;
pub(super) const SUBJECT: &str = "alice@example.org";
pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const IMAGE: &[u8] = b"{\"schemaVersion\":2}";

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    ::hex::encode(Sha256::digest(bytes))
}

/// A log's key and address.
pub(super) struct Rekor {
    pub(super) key: KeyPair,
    pub(super) host: &'static str,
    pub(super) index: u64,
    pub(super) time: i64,
}

impl Rekor {
    pub(super) fn new(host: &'static str) -> Self {
        Rekor { key: KeyPair::generate_ecdsa_p256().unwrap(), host, index: 7, time: THEN }
    }

    pub(super) fn public(&self) -> (String, PublicKey) {
        let key = PublicKey::from_spki(self.key.public_key_der().unwrap().as_bytes()).unwrap();
        (format!("https://{}", self.host), key)
    }

    pub(super) fn id(&self) -> Vec<u8> {
        Sha256::digest(self.key.public_key_der().unwrap().as_bytes()).to_vec()
    }

    pub(super) fn promise(&self, body: &Value) -> String {
        let signed = json!({
            "body": b64(body.to_string()),
            "integratedTime": self.time,
            "logID": ::hex::encode(self.id()),
            "logIndex": self.index,
        });
        b64(self.key.sign(signed.to_string().as_bytes()).unwrap().as_bytes())
    }

    /// Of a tree with one leaf.
    pub(super) fn checkpoint(&self, body: &Value) -> String {
        let root = Sha256::digest([&[0], body.to_string().as_bytes()].concat());
        let note = format!("{} - 1\n1\n{}\n", self.host, b64(root));
        let signature = self.key.sign(note.as_bytes()).unwrap();
        let line = [&self.id()[..4], signature.as_bytes()].concat();
        format!("{note}\n\u{2014} {} {}\n", self.host, b64(line))
    }

    /// As bundles have it.
    pub(super) fn entry(&self, body: &Value) -> Value {
        let root = Sha256::digest([&[0], body.to_string().as_bytes()].concat());
        json!({
            "logIndex": self.index.to_string(),
            "logId": {"keyId": b64(self.id())},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": self.time.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(body)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": self.checkpoint(body)},
            },
            "canonicalizedBody": b64(body.to_string()),
        })
    }

    /// As layers of cosign 2 have it.
    pub(super) fn annotation(&self, body: &Value) -> String {
        json!({
            "SignedEntryTimestamp": self.promise(body),
            "Payload": {
                "body": b64(body.to_string()),
                "integratedTime": self.time,
                "logIndex": self.index,
                "logID": ::hex::encode(self.id()),
            },
        })
        .to_string()
    }
}

/// Somebody who signs, with a certificate or without.
pub(super) struct Somebody {
    pub(super) key: KeyPair,
    /// With it: PEM and DER.
    pub(super) certificate: Option<(String, Vec<u8>)>,
}

impl Somebody {
    pub(super) fn with_key() -> Self {
        Somebody { key: KeyPair::generate_ecdsa_p256().unwrap(), certificate: None }
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::from_spki(self.key.public_key_der().unwrap().as_bytes()).unwrap()
    }

    pub(super) fn sign(&self, message: &[u8]) -> String {
        b64(self.key.sign(message).unwrap().as_bytes())
    }

    fn pem(&self) -> String {
        match &self.certificate {
            Some((pem, _)) => pem.clone(),
            None => self.key.public_key_der().unwrap().to_pem(),
        }
    }

    fn material(&self) -> Value {
        if let Some((_, der)) = &self.certificate {
            json!({"certificate": {"rawBytes": b64(der)}})
        } else {
            let spki = self.key.public_key_der().unwrap();
            json!({"publicKey": {"hint": b64(Sha256::digest(spki.as_bytes()))}})
        }
    }

    pub(super) fn hashedrekord(&self, message: &[u8], signature: &str) -> Value {
        json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex(message)}},
            "signature": {"content": signature, "publicKey": {"content": b64(self.pem())}},
        }})
    }

    pub(super) fn dsse_entry(&self, payload: &[u8], signature: &str) -> Value {
        json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex(b"")},
            "payloadHash": {"algorithm": "sha256", "value": hex(payload)},
            "signatures": [{"signature": signature, "verifier": b64(self.pem())}],
        }})
    }

    /// A bundle of a statement, logged if there is a log.
    pub(super) fn bundle(&self, statement: &Value, log: Option<&Rekor>) -> Value {
        let payload = statement.to_string().into_bytes();
        let signature = self.sign(&sigstore_types::dsse::pae("application/vnd.in-toto+json", &payload));
        let mut material = self.material();
        if let Some(log) = log {
            material["tlogEntries"] = json!([log.entry(&self.dsse_entry(&payload, &signature))]);
        }
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": signature}],
            },
        })
    }

    /// A bundle of bytes.
    pub(super) fn blob(&self, message: &[u8], log: Option<&Rekor>) -> Value {
        let signature = self.sign(message);
        let mut material = self.material();
        if let Some(log) = log {
            material["tlogEntries"] = json!([log.entry(&self.hashedrekord(message, &signature))]);
        }
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": b64(Sha256::digest(message))},
                "signature": signature,
            },
        })
    }

    /// A layer of cosign 2 with a payload.
    pub(super) fn layer(&self, payload: &[u8], log: Option<&Rekor>) -> (Descriptor, Vec<u8>) {
        let signature = self.sign(payload);
        let entry = log.map(|log| log.annotation(&self.hashedrekord(payload, &signature)));
        (self.described(SIMPLE_SIGNING, payload, &signature, entry), payload.to_vec())
    }

    /// A layer of cosign 2 with an envelope.
    pub(super) fn envelope(&self, statement: &Value, log: Option<&Rekor>) -> (Descriptor, Vec<u8>) {
        let bundle = self.bundle(statement, None);
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap().to_owned();
        let bytes = bundle["dsseEnvelope"].to_string().into_bytes();
        let payload = statement.to_string().into_bytes();
        let entry = log.map(|log| log.annotation(&self.dsse_entry(&payload, &signature)));
        (self.described(DSSE, &bytes, "", entry), bytes)
    }

    fn described(&self, kind: &str, bytes: &[u8], signature: &str, entry: Option<String>) -> Descriptor {
        let mut annotations =
            BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature.to_owned())]);
        if let Some((pem, _)) = &self.certificate {
            annotations.insert("dev.sigstore.cosign/certificate".to_owned(), pem.clone());
            annotations.insert("dev.sigstore.cosign/chain".to_owned(), String::new());
        }
        if let Some(entry) = entry {
            annotations.insert("dev.sigstore.cosign/bundle".to_owned(), entry);
        }
        Descriptor {
            media_type: kind.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: Some(annotations),
        }
    }
}

pub(super) fn evidence(form: Form, (descriptor, bytes): (Descriptor, Vec<u8>)) -> Evidence {
    Evidence::layer(form, &descriptor, bytes).unwrap()
}

pub(super) fn payload(image: &[u8]) -> Vec<u8> {
    json!({
        "critical": {
            "identity": {"docker-reference": "example.org/app"},
            "image": {"docker-manifest-digest": Digest::of(image)},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

pub(super) fn statement(image: &[u8], predicate_type: &str) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": hex(image)}, "annotations": {"k": "v"}}],
        "predicateType": predicate_type,
        "predicate": {"x": 1},
    })
}

pub(super) const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// A private certificate authority: a root, an intermediate, and what it needs to issue.
pub(super) struct Authority {
    pub(super) root: String,
    pub(super) intermediate: String,
    params: CertificateParams,
    key: rcgen::KeyPair,
}

impl Authority {
    /// One whose intermediate is valid for these years.
    pub(super) fn new(from: i32, until: i32) -> Self {
        let ca = |name: &str, from, until| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            params
        };
        let root_key = rcgen::KeyPair::generate().unwrap();
        let root = ca("root", 2020, 2040);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = ca("intermediate", from, until);
        // As Fulcio's has it. Where it comes with evidence, the crate demands it.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate = params.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap().pem();
        Authority { root: root_pem, intermediate, params, key }
    }

    pub(super) fn trust(&self, logs: &[&Rekor]) -> TrustRoot {
        let logs: Vec<_> = logs.iter().map(|log| log.public()).collect();
        TrustRoot::private("mine", &format!("{}{}", self.intermediate, self.root), &logs).unwrap()
    }

    /// The same with these logs of certificates.
    pub(super) fn trust_logged(
        &self,
        logs: &[&Rekor],
        certificates: &[&Rekor],
        clocks: &[Value],
    ) -> TrustRoot {
        let mut root = serde_json::to_value(self.trust(logs).trusted()).unwrap();
        let certificates = serde_json::to_value(self.trust(certificates).trusted()).unwrap();
        root["ctlogs"] = certificates["tlogs"].clone();
        root["timestampAuthorities"] = json!(clocks);
        TrustRoot::from_json("mine", root.to_string().as_bytes()).unwrap()
    }

    pub(super) fn issue(&self) -> Somebody {
        self.issue_to(|_| {})
    }

    /// A certificate for a day, with what a test changes.
    pub(super) fn issue_to(&self, change: impl FnOnce(&mut CertificateParams)) -> Somebody {
        self.issue_for(&rcgen::KeyPair::generate().unwrap(), change)
    }

    /// One that a log of certificates vouches for; `time` in seconds, and what a test changes in what the log signed.
    pub(super) fn issue_logged(&self, log: &Rekor, time: i64, change: impl FnOnce(&mut Vec<u8>)) -> Somebody {
        let key = rcgen::KeyPair::generate().unwrap();
        let before = self.issue_for(&key, |params| params.serial_number = Some(9.into()));
        let (_, before) = before.certificate.unwrap();
        let tbs = crate::x509::without_timestamps(&before).unwrap();
        let at = (time * 1000).to_be_bytes();
        let length = u32::try_from(tbs.len()).unwrap().to_be_bytes();
        let issuer = Sha256::digest(self.key.subject_public_key_info());
        let mut signed = [&[0, 0], &at[..], &[0, 1], &issuer, &length[1..], &tbs, &[0, 0]].concat();
        change(&mut signed);
        let signature = log.key.sign(&signed).unwrap();
        let prefixed = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let sct = [&[0], &log.id()[..], &at, &[0, 0, 4, 3], &prefixed(signature.as_bytes())].concat();
        let list = der::write(der::OCTETS, &prefixed(&prefixed(&sct)));
        self.issue_for(&key, |params| {
            params.serial_number = Some(9.into());
            params.custom_extensions.push(CustomExtension::from_oid_content(&SCTS, list));
        })
    }

    fn issue_for(&self, key: &rcgen::KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Somebody {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2024, 1, 2);
        params.subject_alt_names = vec![SanType::Rfc822Name(SUBJECT.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.custom_extensions = vec![fulcio(8, &der::write(der::UTF8, ISSUER.as_bytes()))];
        change(&mut params);
        let certificate = params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Somebody {
            key: KeyPair::from_pkcs8_der(&key.serialize_der()).unwrap(),
            certificate: Some((certificate.pem(), certificate.der().to_vec())),
        }
    }
}

/// Signed certificate timestamps (RFC 6962).
const SCTS: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

/// One of Fulcio's extensions.
pub(super) fn fulcio(number: u64, value: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, number], value.to_vec())
}
