//! What `sigstore-verify` 0.15.1 leaves open (`signatures.md` §8), points 7 to 11: what concerns signers and what they sign.

use serde_json::{Value, json};

use super::mint::{self, Authority, IMAGE, Rekor, SIGN, Somebody, statement};
use super::support::{bundle, by_key, by_root, check_digest, is, of, only};
use crate::{Artifact, Claim, Digest, Evidence, Log, PublicKey, Reason, Signer, Time, Trust, Verifier};

#[test]
fn gap_7_a_bundle_by_a_key_needs_neither_log_nor_clock() {
    let (somebody, other) = (Somebody::with_key(), Somebody::with_key());
    let verifier = by_key(&somebody, None);
    let bundle = somebody.bundle(&statement(IMAGE, SIGN), None);
    for checked in
        [of(&verifier, &bundle, IMAGE), check_digest(&verifier, bundle.to_string().as_bytes(), IMAGE)]
    {
        let fact = only(&checked);
        assert_eq!((&fact.log, fact.times.len(), &fact.bad_time), (&Log::Absent, 0, &None));
        assert_eq!(fact.signer, Signer::Key { fingerprint: somebody.public().fingerprint().to_owned() });
    }
    is(&of(&verifier, &bundle, b"other"), Reason::WrongSubject, "it is about");
    is(
        &of(&verifier, &other.bundle(&statement(IMAGE, SIGN), None), IMAGE),
        Reason::BadSignature,
        "configured key",
    );
    // The signature is of the statement and its type.
    let mut forged = bundle.clone();
    forged["dsseEnvelope"]["payload"] = json!(mint::b64(statement(b"other", SIGN).to_string()));
    is(&of(&verifier, &forged, b"other"), Reason::BadSignature, "");
    // A file's too, by its bytes or their digest.
    let blob = somebody.blob(b"file", None);
    for checked in
        [of(&verifier, &blob, b"file"), check_digest(&verifier, blob.to_string().as_bytes(), b"file")]
    {
        assert_eq!(only(&checked).claim, Claim::Blob { digest: Digest::of(b"file") });
    }
    is(&of(&verifier, &blob, b"fire"), Reason::WrongSubject, "other bytes");
    let mut bare = blob;
    bare["messageSignature"].as_object_mut().unwrap().remove("messageDigest");
    assert_eq!(of(&verifier, &bare, b"file").facts.len(), 1);
    is(&of(&verifier, &bare, b"fire"), Reason::BadSignature, "");
}

#[test]
fn gap_8_the_fact_says_whom_a_certificate_is_of() {
    let Some(case) = bundle("happy-path-v0.3") else { return };
    let fact = only(&case.check(&case.bundle)).clone();
    let Signer::Certificate { issuer, subject, extensions, logged, root } = &fact.signer else { panic!() };
    assert_eq!(
        (issuer, subject, *logged, root.as_str()),
        (&case.issuer, &case.identity, true, "public-good")
    );
    let repository = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon";
    assert_eq!(extensions["sourceRepositoryURI"], repository);
    assert_eq!(extensions["sourceRepositoryRef"], "refs/heads/main");
    assert_eq!(extensions["githubWorkflowTrigger"], "workflow_dispatch");
    assert_eq!(extensions["runnerEnvironment"], "github-hosted");
    // A hint decides nothing, and selects nothing that is not trusted.
    let somebody = Somebody::with_key();
    let mut bundle = somebody.bundle(&statement(IMAGE, SIGN), None);
    for hint in ["", "x", &mint::b64([0; 32])] {
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!(hint);
        assert_eq!(of(&by_key(&somebody, None), &bundle, IMAGE).facts.len(), 1);
        is(&of(&by_key(&Somebody::with_key(), None), &bundle, IMAGE), Reason::BadSignature, "");
    }
}

#[test]
fn gap_9_the_statement_is_that_which_was_signed_once() {
    let somebody = Somebody::with_key();
    let verifier = by_key(&somebody, None);
    let wanted = statement(IMAGE, "https://slsa.dev/provenance/v1");
    let bundle = somebody.bundle(&wanted, None);
    let fact = only(&of(&verifier, &bundle, IMAGE)).clone();
    let Claim::Statement { subjects, predicate_type, statement: bytes } = &fact.claim else { panic!() };
    assert_eq!(
        (bytes.as_slice(), predicate_type.as_str()),
        (wanted.to_string().as_bytes(), "https://slsa.dev/provenance/v1")
    );
    assert_eq!(subjects[0].1["k"], "v");
    let mut two = bundle.clone();
    let signature = two["dsseEnvelope"]["signatures"][0].clone();
    two["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(signature);
    is(&of(&verifier, &two, IMAGE), Reason::Malformed, "2 signatures");
    two["dsseEnvelope"]["signatures"] = json!([]);
    is(&of(&verifier, &two, IMAGE), Reason::Malformed, "0 signatures");
    let mut other = bundle;
    other["dsseEnvelope"]["payloadType"] = json!("application/json");
    is(&of(&verifier, &other, IMAGE), Reason::Unsupported, "payloadType");
}

#[test]
fn gap_10_what_is_not_verified_is_said_to_be_unsupported() {
    let Some(case) = bundle("invalid-inclusion-proof_fail") else { return };
    is(&case.check(&case.bundle), Reason::Unsupported, "has no checkpoint");
    let log = Rekor::new("log.example");
    let authority = Authority::new(2020, 2040);
    let verifier = by_root(authority.trust(&[&log]));
    let somebody = authority.issue();
    let mut bundle = somebody.blob(b"file", None);
    let signature = bundle["messageSignature"]["signature"].as_str().unwrap().to_owned();
    for (kind, version) in [("alpine", "0.0.1"), ("rekord", "0.0.1"), ("dsse", "0.0.2")] {
        let mut body = somebody.hashedrekord(b"file", &signature);
        (body["kind"], body["apiVersion"]) = (json!(kind), json!(version));
        bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry(&body)]);
        is(&of(&verifier, &bundle, b"file"), Reason::Unsupported, "are not verified here");
    }
}

