// SPDX-License-Identifier: AGPL-3.0-only
//! The verifier: makes facts of evidence, or says why not. It is the only maker of [`Verified`]; what it does not prove
//! is in no fact. The modules here check each link of it: the signature, certificates, logs, timestamps, with Sigstore's
//! crates for what they are made of; and `sigstore-verify` looks at the whole again wherever it takes it. A certificate never verifies under a key, nor a key's signature by a certificate; hints select, and
//! decide nothing. A proof that came and fails is never dropped: with a certificate it refuses the evidence, with a key
//! it stays in the fact as `Log::Wrong` or `bad_time`, so that only a policy that asks for no log can pass it.

mod bound;
mod certificate;
mod identity;
mod keyed;
mod log;
mod map;
mod path;
mod roots;
mod sct;
mod subject;
mod timestamp;

#[cfg(test)]
mod tests;

use self::roots::Root;
use self::subject::Subject;
use crate::evidence::parsed::{Parsed, SaidSigner};
use crate::limits::LOOKED_AT;
use crate::refusal::Refusal;
use crate::x509::Certificate;
use crate::{Digest, Evidence, Fact, PublicKey, Reason, Rejected, Result, Trust, Verified};

/// What evidence should be about.
#[derive(Clone, Debug)]
pub struct Artifact<'a> {
    /// Its digest. A signature of bytes (`sign-blob`) needs SHA-256.
    pub digest: Digest,
    /// Its bytes, which signatures by Ed25519 need.
    pub bytes: Option<&'a [u8]>,
}

/// What came of one item of evidence: facts, or one reason why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What it proves; one for each key or root that it verifies under.
    pub facts: Vec<Verified<Fact>>,
    /// Why it proves nothing.
    pub rejected: Vec<Rejected>,
}

/// Checks evidence against a [`Trust`]. Made once, used often; it can be shared between threads.
pub struct Verifier {
    keys: Vec<PublicKey>,
    roots: Vec<Root>,
    pub(crate) looked_at: usize,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roots: Vec<&str> = self.roots.iter().map(|root| root.name.as_str()).collect();
        f.debug_struct("Verifier")
            .field("keys", &self.keys.len())
            .field("roots", &roots)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Makes everything ready that `trust` has.
    pub fn new(trust: &Trust) -> Result<Self> {
        let roots = trust.roots().iter().map(Root::new).collect::<Result<_>>()?;
        Ok(Verifier { keys: trust.keys().to_vec(), roots, looked_at: LOOKED_AT })
    }

    /// The same, looking at another number of referrers and layers than [`LOOKED_AT`].
    #[must_use]
    pub fn looking_at(self, looked_at: usize) -> Self {
        Verifier { looked_at, ..self }
    }

    /// Checks one item. With an artifact, what is not about it is refused; without, the facts say what they are about,
    /// and evidence of bytes that are not part of it is only checked as far as it names their digest.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a reference within the option reads worse at every call"
    )]
    pub fn verify(&self, evidence: &Evidence, artifact: Option<Artifact<'_>>) -> Checked {
        let mut said_signer = None;
        match self.facts(evidence, artifact.as_ref(), &mut said_signer) {
            Ok(facts) => {
                Checked { facts: facts.into_iter().map(Verified::new).collect(), rejected: Vec::new() }
            }
            Err(refusal) => Checked {
                facts: Vec::new(),
                rejected: vec![Rejected {
                    evidence: evidence.digest.clone(),
                    form: evidence.form,
                    said_signer,
                    reason: refusal.reason,
                    why: refusal.why,
                }],
            },
        }
    }

    fn facts(
        &self,
        evidence: &Evidence,
        artifact: Option<&Artifact<'_>>,
        said: &mut Option<String>,
    ) -> std::result::Result<Vec<Fact>, Refusal> {
        let parsed = Parsed::read(evidence)?;
        *said = said_signer(&parsed);
        let subject = Subject::new(&parsed, artifact)?;
        match &parsed.signer {
            SaidSigner::Key(hint) => {
                keyed::verify(&self.keys, &self.roots, evidence, &parsed, hint, &subject)
                    .map(|fact| vec![fact])
            }
            SaidSigner::Certificates(chain) => self.certified(evidence, &parsed, chain, &subject),
        }
    }

    /// Under each root alone: one root's clock must not vouch for another's certificate.
    fn certified(
        &self,
        evidence: &Evidence,
        parsed: &Parsed,
        chain: &[sigstore_types::DerCertificate],
        subject: &Subject<'_>,
    ) -> std::result::Result<Vec<Fact>, Refusal> {
        let mut facts = Vec::new();
        let mut refusals: Vec<(bool, Refusal)> = Vec::new();
        for root in &self.roots {
            match certificate::verify(root, evidence, parsed, chain, subject) {
                Ok(fact) => facts.push(fact),
                Err(refusal) => refusals.push((certificate::is_of(root, chain), refusal)),
            }
        }
        if !facts.is_empty() {
            return Ok(facts);
        }
        // The most telling is that of the root whose authority could have issued the certificate; of several that have
        // one of this name, that of the root which did.
        refusals.sort_by_key(|(is_of, refusal)| (!is_of, refusal.reason == Reason::BadSignature));
        Err(refusals.into_iter().next().map_or_else(
            || {
                Refusal::new(
                    Reason::BadSignature,
                    "signed with a certificate, and no trust root is configured",
                )
            },
            |(_, refusal)| refusal,
        ))
    }
}

/// Who is said to have signed, for a person who looks for the reason of a refusal.
fn said_signer(parsed: &Parsed) -> Option<String> {
    match &parsed.signer {
        SaidSigner::Key(hint) if hint.is_empty() => None,
        SaidSigner::Key(hint) => Some(Refusal::unsupported(format!("key {hint}")).why),
        SaidSigner::Certificates(chain) => {
            let leaf = Certificate::read(chain.first()?.as_bytes()).ok()?;
            identity::read(&leaf).ok().map(|identity| Refusal::unsupported(identity.subject).why)
        }
    }
}
