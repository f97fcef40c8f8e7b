//! What `sigstore-verify` 0.15.1 leaves open (`signatures.md` §8), points 1 to 6: what concerns logs and clocks.

use serde_json::{Value, json};

use super::mint::{self, Authority, IMAGE, Rekor, SIGN, Somebody, evidence, payload, statement};
use super::support::{bundle, by_key, by_root, check, is, of, only};
use crate::evidence::parsed::Parsed;
use crate::{Evidence, Form, Log, LogEntry, ProvenTime, Reason, Time, TimeSource, TrustRoot};

/// A root with one member of a real case's changed.
fn edited(root: &[u8], edit: impl FnOnce(&mut Value)) -> TrustRoot {
    let mut json: Value = serde_json::from_slice(root).unwrap();
    edit(&mut json);
    TrustRoot::from_json("edited", json.to_string().as_bytes()).unwrap()
}

#[test]
fn gap_1_the_key_of_a_log_must_have_been_valid_when_it_was_signed() {
    let Some(case) = bundle("rekor2-happy-path") else { return };
    let root = case.root.clone().unwrap();
    let ended = |start: &str, end: &str| {
        let window = json!({"start": start, "end": end});
        by_root(edited(&root, |json| json["tlogs"][1]["publicKey"]["validFor"] = window))
    };
    let verifier = ended("2020-01-01T00:00:00Z", "2022-01-01T00:00:00Z");
    is(&check(&verifier, &case.bundle, &case.artifact), Reason::TlogInvalid, "was not valid at");
    // The bundle's timestamp is of 2025-06-12.
    assert_eq!(
        check(&ended("2025-06-12T00:00:00Z", "2025-06-13T00:00:00Z"), &case.bundle, &case.artifact)
            .facts
            .len(),
        1
    );
}

#[test]
fn gap_1_a_key_that_ended_needs_a_trusted_time() {
    let log = Rekor::new("log.example");
    let somebody = Somebody::with_key();
    let mut bundle = somebody.bundle(&statement(IMAGE, SIGN), Some(&log));
    let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
    entry.as_object_mut().unwrap().remove("inclusionPromise");
    let root = Authority::new(2020, 2040).trust(&[&log]);
    let fact = only(&of(&by_key(&somebody, Some(root)), &bundle, IMAGE)).clone();
    assert!(matches!(&fact.log, Log::Proven(entries) if entries[0].included && entries[0].index == 0));
    assert!(fact.times.is_empty());
    let json = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [{
            "baseUrl": "https://log.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": mint::b64(log.public().1.spki()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2020-01-01T00:00:00Z", "end": "2022-01-01T00:00:00Z"},
            },
            "logId": {"keyId": mint::b64(log.id())},
        }],
    });
    let root = TrustRoot::from_json("ended", json.to_string().as_bytes()).unwrap();
    let fact = only(&of(&by_key(&somebody, Some(root)), &bundle, IMAGE)).clone();
    assert!(matches!(&fact.log, Log::Wrong(why) if why.contains("no longer valid")), "{fact:?}");
}

