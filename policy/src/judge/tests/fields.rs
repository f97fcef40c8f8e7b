// SPDX-License-Identifier: AGPL-3.0-only
//! Each field of both documents, as a pair: evidence that it takes, and evidence of which it refuses just that.

use super::*;
use crate::testing::{artifact, block, image};
use crate::{Claim, Digest, Form, Log, Signer, Time};

const NO_LOG: &str = "  transparency: ignored";

/// Facts that pass and facts that fail by one field, by what they are judged with.
fn pair(documents: &str, good: Fact, bad: Fact, reason: Reason) {
    assert_eq!(says(&judge(documents, [good])), ALLOWED, "{documents}");
    let decision = judge(documents, [bad]);
    assert_eq!(says(&decision), waits(reason), "{documents}\n{}", decision.why);
}

#[test]
fn key() {
    pair(&plain(""), signed_by(KEY_A), signed_by(KEY_B), Reason::WrongIdentity);
    let both = images("app", &with_key(&format!("{KEY_A}\n{KEY_B}"))) + &registry("r", NO_LOG);
    assert_eq!(says(&judge(&both, [signed_by(KEY_B)])), ALLOWED, "each of several keys is enough");
}

#[test]
fn identities() {
    let documents = images("app", &with_identity("joe@.*"));
    pair(&documents, signed_as("joe@x"), signed_as("ann@x"), Reason::WrongIdentity);
    pair(&documents, signed_as("joe@x"), signed_as("xjoe@x"), Reason::WrongIdentity);
    let issued = |by: &str| {
        let mut fact = signed_as("joe@x");
        if let Signer::Certificate { issuer, .. } = &mut fact.signer {
            *issuer = by.to_owned();
        }
        fact
    };
    pair(&documents, signed_as("joe@x"), issued("https://issuer.example.evil"), Reason::WrongIdentity);
}

fn of_root(name: &str) -> Fact {
    let mut fact = signed_as("joe@x");
    if let Signer::Certificate { root, .. } = &mut fact.signer {
        *root = name.to_owned();
    }
    fact.times[0].root = name.to_owned();
    Fact { log: logged(name), ..fact }
}

#[test]
fn keyless_trust_root_and_url() {
    pair(
        &images("app", &with_identity("joe@.*")),
        of_root("private"),
        of_root("public"),
        Reason::WrongIdentity,
    );
    let keyless = |which: &str| {
        images(
            "app",
            &format!(
                "  authorities:\n  - keyless:\n{which}      identities: [{{issuer: \"https://issuer.example\", subject: joe@x}}]\n"
            ),
        )
    };
    pair(
        &keyless("      url: https://ca.example\n"),
        of_root("private"),
        of_root("public"),
        Reason::WrongIdentity,
    );
    pair(&keyless(""), of_root("public"), of_root("private"), Reason::WrongIdentity);
}

#[test]
fn insecure_ignore_sct() {
    let mut hidden = signed_as("joe@x");
    if let Signer::Certificate { logged, .. } = &mut hidden.signer {
        *logged = false;
    }
    let strict = images("app", &with_identity("joe@.*"));
    pair(&strict, signed_as("joe@x"), hidden.clone(), Reason::TlogMissing);
    let lax = strict.replace("      trustRootRef", "      insecureIgnoreSCT: true\n      trustRootRef");
    assert_eq!(says(&judge(&lax, [hidden])), ALLOWED);
}

#[test]
fn ctlog() {
    let in_log = |root: &str| Fact { log: logged(root), ..signed_by(KEY_A) };
    let wrong = Fact { log: Log::Wrong("another entry".to_owned()), ..signed_by(KEY_A) };
    let any = images("app", &format!("{}    ctlog: {{}}\n", with_key(KEY_A)));
    pair(&any, in_log("public"), signed_by(KEY_A), Reason::TlogMissing);
    pair(&any, in_log("private"), wrong.clone(), Reason::TlogInvalid);
    for one in ["{trustRootRef: private}", "{url: \"https://log.example/\"}"] {
        let documents = images("app", &format!("{}    ctlog: {one}\n", with_key(KEY_A)));
        pair(&documents, in_log("private"), in_log("public"), Reason::TlogMissing);
    }
    // A root can have several logs; the address names one.
    let mut second = in_log("private");
    if let Log::Proven(entries) = &mut second.log {
        entries[0].url = "https://second.example".to_owned();
    }
    let named = images("app", &format!("{}    ctlog: {{url: \"https://log.example\"}}\n", with_key(KEY_A)));
    pair(&named, in_log("private"), second, Reason::TlogMissing);
    // Without it, and where the registry asks for none, a key needs no log, and not even a right one.
    assert_eq!(says(&judge(&plain(""), [wrong])), ALLOWED);
    // A certificate needs one of its own root.
    let other = Fact { log: logged("public"), ..signed_as("joe@x") };
    pair(&images("app", &with_identity("joe@.*")), signed_as("joe@x"), other, Reason::TlogMissing);
}

