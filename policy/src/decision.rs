// SPDX-License-Identifier: AGPL-3.0-only
//! What is decided, and why: for programs as JSON whose fields and words are fixed, for people as sentences beside it.

use serde::{Serialize, Serializer};

use crate::{Digest, Form, Reason, Signer, Time, rfc3339};

/// What was decided of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// As it was asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The repository's name.
    pub repository: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// Whether it is allowed.
    pub verdict: Verdict,
    /// Why, as a word.
    pub reason: Reason,
    /// What mends it, such as a command.
    pub fix: Option<String>,
    /// The hash of the policies.
    pub policy_set: Digest,
    /// The hash of the trust roots.
    pub trust_root: Digest,
    /// The last instant at which all of this still holds; none if time alone changes nothing.
    #[serde(serialize_with = "instant")]
    pub valid_until: Option<Time>,
    /// What each policy says that is about it.
    pub policies: Vec<PolicyOutcome>,
    /// Why, for a person.
    #[serde(skip)]
    pub why: String,
    /// When it was signed: the latest verified time of what counted.
    #[serde(skip)]
    pub signed_at: Option<Time>,
}

/// Whether something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Allowed,
    /// It is not, but evidence can mend it.
    Waiting,
    /// It is not, and evidence alone does not mend it.
    Denied,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyOutcome {
    /// Its name.
    pub name: String,
    /// Whether it is satisfied. One that only warns may not be, and the artifact allowed.
    pub passed: bool,
    /// Any of them is enough.
    pub authorities: Vec<AuthorityOutcome>,
    /// Whether its failure counts.
    #[serde(skip)]
    pub enforced: bool,
    /// Why, as a word.
    #[serde(skip)]
    pub reason: Reason,
    /// Why, for a person.
    #[serde(skip)]
    pub why: String,
}

/// What one authority says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorityOutcome {
    /// Its name.
    pub name: String,
    /// Whether it is satisfied.
    pub passed: bool,
    /// Why, as a word.
    pub reason: Reason,
    /// What was looked at; some of it, where there is much.
    pub evidence: Vec<EvidenceOutcome>,
    /// Why, for a person.
    #[serde(skip)]
    pub why: String,
}

/// What came of one item of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvidenceOutcome {
    /// What it is known by.
    pub digest: Digest,
    /// How it came.
    pub form: Form,
    /// Who signed; if it proves nothing, who is said to have.
    pub signer: Option<String>,
    /// Whether it counts for this authority.
    pub passed: bool,
    /// Why, as a word.
    pub reason: Reason,
    /// Why, for a person.
    #[serde(skip)]
    pub why: String,
}

/// How a decision names a signer.
pub(crate) fn told_of(signer: &Signer) -> String {
    match signer {
        Signer::Key { fingerprint } => format!("key {fingerprint}"),
        Signer::Certificate { issuer, subject, .. } => format!("{subject} by {issuer}"),
    }
}

#[expect(clippy::ref_option, reason = "serde hands out the field")]
fn instant<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(rfc3339::format).serialize(serializer)
}
