//! Where cases are, and how the tests ask.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::mint::Somebody;
use crate::{
    Artifact, Checked, Claim, Digest, Evidence, Fact, Log, PublicKey, Reason, Signer, Trust, TrustRoot,
    Verified, Verifier,
};

pub(super) const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/\
                                 .github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
pub(super) const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// The folder of cases, or nothing with a line that says so. Where `CI=true`, its absence fails.
pub(crate) fn cases() -> Option<PathBuf> {
    let folder = std::env::var_os("STELLA_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases"), PathBuf::from);
    if folder.join("bundle-verify").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no cases in {}", folder.display());
    eprintln!("skipped: no cases in {}", folder.display());
    None
}

/// A case of the bundles.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bundle: Vec<u8>,
    pub(super) artifact: Vec<u8>,
    pub(super) key: Option<String>,
    pub(super) root: Option<Vec<u8>>,
    pub(super) identity: String,
    pub(super) issuer: String,
}

pub(super) fn bundles() -> Vec<Case> {
    let Some(folder) = cases() else { return Vec::new() };
    let folder = folder.join("bundle-verify");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(|name| read(&folder, name)).collect()
}

/// One case by its name.
pub(super) fn bundle(name: &str) -> Option<Case> {
    Some(read(&cases()?.join("bundle-verify"), name.to_owned()))
}

fn read(folder: &Path, name: String) -> Case {
    let file = |name_of: &str| fs::read(folder.join(&name).join(name_of)).ok();
    let text = |name: &str| file(name).map(|bytes| String::from_utf8(bytes).unwrap().trim().to_owned());
    Case {
        bundle: file("bundle.sigstore.json").unwrap(),
        artifact: file("artifact").unwrap_or_else(|| fs::read(folder.join("a.txt")).unwrap()),
        key: text("key.pub"),
        root: file("trusted_root.json"),
        identity: text("identity").unwrap_or_else(|| BEACON.to_owned()),
        issuer: text("issuer").unwrap_or_else(|| GITHUB.to_owned()),
        name,
    }
}

impl Case {
    pub(super) fn trust(&self) -> crate::Result<Trust> {
        let mut trust = Trust::new();
        trust.add_root(match &self.root {
            Some(root) => TrustRoot::from_json("case", root)?,
            None => TrustRoot::public_good()?,
        })?;
        if let Some(key) = &self.key {
            trust.add_key(PublicKey::from_pem(key)?);
        }
        Ok(trust)
    }

    pub(super) fn verifier(&self) -> Verifier {
        Verifier::new(&self.trust().unwrap()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bundle).unwrap()
    }

    pub(super) fn check(&self, bundle: &[u8]) -> Checked {
        check(&self.verifier(), bundle, &self.artifact)
    }

    /// Whether what the bundle proves is what the case asks for, with all proofs.
    pub(super) fn passes(&self, fact: &Fact) -> bool {
        let logged = matches!(&fact.log, Log::Proven(entries)
            if !entries.is_empty() && entries.iter().all(|entry| entry.included));
        match &fact.signer {
            Signer::Key { .. } => self.key.is_some() && logged && fact.bad_time.is_none(),
            Signer::Certificate { issuer, subject, logged: certificate, .. } => {
                self.key.is_none()
                    && logged
                    && *certificate
                    && !fact.times.is_empty()
                    && (issuer, subject) == (&self.issuer, &self.identity)
            }
        }
    }
}

/// What a bundle proves of these bytes.
pub(super) fn check(verifier: &Verifier, bundle: &[u8], artifact: &[u8]) -> Checked {
    let evidence = Evidence::bundle(bundle.to_vec()).unwrap();
    let digest = Digest::of(artifact);
    verifier.verify(&evidence, Some(Artifact { digest, bytes: Some(artifact) }))
}

/// What a bundle proves of bytes of which only the digest is given.
pub(super) fn check_digest(verifier: &Verifier, bundle: &[u8], artifact: &[u8]) -> Checked {
    let evidence = Evidence::bundle(bundle.to_vec()).unwrap();
    let digest = Digest::of(artifact);
    verifier.verify(&evidence, Some(Artifact { digest, bytes: None }))
}

pub(super) fn only(checked: &Checked) -> &Verified<Fact> {
    let Checked { facts, rejected } = checked;
    assert!(facts.len() == 1 && rejected.is_empty(), "{checked:?}");
    &facts[0]
}

/// The only reason of a refusal.
#[track_caller]
pub(super) fn refused(checked: &Checked) -> (crate::Reason, &str) {
    assert!(checked.facts.is_empty() && checked.rejected.len() == 1, "{checked:?}");
    (checked.rejected[0].reason, &checked.rejected[0].why)
}

pub(super) fn digest_of(claim: &Claim) -> &Digest {
    match claim {
        Claim::Image { digest, .. } | Claim::Blob { digest } => digest,
        Claim::Statement { subjects, .. } => &subjects[0].0,
    }
}

pub(super) fn by_root(root: TrustRoot) -> Verifier {
    let mut trust = Trust::new();
    trust.add_root(root).unwrap();
    Verifier::new(&trust).unwrap()
}

pub(super) fn by_key(somebody: &Somebody, root: Option<TrustRoot>) -> Verifier {
    let mut trust = Trust::new();
    trust.add_key(somebody.public());
    if let Some(root) = root {
        trust.add_root(root).unwrap();
    }
    Verifier::new(&trust).unwrap()
}

pub(super) fn of(verifier: &Verifier, bundle: &Value, image: &[u8]) -> Checked {
    check(verifier, bundle.to_string().as_bytes(), image)
}

#[track_caller]
pub(super) fn is(checked: &Checked, reason: Reason, text: &str) {
    let (actual, why) = refused(checked);
    assert!(actual == reason && why.contains(text), "{actual:?}: {why}");
}
