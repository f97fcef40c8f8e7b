//! The advisories of `signatures.md` §6 that concern verification, each with evidence that fell through elsewhere.

use serde_json::{Value, json};

use super::mint::{self, Authority, IMAGE, ISSUER, Rekor, SIGN, Somebody, evidence, payload, statement};
use super::support::{bundle, check, is, of, only};
use super::world::{layer, log_is_wrong, world};
use crate::limits::{
    ATTESTATION_BYTES, CERTIFICATES, LOG_ENTRIES, PROOF_HASHES, SIGNATURE_BYTES, TIMESTAMPS,
};
use crate::{
    Artifact, Claim, Digest, Error, Evidence, Form, Log, Reason, Signer, Trust, TrustRoot, Verifier, der,
};

const BUNDLE: &str = "dev.sigstore.cosign/bundle";

#[test]
fn cve_2022_23649_a_log_entry_pasted_on_another_signature() {
    let world = world();
    let other = payload(b"other");
    for signer in [&world.authority.issue(), &world.somebody] {
        let (mut good, bytes) = signer.layer(&payload(IMAGE), Some(&world.log));
        let (pasted, _) = signer.layer(&other, Some(&world.log));
        assert_eq!(layer(&world, Form::LegacySignature, (good.clone(), bytes.clone())).facts.len(), 1);
        let entry = pasted.annotations.unwrap()[BUNDLE].clone();
        good.annotations.as_mut().unwrap().insert(BUNDLE.to_owned(), entry);
        let checked = layer(&world, Form::LegacySignature, (good, bytes));
        let mut bundle = signer.bundle(&statement(IMAGE, SIGN), Some(&world.log));
        let other = signer.bundle(&statement(b"other", SIGN), Some(&world.log));
        bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
        for checked in [checked, of(&world.verifier, &bundle, IMAGE)] {
            // With a key the signature is still one, for who asks for no log.
            if signer.certificate.is_some() {
                is(&checked, Reason::TlogInvalid, "");
            } else {
                log_is_wrong(&checked);
            }
        }
    }
}

#[test]
fn cve_2022_36056_a_blobs_bundle_that_does_not_refer_to_the_signature() {
    let world = world();
    let blob = |signer: &Somebody, of: &[u8], entry_of: &[u8]| {
        let entry = signer.hashedrekord(entry_of, &signer.sign(entry_of));
        let signature = if of == entry_of {
            entry["spec"]["signature"]["content"].as_str().unwrap().to_owned()
        } else {
            signer.sign(of)
        };
        let rekor: Value = serde_json::from_str(&world.log.annotation(&entry)).unwrap();
        let mut json = json!({"base64Signature": signature, "rekorBundle": rekor});
        if let Some((pem, _)) = &signer.certificate {
            json["cert"] = json!(mint::b64(pem));
        }
        json
    };
    let checked = |json: &Value| {
        let evidence = Evidence::detached(json.to_string().into_bytes()).unwrap();
        let digest = Digest::of(b"file");
        world.verifier.verify(&evidence, Some(Artifact { digest, bytes: Some(b"file") }))
    };
    for signer in [&world.authority.issue(), &world.somebody] {
        assert!(matches!(only(&checked(&blob(signer, b"file", b"file"))).log, Log::Proven(_)));
        let pasted = checked(&blob(signer, b"file", b"other"));
        if signer.certificate.is_some() {
            is(&pasted, Reason::TlogInvalid, "");
        } else {
            log_is_wrong(&pasted);
        }
        // A bundle that cannot be read is no reason to go on without it.
        let mut broken = blob(signer, b"file", b"file");
        broken["rekorBundle"]["SignedEntryTimestamp"] = json!("?");
        is(&checked(&broken), Reason::Malformed, "SignedEntryTimestamp");
        broken["rekorBundle"] = json!({});
        is(&checked(&broken), Reason::Malformed, "");
    }
    // And the identity is the certificate's, not what lies beside it.
    let fact = checked(&blob(&world.authority.issue(), b"file", b"file"));
    let Signer::Certificate { issuer, subject, .. } = &only(&fact).signer else { panic!() };
    assert_eq!((issuer.as_str(), subject.as_str()), (ISSUER, mint::SUBJECT));
}

