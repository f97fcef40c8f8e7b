// SPDX-License-Identifier: AGPL-3.0-only
//! One test for each advisory that concerns policies, under its name.

use sha2::Digest as _;

use super::*;
use crate::testing::{artifact, image};
use crate::{Claim, Digest, Form, Log};

fn attested(predicate_type: &str, predicate: &str) -> Fact {
    let evidence = Digest::of(format!("{predicate_type}{predicate}").as_bytes());
    Fact { evidence, claim: statement(predicate_type, predicate), ..signed_by(KEY_A) }
}

const SCANNED: &str = "    attestations: [{name: scan, predicateType: vuln}]\n";

/// The wanted predicate type is absent, another attestation is there: zero matches is a failure.
#[test]
fn cve_2022_35929_a_wanted_attestation_is_absent_and_another_is_there() {
    for other in [vec![], vec![attested(CUSTOM, "{}")], vec![attested(CUSTOM, "{}"), signed_by(KEY_A)]] {
        let decision = judge(&plain(SCANNED), other);
        assert_eq!(decision.verdict, Verdict::Waiting);
        assert!(!decision.policies[0].authorities[0].passed);
    }
    // Nor where another one is wanted too, and there.
    let two =
        plain("    attestations: [{name: also, predicateType: custom}, {name: scan, predicateType: vuln}]\n");
    assert_eq!(judge(&two, [attested(CUSTOM, "{}")]).verdict, Verdict::Waiting);
}

/// The same in policy-controller, where a second authority's or attestation's success counted for the first.
#[test]
fn cve_2022_35930_one_attestation_does_not_stand_for_another() {
    let two =
        plain("    attestations: [{name: scan, predicateType: vuln}, {name: also, predicateType: custom}]\n");
    let many: Vec<Fact> = (0..5).map(|index| attested(CUSTOM, &index.to_string())).collect();
    assert_eq!(says(&judge(&two, many)), waits(Reason::WrongPredicate));
}

/// A payload that cannot be read, or is of another type, came out as verified.
#[test]
fn cve_2026_39395_what_cannot_be_read_or_is_of_another_type_is_refused() {
    let sbom = attested("https://spdx.dev/Document", "{}");
    assert_eq!(says(&judge(&plain(""), [sbom])), waits(Reason::WrongPredicate), "an SBOM is no signature");
    let ruled = plain(
        "    attestations:\n    - name: scan\n      predicateType: vuln\n      policy: {type: rego, data: \"package \
         sigstore\\nisCompliant { input.predicate != 1 }\"}\n",
    );
    for broken in [&b"{"[..], b"", b"\xff\xfe", b"{} {}"] {
        let mut fact = attested("https://cosign.sigstore.dev/attestation/vuln/v1", "{}");
        if let Claim::Statement { statement, .. } = &mut fact.claim {
            *statement = broken.to_vec();
        }
        assert_eq!(judge(&ruled, [fact]).verdict, Verdict::Waiting, "{broken:?}");
    }
}

/// Two documents that differ in a regular expression alone differ in their verdict.
#[test]
fn cve_2025_29778_the_regular_expressions_of_identities_count() {
    for (subject, good) in [("joe@.*", true), ("ann@.*", false), ("oe@.*", false), ("joe@", false)] {
        let decision = judge(&images("app", &with_identity(subject)), [signed_as("joe@x")]);
        assert_eq!(decision.verdict == Verdict::Allowed, good, "{subject}");
    }
    let issued =
        images("app", &with_identity("joe@.*")).replace("issuer: \"https://", "issuerRegExp: \"http://");
    assert_eq!(says(&judge(&issued, [signed_as("joe@x")])), waits(Reason::WrongIdentity));
}

/// The validity of a key that an operator manages was not looked at.
#[test]
fn ghsa_wqqc_jjcq_vfxm_a_key_is_trusted_within_its_window_alone() {
    let key = with_key(KEY_A).replace("data: |", "validUntil: \"2026-01-01T00:00:00Z\"\n      data: |");
    let documents = images("app", &key);
    let at = |times: &[i64]| Fact {
        times: times.iter().map(|at| time(*at, TimeSource::Timestamp, "public")).collect(),
        ..signed_by(KEY_A)
    };
    assert_eq!(says(&judge(&documents, [at(&[1_767_225_600])])), ALLOWED);
    assert_eq!(says(&judge(&documents, [at(&[1_767_225_601])])), waits(Reason::Expired));
    assert_eq!(says(&judge(&documents, [at(&[1_767_225_600, 1_767_225_601])])), waits(Reason::Expired));
    assert_eq!(says(&judge(&documents, [at(&[])])), waits(Reason::NoTrustedTime));
    // The signer's clock, or one that nobody here trusts, is no time: `bad_time` is all that comes of it.
    let bad =
        Fact { bad_time: Some("of an authority that nobody trusts".to_owned()), ..at(&[1_767_225_600]) };
    assert_eq!(says(&judge(&documents, [bad])), waits(Reason::NoTrustedTime));
}

