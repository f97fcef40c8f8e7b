use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use sigstore_crypto::KeyPair;

use super::*;
use crate::limits::LOOKED_AT;
use crate::{Trust, Verifier};

/// A repository in memory.
#[derive(Default)]
struct Memory {
    referrers: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    tags: BTreeMap<String, Digest>,
}

impl Source for Memory {
    async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag),
            Reference::Digest(digest) => Some(digest),
        };
        Ok(digest.and_then(|digest| {
            let bytes = self.blobs.get(digest)?.clone();
            Some(Manifest { digest: digest.clone(), media_type: String::new(), bytes })
        }))
    }

    async fn referrers(&self, _: &Digest, limit: usize) -> Result<Vec<Descriptor>> {
        Ok(self.referrers.iter().take(limit).cloned().collect())
    }

    async fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>> {
        match self.blobs.get(digest) {
            Some(bytes) if bytes.len() as u64 > most => Err(Error::OverLimit("too large".into())),
            found => Ok(found.cloned()),
        }
    }
}

const V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

impl Memory {
    fn put(&mut self, bytes: Vec<u8>, media_type: &str) -> Descriptor {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        self.blobs.insert(digest.clone(), bytes);
        Descriptor { media_type: media_type.into(), digest, size, artifact_type: None, annotations: None }
    }

    fn manifest_with(&mut self, layers: &[Descriptor], subject: Option<&Digest>) -> Descriptor {
        let mut json = json!({"schemaVersion": 2, "layers": layers});
        if let Some(subject) = subject {
            json["subject"] =
                json!({"mediaType": "x", "size": 1, "digest": subject, "unknown": {"artifactType": 1}});
        }
        self.put(json.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json")
    }

    fn refer(&mut self, subject: &Digest, layers: &[Descriptor], artifact_type: Option<&str>) {
        let mut descriptor = self.manifest_with(layers, Some(subject));
        descriptor.artifact_type = artifact_type.map(str::to_owned);
        self.referrers.push(descriptor);
    }

    fn bundle(&mut self, subject: &Digest, key: &KeyPair) {
        let layer = self.put(signed(subject, key).into_bytes(), V03);
        self.refer(subject, &[layer], Some(V03));
    }
}

fn b64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A bundle by a key; larger with more text in its predicate.
fn signed(subject: &Digest, key: &KeyPair) -> String {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": subject.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
    .to_string();
    let kind = "application/vnd.in-toto+json";
    let signature = key.sign(&sigstore_types::dsse::pae(kind, statement.as_bytes())).unwrap();
    json!({
        "mediaType": V03,
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {
            "payload": b64(statement.as_bytes()),
            "payloadType": kind,
            "signatures": [{"sig": b64(signature.as_bytes())}],
        },
    })
    .to_string()
}

fn layer_of(memory: &mut Memory, subject: &Digest, key: &KeyPair) -> Descriptor {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": "x"},
            "image": {"docker-manifest-digest": subject},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes();
    let signature = b64(key.sign(&payload).unwrap().as_bytes());
    let mut layer = memory.put(payload, SIMPLE_SIGNING);
    layer.annotations = Some(BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature)]));
    layer
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a source in memory never waits"),
    }
}

fn subject() -> Digest {
    Digest::of(b"image")
}

fn verifier(key: &KeyPair) -> Verifier {
    let mut trust = Trust::new();
    trust.add_key(crate::PublicKey::from_spki(key.public_key_der().unwrap().as_bytes()).unwrap());
    Verifier::new(&trust).unwrap()
}

fn all(memory: &Memory) -> Gathered {
    run(gather(memory, &subject(), LOOKED_AT, &|_: &Evidence| true)).unwrap()
}

#[test]
fn evidence_is_found_in_every_form() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut memory = Memory::default();
    memory.bundle(&subject(), &key);
    let layer = layer_of(&mut memory, &subject(), &key);
    memory.refer(
        &subject(),
        std::slice::from_ref(&layer),
        Some("application/vnd.dev.cosign.artifact.sig.v1+json"),
    );
    let other = layer_of(&mut memory, &subject(), &key);
    let sig = memory.manifest_with(&[layer, other], None);
    memory.tags.insert(format!("sha256-{}.sig", subject().hex()), sig.digest);
    let envelope: serde_json::Value = serde_json::from_str(&signed(&subject(), &key)).unwrap();
    let envelope = memory.put(envelope["dsseEnvelope"].to_string().into_bytes(), DSSE);
    let att = memory.manifest_with(&[envelope], None);
    memory.tags.insert(format!("sha256-{}.att", subject().hex()), att.digest);
    let gathered = all(&memory);
    assert!(gathered.rejected.is_empty() && gathered.cut.is_empty(), "{gathered:?}");
    let mut forms: Vec<Form> = gathered.evidence.iter().map(|evidence| evidence.form).collect();
    forms.sort();
    // The layer that is there twice, as a referrer's and under the tag, is one item.
    let expected = [Form::Bundle, Form::LegacySignature, Form::LegacyAttestation, Form::ReferrerSignature];
    assert_eq!(forms, expected);
    let verifier = verifier(&key);
    assert!(gathered.evidence.iter().all(|evidence| verifier.verify(evidence, None).facts.len() == 1));
}

