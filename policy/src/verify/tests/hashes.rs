//! Entries of logs with other hashes than SHA-256, and of signatures made in other ways than is usual: what cosign makes
//! with P-384 and Ed25519 keys. Each guard of `bound` and `log` has its forgery here, of a kind that `sigstore-verify`
//! is not asked about, so that no other guard stands behind it.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_types::HashAlgorithm;

use super::mint::{self, Authority, IMAGE, Rekor, SIGN, payload, statement};
use super::support::{check, is, of, only};
use crate::scheme::hash;
use crate::{Artifact, Checked, Digest, Evidence, Form, Log, PublicKey, Reason, Trust, Verifier};

const FILE: &[u8] = b"a file";
const OLD: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEHJNDpokgqhf1Rn7q49evBRvsJhnFnhzn4IBKCriKXTyP/HgQIzla9hacFgVd2OmHX6Uk0TGGCCg6mgbHrn0gsM8L1TrND9XEjcSji8ZCDz1Qw7rEODVlSKlo7htzm95y";
const OLD_OF_FILE: &str = "MGQCMBn6+I6UGTX7FWdUrvEbzuMfx5Oq/2u+HAa15N5ZzC0ZuGeHmEyGf4cqfuc8egCY7AIwGDNx/drt4Ezy1HcWvGXlfMeRKbpJcgnyWppEU581RzYU4Jgq5z0VdTV2HYg84rYt";
const OLD_OF_PAYLOAD: &str = "MGYCMQC9xI9rhlzjEF7HQoeD9SavPNmquaUzHSz71NitMX4pwRq145OyVFAmTa6GbgyfBjMCMQD9qpiAP/L38BcNOuZBOAavjTNyh8OrGxpOLe6t3VoUs6YboZsFMPAjvJjjEs6JUEo=";
const KIND: &str = "application/vnd.in-toto+json";

/// A signature with all that a bundle or an entry says of it.
struct Signed {
    message: Vec<u8>,
    signature: Vec<u8>,
    spki: Vec<u8>,
}

impl Signed {
    /// By a new P-384 key, with SHA-384.
    fn p384(message: &[u8]) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let signature = pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Signed { message: message.to_vec(), signature, spki }
    }

    /// With SHA-256, as older clients do: by OpenSSL, `openssl dgst -sha256 -sign`.
    fn old(message: &[u8], signature: &str) -> Self {
        let [signature, spki] = [signature, OLD].map(|text| crate::json::base64(text).unwrap());
        Signed { message: message.to_vec(), signature, spki }
    }

    fn pem(&self) -> String {
        sigstore_types::DerPublicKey::new(self.spki.clone()).to_pem()
    }

    /// An entry of Rekor v1 with this hash of the message.
    fn entry(&self, name: &str, value: &[u8]) -> Value {
        json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": name, "value": hex::encode(value)}},
            "signature": {
                "content": mint::b64(&self.signature),
                "publicKey": {"content": mint::b64(self.pem())},
            },
        }})
    }

    /// An entry of Rekor v2.
    fn entry2(&self, name: &str, value: &[u8]) -> Value {
        json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
            "data": {"algorithm": name, "digest": mint::b64(value)},
            "signature": {
                "content": mint::b64(&self.signature),
                "verifier": {
                    "keyDetails": "PKIX_ECDSA_P384_SHA_384",
                    "publicKey": {"rawBytes": mint::b64(&self.spki)},
                },
            },
        }}})
    }

    fn material(entry: Option<Value>) -> Value {
        json!({"publicKey": {"hint": ""}, "tlogEntries": entry.into_iter().collect::<Vec<_>>()})
    }

    fn blob(&self, with: HashAlgorithm, entry: Option<Value>) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": Signed::material(entry),
            "messageSignature": {
                "messageDigest": {
                    "algorithm": with.to_string(),
                    "digest": mint::b64(hash(with, &[&self.message]).unwrap()),
                },
                "signature": mint::b64(&self.signature),
            },
        })
    }

    /// Of a statement; the message is its pre-authentication encoding.
    fn envelope(&self, said: &Value, entry: Option<Value>) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": Signed::material(entry),
            "dsseEnvelope": {
                "payload": mint::b64(said.to_string()),
                "payloadType": KIND,
                "signatures": [{"sig": mint::b64(&self.signature)}],
            },
        })
    }

    fn trusted(&self, log: &Rekor) -> Verifier {
        let mut trust = Trust::new();
        trust.add_key(PublicKey::from_spki(&self.spki).unwrap());
        trust.add_root(Authority::new(2020, 2040).trust(&[log])).unwrap();
        Verifier::new(&trust).unwrap()
    }
}

