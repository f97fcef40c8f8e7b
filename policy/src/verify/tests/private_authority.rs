//! `keyless.ca-cert`: a certificate authority that stands in a policy, with the log of a trust root. From the document to
//! the verdict.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    SanType, date_time_ymd,
};
use sigstore_crypto::KeyPair;

use super::mint::{self, Authority, IMAGE, ISSUER, Rekor, SIGN, SUBJECT, Somebody, payload, statement};
use crate::testing::{HOST, NOW, block, images};
use crate::{
    Artifact, Checked, Digest, Evidence, Form, PolicySet, Reason, RootNames, Subject, TrustRoot, Verdict,
    Verifier,
};

/// The log, and the authority of the trust root, which is another one than the policy's.
struct World {
    log: Rekor,
    public: Authority,
}

impl World {
    fn new() -> Self {
        World { log: Rekor::new("log.example"), public: Authority::new(2020, 2040) }
    }

    fn root(&self) -> TrustRoot {
        self.public.trust(&[&self.log])
    }

    fn load(&self, spec: &str) -> Result<PolicySet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, images("app", spec)).unwrap();
        let roots = [RootNames::from(&self.root())];
        PolicySet::load(HOST, &[path], &roots).map_err(|error| error.to_string())
    }

    /// What comes out for this evidence.
    fn says(&self, spec: &str, evidence: &Evidence) -> (Verdict, Reason) {
        let roots = [self.root()];
        let set = self.load(spec).unwrap_or_else(|why| panic!("{spec}\n{why}"));
        let verifier = Verifier::new(&set.trust(&roots).unwrap()).unwrap();
        let digest = Digest::of(IMAGE);
        let artifact = Artifact { digest: digest.clone(), bytes: None };
        let Checked { facts, rejected } = verifier.verify(evidence, Some(artifact));
        let subject = Subject {
            reference: String::new(),
            repository: "app".to_owned(),
            digest,
            parts: Vec::new(),
            last_released: None,
            released_at: None,
        };
        let decision = set.judge(&subject, &facts, &rejected, NOW);
        (decision.verdict, decision.reason)
    }

    fn signed(&self, signer: &Somebody) -> Evidence {
        let bundle = signer.bundle(&statement(IMAGE, SIGN), Some(&self.log));
        Evidence::bundle(bundle.to_string().into_bytes()).unwrap()
    }
}

const ALLOWED: (Verdict, Reason) = (Verdict::Allowed, Reason::Ok);

fn waits(reason: Reason) -> (Verdict, Reason) {
    (Verdict::Waiting, reason)
}

/// An authority of a policy with these certificates; more lines may follow with six spaces before them.
fn spec(certificates: &str, identity: &str, more: &str) -> String {
    format!(
        "  authorities:\n  - keyless:\n      identities: [{identity}]\n{more}      ca-cert:\n        data: |{}\n",
        block(certificates, 8)
    )
}

fn alice() -> String {
    format!("{{issuer: \"{ISSUER}\", subject: \"{SUBJECT}\"}}")
}

fn chain(authority: &Authority) -> String {
    format!("{}{}", authority.intermediate, authority.root)
}

#[test]
fn its_certificates_count_and_no_others() {
    let (world, own) = (World::new(), Authority::new(2020, 2040));
    let policy = spec(&chain(&own), &alice(), "");
    assert_eq!(world.says(&policy, &world.signed(&own.issue())), ALLOWED);
    // The root's own authority is another one, and so is a stranger's.
    assert_eq!(world.says(&policy, &world.signed(&world.public.issue())), waits(Reason::WrongIdentity));
    let stranger = Authority::new(2020, 2040);
    assert_eq!(world.says(&policy, &world.signed(&stranger.issue())), waits(Reason::BadSignature));
    // Nor is the policy's one of the root's where it does not stand.
    let public = format!(
        "  authorities: [{{keyless: {{trustRootRef: mine, identities: [{}], insecureIgnoreSCT: true}}}}]",
        alice()
    );
    assert_eq!(world.says(&public, &world.signed(&world.public.issue())), ALLOWED);
    assert_eq!(world.says(&public, &world.signed(&own.issue())), waits(Reason::BadSignature));
    // Another identity of the same authority.
    let bob = own.issue_to(|params| {
        params.subject_alt_names = vec![SanType::Rfc822Name("bob@example.org".try_into().unwrap())];
    });
    assert_eq!(world.says(&policy, &world.signed(&bob)), waits(Reason::WrongIdentity));
    // The root alone stands there, and the intermediate comes with the evidence.
    let (mut descriptor, bytes) = own.issue().layer(&payload(IMAGE), Some(&world.log));
    let annotations = descriptor.annotations.as_mut().unwrap();
    annotations.insert("dev.sigstore.cosign/chain".to_owned(), chain(&own));
    let legacy = mint::evidence(Form::LegacySignature, (descriptor, bytes));
    assert_eq!(world.says(&spec(&own.root, &alice(), ""), &legacy), ALLOWED);
    assert_eq!(world.says(&spec(&stranger.root, &alice(), ""), &legacy), waits(Reason::BadSignature));
}