/// Where several roots are taken, each certificate still needs the log and the clock of its own.
#[test]
fn a_certificate_is_judged_by_its_own_root() {
    let both =
        images("app", &with_identity("joe@.*")).replace("trustRootRef: private", "url: https://ca.example");
    let log = Fact { log: logged("copy"), ..signed_as("joe@x") };
    pair(&both, signed_as("joe@x"), log, Reason::TlogMissing);
    let clock = Fact { times: vec![time(5, TimeSource::Log, "copy")], ..signed_as("joe@x") };
    pair(&both, signed_as("joe@x"), clock, Reason::NoTrustedTime);
}

#[test]
fn rfc3161timestamp() {
    let at = |source, root: &str| Fact { times: vec![time(5, source, root)], ..signed_by(KEY_A) };
    let any = plain("    rfc3161timestamp: {}\n");
    let stamped = at(TimeSource::Timestamp, "public");
    pair(&any, stamped.clone(), signed_by(KEY_A), Reason::NoTrustedTime);
    pair(&any, stamped.clone(), at(TimeSource::Log, "public"), Reason::NoTrustedTime);
    let one = plain("    rfc3161timestamp: {trustRootRef: private}\n");
    pair(&one, at(TimeSource::Timestamp, "private"), stamped.clone(), Reason::NoTrustedTime);
    let bad = Fact { bad_time: Some("another imprint".to_owned()), ..stamped.clone() };
    pair(&any, stamped, bad, Reason::NoTrustedTime);
    // With it a certificate needs no log.
    let documents = images("app", &format!("{}    rfc3161timestamp: {{}}\n", with_identity("joe@.*")));
    let times = vec![time(5, TimeSource::Timestamp, "private")];
    assert_eq!(says(&judge(&documents, [Fact { log: Log::Absent, times, ..signed_as("joe@x") }])), ALLOWED);
}

#[test]
fn signature_format() {
    let of = |form| Fact { form, ..signed_by(KEY_A) };
    for (format, good, bad) in [
        ("bundle", Form::Bundle, Form::LegacySignature),
        ("legacy", Form::LegacySignature, Form::Bundle),
        ("legacy", Form::ReferrerSignature, Form::Bundle),
    ] {
        pair(&plain(&format!("    signatureFormat: {format}\n")), of(good), of(bad), Reason::Unsupported);
    }
    for form in [Form::Bundle, Form::LegacySignature, Form::ReferrerSignature] {
        assert_eq!(says(&judge(&plain(""), [of(form)])), ALLOWED);
    }
}

#[test]
fn key_windows() {
    let at = |seconds: i64| Fact {
        times: vec![time(seconds, TimeSource::Timestamp, "public")],
        ..signed_by(KEY_A)
    };
    for (window, good, bad) in [
        ("validFrom: \"2026-01-01T00:00:00Z\"", 1_767_225_600, 1_767_225_599),
        ("validUntil: \"2026-01-01T00:00:00Z\"", 1_767_225_600, 1_767_225_601),
        ("compromisedAt: \"2026-01-01T00:00:00Z\"", 1_767_225_599, 1_767_225_600),
    ] {
        let key = with_key(KEY_A).replace("data: |", &format!("{window}\n      data: |"));
        let documents = images("app", &key);
        pair(&documents, at(good), at(bad), Reason::Expired);
        // GHSA-wqqc-jjcq-vfxm: without a trusted time a window cannot be judged, so nothing passes.
        pair(&documents, at(good), signed_by(KEY_A), Reason::NoTrustedTime);
    }
}

#[test]
fn images_by_digest() {
    let named =
        |digest: &Digest| plain("").replacen("\"**\"", &format!("\"registry.example/prod/*@{digest}\""), 1);
    assert_eq!(says(&judge(&named(&artifact()), [signed_by(KEY_A)])), ALLOWED);
    let other = judge(&named(&Digest::of(b"other")), [signed_by(KEY_A)]);
    assert_eq!(says(&other), (Verdict::Denied, Reason::NoPolicy));
}

#[test]
fn repositories() {
    let only = |glob: &str| {
        images("app", &with_key(KEY_A)) + &registry("r", "").replace("[\"**\"]", &format!("[\"{glob}\"]"))
    };
    assert_eq!(says(&judge(&only("prod/*"), [signed_by(KEY_A)])), waits(Reason::TlogMissing));
    assert_eq!(says(&judge(&only("test/*"), [signed_by(KEY_A)])), ALLOWED);
}

