// SPDX-License-Identifier: AGPL-3.0-only
//! A `RegistryPolicy` as it is judged, and what several of them say together: of each field the strictest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Digest, RepositoryGlob};

/// What one document says of the repositories that it is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RegistryPolicy {
    pub(crate) name: String,
    /// Where its name stands: `FILE:LINE:COLUMN`.
    #[serde(skip)]
    pub(crate) at: String,
    pub(crate) repositories: Vec<RepositoryGlob>,
    pub(crate) rules: Rules,
}

/// What holds in a repository beyond its image policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// What a push of something that is not allowed gets.
    pub push: Enforcement,
    /// What a pull of it gets.
    pub pull: Enforcement,
    /// What readers of a tag get while its candidate waits.
    pub while_waiting: WhileWaiting,
    /// What no image policy is about.
    pub no_match: NoMatch,
    /// How many distinct signers there must be.
    pub count: u32,
    /// Whether each signature must be in a transparency log.
    pub transparency: Transparency,
    /// Whether what is signed must name this repository.
    pub bind_repository: bool,
    /// Whether a release may not be older than the one before.
    pub no_rollback: bool,
    /// How old a signature may be, in seconds.
    pub max_age: Option<i64>,
    /// Which attachments are readable as such.
    pub attachments: BTreeSet<Attachment>,
    /// What is never allowed.
    pub deny_digests: BTreeSet<Digest>,
}

/// What a verdict does; the later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Nothing.
    Off,
    /// It is told.
    Warn,
    /// It holds.
    Enforce,
}

/// What readers of a tag get while its candidate waits; the later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhileWaiting {
    /// The last release.
    Previous,
    /// Nothing.
    Deny,
}

/// What becomes of what no image policy is about; the later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoMatch {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
}

/// Whether each signature must be in a log; the later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transparency {
    /// Only where its authority asks for it.
    Ignored,
    /// It must.
    Required,
}

/// What may be attached to an image without being judged as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// SPDX documents.
    Spdx,
    /// `CycloneDX` documents.
    Cyclonedx,
    /// in-toto statements.
    InToto,
    /// VEX documents.
    Vex,
}

impl Attachment {
    /// All of them.
    pub const ALL: [Attachment; 4] =
        [Attachment::Spdx, Attachment::Cyclonedx, Attachment::InToto, Attachment::Vex];
}

impl Rules {
    /// What a document says that says nothing more than which repositories it is about.
    pub fn of_an_empty_document() -> Self {
        Rules {
            push: Enforcement::Enforce,
            pull: Enforcement::Enforce,
            while_waiting: WhileWaiting::Previous,
            no_match: NoMatch::Deny,
            count: 1,
            transparency: Transparency::Required,
            bind_repository: false,
            no_rollback: false,
            max_age: None,
            attachments: Attachment::ALL.into(),
            deny_digests: BTreeSet::new(),
        }
    }

    /// What holds where no document is about a repository: nothing is enforced, and a verdict, for who asks for one, is
    /// that of the image policies alone.
    pub fn without_document() -> Self {
        Rules {
            push: Enforcement::Off,
            pull: Enforcement::Off,
            transparency: Transparency::Ignored,
            ..Rules::of_an_empty_document()
        }
    }

    /// Of each field the strictest.
    #[must_use]
    pub fn and(self, other: &Rules) -> Self {
        let shorter = match (self.max_age, other.max_age) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Rules {
            push: self.push.max(other.push),
            pull: self.pull.max(other.pull),
            while_waiting: self.while_waiting.max(other.while_waiting),
            no_match: self.no_match.max(other.no_match),
            count: self.count.max(other.count),
            transparency: self.transparency.max(other.transparency),
            bind_repository: self.bind_repository || other.bind_repository,
            no_rollback: self.no_rollback || other.no_rollback,
            max_age: shorter,
            attachments: self.attachments.intersection(&other.attachments).copied().collect(),
            deny_digests: self.deny_digests.union(&other.deny_digests).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_documents_the_strictest_of_each_field_wins() {
        let strict = Rules {
            while_waiting: WhileWaiting::Deny,
            count: 3,
            bind_repository: true,
            no_rollback: true,
            max_age: Some(10),
            attachments: [Attachment::Spdx, Attachment::Vex].into(),
            deny_digests: [Digest::of(b"a")].into(),
            ..Rules::of_an_empty_document()
        };
        let lax = Rules {
            push: Enforcement::Warn,
            pull: Enforcement::Off,
            no_match: NoMatch::Allow,
            transparency: Transparency::Ignored,
            max_age: Some(20),
            attachments: [Attachment::Vex, Attachment::InToto].into(),
            deny_digests: [Digest::of(b"b")].into(),
            ..Rules::of_an_empty_document()
        };
        let both = strict.clone().and(&lax);
        assert_eq!(both, lax.and(&strict));
        let deny_digests = [Digest::of(b"a"), Digest::of(b"b")].into();
        assert_eq!(both, Rules { attachments: [Attachment::Vex].into(), deny_digests, ..strict });
    }
}