#[test]
fn cve_2026_22703_a_log_entry_of_the_same_bytes_by_another_signer() {
    let world = world();
    let (alice, mallory) = (world.authority.issue(), world.authority.issue());
    let (mut good, bytes) = alice.layer(&payload(IMAGE), Some(&world.log));
    assert_eq!(layer(&world, Form::LegacySignature, (good.clone(), bytes.clone())).facts.len(), 1);
    let theirs = mallory.layer(&payload(IMAGE), Some(&world.log)).0;
    good.annotations.as_mut().unwrap().insert(BUNDLE.to_owned(), theirs.annotations.unwrap()[BUNDLE].clone());
    is(&layer(&world, Form::LegacySignature, (good, bytes)), Reason::TlogInvalid, "another signature");
}

#[test]
fn cve_2022_35929_and_35930_the_type_of_an_attestation_is_what_was_signed() {
    let world = world();
    let (mut descriptor, bytes) =
        world.somebody.envelope(&statement(IMAGE, "https://spdx.dev/Document"), None);
    let wanted = "https://slsa.dev/provenance/v1".to_owned();
    descriptor.annotations.as_mut().unwrap().insert("predicateType".to_owned(), wanted.clone());
    let checked = layer(&world, Form::LegacyAttestation, (descriptor, bytes));
    let Claim::Statement { predicate_type, .. } = &only(&checked).claim else { panic!() };
    assert_ne!(*predicate_type, wanted);
}

#[test]
fn cve_2026_39395_a_signed_payload_that_cannot_be_read_is_a_failure() {
    let world = world();
    for payload in [&b"{}"[..], b"", b"null", b"{\"critical\":{}}", b"not json"] {
        let checked = layer(&world, Form::LegacySignature, world.somebody.layer(payload, None));
        is(&checked, Reason::Malformed, "payload");
    }
    let other = String::from_utf8(payload(IMAGE)).unwrap().replace("cosign container", "atomic container");
    let checked = layer(&world, Form::LegacySignature, world.somebody.layer(other.as_bytes(), None));
    is(&checked, Reason::Malformed, "critical.type");
    for bad in [json!({}), json!(null), json!([]), json!("x")] {
        let bundle = world.somebody.bundle(&bad, None);
        is(&of(&world.verifier, &bundle, IMAGE), Reason::Malformed, "statement");
    }
}

#[test]
fn cve_2026_24122_an_intermediate_that_had_expired() {
    let log = Rekor::new("log.example");
    for (from, until, good) in [(2020, 2040, true), (2020, 2023, false), (2025, 2040, false)] {
        let authority = Authority::new(from, until);
        let mut trust = Trust::new();
        trust.add_root(authority.trust(&[&log])).unwrap();
        let verifier = Verifier::new(&trust).unwrap();
        let signed = authority.issue().bundle(&statement(IMAGE, SIGN), Some(&log));
        let checked = of(&verifier, &signed, IMAGE);
        if good {
            assert_eq!(checked.facts.len(), 1);
        } else {
            is(&checked, Reason::Expired, "chain");
        }
        // The same where the intermediate comes with the evidence and only the root is trusted.
        let logs = [log.public()];
        let mut trust = Trust::new();
        trust.add_root(TrustRoot::private("mine", &authority.root, &logs).unwrap()).unwrap();
        let verifier = Verifier::new(&trust).unwrap();
        let (mut descriptor, bytes) = authority.issue().layer(&payload(IMAGE), Some(&log));
        let chain = format!("{}{}", authority.intermediate, authority.root);
        descriptor.annotations.as_mut().unwrap().insert("dev.sigstore.cosign/chain".to_owned(), chain);
        let checked = verifier.verify(&evidence(Form::LegacySignature, (descriptor, bytes)), None);
        if good {
            assert_eq!(checked.facts.len(), 1, "{checked:?}");
        } else {
            is(&checked, Reason::Expired, "");
        }
    }
}

