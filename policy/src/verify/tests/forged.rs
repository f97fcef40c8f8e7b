//! Evidence that somebody forged, copied or wrote so that two readers would read two things.

use serde_json::json;

use super::mint::{self, IMAGE, ISSUER, SIGN, Somebody, evidence, payload, statement};
use super::support::{check, is, of, only};
use super::world::{World, layer, world};
use crate::{Checked, Claim, Evidence, Form, PublicKey, Reason, Signer, Trust, Verifier, der};

#[test]
fn item_16_unsigned_annotations_say_nothing() {
    let world = world();
    let (mut descriptor, bytes) = world.somebody.layer(&payload(IMAGE), None);
    let before = evidence(Form::LegacySignature, (descriptor.clone(), bytes.clone()));
    descriptor.annotations.as_mut().unwrap().insert("env".to_owned(), "prod".to_owned());
    let after = evidence(Form::LegacySignature, (descriptor, bytes));
    assert_eq!(world.verifier.verify(&before, None), world.verifier.verify(&after, None));
    let Claim::Image { annotations, .. } = &only(&world.verifier.verify(&after, None)).claim.clone() else {
        panic!()
    };
    assert!(annotations.is_empty());
}

#[test]
fn items_18_and_19_a_copied_signature_is_still_of_the_other_image() {
    let world = world();
    for signer in [&world.authority.issue(), &world.somebody] {
        let bundle = signer.bundle(&statement(b"other", SIGN), Some(&world.log));
        is(&of(&world.verifier, &bundle, IMAGE), Reason::WrongSubject, "it is about");
        let copied = signer.layer(&payload(b"other"), Some(&world.log));
        is(&layer(&world, Form::LegacySignature, copied), Reason::WrongSubject, "it is about");
    }
    // It need not be the first of several subjects.
    let mut several = statement(b"other", SIGN);
    several["subject"].as_array_mut().unwrap().push(json!({"digest": {"sha256": mint::hex(IMAGE)}}));
    assert_eq!(of(&world.verifier, &world.somebody.bundle(&several, None), IMAGE).facts.len(), 1);
    // Its digits under another algorithm are another digest.
    let mut renamed = statement(b"other", SIGN);
    renamed["subject"].as_array_mut().unwrap().push(json!({"digest": {"sha1": mint::hex(IMAGE)}}));
    is(&of(&world.verifier, &world.somebody.bundle(&renamed, None), IMAGE), Reason::WrongSubject, "");
}

#[test]
fn item_21_a_certificate_never_verifies_under_a_key_nor_a_key_by_a_certificate() {
    let World { log, authority, .. } = world();
    let signer = authority.issue();
    let mut trust = Trust::new();
    // The certificate's own key is trusted, and no root.
    trust.add_key(signer.public());
    let bundle = signer.bundle(&statement(IMAGE, SIGN), Some(&log));
    is(&of(&Verifier::new(&trust).unwrap(), &bundle, IMAGE), Reason::BadSignature, "no trust root");
    // The other way round: the certificate is left out, its authority is trusted, its key is not.
    let mut trust = Trust::new();
    trust.add_root(authority.trust(&[&log])).unwrap();
    let mut bare = bundle;
    let material = bare["verificationMaterial"].as_object_mut().unwrap();
    material.remove("certificate");
    material.insert("publicKey".into(), json!({"hint": ""}));
    is(&of(&Verifier::new(&trust).unwrap(), &bare, IMAGE), Reason::BadSignature, "no key is configured");
    // Nor both at once.
    let mut both = signer.bundle(&statement(IMAGE, SIGN), Some(&log));
    both["verificationMaterial"]["publicKey"] = json!({"hint": ""});
    is(&of(&Verifier::new(&trust).unwrap(), &both, IMAGE), Reason::Malformed, "one of");
}