#[test]
fn logs_and_clocks_are_those_of_the_trust_root() {
    let (world, own) = (World::new(), Authority::new(2020, 2040));
    let policy = spec(&chain(&own), &alice(), "      trustRootRef: mine\n");
    let signed = world.signed(&own.issue());
    for more in [
        "",
        "    ctlog: {}\n",
        "    ctlog: {trustRootRef: mine}\n",
        "    ctlog: {url: \"https://log.example\"}\n",
    ] {
        assert_eq!(world.says(&format!("{policy}{more}"), &signed), ALLOWED, "{more}");
    }
    let elsewhere = own.issue().bundle(&statement(IMAGE, SIGN), Some(&Rekor::new("log.example")));
    let elsewhere = Evidence::bundle(elsewhere.to_string().into_bytes()).unwrap();
    assert_eq!(world.says(&policy, &elsewhere), waits(Reason::TlogInvalid));
    let nowhere = own.issue().bundle(&statement(IMAGE, SIGN), None);
    let nowhere = Evidence::bundle(nowhere.to_string().into_bytes()).unwrap();
    assert_eq!(world.says(&policy, &nowhere), waits(Reason::NoTrustedTime));
}

#[test]
fn each_certificate_must_be_valid_when_it_was_signed_and_be_what_it_should() {
    let world = World::new();
    for (from, until) in [(2020, 2023), (2025, 2040)] {
        let own = Authority::new(from, until);
        let signed = world.signed(&own.issue());
        assert_eq!(world.says(&spec(&chain(&own), &alice(), ""), &signed), waits(Reason::Expired));
    }
    let own = Authority::new(2020, 2040);
    let policy = spec(&chain(&own), &alice(), "");
    for (what, signer) in [
        ("a CA", own.issue_to(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        (
            "another usage",
            own.issue_to(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
    ] {
        assert_eq!(world.says(&policy, &world.signed(&signer)), waits(Reason::BadSignature), "{what}");
    }
    let late = own.issue_to(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2023, 12, 1), date_time_ymd(2023, 12, 31));
    });
    assert_eq!(world.says(&policy, &world.signed(&late)), waits(Reason::Expired));
}

/// Who names no issuer is vouched for by the authority alone. Whoever takes that says it with an expression that matches
/// nothing at all; in a trust root such a certificate is nobody's.
#[test]
fn a_certificate_without_an_issuer_needs_an_expression_that_matches_none() {
    let (world, own) = (World::new(), Authority::new(2020, 2040));
    let nameless = |authority: &Authority| authority.issue_to(|params| params.custom_extensions.clear());
    let of = |issuer: &str| format!("{{{issuer}, subject: \"{SUBJECT}\"}}");
    for (issuer, good) in [
        ("issuerRegExp: .*", true),
        ("issuerRegExp: \"|https://x\"", true),
        ("issuerRegExp: .+", false),
        ("issuer: \"https://issuer.example\"", false),
    ] {
        let policy = spec(&chain(&own), &of(issuer), "");
        let says = world.says(&policy, &world.signed(&nameless(&own)));
        assert_eq!(says == ALLOWED, good, "{issuer}: {says:?}");
    }
    assert!(world.load(&spec(&chain(&own), &of("issuer: \"\""), "")).is_err());
    let public = format!(
        "  authorities: [{{keyless: {{trustRootRef: mine, identities: [{}], insecureIgnoreSCT: true}}}}]",
        of("issuerRegExp: .*")
    );
    let says = world.says(&public, &world.signed(&nameless(&world.public)));
    assert_eq!(says, waits(Reason::WrongIdentity));
}

/// A root, authorities one below the other, and a signer below the last; each with so many allowed below it.
fn tower(allowed: &[Option<u8>]) -> (String, Vec<String>, Somebody) {
    let ca = |name: String, below: Option<u8>| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        params
    };
    let mut above = (ca("tower 0".to_owned(), allowed[0]), rcgen::KeyPair::generate().unwrap());
    let root = above.0.self_signed(&above.1).unwrap().pem();
    let mut between = Vec::new();
    for (number, below) in allowed.iter().enumerate().skip(1) {
        let mut params = ca(format!("tower {number}"), *below);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&above.0, &above.1);
        between.insert(0, params.signed_by(&key, &issuer).unwrap().pem());
        above = (params, key);
    }
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2024, 1, 2));
    leaf.subject_alt_names = vec![SanType::Rfc822Name(SUBJECT.try_into().unwrap())];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let vouched: CustomExtension = mint::fulcio(8, &crate::der::write(crate::der::UTF8, ISSUER.as_bytes()));
    leaf.custom_extensions = vec![vouched];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&above.0, &above.1)).unwrap();
    let signer = Somebody {
        key: KeyPair::from_pkcs8_der(&key.serialize_der()).unwrap(),
        certificate: Some((certificate.pem(), certificate.der().to_vec())),
    };
    (root, between, signer)
}