#[test]
fn cve_2026_39984_and_2025_66564_a_certificate_in_the_bag_of_a_timestamp_that_did_not_sign_it() {
    use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    // What a certificate for timestamps must be like, looked at on the one that signed.
    let usage = |critical: bool, content: &[u8]| {
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], content.to_vec());
        extension.set_criticality(critical);
        extension
    };
    let stamping: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
    let code: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
    let both = der::write(0x30, &[&stamping[2..], &code[2..]].concat());
    let key = KeyPair::generate().unwrap();
    let made = |extensions: Vec<CustomExtension>, ca: bool| {
        let mut params = CertificateParams::default();
        params.custom_extensions = extensions;
        if ca {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        params.self_signed(&key).unwrap().der().to_vec()
    };
    let proper = made(vec![usage(true, stamping)], false);
    let is_proper = |der: &[u8]| crate::x509::Certificate::read(der).unwrap().is_timestamp_authority();
    assert!(is_proper(&proper));
    assert!(!is_proper(&made(vec![usage(false, stamping)], false)), "not critical");
    assert!(!is_proper(&made(vec![usage(true, code)], false)), "another use");
    assert!(!is_proper(&made(vec![usage(true, &both)], false)), "another use too");
    assert!(!is_proper(&made(vec![usage(true, stamping)], true)), "a CA");
    assert!(!is_proper(&made(vec![], false)), "for everything");
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
    assert!(!is_proper(params.self_signed(&key).unwrap().der()), "not critical");

    // A proper one laid into the bag of a real token before the signer's.
    let Some(case) = bundle("rekor2-timestamp-with-embedded-cert") else { return };
    let mut json = case.json();
    let pointer = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let token = crate::json::base64(json.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
    let with_bag = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut response = der::only(&token, der::SEQUENCE).unwrap().inside();
        let status = response.next().unwrap().whole;
        let mut info = response.next().unwrap().inside();
        let kind = info.next().unwrap().whole;
        let mut data = der::only(info.next().unwrap().content, der::SEQUENCE).unwrap().inside();
        let mut parts = Vec::new();
        while !data.is_empty() {
            let part = data.next().unwrap();
            let bag = part.tag == der::context(0);
            parts.extend(if bag { der::write(part.tag, &change(part.content)) } else { part.whole.to_vec() });
        }
        let data = der::write(der::context(0), &der::write(der::SEQUENCE, &parts));
        let info = der::write(der::SEQUENCE, &[kind, &data].concat());
        der::write(der::SEQUENCE, &[status, &info].concat())
    };
    let mut checked = |token: Vec<u8>| {
        *json.pointer_mut(pointer).unwrap() = json!(mint::b64(token));
        case.check(json.to_string().as_bytes())
    };
    assert_eq!(checked(with_bag(&|bag| bag.to_vec())).facts.len(), 1);
    let smuggled = checked(with_bag(&|bag| [proper.as_slice(), bag].concat()));
    is(&smuggled, Reason::TlogInvalid, "not of its authority's trusted chain");
    is(&checked(with_bag(&|_| proper.clone())), Reason::TlogInvalid, "not of its authority's trusted chain");
    // Without any it is as good, because the signer is the configured one.
    assert_eq!(checked(with_bag(&|_| Vec::new())).facts.len(), 1);
    // CVE-2025-66564: and no number of them is gone through.
    let many = checked(with_bag(&|_| proper.repeat(CERTIFICATES + 1)));
    is(&many, Reason::TlogInvalid, "more than 10 certificates");
}

#[test]
fn ghsa_9vcr_p3rj_q5q6_two_entries_of_one_log_are_one_log() {
    let world = world();
    let signer = world.authority.issue();
    let mut bundle = signer.bundle(&statement(IMAGE, SIGN), Some(&world.log));
    let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
    let body = crate::json::base64(entries[0]["canonicalizedBody"].as_str().unwrap()).unwrap();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body["spec"]["envelopeHash"]["value"] = json!(mint::hex(b"another spelling of the same envelope"));
    let again = Rekor { index: 8, time: mint::THEN + 1, ..world.log };
    entries.as_array_mut().unwrap().push(again.entry(&body));
    let checked = of(&world.verifier, &bundle, IMAGE);
    let fact = only(&checked);
    assert!(
        matches!(&fact.log, Log::Proven(entries) if entries.len() == 1 && entries[0].index == 7),
        "{fact:?}"
    );
    assert_eq!(fact.times.len(), 1);
    assert_eq!(fact.times[0].at.0, mint::THEN);
}

#[test]
fn ghsa_wqqc_jjcq_vfxm_a_time_that_nobody_signed_is_no_time() {
    let world = world();
    let mut bundle = world.somebody.bundle(&statement(IMAGE, SIGN), Some(&world.log));
    assert_eq!(only(&of(&world.verifier, &bundle, IMAGE)).times.len(), 1);
    let entry = bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
    entry.remove("inclusionPromise");
    let checked = of(&world.verifier, &bundle, IMAGE);
    let fact = only(&checked);
    assert!(matches!(fact.log, Log::Proven(_)) && fact.times.is_empty());
    // Nor one that was changed after it was signed.
    let mut bundle = world.somebody.bundle(&statement(IMAGE, SIGN), Some(&world.log));
    bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!((mint::THEN - 1).to_string());
    log_is_wrong(&of(&world.verifier, &bundle, IMAGE));
}

