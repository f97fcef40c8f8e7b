// SPDX-License-Identifier: AGPL-3.0-only
//! What is allowed: whether an artifact is what a policy demands. No HTTP, no storage engine, no network.
//!
//! The data's way through it is straight:
//!
//! 1. [`gather`](gather()) takes what is said of an artifact from a [`Source`]: bundles, signatures, attestations. Within
//!    limits; nothing of it is believed.
//! 2. [`Verifier`] checks each [`Evidence`] once against a [`Trust`] (keys and roots that an operator has chosen) and
//!    makes [`Fact`]s of it, or says why not. A [`Verified`] fact can come from nowhere else.
//! 3. [`PolicySet::judge`] folds facts to a [`Decision`]: a pure function of policies, facts, subject and time.
//!
//! Beside that way stands the signer's: a [`PrivateKey`], and what it writes in [`sign`].
//!
//! Invariants: what cannot be read, checked or counted is a failure, never a weaker success; zero matches is a failure;
//! nothing is fetched while verifying; trust comes from configuration alone.

mod digest;
mod error;
mod evidence;
mod fact;
mod layout;
mod private_key;
mod reason;
pub mod sign;
mod source;
mod time;

pub use digest::{Algorithm, Digest, DigestError};
pub use error::{Error, Result};
pub use evidence::{Evidence, Form};
pub use fact::{Claim, Fact, Log, LogEntry, ProvenTime, Rejected, Signer, TimeSource, Verified};
pub use layout::LayoutSource;
pub use private_key::{Hash, PrivateKey};
pub use reason::Reason;
pub use source::{Descriptor, Manifest, Reference, Source};
pub use time::Time;