fn pae(said: &Value) -> Vec<u8> {
    sigstore_types::dsse::pae(KIND, said.to_string().as_bytes())
}

/// An entry of Rekor v2: no promise, no time, and a checkpoint that is named after its host alone.
fn entry2(log: &Rekor, body: &Value) -> Value {
    let mut entry = log.entry(body);
    let object = entry.as_object_mut().unwrap();
    object.remove("inclusionPromise");
    object.remove("integratedTime");
    object.insert("logIndex".into(), json!("0"));
    entry
}

#[track_caller]
fn is_logged(checked: &Checked) {
    let fact = only(checked);
    assert!(
        matches!(&fact.log, Log::Proven(entries) if entries.len() == 1 && entries[0].included),
        "{fact:?}"
    );
}

#[track_caller]
fn log_says(checked: &Checked, text: &str) {
    let fact = only(checked);
    assert!(matches!(&fact.log, Log::Wrong(why) if why.contains(text)) && fact.times.is_empty(), "{fact:?}");
}

#[test]
fn a_file_signed_with_p384_may_be_logged_with_the_hash_of_its_signature() {
    let log = Rekor::new("log.example");
    for (with, name) in [(HashAlgorithm::Sha2384, "sha384"), (HashAlgorithm::Sha2256, "sha256")] {
        let signed = if name == "sha256" { Signed::old(FILE, OLD_OF_FILE) } else { Signed::p384(FILE) };
        let value = hash(with, &[FILE]).unwrap();
        let verifier = signed.trusted(&log);
        let first = of(&verifier, &signed.blob(with, Some(log.entry(&signed.entry(name, &value)))), FILE);
        is_logged(&first);
        assert_eq!(only(&first).times.len(), 1);
        let second = entry2(&log, &signed.entry2(&with.to_string(), &value));
        is_logged(&of(&verifier, &signed.blob(with, Some(second)), FILE));
    }
}

#[test]
fn an_image_signed_with_p384_may_be_in_rekor_v2() {
    let (log, said) = (Rekor::new("log.example"), statement(IMAGE, SIGN));
    let signed = Signed::p384(&pae(&said));
    let verifier = signed.trusted(&log);
    let entry = |value: &[u8]| entry2(&log, &signed.entry2("SHA2_384", value));
    is_logged(&of(&verifier, &signed.envelope(&said, Some(entry(&Sha384::digest(pae(&said))))), IMAGE));
    let payload = Sha384::digest(said.to_string());
    log_says(&of(&verifier, &signed.envelope(&said, Some(entry(&payload))), IMAGE), "other bytes");
    // Rekor v1 has other kinds for envelopes.
    let first = log.entry(&signed.entry("sha384", &Sha384::digest(pae(&said))));
    log_says(&of(&verifier, &signed.envelope(&said, Some(first)), IMAGE), "0.0.1 of an envelope");
}