#[test]
fn cve_2024_45395_2024_29902_2024_29903_2023_46737_2023_33957_endless_evidence_is_refused_by_its_size() {
    let world = world();
    let bundle = world.authority.issue().bundle(&statement(IMAGE, SIGN), Some(&world.log));
    let more = |pointer: &str, value: Value, count: usize| {
        let mut bundle = bundle.clone();
        *bundle.pointer_mut(pointer).unwrap() = json!(vec![value; count]);
        of(&world.verifier, &bundle, IMAGE)
    };
    let entry = bundle["verificationMaterial"]["tlogEntries"][0].clone();
    is(
        &more("/verificationMaterial/tlogEntries", entry, LOG_ENTRIES + 1),
        Reason::OverLimit,
        "entries of logs",
    );
    let hashes = "/verificationMaterial/tlogEntries/0/inclusionProof/hashes";
    is(&more(hashes, json!(mint::b64([0; 32])), PROOF_HASHES + 1), Reason::OverLimit, "hashes");
    let mut stamped = bundle.clone();
    stamped["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": vec![json!({"signedTimestamp": "MAA="}); TIMESTAMPS + 1]});
    is(&of(&world.verifier, &stamped, IMAGE), Reason::OverLimit, "timestamps");
    let mut chain = bundle.clone();
    let material = chain["verificationMaterial"].as_object_mut().unwrap();
    let certificate = material.remove("certificate").unwrap();
    material
        .insert("x509CertificateChain".into(), json!({"certificates": vec![certificate; CERTIFICATES + 1]}));
    chain["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
    is(&of(&world.verifier, &chain, IMAGE), Reason::OverLimit, "certificates");
    // By its bytes: before it is parsed, and once it is known to be a signature.
    assert!(matches!(Evidence::bundle(vec![b' '; ATTESTATION_BYTES + 1]), Err(Error::OverLimit(_))));
    let large = |kind: &str| {
        let mut said = statement(IMAGE, kind);
        said["predicate"] = json!({"x": "y".repeat(SIGNATURE_BYTES)});
        of(&world.verifier, &world.somebody.bundle(&said, None), IMAGE)
    };
    is(&large(SIGN), Reason::OverLimit, "a signature of");
    assert_eq!(large("https://spdx.dev/Document").facts.len(), 1);
    // In depth.
    let deep = format!("{{\"mediaType\":{}", "[".repeat(1_000_000));
    is(&check(&world.verifier, deep.as_bytes(), IMAGE), Reason::OverLimit, "deep");
}

#[test]
fn cve_2024_29903_a_bundle_of_100_mib_is_not_even_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    assert!(matches!(Evidence::bundle_file(&path), Err(Error::OverLimit(_))));
    assert!(matches!(Evidence::detached_file(&path), Err(Error::OverLimit(_))));
}

#[test]
fn cve_2023_33959_a_layer_that_is_not_of_its_digest() {
    let world = world();
    let (descriptor, bytes) = world.somebody.layer(&payload(IMAGE), None);
    let mut other = bytes.clone();
    other[0] = b' ';
    for wrong in [other, bytes[1..].to_vec(), [bytes.as_slice(), b" "].concat()] {
        let error = Evidence::layer(Form::LegacySignature, &descriptor, wrong);
        assert!(matches!(error, Err(Error::Malformed(_))));
    }
    // The right content, and a descriptor that says another size.
    let size = descriptor.size + 1;
    let error = Evidence::layer(Form::LegacySignature, &crate::Descriptor { size, ..descriptor }, bytes);
    assert!(matches!(error, Err(Error::Malformed(_))));
}

/// policy-controller #1971: what was discovered was taken for what was verified.
#[test]
fn item_13_a_referrer_with_an_attestation_that_nobody_trusted_signed_proves_nothing() {
    let world = world();
    let stranger = Somebody::with_key();
    let checked = layer(&world, Form::ReferrerSignature, stranger.envelope(&statement(IMAGE, SIGN), None));
    is(&checked, Reason::BadSignature, "configured key");
    let checked =
        layer(&world, Form::ReferrerSignature, world.somebody.envelope(&statement(IMAGE, SIGN), None));
    assert_eq!(only(&checked).form, Form::ReferrerSignature);
}

#[test]
fn cve_2023_47122_the_key_of_a_log_comes_from_the_trust_root_alone() {
    let world = world();
    let theirs = Rekor::new("log.example");
    for signer in [&world.authority.issue(), &world.somebody] {
        let checked = of(&world.verifier, &signer.bundle(&statement(IMAGE, SIGN), Some(&theirs)), IMAGE);
        if signer.certificate.is_some() {
            is(&checked, Reason::TlogInvalid, "which no trust root has");
        } else {
            log_is_wrong(&checked);
        }
    }
}