#[test]
fn gap_2_a_bundle_needs_a_proof_of_inclusion_whatever_version_it_says_to_be() {
    let Some(case) = bundle("happy-path-v0.3") else { return };
    let mut json = case.json();
    let material = &mut json["verificationMaterial"];
    let certificate = material.as_object_mut().unwrap().remove("certificate").unwrap();
    material["x509CertificateChain"] = json!({"certificates": [certificate]});
    json["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1");
    assert_eq!(case.check(json.to_string().as_bytes()).facts.len(), 1);
    json["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap().remove("inclusionProof");
    is(&case.check(json.to_string().as_bytes()), Reason::TlogInvalid, "without a proof of inclusion");
    // Only a layer of cosign 2 may have a promise alone, and its fact says so.
    let log = Rekor::new("log.example");
    let authority = Authority::new(2020, 2040);
    let layer = evidence(Form::LegacySignature, authority.issue().layer(&payload(IMAGE), Some(&log)));
    let checked = by_root(authority.trust(&[&log])).verify(&layer, None);
    assert!(matches!(&only(&checked).log, Log::Proven(entries) if !entries[0].included));
}

#[test]
fn gap_3_an_entry_is_of_the_log_that_it_names() {
    let Some(case) = bundle("rekor2-happy-path") else { return };
    let verifier = case.verifier();
    let root: Value = serde_json::from_slice(case.root.as_ref().unwrap()).unwrap();
    let mut json = case.json();
    let entry = |json: &mut Value, pointer: &str, value: Value| {
        *json.pointer_mut("/verificationMaterial/tlogEntries/0").unwrap().pointer_mut(pointer).unwrap() =
            value;
    };
    entry(&mut json, "/logId/keyId", root["tlogs"][0]["logId"]["keyId"].clone());
    is(&of(&verifier, &json, &case.artifact), Reason::TlogInvalid, "a checkpoint of");
    entry(&mut json, "/logId/keyId", json!(mint::b64([7; 32])));
    is(&of(&verifier, &json, &case.artifact), Reason::TlogInvalid, "which no trust root has");
    // What a proof says twice is the same.
    for (pointer, value, text) in [
        ("/inclusionProof/treeSize", json!("737"), "another size"),
        ("/inclusionProof/rootHash", json!(mint::b64([7; 32])), "another root"),
        ("/inclusionProof/logIndex", json!("734"), "another place"),
    ] {
        let mut json = case.json();
        entry(&mut json, pointer, value);
        is(&of(&verifier, &json, &case.artifact), Reason::TlogInvalid, text);
    }
    // A checkpoint is of the log's address.
    let moved = edited(case.root.as_ref().unwrap(), |json| {
        json["tlogs"][1]["baseUrl"] = json!("https://other.example");
    });
    is(&check(&by_root(moved), &case.bundle, &case.artifact), Reason::TlogInvalid, "a checkpoint of");
}

#[test]
fn gap_3_the_kind_of_an_entry_is_its_bodys() {
    let log = Rekor::new("log.example");
    let authority = Authority::new(2020, 2040);
    let mut bundle = authority.issue().bundle(&statement(IMAGE, SIGN), Some(&log));
    let verifier = by_root(authority.trust(&[&log]));
    assert_eq!(of(&verifier, &bundle, IMAGE).facts.len(), 1);
    bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"] =
        json!({"kind": "hashedrekord", "version": "0.0.1"});
    is(&of(&verifier, &bundle, IMAGE), Reason::TlogInvalid, "its body is dsse");
}

#[test]
fn gap_4_nothing_counts_twice() {
    let (log, other) = (Rekor::new("log.example"), Rekor::new("other.example"));
    let authority = Authority::new(2020, 2040);
    let verifier = by_root(authority.trust(&[&log, &other]));
    let somebody = authority.issue();
    let bundle = somebody.bundle(&statement(IMAGE, SIGN), Some(&log));
    let body: Value = {
        let text = bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"].as_str().unwrap();
        serde_json::from_slice(&crate::json::base64(text).unwrap()).unwrap()
    };
    let with = |entry: Value| {
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(entry);
        of(&verifier, &bundle, IMAGE)
    };
    is(&with(log.entry(&body)), Reason::Malformed, "twice");
    // The same again under another index: one log all the same, so it is refused as the same entry.
    let again = Rekor { index: 8, ..log };
    is(&with(again.entry(&body)), Reason::Malformed, "twice");
    // A second log counts, a second entry without a proof does not pass.
    let mut second = other.entry(&body);
    let fact = only(&with(second.clone())).clone();
    assert!(matches!(&fact.log, Log::Proven(entries) if entries.len() == 2), "{fact:?}");
    assert_eq!(fact.times.len(), 2);
    second.as_object_mut().unwrap().remove("inclusionProof");
    is(&with(second), Reason::TlogInvalid, "without a proof");
}

#[test]
fn gap_4_logs_and_authorities_are_counted_once() {
    let entry = |log: &str, index| LogEntry {
        root: "r".into(),
        log: log.into(),
        url: String::new(),
        index,
        included: true,
    };
    let distinct = super::super::log::distinct(vec![entry("b", 1), entry("a", 9), entry("b", 0)]);
    assert_eq!(distinct, [entry("a", 9), entry("b", 0)]);
    let time = |at, authority: &str| ProvenTime {
        at: Time(at),
        source: TimeSource::Timestamp,
        root: "r".into(),
        authority: authority.into(),
    };
    let distinct = super::super::log::distinct_times(vec![time(9, "a"), time(3, "a"), time(5, "b")]);
    assert_eq!(distinct, [time(3, "a"), time(5, "b")]);
    let Some(case) = bundle("rekor2-happy-path") else { return };
    let mut json = case.json();
    let stamps = &mut json["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
    let stamp = stamps[0].clone();
    stamps.as_array_mut().unwrap().push(stamp);
    is(&case.check(json.to_string().as_bytes()), Reason::Malformed, "twice");
}

#[test]
fn gap_5_witnesses_count_for_nothing() {
    let Some(case) = bundle("rekor2-checkpoint-cosigned") else { return };
    let fact = only(&case.check(&case.bundle)).clone();
    assert!(matches!(&fact.log, Log::Proven(entries) if entries.len() == 1));
    // Without the log's own signature theirs are worth nothing.
    let mut json = case.json();
    let pointer = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
    let note = json.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let others: Vec<&str> =
        signatures.lines().filter(|line| !line.starts_with("\u{2014} log2025-alpha1.")).collect();
    assert!(!others.is_empty());
    *json.pointer_mut(pointer).unwrap() = json!(format!("{text}\n\n{}\n", others.join("\n")));
    is(&case.check(json.to_string().as_bytes()), Reason::TlogInvalid, "did not sign");
    // Nothing may lie around the note.
    for note in [format!("{note}\nmore\n"), format!("{note}\n"), note.trim_end().to_owned()] {
        *json.pointer_mut(pointer).unwrap() = json!(note);
        is(&case.check(json.to_string().as_bytes()), Reason::TlogInvalid, "");
    }
}

/// Each bit of each byte of a real token, with and without an embedded certificate: none may be changed.
#[test]
fn gap_6_every_bit_of_a_timestamp_is_signed_trusted_or_fixed() {
    for name in ["rekor2-timestamp-with-embedded-cert", "rekor2-timestamp-without-embedded-cert"] {
        let Some(case) = bundle(name) else { return };
        let evidence = Evidence::bundle(case.bundle.clone()).unwrap();
        let parsed = Parsed::read(&evidence).unwrap();
        let root = super::super::roots::Root::new(&case.trust().unwrap().roots()[0]).unwrap();
        let token = parsed.timestamps[0].as_bytes().to_vec();
        let checks = |token: &[u8]| {
            let token = sigstore_types::TimestampToken::new(token.to_vec());
            super::super::timestamp::check(&[&root], &token, &[parsed.signature()])
        };
        assert!(checks(&token).is_ok());
        for at in 0..token.len() {
            let mut mutant = token.clone();
            mutant[at] ^= 1 << (at % 8);
            assert!(checks(&mutant).is_err(), "{name}: byte {at} of {}", token.len());
        }
        let more = [token.as_slice(), &[0]].concat();
        assert!(checks(&more).is_err() && checks(&token[..token.len() - 1]).is_err() && checks(&[]).is_err());
    }
}

#[test]
fn gap_11_an_authority_that_was_not_trusted_then_is_not_trusted_now() {
    let Some(case) = bundle("rekor2-happy-path") else { return };
    let root = edited(case.root.as_ref().unwrap(), |json| {
        for authority in json["certificateAuthorities"].as_array_mut().unwrap() {
            authority["validFor"] = json!({"start": "2022-01-01T00:00:00Z", "end": "2023-01-01T00:00:00Z"});
        }
    });
    is(&check(&by_root(root), &case.bundle, &case.artifact), Reason::Expired, "");
    // The crate looks at the window too; here it is looked at by itself.
    let mut root = super::super::roots::Root::new(&case.trust().unwrap().roots()[0]).unwrap();
    let issuer = &mut root.issuers[0];
    let begins = issuer.chain.iter().map(|link| link.window.start).max().unwrap() + 10;
    issuer.window = super::super::roots::Window { start: begins, end: Some(begins + 10) };
    let in_time = |times: &[i64]| super::super::certificate::in_time(issuer, times).is_ok();
    assert!(in_time(&[begins, begins + 10]));
    assert!(!in_time(&[begins, begins - 1]) && !in_time(&[begins + 11, begins]));
}