/// What older clients sign with P-384 keys: layers, with SHA-256.
#[test]
fn a_layer_signed_with_p384_and_sha_256_may_be_logged() {
    let log = Rekor::new("log.example");
    let bytes = payload(IMAGE);
    let signed = Signed::old(&bytes, OLD_OF_PAYLOAD);
    let check = |body: &Value| {
        let (mut descriptor, content) = mint::Somebody::with_key().layer(&bytes, None);
        let annotations = descriptor.annotations.as_mut().unwrap();
        annotations.insert("dev.cosignproject.cosign/signature".into(), mint::b64(&signed.signature));
        annotations.insert("dev.sigstore.cosign/bundle".into(), log.annotation(body));
        signed.trusted(&log).verify(&mint::evidence(Form::LegacySignature, (descriptor, content)), None)
    };
    let good = check(&signed.entry("sha256", &Sha256::digest(&bytes)));
    assert!(matches!(&only(&good).log, Log::Proven(entries) if !entries[0].included));
    assert_eq!(only(&good).times.len(), 1);
    log_says(&check(&signed.entry("sha384", &Sha384::digest(&bytes))), "another hash than the signature");
    log_says(&check(&signed.entry("sha256", &Sha256::digest(b"other"))), "other bytes");
}

/// CVE-2022-23649, CVE-2022-36056 and CVE-2026-22703, for each entry that only this program binds.
#[test]
fn an_entry_with_another_hash_is_of_this_signature_and_no_other() {
    let log = Rekor::new("log.example");
    let signed = Signed::p384(FILE);
    let verifier = signed.trusted(&log);
    let good = signed.entry("sha384", &Sha384::digest(FILE));
    let with = |entry: Value| of(&verifier, &signed.blob(HashAlgorithm::Sha2384, Some(entry)), FILE);
    is_logged(&with(log.entry(&good)));
    let other = Signed::p384(FILE);
    for (pointer, value, text) in [
        ("/spec/data/hash/value", json!(hex::encode(Sha384::digest(b"another file"))), "of other bytes"),
        // The right bytes, under the wrong name or at the wrong length.
        ("/spec/data/hash/value", json!(hex::encode(Sha256::digest(FILE))), "are no SHA2_384"),
        ("/spec/data/hash/value", json!(hex::encode_upper(Sha384::digest(FILE))), "lower case"),
        ("/spec/data/hash/algorithm", json!("sha256"), "are no SHA2_256"),
        ("/spec/data/hash/algorithm", json!("SHA2_384"), "no known hash"),
        (
            "/spec/data/hash",
            json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(FILE))}),
            "another hash",
        ),
        (
            "/spec/data/hash",
            json!({"algorithm": "sha512", "value": hex::encode(Sha512::digest(FILE))}),
            "another hash",
        ),
        ("/spec/signature/content", json!(mint::b64(&other.signature)), "another signature"),
        ("/spec/signature/publicKey/content", json!(mint::b64(other.pem())), "another signer"),
        ("/spec/signature/publicKey/content", json!(mint::b64("no PEM")), "neither a key"),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        log_says(&with(log.entry(&body)), text);
    }
    // Rekor v2 says the same in other words.
    let good = signed.entry2("SHA2_384", &Sha384::digest(FILE));
    let inner = "/spec/hashedRekordV002";
    for (pointer, value, text) in [
        ("/data/digest", json!(mint::b64(Sha384::digest(b"another file"))), "of other bytes"),
        ("/data/digest", json!(mint::b64(Sha256::digest(FILE))), "are no SHA2_384"),
        ("/data/algorithm", json!("sha384"), "no known hash"),
        (
            "/data",
            json!({"algorithm": "SHA2_512", "digest": mint::b64(Sha512::digest(FILE))}),
            "another hash",
        ),
        ("/signature/content", json!(mint::b64(&other.signature)), "another signature"),
        ("/signature/verifier/publicKey/rawBytes", json!(mint::b64(&other.spki)), "another signer"),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(&format!("{inner}{pointer}")).unwrap() = value;
        log_says(&with(entry2(&log, &body)), text);
    }
}