#[test]
fn item_22_two_readers_of_a_bundle_read_the_same() {
    let world = world();
    let text = world.authority.issue().bundle(&statement(IMAGE, SIGN), Some(&world.log)).to_string();
    let checked = |text: &str| check(&world.verifier, text.as_bytes(), IMAGE);
    assert_eq!(checked(&text).facts.len(), 1);
    for (from, to) in [
        ("\"payload\":", "\"payload\":\"e30=\",\"payload\":"),
        ("\"mediaType\":", "\"MediaType\":"),
        ("\"tlogEntries\":", "\"tlog_entries\":"),
        ("\"tlogEntries\":", "\"tlogentries\":"),
        ("\"inclusionPromise\":", "\"inclusionPromises\":"),
        ("\"inclusionProof\":", "\"x\":1,\"inclusionProof\":"),
        ("\"integratedTime\":\"1", "\"integratedTime\":\"01"),
        ("\"integratedTime\":\"1", "\"integratedTime\":\"+1"),
        ("\"integratedTime\":\"1", "\"integratedTime\":\"-1"),
        ("{\"dsseEnvelope\"", "{}{\"dsseEnvelope\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        is(&checked(&changed), Reason::Malformed, "");
    }
    is(&checked(&format!("{text} x")), Reason::Malformed, "");
}

#[test]
fn a_certificate_has_one_name_and_the_extensions_it_should() {
    use rcgen::SanType;
    let world = world();
    let name = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
    let checked = |signer: Somebody| {
        of(&world.verifier, &signer.bundle(&statement(IMAGE, SIGN), Some(&world.log)), IMAGE)
    };
    let two = checked(
        world.authority.issue_to(|params| params.subject_alt_names.push(name("mallory@example.org"))),
    );
    is(&two, Reason::Malformed, "2 subject alternative names");
    is(
        &checked(world.authority.issue_to(|params| params.subject_alt_names.clear())),
        Reason::Malformed,
        "0 subject",
    );
    let host = world.authority.issue_to(|params| {
        params.subject_alt_names = vec![SanType::DnsName("example.org".try_into().unwrap())];
    });
    is(&checked(host), Reason::Unsupported, "neither an address");
    // Fulcio's own kind of name.
    let other = world.authority.issue_to(|params| {
        let oid = vec![1, 3, 6, 1, 4, 1, 57264, 1, 7];
        params.subject_alt_names =
            vec![SanType::OtherName((oid, rcgen::OtherNameValue::Utf8String("alice!x".into())))];
    });
    let other = checked(other);
    assert!(matches!(&only(&other).signer, Signer::Certificate { subject, .. } if subject == "alice!x"));
    // The older extension only counts where the newer one is missing, and a broken newer one is no missing one.
    let old = |newer: Option<&[u8]>| {
        checked(world.authority.issue_to(|params| {
            params.custom_extensions = vec![mint::fulcio(1, b"https://old.example")];
            params.custom_extensions.extend(newer.map(|value| mint::fulcio(8, value)));
        }))
    };
    let issuer = |checked: &Checked| match &only(checked).signer {
        Signer::Certificate { issuer, .. } => issuer.clone(),
        Signer::Key { .. } => panic!(),
    };
    assert_eq!(issuer(&old(None)), "https://old.example");
    assert_eq!(issuer(&old(Some(&der::write(der::UTF8, ISSUER.as_bytes())))), ISSUER);
    is(&old(Some(b"https://bare.example")), Reason::Malformed, "");
    // A certificate for something else signs nothing.
    let server = world.authority.issue_to(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    is(&checked(server), Reason::BadSignature, "path");
}

proptest::proptest! {
    /// Nothing that anybody may send makes a reader panic.
    #[test]
    fn item_24_any_bytes_are_refused_in_every_form(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        text in r#"[{}\[\]":,0-9a-zA-Z =/+\\-]{0,80}"#,
    ) {
        let verifier = Verifier::new(&Trust::new()).unwrap();
        for bytes in [bytes, text.clone().into_bytes()] {
            let mut items = vec![Evidence::bundle(bytes.clone()).unwrap(), Evidence::detached(bytes.clone()).unwrap()];
            for media_type in [crate::SIMPLE_SIGNING, crate::DSSE, crate::BUNDLE, ""] {
                let names = ["signature", "certificate", "chain", "bundle", "rfc3161timestamp"];
                let prefix = |name: &str| match name {
                    "signature" => format!("dev.cosignproject.cosign/{name}"),
                    name => format!("dev.sigstore.cosign/{name}"),
                };
                let annotations = names.iter().map(|name| (prefix(name), text.clone())).collect();
                let layer = crate::Descriptor {
                    media_type: media_type.to_owned(),
                    digest: crate::Digest::of(&bytes),
                    size: bytes.len() as u64,
                    artifact_type: None,
                    annotations: Some(annotations),
                };
                items.push(Evidence::layer(Form::LegacySignature, &layer, bytes.clone()).unwrap());
            }
            for item in items {
                proptest::prop_assert!(verifier.verify(&item, None).facts.is_empty());
            }
            let _ = crate::x509::Certificate::read(&bytes);
            let _ = PublicKey::from_spki(&bytes);
            let _ = PublicKey::from_pem(&text);
            let _ = crate::TrustRoot::from_json("x", &bytes);
        }
    }
}
