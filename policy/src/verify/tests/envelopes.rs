//! Timestamps of whole envelopes, as cosign 2 made them for attestations: what they date, and all that must still hold.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

use super::clocks::{Clock, LONG, NOON, root};
use super::mint::{self, Authority, IMAGE, Rekor, SIGN, Somebody, statement};
use super::support::{by_key, by_root, is, only};
use crate::{Checked, Form, Log, Reason, Time, Verifier};

const STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";

/// What lies below `.att`, to be changed before it is checked.
#[derive(Clone)]
struct Layer {
    descriptor: crate::Descriptor,
    bytes: Vec<u8>,
}

impl Layer {
    fn of(signer: &Somebody, log: Option<&Rekor>) -> Self {
        let (descriptor, bytes) = signer.envelope(&statement(IMAGE, SIGN), log);
        Layer { descriptor, bytes }
    }

    fn signature(&self) -> Vec<u8> {
        let envelope: Value = serde_json::from_slice(&self.bytes).unwrap();
        crate::json::base64(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap()
    }

    fn annotate(mut self, name: &str, value: String) -> Self {
        self.descriptor.annotations.as_mut().unwrap().insert(name.to_owned(), value);
        self
    }

    /// With a timestamp of these bytes.
    fn stamped(self, clock: &Clock, bytes: &[u8], at: &str) -> Self {
        let stamp = json!({"SignedRFC3161Timestamp": mint::b64(clock.stamp(bytes, at))}).to_string();
        self.annotate(STAMP, stamp)
    }

    /// With one of all of it.
    fn stamped_whole(self, clock: &Clock, at: &str) -> Self {
        let bytes = self.bytes.clone();
        self.stamped(clock, &bytes, at)
    }

    fn check(self, verifier: &Verifier) -> Checked {
        let evidence = mint::evidence(Form::LegacyAttestation, (self.descriptor, self.bytes));
        verifier.verify(&evidence, None)
    }
}

/// cosign 2 stamped whole envelopes, later clients the signature in them: either is one, with a key and with a certificate.
#[test]
fn a_layer_of_cosign_2_may_have_its_envelope_or_its_signature_stamped() {
    let (clock, authority) = (Clock::new(), Authority::new(2020, 2040));
    for signer in [Somebody::with_key(), authority.issue()] {
        let trusted = || root(&authority, &[], &[clock.json("https://one.example", LONG)]);
        let verifier =
            if signer.certificate.is_some() { by_root(trusted()) } else { by_key(&signer, Some(trusted())) };
        let layer = Layer::of(&signer, None);
        let of_signature = layer.clone().stamped(&clock, &layer.signature(), NOON);
        for stamped in [of_signature, layer.clone().stamped_whole(&clock, NOON)] {
            let checked = stamped.check(&verifier);
            let fact = only(&checked);
            assert_eq!((fact.times[0].at, fact.times.len(), &fact.log), (Time(mint::THEN), 1, &Log::Absent));
        }
        let other = layer.clone().stamped(&clock, b"another envelope", NOON).check(&verifier);
        if signer.certificate.is_some() {
            is(&other, Reason::TlogInvalid, "mismatch");
            is(&layer.check(&verifier), Reason::NoTrustedTime, "");
        } else {
            assert!(only(&other).bad_time.is_some());
        }
    }
}

/// Both times count, and the certificate must be valid at both.
#[test]
fn an_envelope_may_be_stamped_and_logged() {
    let (clock, authority) = (Clock::new(), Authority::new(2020, 2040));
    let log = Rekor { time: mint::THEN + 60, ..Rekor::new("log.example") };
    let verifier = by_root(root(&authority, &[&log], &[clock.json("https://one.example", LONG)]));
    let signer = authority.issue();
    let good = Layer::of(&signer, Some(&log)).stamped_whole(&clock, NOON).check(&verifier);
    let fact = only(&good);
    assert_eq!(fact.times.iter().map(|time| time.at.0 - mint::THEN).collect::<Vec<_>>(), [0, 60]);
    assert!(matches!(fact.log, Log::Proven(_)));
    for at in ["20231231000000Z", "20240103000000Z"] {
        let late = Layer::of(&signer, Some(&log)).stamped_whole(&clock, at).check(&verifier);
        is(&late, Reason::Expired, "not valid at");
    }
    // A log's word that is wrong is not made good by a timestamp.
    let other = Rekor::new("log.example");
    let wrong = Layer::of(&signer, Some(&other)).stamped_whole(&clock, NOON).check(&verifier);
    is(&wrong, Reason::TlogInvalid, "");
}

#[test]
fn with_an_envelope_stamped_all_else_of_a_certificate_must_hold() {
    let (clock, authority) = (Clock::new(), Authority::new(2020, 2040));
    let clocks = [clock.json("https://one.example", LONG)];
    let verifier = by_root(root(&authority, &[], &clocks));
    let refused = |signer: &Somebody, at: &str, reason, text: &str| {
        is(&Layer::of(signer, None).stamped_whole(&clock, at).check(&verifier), reason, text);
    };
    let alice = authority.issue();
    refused(&alice, "20231231235959Z", Reason::Expired, "not valid at");
    refused(&alice, "20240102000001Z", Reason::Expired, "not valid at");
    // For another use, or an authority itself.
    let server = authority.issue_to(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    refused(&server, NOON, Reason::BadSignature, "path");
    let issuing = authority.issue_to(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    refused(&issuing, NOON, Reason::BadSignature, "path");
    // Of an authority that only has the same name.
    refused(&Authority::new(2020, 2040).issue(), NOON, Reason::BadSignature, "path");
    // Somebody else's signature under Alice's certificate.
    let (pem, _) = alice.certificate.as_ref().unwrap();
    let forged = Layer::of(&authority.issue(), None).annotate(CERTIFICATE, pem.clone());
    is(
        &forged.stamped_whole(&clock, NOON).check(&verifier),
        Reason::BadSignature,
        "not of the certificate's key",
    );
    // A stranger's clock, and one that was not trusted then.
    is(
        &Layer::of(&alice, None).stamped_whole(&Clock::new(), NOON).check(&verifier),
        Reason::TlogInvalid,
        "a timestamp",
    );
    let ended = [clock.json("https://one.example", "2023-01-01T00:00:00Z")];
    let ended = by_root(root(&authority, &[], &ended));
    is(&Layer::of(&alice, None).stamped_whole(&clock, NOON).check(&ended), Reason::TlogInvalid, "validity");
}

/// CVE-2026-24122: the authority's own certificates have dates too.
#[test]
fn with_an_envelope_stamped_the_authority_must_have_been_valid() {
    let (clock, authority) = (Clock::new(), Authority::new(2020, 2023));
    let verifier = by_root(root(&authority, &[], &[clock.json("https://one.example", LONG)]));
    let signer = authority.issue_to(|params| params.not_before = date_time_ymd(2022, 1, 1));
    let check = |at: &str| Layer::of(&signer, None).stamped_whole(&clock, at).check(&verifier);
    is(&check(NOON), Reason::Expired, "authority's chain");
    assert_eq!(only(&check("20220601000000Z")).times.len(), 1);
}

/// A log of certificates vouches at such a time as at others.
#[test]
fn with_an_envelope_stamped_the_certificate_must_have_been_logged_where_the_root_has_logs() {
    let (clock, authority, certificates) =
        (Clock::new(), Authority::new(2020, 2040), Rekor::new("ct.example"));
    let trust = |certificates: &Rekor| {
        by_root(authority.trust_logged(&[], &[certificates], &[clock.json("https://one.example", LONG)]))
    };
    let check = |signer: &Somebody, verifier: &Verifier| {
        Layer::of(signer, None).stamped_whole(&clock, NOON).check(verifier)
    };
    let logged = |change: fn(&mut Vec<u8>)| authority.issue_logged(&certificates, mint::THEN, change);
    let verifier = trust(&certificates);
    let good = check(&logged(|_| {}), &verifier);
    assert!(matches!(only(&good).signer, crate::Signer::Certificate { logged: true, .. }));
    // The version, the time, the kind of entry, the issuer, the certificate: all of it is signed.
    is(&check(&logged(|signed| signed[0] = 1), &verifier), Reason::TlogInvalid, "signed by no log");
    is(&check(&logged(|signed| signed[9] ^= 1), &verifier), Reason::TlogInvalid, "signed by no log");
    is(&check(&logged(|signed| signed[11] = 0), &verifier), Reason::TlogInvalid, "signed by no log");
    is(&check(&logged(|signed| signed[12] ^= 1), &verifier), Reason::TlogInvalid, "signed by no log");
    is(&check(&logged(|signed| signed[60] ^= 1), &verifier), Reason::TlogInvalid, "signed by no log");
    is(&check(&logged(|_| {}), &trust(&Rekor::new("ct.example"))), Reason::TlogInvalid, "signed by no log");
    // Its log was not trusted yet: the root's begin in 1970.
    let early = authority.issue_logged(&certificates, -1, |_| {});
    is(&check(&early, &verifier), Reason::TlogInvalid, "of no time");
    let with = |list: &[u8]| {
        let signer = authority.issue_to(|params| {
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&oid, list.to_vec()));
        });
        check(&signer, &verifier)
    };
    is(&with(&[4, 2, 0, 0]), Reason::TlogInvalid, "ends early");
    is(&with(&[4, 4, 0, 2, 0, 0]), Reason::TlogInvalid, "ends early");
    is(&with(&[4, 8, 0, 6, 0, 1, 0, 0, 1, 0]), Reason::Unsupported, "more than one");
    is(&with(&[4, 5, 0, 3, 0, 1, 1]), Reason::TlogInvalid, "unknown version");
}