#[test]
fn an_entry_with_another_hash_is_the_logs() {
    let log = Rekor::new("log.example");
    let signed = Signed::p384(FILE);
    let verifier = signed.trusted(&log);
    let body = signed.entry("sha384", &Sha384::digest(FILE));
    let with = |entry: Value| of(&verifier, &signed.blob(HashAlgorithm::Sha2384, Some(entry)), FILE);
    let (good, stranger) = (log.entry(&body), Rekor::new("log.example"));
    let mut other = body.clone();
    other["spec"]["signature"]["content"] = json!(mint::b64(b"x"));
    for (pointer, value, text) in [
        ("/inclusionProof", Value::Null, "without a proof"),
        ("/inclusionPromise/signedEntryTimestamp", json!(stranger.promise(&body)), "promise that"),
        ("/inclusionPromise/signedEntryTimestamp", json!(log.promise(&other)), "promise that"),
        ("/integratedTime", json!((mint::THEN + 1).to_string()), "promise that"),
        ("/logIndex", json!("8"), "promise that"),
        ("/inclusionProof/checkpoint/envelope", json!(stranger.checkpoint(&body)), "did not sign"),
        ("/inclusionProof/hashes", json!([mint::b64([7; 32])]), "proves nothing"),
        ("/inclusionProof/logIndex", json!("1"), "proves nothing"),
    ] {
        let mut entry = good.clone();
        *entry.pointer_mut(pointer).unwrap() = value;
        log_says(&with(entry), text);
    }
    // The proof of another entry, of the same log.
    let mut entry = good.clone();
    entry["inclusionProof"] = log.entry(&other)["inclusionProof"].clone();
    log_says(&with(entry), "proves nothing");
    log_says(&with(stranger.entry(&body)), "no trust root has");
    // A key that logs nothing says nothing, and one bad word stays said.
    let bare = of(&verifier, &signed.blob(HashAlgorithm::Sha2384, None), FILE);
    assert_eq!(only(&bare).log, Log::Absent);
}

/// Rekor v2 leaves the port of its address out of its name.
#[test]
fn a_log_is_called_after_its_host_with_or_without_its_port() {
    let signed = Signed::p384(FILE);
    let body = signed.entry("sha384", &Sha384::digest(FILE));
    for (url, name, good) in [
        ("log.example:8443", "log.example", true),
        ("log.example:8443", "log.example:8443", true),
        ("log.example:8443", "log.example:84", false),
        ("log.example", "log", false),
        ("log.example", "log.example:8443", false),
    ] {
        let at = Rekor::new(url);
        let verifier = signed.trusted(&at);
        let called = Rekor { host: name, ..at };
        let checked = of(&verifier, &signed.blob(HashAlgorithm::Sha2384, Some(called.entry(&body))), FILE);
        if good { is_logged(&checked) } else { log_says(&checked, "a checkpoint of") }
    }
}

/// Where only a digest is known, the hash must be that digest.
#[test]
fn a_digest_of_one_kind_says_nothing_of_another() {
    let log = Rekor::new("log.example");
    let signed = Signed::p384(FILE);
    let entry = log.entry(&signed.entry("sha384", &Sha384::digest(FILE)));
    let evidence =
        Evidence::bundle(signed.blob(HashAlgorithm::Sha2384, Some(entry)).to_string().into_bytes());
    let artifact = Artifact { digest: Digest::of(FILE), bytes: None };
    let checked = signed.trusted(&log).verify(&evidence.unwrap(), Some(artifact));
    is(&checked, Reason::Unsupported, "only a digest");
}