#[test]
fn transparency() {
    let required = images("app", &with_key(KEY_A)) + &registry("r", "");
    let in_log = Fact { log: logged("public"), ..signed_by(KEY_A) };
    pair(&required, in_log.clone(), signed_by(KEY_A), Reason::TlogMissing);
    let wrong = Fact { log: Log::Wrong("another entry".to_owned()), ..signed_by(KEY_A) };
    pair(&required, in_log, wrong, Reason::TlogInvalid);
    // It takes nothing away from what a policy asks for.
    let asked = images("app", &format!("{}    ctlog: {{}}\n", with_key(KEY_A))) + &registry("r", NO_LOG);
    assert_eq!(says(&judge(&asked, [signed_by(KEY_A)])), waits(Reason::TlogMissing));
}

#[test]
fn count() {
    let two = images("app", &with_key(&format!("{KEY_A}\n{KEY_B}")))
        + &registry("r", "  count: 2\n  transparency: ignored");
    assert_eq!(says(&judge(&two, [signed_by(KEY_A)])), waits(Reason::TooFewSigners));
    assert_eq!(says(&judge(&two, [signed_by(KEY_A), signed_by(KEY_B)])), ALLOWED);
    // Who attests something else signs nothing that is asked for.
    let attested = two.replace(
        "---\napiVersion: policy.stella",
        "    attestations: [{name: a, predicateType: custom}]\n---\napiVersion: policy.stella",
    );
    let by = |pem: &str, what: &str| Fact { claim: statement(what, "{}"), ..signed_by(pem) };
    let other = judge(&attested, [by(KEY_A, CUSTOM), by(KEY_B, "https://spdx.dev/Document")]);
    assert_eq!(says(&other), waits(Reason::TooFewSigners));
    assert_eq!(other.policies[0].authorities[0].evidence.iter().filter(|one| one.passed).count(), 1);
    assert_eq!(says(&judge(&attested, [by(KEY_A, CUSTOM), by(KEY_B, CUSTOM)])), ALLOWED);
    let people = images("app", &with_identity(".*")) + &registry("r", "  count: 2");
    assert_eq!(says(&judge(&people, [signed_as("joe@x")])), waits(Reason::TooFewSigners));
    assert_eq!(says(&judge(&people, [signed_as("joe@x"), signed_as("ann@x")])), ALLOWED);
}

#[test]
fn bind_repository() {
    let documents =
        images("app", &with_key(KEY_A)) + &registry("r", "  bindRepository: true\n  transparency: ignored");
    let of = |repository: &str| Fact { claim: image(repository), ..signed_by(KEY_A) };
    for bad in [
        "",
        "registry.example/prod",
        "registry.example/prod/app2",
        "registry.example/prod/app/x",
        "other.example/prod/app",
        "prod/app",
        "registry.example/prod/app:",
        "registry.example/prod/app:1/x",
    ] {
        pair(&documents, of("registry.example/prod/app"), of(bad), Reason::RepositoryMismatch);
    }
    assert_eq!(says(&judge(&documents, [of("registry.example/prod/app:1.0")])), ALLOWED);
    // Bundles have no place for it but an annotation.
    let mut bundle = signed_by(KEY_A);
    pair(&documents, of("registry.example/prod/app"), bundle.clone(), Reason::RepositoryMismatch);
    if let Claim::Statement { subjects, .. } = &mut bundle.claim {
        subjects[0].1.insert("org.stella-ops.repository".to_owned(), "registry.example/prod/app".into());
    }
    assert_eq!(says(&judge(&documents, [bundle])), ALLOWED);
}

#[test]
fn max_age_ends_a_verdict_and_is_judged_at_release() {
    let documents = images("app", &with_identity(".*")) + &registry("r", "  maxAge: 1h");
    let at =
        |seconds: i64| Fact { times: vec![time(seconds, TimeSource::Log, "private")], ..signed_as("joe@x") };
    pair(&documents, at(NOW.0 - 3_600), at(NOW.0 - 3_601), Reason::TooOld);
    assert_eq!(judge(&documents, [at(NOW.0 - 600)]).valid_until, Some(Time(NOW.0 + 3_000)));
    let released = Subject { released_at: Some(Time(NOW.0 - 5_000)), ..subject() };
    let decision = judge_of(&documents, &released, [at(NOW.0 - 6_000)], &[]);
    assert_eq!((says(&decision), decision.valid_until), (ALLOWED, None));
    let key = images("app", &with_key(KEY_A)) + &registry("r", "  maxAge: 1h\n  transparency: ignored");
    assert_eq!(says(&judge(&key, [signed_by(KEY_A)])), waits(Reason::NoTrustedTime));
}

