// SPDX-License-Identifier: AGPL-3.0-only
//! What is allowed: whether an artifact is what a policy demands. No HTTP, no storage engine, no network.
//!
//! The data's way through it is straight:
//!
//! 1. [`gather`](gather()) takes what is said of an artifact from a [`Source`]: bundles, signatures, attestations. Within
//!    limits; nothing of it is believed.
//! 2. [`Verifier`] checks each [`Evidence`] once against a [`Trust`] (keys and roots that an operator has chosen) and
//!    makes [`Fact`]s of it, or says why not. A [`Verified`] fact can come from nowhere else.
//! 3. [`PolicySet::judge`] folds facts to a [`Decision`]: a pure function of policies, facts, subject and time. Whoever
//!    asks with flags instead of documents folds them by an [`Authority`] alone.
//!
//! [`Verifier::examine`] goes the first two steps, [`PolicySet::examine`] all of them.
//!
//! Beside that way stands the signer's: a [`PrivateKey`], and what it writes in [`sign`].
//!
//! Invariants: what cannot be read, checked or counted is a failure, never a weaker success; zero matches is a failure;
//! nothing is fetched while verifying; trust comes from configuration alone.

mod authority;
mod decision;
mod der;
mod digest;
mod document;
mod error;
mod evidence;
mod fact;
mod findings;
mod gather;
mod glob;
mod image_policy;
mod json;
mod judge;
mod key;
mod layout;
pub mod limits;
mod pattern;
mod pem;
mod private_key;
mod reason;
mod refusal;
mod registry_policy;
mod rego;
mod rfc3339;
mod scheme;
mod set;
pub mod sign;
mod source;
#[cfg(test)]
mod testing;
mod time;
mod trust;
mod trusted_key;
mod verify;
mod x509;

pub use authority::{Authority, LogRule, Roots, SIGN_V1, predicate_uri};
pub use decision::{AuthorityOutcome, Decision, EvidenceOutcome, PolicyOutcome, Verdict};
pub use digest::{Algorithm, Digest, DigestError};
pub use document::RootNames;
pub use error::{Error, Result};
pub use evidence::{BUNDLE, DSSE, Evidence, Form, SIMPLE_SIGNING};
pub use fact::{Claim, Fact, Log, LogEntry, ProvenTime, Rejected, Signer, TimeSource, Verified};
pub use findings::Findings;
pub use gather::{Gathered, gather, may_be_evidence};
pub use glob::{ImageGlob, RepositoryGlob};
pub use json::strict_json;
pub use judge::{Examined, Subject};
pub use key::{KeyHash, PublicKey};
pub use layout::LayoutSource;
pub use pattern::{Identity, Pattern};
pub use private_key::{Hash, PrivateKey};
pub use reason::Reason;
pub use registry_policy::{Attachment, Enforcement, NoMatch, Rules, Transparency, WhileWaiting};
pub use rego::{confine_rules, serve_rules};
pub use set::{PolicySet, Summary};
pub use source::{Descriptor, Manifest, Reference, Source};
pub use time::Time;
pub use trust::{Trust, TrustRoot};
pub use trusted_key::{TrustedKey, Window};
pub use verify::{Artifact, Checked, Verifier};
