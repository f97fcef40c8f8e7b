//! The cases of sigstore-conformance and of containers/image.

use std::collections::BTreeMap;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::support::{bundles, cases, check, check_digest, digest_of, only, refused};
use crate::{
    Artifact, Checked, Claim, Descriptor, Digest, Evidence, Form, Log, PublicKey, Reason, Signer, Trust,
    TrustRoot, Verifier,
};

#[test]
fn every_bundle_gets_the_answer_of_its_folder() {
    let mut wrong = Vec::new();
    for case in bundles() {
        let expected = !case.name.ends_with("_fail");
        let (passed, said) = match case.trust() {
            Err(error) => (false, error.to_string()),
            Ok(trust) => {
                let verifier = Verifier::new(&trust).unwrap();
                let by_bytes = check(&verifier, &case.bundle, &case.artifact);
                let by_digest = check_digest(&verifier, &case.bundle, &case.artifact);
                assert_eq!(by_bytes, by_digest, "{}", case.name);
                (by_bytes.facts.iter().any(|fact| case.passes(fact)), format!("{by_bytes:?}"))
            }
        };
        let said: String = said.chars().take(400).collect();
        if !expected {
            eprintln!("{}: {said}", case.name);
        }
        if passed != expected {
            wrong.push(format!("{}: {said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_case_of_a_missing_start_of_validity_fails_as_its_root_is_loaded() {
    for case in bundles().into_iter().filter(|case| case.name.starts_with("trust-root-tlog-missing")) {
        assert!(case.trust().unwrap_err().to_string().contains("tlogs[1]"), "{}", case.name);
    }
}

/// A signature of containers/image's directories: a line that marks it, then a layer in JSON.
pub(super) fn legacy(name: &str) -> Option<(Evidence, Vec<u8>)> {
    let folder = cases()?.join("legacy-signatures").join(name);
    let file = fs::read(folder.join("signature-1")).unwrap();
    let json = &file[b"\0sigstore-json\n".len()..];
    let layer: serde_json::Value = serde_json::from_slice(json).unwrap();
    let bytes = STANDARD.decode(layer["payload"].as_str().unwrap()).unwrap();
    let annotations: BTreeMap<String, String> = serde_json::from_value(layer["annotations"].clone()).unwrap();
    let descriptor = Descriptor {
        media_type: layer["mimeType"].as_str().unwrap().to_owned(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: Some(annotations),
    };
    let manifest = fs::read(folder.join("manifest.json")).unwrap_or_default();
    Some((Evidence::layer(Form::LegacySignature, &descriptor, bytes).unwrap(), manifest))
}

fn checked(trust: &Trust, evidence: &Evidence, manifest: &[u8]) -> Checked {
    let digest = Digest::of(manifest);
    let artifact = Artifact { digest, bytes: Some(manifest) };
    Verifier::new(trust).unwrap().verify(evidence, Some(artifact))
}

fn key() -> Option<Trust> {
    let mut trust = Trust::new();
    let pem = fs::read_to_string(cases()?.join("legacy-signatures/cosign.pub")).unwrap();
    trust.add_key(PublicKey::from_pem(&pem).unwrap());
    Some(trust)
}

#[test]
fn a_signature_of_cosign_2_by_a_key_is_of_its_image() {
    let Some((evidence, manifest)) = legacy("dir-img-cosign-valid") else { return };
    let checked = checked(&key().unwrap(), &evidence, &manifest);
    let fact = only(&checked);
    assert!(matches!(fact.signer, Signer::Key { .. }));
    assert_eq!((&fact.log, &fact.times, &fact.bad_time), (&Log::Absent, &vec![], &None));
    let Claim::Image { digest, repository, .. } = &fact.claim else { panic!("{fact:?}") };
    assert_eq!(
        (digest, repository.as_str()),
        (&Digest::of(&manifest), "192.168.64.2:5000/cosign-signed-single-sample")
    );
    // No other image, no other key.
    let (reason, _) = refused(&self::checked(&key().unwrap(), &evidence, b"{}")).to_owned();
    assert_eq!(reason, Reason::WrongSubject);
    let (reason, _) = refused(&self::checked(&Trust::new(), &evidence, &manifest)).to_owned();
    assert_eq!(reason, Reason::BadSignature);
}

#[test]
fn a_signature_whose_image_is_not_there_still_says_which_it_is_of() {
    let Some((evidence, _)) = legacy("dir-img-cosign-no-manifest") else { return };
    let checked = Verifier::new(&key().unwrap()).unwrap().verify(&evidence, None);
    let digest = digest_of(&only(&checked).claim).to_string();
    assert_eq!(digest, "sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00");
}

#[test]
fn an_attachment_that_is_no_signature_is_none() {
    let Some((evidence, manifest)) = legacy("dir-img-cosign-other-attachment") else { return };
    let (reason, _) = refused(&checked(&key().unwrap(), &evidence, &manifest)).to_owned();
    assert_eq!(reason, Reason::Unsupported);
}

#[test]
fn a_keyless_signature_of_cosign_2_has_a_promise_and_no_proof() {
    let Some((evidence, manifest)) = legacy("dir-img-cosign-fulcio-rekor-valid") else { return };
    let mut trust = Trust::new();
    trust.add_root(TrustRoot::public_good().unwrap()).unwrap();
    let checked = checked(&trust, &evidence, &manifest);
    let fact = only(&checked);
    let Signer::Certificate { issuer, subject, logged, .. } = &fact.signer else { panic!("{fact:?}") };
    assert_eq!(
        (issuer.as_str(), subject.as_str(), *logged),
        ("https://github.com/login/oauth", "mitr@redhat.com", true)
    );
    let Log::Proven(entries) = &fact.log else { panic!("{fact:?}") };
    assert!(entries.len() == 1 && !entries[0].included && entries[0].url == "https://rekor.sigstore.dev");
    assert_eq!(fact.times.len(), 1);
    assert_eq!(digest_of(&fact.claim), &Digest::of(&manifest));
    // A key never verifies what a certificate signed.
    let (reason, _) = refused(&self::checked(&key().unwrap(), &evidence, &manifest)).to_owned();
    assert_eq!(reason, Reason::BadSignature);
}

/// Its certificate names an address and a host: one signer is not two. (And nothing says when it was signed.)
#[test]
fn a_certificate_of_a_private_authority_with_two_names_is_nobodys() {
    let Some((evidence, manifest)) = legacy("dir-img-cosign-pki-valid") else { return };
    let folder = cases().unwrap().join("legacy-signatures");
    let pem = ["pki_intermediate_crts.pem", "pki_root_crts.pem"]
        .map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let mut trust = Trust::new();
    trust.add_root(TrustRoot::private("mine", &pem.concat(), &[]).unwrap()).unwrap();
    let checked = checked(&trust, &evidence, &manifest);
    let (reason, why) = refused(&checked);
    assert!(reason == Reason::Malformed && why.contains("2 subject alternative names"), "{why}");
}