/// P-384, RSA, and Ed25519 of bytes: signed by another library. (P-384 with SHA-256 is a test of `key`.)
#[test]
fn gap_10_keys_sign_as_cosign_lets_them() {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    };

    let random = SystemRandom::new();
    let pae = |payload: &Value| {
        sigstore_types::dsse::pae("application/vnd.in-toto+json", payload.to_string().as_bytes())
    };
    let wanted = statement(IMAGE, SIGN);
    let bundle = |signature: &[u8]| {
        let mut bundle = Somebody::with_key().bundle(&wanted, None);
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!(mint::b64(signature));
        bundle
    };
    let under = |spki: &[u8]| {
        let mut trust = Trust::new();
        trust.add_key(PublicKey::from_spki(spki).unwrap());
        Verifier::new(&trust).unwrap()
    };
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let signature = pair.sign(&random, &pae(&wanted)).unwrap();
    let verifier = under(pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(of(&verifier, &bundle(signature.as_ref()), IMAGE).facts.len(), 1);
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &random, &pae(&wanted), &mut signature).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    let verifier = under(spki.as_ref());
    assert_eq!(of(&verifier, &bundle(&signature), IMAGE).facts.len(), 1);
    let pair = Ed25519KeyPair::generate().unwrap();
    let spki = pair.public_key().as_der().unwrap();
    let verifier = under(spki.as_ref());
    assert_eq!(of(&verifier, &bundle(pair.sign(&pae(&wanted)).as_ref()), IMAGE).facts.len(), 1);
    // Of a file Ed25519 signs the bytes, so their digest does not do.
    let mut blob = Somebody::with_key().blob(b"file", None);
    blob["messageSignature"]["signature"] = json!(mint::b64(pair.sign(b"file")));
    assert_eq!(of(&verifier, &blob, b"file").facts.len(), 1);
    is(&check_digest(&verifier, blob.to_string().as_bytes(), b"file"), Reason::Unsupported, "Ed25519");
}

#[test]
fn gap_11_times_are_checked_by_us_and_a_certificate_need_not_be_logged() {
    // The clock is never asked: a signature of 2024 is as good in any year.
    let log = Rekor::new("log.example");
    let authority = Authority::new(2020, 2040);
    let verifier = by_root(authority.trust(&[&log]));
    let checked = of(&verifier, &authority.issue().bundle(&statement(IMAGE, SIGN), Some(&log)), IMAGE);
    let fact = only(&checked);
    assert_eq!(fact.times[0].at, Time(mint::THEN));
    // No log of certificates had it, and the fact says so.
    assert!(matches!(fact.signer, Signer::Certificate { logged: false, .. }));
    // Before and after its day it is refused.
    for time in [mint::THEN - 86_400, mint::THEN + 86_400] {
        let log = Rekor { time, ..Rekor::new("log.example") };
        let verifier = by_root(authority.trust(&[&log]));
        is(
            &of(&verifier, &authority.issue().bundle(&statement(IMAGE, SIGN), Some(&log)), IMAGE),
            Reason::Expired,
            "",
        );
    }
    // Without any time too.
    let verifier = by_root(authority.trust(&[]));
    let bundle = authority.issue().bundle(&statement(IMAGE, SIGN), None);
    is(&of(&verifier, &bundle, IMAGE), Reason::NoTrustedTime, "says when");
}

#[test]
fn an_artifact_whose_bytes_are_not_of_its_digest_is_no_artifact() {
    let somebody = Somebody::with_key();
    let evidence = Evidence::bundle(somebody.blob(b"file", None).to_string().into_bytes()).unwrap();
    let digest = Digest::of(b"file");
    let artifact = Artifact { digest, bytes: Some(b"fire") };
    is(&by_key(&somebody, None).verify(&evidence, Some(artifact)), Reason::WrongSubject, "not of its digest");
}