#[test]
fn no_rollback() {
    let documents = images("app", &with_identity(".*")) + &registry("r", "  noRollback: true");
    let after = |last: i64| {
        let subject = Subject { last_released: Some(Time(last)), ..subject() };
        judge_of(&documents, &subject, [signed_as("joe@x")], &[])
    };
    assert_eq!(says(&after(NOW.0 - 99)), waits(Reason::Rollback));
    assert_eq!(says(&after(NOW.0 - 100)), ALLOWED, "the same one again");
    assert_eq!(after(NOW.0 - 101).signed_at, Some(Time(NOW.0 - 100)));
    let key = images("app", &with_key(KEY_A)) + &registry("r", "  noRollback: true\n  transparency: ignored");
    assert_eq!(says(&judge(&key, [signed_by(KEY_A)])), waits(Reason::NoTrustedTime));
    let good = Fact { times: vec![time(NOW.0, TimeSource::Log, "public")], ..signed_by(KEY_A) };
    assert_eq!(says(&judge(&key, [good.clone()])), ALLOWED);
    let bad = Fact { bad_time: Some("another imprint".to_owned()), ..good };
    assert_eq!(says(&judge(&key, [bad])), waits(Reason::NoTrustedTime));
    let lax = images("app", &with_identity(".*")) + &registry("r", "");
    let subject = Subject { last_released: Some(NOW), ..subject() };
    assert_eq!(says(&judge_of(&lax, &subject, [signed_as("joe@x")], &[])), ALLOWED);
}

#[test]
fn deny_digests() {
    let listed =
        |digest: &Digest| plain("").replace("ignored", &format!("ignored\n  denyDigests: [\"{digest}\"]"));
    let denied = (Verdict::Denied, Reason::DeniedDigest);
    assert_eq!(says(&judge(&listed(&artifact()), [signed_by(KEY_A)])), denied);
    let layer = Digest::of(b"layer");
    assert_eq!(says(&judge(&listed(&layer), [signed_by(KEY_A)])), ALLOWED);
    let with = Subject { parts: vec![Digest::of(b"config"), layer.clone()], ..subject() };
    assert_eq!(says(&judge_of(&listed(&layer), &with, [signed_by(KEY_A)], &[])), denied);
    // It beats whatever allows.
    let pass = images("app", "  authorities: [{static: {action: pass}}]")
        + &registry("r", &format!("  noMatch: allow\n  denyDigests: [\"{}\"]", artifact()));
    assert_eq!(says(&judge(&pass, [])), denied);
}

/// What does not decide a verdict is for the gate to ask for.
#[test]
fn the_gate_asks_for_the_rest() {
    let set = load(&registry("r", "  push: warn\n  pull: off\n  whileWaiting: deny\n  attachments: [vex]"))
        .unwrap();
    let rules = set.rules("prod/app");
    assert_eq!(rules.push, crate::Enforcement::Warn);
    assert_eq!(rules.pull, crate::Enforcement::Off);
    assert_eq!(rules.while_waiting, crate::WhileWaiting::Deny);
    assert_eq!(rules.attachments, [crate::Attachment::Vex].into());
    let none = load(&images("app", &with_key(&block(KEY_A, 0)))).unwrap().rules("prod/app");
    assert_eq!((none.push, none.pull), (crate::Enforcement::Off, crate::Enforcement::Off));
}

#[test]
fn a_time_later_than_now_is_no_time() {
    let documents = images("app", &with_identity("joe@.*"));
    let at =
        |seconds: i64| Fact { times: vec![time(seconds, TimeSource::Log, "private")], ..signed_as("joe@x") };
    pair(&documents, at(NOW.0 + 60), at(NOW.0 + 61), Reason::NoTrustedTime);
    let decision = judge(&documents, [at(NOW.0 + 100)]);
    assert_eq!(decision.valid_until, Some(Time(NOW.0 + 39)), "until the clock here has caught up");
    let set = load(&documents).unwrap();
    let later = set.judge(&subject(), &verified([at(NOW.0 + 100)]), &[], Time(NOW.0 + 40));
    assert_eq!(says(&later), ALLOWED);
}

#[test]
fn a_promise_of_a_log_is_enough_where_cosign_kept_no_proof() {
    let documents = images("app", &with_identity("joe@.*"));
    let promised = |form: Form| {
        let Log::Proven(mut entries) = logged("private") else { unreachable!() };
        entries[0].included = false;
        Fact { form, log: Log::Proven(entries), ..signed_as("joe@x") }
    };
    pair(&documents, promised(Form::LegacySignature), promised(Form::Bundle), Reason::TlogMissing);
}
