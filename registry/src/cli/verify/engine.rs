// SPDX-License-Identifier: AGPL-3.0-only
//! The one place where the verifying commands call the policy engine: what the flags demand becomes keys and roots for a
//! [`Verifier`], and an [`Authority`] that the facts are compared with. What fails is turned into an exit code and a
//! sentence here and nowhere else. A policy's documents come the same way (`cli/policy.rs`), with other authorities.

use std::path::Path;

use stella_policy::{
    Authority, Digest, Fact, Identity, LogRule, Pattern, PublicKey, Reason, Rejected, Roots, Trust,
    TrustRoot, Verified, Verifier, limits,
};

use super::identity::{Demand, Root, Wanted, Who};
use crate::admin::Failed;
use crate::cli::note;
use crate::cli::sign::now;
use crate::cli::signing::{failed, read, usage};
use crate::exit;

/// What checks, and what is demanded.
pub(super) struct Engine {
    pub(super) verifier: Verifier,
    pub(super) authority: Authority,
}

impl Engine {
    /// Reads the key and the root.
    pub(super) fn new(demand: &Demand) -> anyhow::Result<Self> {
        let mut trust = Trust::new();
        let root = match &demand.root {
            Root::File(path) => Some(root(&path.display().to_string(), path)?),
            Root::BuiltIn => Some(built_in()?),
            Root::None => None,
        };
        let mut authority = match &demand.who {
            Who::Key(path) => {
                let key = key(path)?;
                trust.add_key(key.clone());
                Authority::of_keys("--key", vec![key.into()])
            }
            Who::Certificate { subject, issuer } => {
                let identity = Identity {
                    issuer: pattern("--certificate-oidc-issuer", issuer)?,
                    subject: pattern("--certificate-identity", subject)?,
                };
                let named = root.as_ref().map_or(Roots::Any, |root| Roots::one(root.name()));
                let authority = Authority::of_identities("--certificate-identity", vec![identity], named);
                // Where nobody keeps a log of certificates, none can be demanded.
                let is_unlogged =
                    root.as_ref().is_some_and(|root| root.certificate_log_urls().next().is_none());
                if is_unlogged { authority.with_unlogged_certificates() } else { authority }
            }
        };
        if demand.ignore_log {
            authority = authority.with_log(LogRule::Ignored);
        }
        if demand.timestamps {
            authority = authority.with_timestamp(Roots::Any);
        }
        if let Some(root) = root {
            trust.add_root(root).map_err(|error| failed(&error))?;
        }
        let verifier = Verifier::new(&trust).map_err(|error| failed(&error))?;
        Ok(Engine { verifier, authority })
    }
}

/// Compares what was found with what is demanded. At least one proof is needed; none is a failure whose exit code is that
/// of what came nearest.
pub(super) fn demanded<'f>(
    authority: &Authority,
    artifact: &Digest,
    facts: &'f [Verified<Fact>],
    rejected: &[Rejected],
    about: &str,
) -> anyhow::Result<Vec<&'f Fact>> {
    let examined = authority.examine(artifact, facts, rejected, now());
    if examined.outcome.passed {
        return Ok(examined.facts);
    }
    let (reason, why) = (examined.outcome.reason, examined.outcome.why);
    let mend = mend(reason).map(|mend| format!("; {mend}")).unwrap_or_default();
    let error = format!("{about}: {}: {why}{mend}", reason.as_str());
    Err(Failed { error, exit: exit::of_reason(reason) }.into())
}

/// What mends it, where that is not said by what is wrong.
fn mend(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoEvidence => {
            Some("sign it (stella sign, stella attest), or name the repository that has the signature")
        }
        Reason::BadSignature => Some("is it the signer's key, or root?"),
        Reason::TlogMissing => Some("--insecure-ignore-tlog does without a log"),
        Reason::NoTrustedTime => {
            Some("sign with a log or a timestamp authority that the trusted root has (--trusted-root)")
        }
        _ => None,
    }
}

/// The root that is in this program, which must be said: nobody chose it.
pub(in crate::cli) fn built_in() -> anyhow::Result<TrustRoot> {
    note(
        "note: trusted is Sigstore's public root as it is built into this program, for this command only; \
         --trusted-root FILE names another",
    );
    TrustRoot::public_good().map_err(|error| failed(&error))
}

/// A root from a file, under a name.
pub(in crate::cli) fn root(name: &str, path: &Path) -> anyhow::Result<TrustRoot> {
    let bytes = read(path, limits::TRUST_BYTES as u64)?;
    TrustRoot::from_json(name, &bytes).map_err(|error| failed(&error))
}

fn key(path: &Path) -> anyhow::Result<PublicKey> {
    let about = |why: String| usage(format!("{}: {why}", path.display()));
    let bytes = read(path, limits::TRUST_BYTES as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| about("not a key in PEM".to_owned()))?;
    PublicKey::from_pem(&text).map_err(|error| about(error.to_string()))
}

fn pattern(flag: &str, wanted: &Wanted) -> anyhow::Result<Pattern> {
    match wanted {
        Wanted::Exactly(text) => Pattern::exact(text).map_err(|why| usage(format!("{flag}: {why}"))),
        Wanted::Matching(text) => {
            Pattern::matching(text).map_err(|why| usage(format!("{flag}-regexp: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use stella_policy::Form;

    use super::*;

    fn exit_of(reasons: &[Reason]) -> u8 {
        let rejected: Vec<_> = reasons
            .iter()
            .map(|reason| Rejected {
                evidence: Digest::of(reason.as_str().as_bytes()),
                form: Form::Bundle,
                said_signer: None,
                reason: *reason,
                why: "why".to_owned(),
            })
            .collect();
        let authority = Authority::of_keys("key", Vec::new());
        let error = demanded(&authority, &Digest::of(b""), &[], &rejected, "x").unwrap_err();
        error.downcast_ref::<Failed>().unwrap().exit
    }

    #[test]
    fn nothing_proven_is_a_failure_with_the_code_of_the_nearest_miss() {
        assert_eq!(exit_of(&[]), exit::SIGNATURE);
        assert_eq!(exit_of(&[Reason::Malformed]), exit::INTEGRITY);
        assert_eq!(exit_of(&[Reason::Malformed, Reason::WrongIdentity]), exit::SIGNATURE);
        assert_eq!(exit_of(&[Reason::TlogInvalid, Reason::BadSignature]), exit::LOG);
        assert_eq!(exit_of(&[Reason::Expired, Reason::TooOld]), exit::POLICY);
    }
}