/// Thresholds counted entries, not who made them.
#[test]
fn ghsa_9vcr_p3rj_q5q6_signers_count_not_signatures() {
    let two = images("app", &with_key(&format!("{KEY_A}\n{KEY_B}")))
        + &registry("r", "  count: 2\n  transparency: ignored");
    let again = |index: u8| Fact { evidence: Digest::of(&[index]), ..signed_by(KEY_A) };
    let often: Vec<Fact> = (0..20).map(again).collect();
    assert_eq!(says(&judge(&two, often.clone())), waits(Reason::TooFewSigners));
    let forms = [Form::Bundle, Form::LegacySignature, Form::ReferrerSignature];
    let forms = forms.map(|form| Fact { form, claim: image(""), ..again(0) });
    assert_eq!(says(&judge(&two, forms)), waits(Reason::TooFewSigners));
    assert_eq!(says(&judge(&two, often.into_iter().chain([signed_by(KEY_B)]))), ALLOWED);
    // One person by two trust roots is one person.
    let people = images(
        "app",
        &format!(
            "{}  - keyless:\n      trustRootRef: public\n      identities: [{{issuer: \"https://issuer.example\", subject: joe@x}}]\n",
            with_identity(".*")
        ),
    ) + &registry("r", "  count: 2");
    let mut other = signed_as("joe@x");
    if let crate::Signer::Certificate { root, .. } = &mut other.signer {
        *root = "public".to_owned();
    }
    other.log = logged("public");
    other.times[0].root = "public".to_owned();
    other.evidence = Digest::of(b"other");
    assert_eq!(says(&judge(&people, [signed_as("joe@x"), other])), waits(Reason::TooFewSigners));
}

/// An old signature stays valid for ever: rollback and freeze.
#[test]
fn cve_2024_23332_an_old_signature_brings_no_old_image_back() {
    let strict = images("app", &with_identity(".*")) + &registry("r", "  noRollback: true\n  maxAge: 30d");
    let old =
        Fact { times: vec![time(NOW.0 - 31 * 86_400, TimeSource::Log, "private")], ..signed_as("joe@x") };
    assert_eq!(says(&judge(&strict, [old])), waits(Reason::TooOld));
    let before = Subject { last_released: Some(NOW), ..subject() };
    assert_eq!(says(&judge_of(&strict, &before, [signed_as("joe@x")], &[])), waits(Reason::Rollback));
    let listed = strict.replace("maxAge", &format!("denyDigests: [\"{}\"]\n  maxAge", artifact()));
    assert_eq!(judge(&listed, [signed_as("joe@x")]).verdict, Verdict::Denied);
}

/// Item 18: a signature of another image, hung to this one.
#[test]
fn item_18_a_copied_signature_signs_what_it_signs() {
    let other = Digest::of(b"other");
    let copied = Claim::Statement {
        subjects: vec![(other.clone(), std::collections::BTreeMap::new())],
        predicate_type: crate::SIGN_V1.to_owned(),
        statement: Vec::new(),
    };
    assert_eq!(
        says(&judge(&plain(""), [Fact { claim: copied, ..signed_by(KEY_A) }])),
        waits(Reason::WrongSubject)
    );
    let mut legacy = image("registry.example/prod/app");
    if let Claim::Image { digest, .. } = &mut legacy {
        *digest = other;
    }
    assert_eq!(
        says(&judge(&plain(""), [Fact { claim: legacy, ..signed_by(KEY_A) }])),
        waits(Reason::WrongSubject)
    );
}

/// Item 19: never the child for the index, never the first subject, never another algorithm.
#[test]
fn item_19_any_subject_counts_by_its_whole_digest() {
    let none = std::collections::BTreeMap::new;
    let of = |digests: Vec<Digest>| {
        let subjects = digests.into_iter().map(|digest| (digest, none())).collect();
        let claim =
            Claim::Statement { subjects, predicate_type: crate::SIGN_V1.to_owned(), statement: Vec::new() };
        Fact { claim, ..signed_by(KEY_A) }
    };
    let (child, index) = (Digest::of(b"child"), artifact());
    assert_eq!(says(&judge(&plain(""), [of(vec![child.clone()])])), waits(Reason::WrongSubject));
    assert_eq!(says(&judge(&plain(""), [of(vec![child, index])])), ALLOWED, "not the first alone");
    assert_eq!(says(&judge(&plain(""), [of(vec![])])), waits(Reason::WrongSubject));
    let long: Digest = format!("sha512:{}", hex::encode(sha2::Sha512::digest(b"artifact"))).parse().unwrap();
    assert_eq!(says(&judge(&plain(""), [of(vec![long.clone()])])), waits(Reason::WrongSubject));
    let by_long = Subject { digest: long.clone(), ..subject() };
    assert_eq!(says(&judge_of(&plain(""), &by_long, [of(vec![long])], &[])), ALLOWED);
}

/// Item 21: a certificate is no key, and a key no certificate.
#[test]
fn item_21_a_certificate_does_not_pass_for_a_key_nor_the_reverse() {
    assert_eq!(says(&judge(&plain(""), [signed_as("joe@x")])), waits(Reason::WrongIdentity));
    let keyless = images("app", &with_identity(".*"));
    let logged = Fact { log: logged("private"), ..signed_by(KEY_A) };
    assert_eq!(says(&judge(&keyless, [logged])), waits(Reason::WrongIdentity));
}

/// Item 17: a bad proof does not fall through to a weaker success.
#[test]
fn item_17_what_is_rejected_never_counts() {
    let rejected = Rejected {
        evidence: Digest::of(b"bad"),
        form: Form::Bundle,
        said_signer: Some(format!("key {}", crate::testing::fingerprint(KEY_A))),
        reason: Reason::TlogInvalid,
        why: "the entry is another signature's".to_owned(),
    };
    let decision = judge_of(&plain(""), &subject(), [], &[rejected]);
    assert_eq!(says(&decision), waits(Reason::TlogInvalid));
    let certificate = Fact { times: Vec::new(), ..signed_as("joe@x") };
    let decision = judge(&images("app", &with_identity(".*")), [certificate]);
    assert_eq!(says(&decision), waits(Reason::NoTrustedTime), "a certificate without a time proves nothing");
    let wrong = Fact { log: Log::Wrong("no such log".to_owned()), ..signed_as("joe@x") };
    assert_eq!(says(&judge(&images("app", &with_identity(".*")), [wrong])), waits(Reason::TlogInvalid));
}
