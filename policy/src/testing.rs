// SPDX-License-Identifier: AGPL-3.0-only
//! What tests of policies share: keys, roots, documents and facts, made by code.

use std::collections::BTreeMap;

use crate::document::RootNames;
use crate::{
    Claim, Digest, Fact, Form, Log, LogEntry, PolicySet, ProvenTime, SIGN_V1, Signer, Subject, Time,
    TimeSource, Verified,
};

/// P-256. The public key of many of policy-controller's documents.
pub(crate) const KEY_A: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZxAfzrQG1EbWyCI8LiSB7YgSFXoI
FNGTyQGKHFc6/H8TQumT9VLS78pUwtv3w7EfKoyFZoP32KrO7nzUy2q6Cw==
-----END PUBLIC KEY-----";
/// P-256, another.
pub(crate) const KEY_B: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaEOVJCFtduYr3xqTxeRWSW32CY/s
TBNZj4oIUPl8JvhVPJ1TKDPlNcuT4YphSt6t3yOmMvkdQbCj8broX6vijw==
-----END PUBLIC KEY-----";

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const HOST: &str = "registry.example";
pub(crate) const CUSTOM: &str = "https://cosign.sigstore.dev/attestation/v1";
pub(crate) const NOW: Time = Time(1_800_000_000);

pub(crate) fn fingerprint(pem: &str) -> String {
    let keys = crate::TrustedKey::all_of_pem(pem, None, crate::Window::default()).unwrap();
    keys[0].fingerprint().to_owned()
}

/// The PEM text as a block below a key that is indented by `depth`.
pub(crate) fn block(pem: &str, depth: usize) -> String {
    let before = format!("\n{}", " ".repeat(depth + 2));
    pem.lines().flat_map(|line| [before.as_str(), line]).collect()
}

pub(crate) fn roots() -> Vec<RootNames> {
    let root = |name: &str, log: &str, ca: &str| RootNames {
        name: name.to_owned(),
        log_urls: vec![log.to_owned()],
        ca_urls: vec![ca.to_owned()],
        timestamp_authorities: 1,
        hash: Digest::of(name.as_bytes()),
    };
    vec![
        root("public", "https://rekor.sigstore.dev", "https://fulcio.sigstore.dev"),
        root("private", "https://log.example", "https://ca.example"),
        root("copy", "https://log.example", "https://ca.example"),
    ]
}

/// The set of these documents, which are one text.
pub(crate) fn load(text: &str) -> Result<PolicySet, String> {
    let (documents, faults) = crate::document::of_text("p.yaml", text, &roots());
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    PolicySet::of(HOST, documents, &roots()).map_err(|e| e.to_string())
}

/// A `ClusterImagePolicy` about everything, with these lines below `spec`.
pub(crate) fn images(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         images: [{{glob: \"**\"}}]\n{spec}\n"
    )
}

/// One authority with a key; more lines may follow with four spaces before them.
pub(crate) fn with_key(pem: &str) -> String {
    format!("  authorities:\n  - key:\n      data: |{}\n", block(pem, 6))
}

/// One authority with an identity; more lines may follow with four spaces before them.
pub(crate) fn with_identity(subject: &str) -> String {
    format!(
        "  authorities:\n  - keyless:\n      trustRootRef: private\n      identities: [{{issuer: \"{ISSUER}\", \
         subjectRegExp: \"{subject}\"}}]\n"
    )
}

/// A `RegistryPolicy` about everything, with these lines below `spec`.
pub(crate) fn registry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         repositories: [\"**\"]\n{spec}\n"
    )
}

pub(crate) fn artifact() -> Digest {
    Digest::of(b"artifact")
}

pub(crate) fn subject() -> Subject {
    Subject {
        reference: "registry.example/prod/app:1".to_owned(),
        repository: "prod/app".to_owned(),
        digest: artifact(),
        parts: Vec::new(),
        last_released: None,
        released_at: None,
    }
}

/// A bundle with cosign's signature of the artifact by this key, in no log, at no time.
pub(crate) fn signed_by(pem: &str) -> Fact {
    Fact {
        evidence: Digest::of(pem.as_bytes()),
        form: Form::Bundle,
        signer: Signer::Key { fingerprint: fingerprint(pem) },
        claim: statement(SIGN_V1, "{}"),
        log: Log::Absent,
        times: Vec::new(),
        bad_time: None,
    }
}

/// The same by a certificate of the root `private`, in its log.
pub(crate) fn signed_as(subject: &str) -> Fact {
    Fact {
        evidence: Digest::of(subject.as_bytes()),
        signer: Signer::Certificate {
            root: "private".to_owned(),
            issuer: ISSUER.to_owned(),
            subject: subject.to_owned(),
            extensions: BTreeMap::new(),
            logged: true,
        },
        log: logged("private"),
        times: vec![time(NOW.0 - 100, TimeSource::Log, "private")],
        ..signed_by(KEY_A)
    }
}

pub(crate) fn statement(predicate_type: &str, predicate: &str) -> Claim {
    let text = format!(r#"{{"predicateType": "{predicate_type}", "predicate": {predicate}}}"#);
    Claim::Statement {
        subjects: vec![(artifact(), BTreeMap::new())],
        predicate_type: predicate_type.to_owned(),
        statement: text.into_bytes(),
    }
}

/// Simple signing, for a repository.
pub(crate) fn image(repository: &str) -> Claim {
    Claim::Image {
        digest: artifact(),
        repository: repository.to_owned(),
        annotations: BTreeMap::new(),
        payload: Vec::new(),
    }
}

pub(crate) fn logged(root: &str) -> Log {
    let url = if root == "private" { "https://log.example" } else { "https://rekor.sigstore.dev" };
    Log::Proven(vec![LogEntry {
        root: root.to_owned(),
        log: "00".to_owned(),
        url: url.to_owned(),
        index: 1,
        included: true,
    }])
}

pub(crate) fn time(at: i64, source: TimeSource, root: &str) -> ProvenTime {
    ProvenTime { at: Time(at), source, root: root.to_owned(), authority: "clock".to_owned() }
}

pub(crate) fn verified(facts: impl IntoIterator<Item = Fact>) -> Vec<Verified<Fact>> {
    facts.into_iter().map(Verified::in_test).collect()
}