/// The signature of RFC 8032, 7.3, by its key, of the text `abc`: what cosign makes with Ed25519 for a log.
#[test]
fn ed25519ph_may_be_logged_with_sha_512_and_nothing_else() {
    const KEY: &str =
        "302a300506032b6570032100ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf";
    const SIGNATURE: &str = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406";
    let log = Rekor::new("log.example");
    let signed = Signed {
        message: b"abc".to_vec(),
        signature: hex::decode(SIGNATURE).unwrap(),
        spki: hex::decode(KEY).unwrap(),
    };
    let verifier = signed.trusted(&log);
    let with = |entry: Value| of(&verifier, &signed.blob(HashAlgorithm::Sha2512, Some(entry)), b"abc");
    is_logged(&with(log.entry(&signed.entry("sha512", &Sha512::digest(b"abc")))));
    is_logged(&with(entry2(&log, &signed.entry2("SHA2_512", &Sha512::digest(b"abc")))));
    log_says(&with(log.entry(&signed.entry("sha512", &Sha512::digest(b"abd")))), "other bytes");
    for (name, value) in
        [("sha256", Sha256::digest(b"abc").to_vec()), ("sha384", Sha384::digest(b"abc").to_vec())]
    {
        log_says(&with(log.entry(&signed.entry(name, &value))), "another hash");
    }
    // Plain Ed25519 hashes nothing before, so any right hash of the bytes binds it.
    let pair = Ed25519KeyPair::generate().unwrap();
    let plain = Signed {
        message: FILE.to_vec(),
        signature: pair.sign(FILE).as_ref().to_vec(),
        spki: pair.public_key().as_der().unwrap().as_ref().to_vec(),
    };
    let verifier = plain.trusted(&log);
    let with = |value: &[u8]| {
        let entry = log.entry(&plain.entry("sha512", value));
        of(&verifier, &plain.blob(HashAlgorithm::Sha2512, Some(entry)), FILE)
    };
    is_logged(&with(&Sha512::digest(FILE)));
    log_says(&with(&Sha512::digest(b"another file")), "other bytes");
}

/// cosign 1, and cosign 2 where it is asked to: `intoto` 0.0.1, which is of an envelope byte for byte.
#[test]
fn an_attestation_of_cosign_1_may_be_logged() {
    let log = Rekor::new("log.example");
    let (somebody, said) = (mint::Somebody::with_key(), statement(IMAGE, SIGN));
    let (descriptor, bytes) = somebody.envelope(&said, None);
    let pem = sigstore_types::DerPublicKey::new(somebody.public().spki().to_vec()).to_pem();
    let body = |value: &[u8], pem: &str| {
        json!({"apiVersion": "0.0.1", "kind": "intoto", "spec": {
            "content": {"hash": {"algorithm": "sha256", "value": hex::encode(value)}},
            "publicKey": mint::b64(pem),
        }})
    };
    let verifier = super::support::by_key(&somebody, Some(Authority::new(2020, 2040).trust(&[&log])));
    let check = |body: &Value| {
        let mut descriptor = descriptor.clone();
        let annotations = descriptor.annotations.as_mut().unwrap();
        annotations.insert("dev.sigstore.cosign/bundle".into(), log.annotation(body));
        verifier.verify(&mint::evidence(Form::LegacyAttestation, (descriptor, bytes.clone())), None)
    };
    let good = check(&body(&Sha256::digest(&bytes), &pem));
    assert!(matches!(&only(&good).log, Log::Proven(_)), "{good:?}");
    let (_, another) = somebody.envelope(&statement(b"other", SIGN), None);
    log_says(&check(&body(&Sha256::digest(another), &pem)), "other bytes");
    let stranger = Signed::p384(FILE);
    log_says(&check(&body(&Sha256::digest(&bytes), &stranger.pem())), "another signer");
    // A bundle does not keep the bytes that it is of.
    let mut bundle = somebody.bundle(&said, None);
    bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry(&body(&Sha256::digest(&bytes), &pem))]);
    log_says(&check_bundle(&verifier, &bundle), "byte for byte");
}

fn check_bundle(verifier: &Verifier, bundle: &Value) -> Checked {
    check(verifier, bundle.to_string().as_bytes(), IMAGE)
}