#[test]
fn no_more_authorities_stand_in_a_path_than_each_allows() {
    let world = World::new();
    for (allowed, good) in [
        (&[None, None][..], true),
        (&[None, None, None], true),
        (&[Some(1), Some(0)], true),
        (&[Some(2), Some(1), Some(0)], true),
        (&[Some(0), None], false),
        (&[Some(1), None, None], false),
        (&[None, Some(0), None], false),
        (&[Some(2), Some(0), None], false),
    ] {
        let (root, between, signer) = tower(allowed);
        let (mut descriptor, bytes) = signer.layer(&payload(IMAGE), Some(&world.log));
        let annotations = descriptor.annotations.as_mut().unwrap();
        annotations.insert("dev.sigstore.cosign/chain".to_owned(), format!("{}{root}", between.concat()));
        let carried = mint::evidence(Form::LegacySignature, (descriptor, bytes));
        // With the evidence, and in the policy.
        for (certificates, evidence) in
            [(root.clone(), &carried), (format!("{}{root}", between.concat()), &world.signed(&signer))]
        {
            let says = world.says(&spec(&certificates, &alice(), ""), evidence);
            assert_eq!(says == ALLOWED, good, "{allowed:?}: {says:?}");
        }
    }
    // More than are looked at at all.
    let (root, between, _) = tower(&[None; 12]);
    let why = world.load(&spec(&format!("{}{root}", between.concat()), &alice(), "")).unwrap_err();
    assert!(why.contains("ca-cert.data") && why.contains("more than 10"), "{why}");
}

#[test]
fn what_is_no_authority_does_not_load() {
    let (world, own) = (World::new(), Authority::new(2020, 2040));
    let leaf = own.issue().certificate.unwrap().0;
    let key = Somebody::with_key().key.public_key_der().unwrap().to_pem();
    let good = spec(&own.root, &alice(), "");
    for (text, says) in [
        (spec("junk", &alice(), ""), "no certificate"),
        (spec(&key, &alice(), ""), "PUBLIC KEY"),
        (spec(&leaf, &alice(), ""), "certificate authority"),
        (spec(&format!("{}{leaf}", own.root), &alice(), ""), "certificate authority"),
        (spec(&format!("{}{}", own.root, own.root), &alice(), ""), "twice"),
        (spec(&own.root.replacen("MII", "MIJ", 1), &alice(), ""), "ca-cert.data"),
        (spec(&own.root, &alice(), "      url: https://ca.example\n"), "not by both"),
        (spec(&own.root, &alice(), "      insecureIgnoreSCT: false\n"), "no log of certificates"),
        (good.replace("data: |", "secretRef: {name: a}\n        data: |"), "no cluster"),
        (good.replace("data: |", "kms: \"awskms:///a\"\n        data: |"), "no key service"),
        (good.replace("data: |", "hashAlgorithm: sha256\n        data: |"), "hashAlgorithm"),
        (good.replace("data: |", "datum: |"), "ca-cert.data: it is missing"),
        (spec(&own.root, &alice(), "      trustRootRef: nobody\n"), "no trust root of this name"),
        (format!("{good}    ctlog: {{trustRootRef: nobody}}\n"), "no trust root"),
    ] {
        let why = world.load(&text).map_or_else(|why| why, |_| panic!("it loads: {text}"));
        assert!(why.contains(says), "{says}\n{why}");
    }
    assert!(world.load(&spec(&own.root, &alice(), "      insecureIgnoreSCT: true\n")).is_ok());
    // Where several roots are configured, one must be named.
    let (_, faults) =
        crate::document::of_text("p.yaml", &images("app", &good), &crate::testing::roots()[1..]);
    assert!(faults.concat().contains("trustRootRef"), "{faults:?}");
    let (_, faults) = crate::document::of_text("p.yaml", &images("app", &good), &crate::testing::roots());
    assert_eq!(faults, [""; 0], "the public one, where there is one");
    // Another certificate is another policy.
    let other = spec(&Authority::new(2020, 2040).root, &alice(), "");
    assert_ne!(world.load(&good).unwrap().hash(), world.load(&other).unwrap().hash());
    let told = world.load(&good).unwrap().summary();
    assert!(told[0].lines.concat().contains("of its own ca-cert"), "{told:?}");
}