#[test]
fn where_there_are_no_referrers_the_tag_of_the_digest_is_their_list() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut memory = Memory::default();
    memory.bundle(&subject(), &key);
    let index = json!({"schemaVersion": 2, "manifests": std::mem::take(&mut memory.referrers)}).to_string();
    let index = memory.put(index.into_bytes(), "application/vnd.oci.image.index.v1+json");
    memory.tags.insert(format!("sha256-{}", subject().hex()), index.digest);
    assert_eq!(all(&memory).evidence.len(), 1);
}

#[test]
fn other_artifacts_are_not_looked_at() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut memory = Memory::default();
    let layer = memory.put(signed(&subject(), &key).into_bytes(), V03);
    memory.refer(&subject(), &[layer], Some("application/spdx+json"));
    memory.refer(&subject(), &[], Some("application/vnd.dev.cosign.artifact.sbom.v1+json"));
    let gathered = all(&memory);
    assert!(gathered.evidence.is_empty() && gathered.rejected.is_empty());
}

/// CVE-2022-47633 and CVE-2023-47630: what a registry answers need not be what was asked for.
#[test]
fn cve_2022_47633_and_2023_47630_every_answer_is_compared_with_its_digest() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    for what in ["manifest", "layer", "size", "other subject", "missing layer", "missing manifest"] {
        let mut memory = Memory::default();
        memory.bundle(&subject(), &key);
        let manifest = memory.referrers[0].digest.clone();
        let layer = memory.blobs.keys().find(|digest| **digest != manifest).unwrap().clone();
        match what {
            "manifest" => memory.blobs.get_mut(&manifest).unwrap().insert(0, b' '),
            "layer" => memory.blobs.get_mut(&layer).unwrap()[10] ^= 1,
            "size" => memory.referrers[0].size += 1,
            "missing layer" => drop(memory.blobs.remove(&layer)),
            "missing manifest" => drop(memory.blobs.remove(&manifest)),
            _ => {
                let mut other = Memory::default();
                let layer = other.put(signed(&subject(), &key).into_bytes(), V03);
                other.refer(&Digest::of(b"other"), &[layer], Some(V03));
                memory = other;
            }
        }
        let gathered = all(&memory);
        assert!(gathered.evidence.is_empty() && gathered.rejected.len() == 1, "{what}: {gathered:?}");
    }
}

#[test]
fn ten_thousand_items_of_junk_do_not_push_out_the_real_one() {
    let (key, stranger) = (KeyPair::generate_ecdsa_p256().unwrap(), KeyPair::generate_ecdsa_p256().unwrap());
    let mut memory = Memory::default();
    for number in 0..LOOKED_AT - 200 {
        let layer = memory.put(format!("junk {number}").into_bytes(), V03);
        memory.refer(&subject(), &[layer], Some(V03));
    }
    for _ in 0..199 {
        memory.bundle(&subject(), &stranger);
    }
    memory.bundle(&subject(), &key);
    let verifier = verifier(&key);
    let worth = |evidence: &Evidence| !verifier.verify(evidence, None).facts.is_empty();
    let started = std::time::Instant::now();
    let gathered = run(gather(&memory, &subject(), LOOKED_AT, &worth)).unwrap();
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    assert!(worth(&gathered.evidence[0]));
    // Of the strangers' as many as the limit, of the unreadable the first reasons, and that there was more.
    assert_eq!((gathered.evidence.len(), gathered.rejected.len()), (1 + REFERRERS, REASONS));
    assert_eq!(gathered.cut.len(), 2, "{:?}", gathered.cut);
    // More than is looked at is said.
    for number in 0..300 {
        let layer = memory.put(format!("more junk {number}").into_bytes(), V03);
        memory.refer(&subject(), &[layer], Some(V03));
    }
    assert!(all(&memory).cut.iter().any(|cut| cut.contains("not looked at")));
}

#[test]
fn large_layers_are_not_read() {
    let mut memory = Memory::default();
    let mut layer = memory.put(b"{}".to_vec(), V03);
    layer.size = 100 << 20;
    memory.refer(&subject(), &[layer], Some(V03));
    // One that says to be small is read no further than it says.
    let mut layer = memory.put(vec![b' '; 1000], V03);
    layer.size = 10;
    memory.refer(&subject(), &[layer], Some(V03));
    let reasons: Vec<Reason> = all(&memory).rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [Reason::Malformed, Reason::OverLimit]);
    // Junk is read until its bytes are used up; what is smaller comes first.
    let mut memory = Memory::default();
    for number in 0..6 {
        let layer = memory.put(vec![b'0' + number; 15 << 20], V03);
        memory.refer(&subject(), &[layer], Some(V03));
    }
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    memory.bundle(&subject(), &key);
    let gathered = all(&memory);
    assert_eq!((gathered.evidence.len(), gathered.rejected.len()), (1, 5));
    assert!(gathered.cut[0].contains("was not read"), "{:?}", gathered.cut);
}
