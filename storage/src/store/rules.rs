// SPDX-License-Identifier: AGPL-3.0-only
//! Rules of repositories: what they keep, which tags stay where they are, and which only some may change.
//!
//! Untagged manifests stay unless a rule says otherwise; the first rule whose pattern matches a
//! repository decides. Evidence needs no rule: it lives as long as its subject. Tags are judged by
//! `tag_guard.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::{Algorithm, Digest};
use crate::name::RepoName;
use crate::pattern::{RepoPattern, TextPattern};

/// How long a digest that was once released stays after its last tag left, unless a rule says otherwise.
pub const RELEASED: Duration = Duration::from_hours(90 * 24);

/// What holds for the repositories of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRule {
    /// The repositories.
    pub repositories: RepoPattern,
    /// How long an untagged manifest stays after it was pushed; for ever if absent.
    pub untagged: Option<Duration>,
    /// How long a digest stays after the last tag that had released it left.
    pub released: Duration,
    /// Tags that can neither move nor be deleted once they name a manifest.
    pub immutable_tags: Vec<TextPattern>,
    /// Tags that only those may set, move or delete who may change protected tags.
    pub protected_tags: Vec<TextPattern>,
}

impl RepositoryRule {
    /// A rule by which everything is as without one.
    pub fn of(repositories: RepoPattern) -> Self {
        RepositoryRule {
            repositories,
            untagged: None,
            released: RELEASED,
            immutable_tags: Vec::new(),
            protected_tags: Vec::new(),
        }
    }
}

/// What collection judges by, and no more: a rule for tags gives it nothing new to look at.
impl fmt::Display for RepositoryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {:?}", self.repositories, self.untagged, self.released)
    }
}

/// What a repository keeps, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// An untagged manifest, from its push on; for ever if absent.
    pub(super) untagged: Option<Duration>,
    /// A digest from the moment when the last tag that had released it left.
    pub(super) released: Duration,
}

/// The rules of a store; the first that matches decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(Vec<Arc<RepositoryRule>>);

impl Rules {
    pub(super) fn new(rules: Vec<RepositoryRule>) -> Self {
        Rules(rules.into_iter().map(Arc::new).collect())
    }

    /// The rule for a repository.
    pub(super) fn rule(&self, repo: &RepoName) -> Option<&Arc<RepositoryRule>> {
        self.0.iter().find(|rule| rule.repositories.matches(repo))
    }

    /// What a repository keeps.
    pub(super) fn of(&self, repo: &RepoName) -> Kept {
        match self.rule(repo) {
            None => Kept { untagged: None, released: RELEASED },
            Some(rule) => Kept { untagged: rule.untagged, released: rule.released },
        }
    }

    /// Whether untagged manifests stay everywhere.
    pub(super) fn keep_all(&self) -> bool {
        self.0.iter().all(|rule| rule.untagged.is_none())
    }

    /// Tells these rules from others by which collection would judge otherwise.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let text = self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        match Algorithm::Sha256.digest(text.as_bytes()) {
            Digest::Sha256(bytes) => bytes,
            _ => [0; 32],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |pattern: &str, hours: Option<u64>| RepositoryRule {
            untagged: hours.map(Duration::from_hours),
            ..RepositoryRule::of(pattern.parse().unwrap())
        };
        let rules = Rules::new(vec![rule("dev/keep", None), rule("dev/**", Some(1)), rule("**", Some(9))]);
        let of = |name: &str| rules.of(&name.parse().unwrap()).untagged;
        assert_eq!(of("dev/keep"), None);
        assert_eq!(of("dev/a/b"), Some(Duration::from_hours(1)));
        assert_eq!(of("prod"), Some(Duration::from_hours(9)));
        assert_eq!(Rules::default().of(&"a".parse().unwrap()), Kept { untagged: None, released: RELEASED });
        assert_ne!(rules.sha256(), Rules::default().sha256());
        assert!(Rules::new(vec![rule("**", None)]).keep_all() && !rules.keep_all());
        let tags = RepositoryRule { immutable_tags: vec!["v*".parse().unwrap()], ..rule("**", None) };
        assert_eq!(
            Rules::new(vec![tags]).sha256(),
            Rules::new(vec![rule("**", None)]).sha256(),
            "collection has nothing new to look at"
        );
    }
}
