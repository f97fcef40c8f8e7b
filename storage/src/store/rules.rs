// SPDX-License-Identifier: AGPL-3.0-only
//! What repositories keep: rules for untagged manifests and for digests that were once released.
//!
//! Untagged manifests stay unless a rule says otherwise; the first rule whose pattern matches a
//! repository decides. Evidence needs no rule: it lives as long as its subject.

use std::fmt;
use std::time::Duration;

use crate::digest::{Algorithm, Digest};
use crate::name::RepoName;
use crate::pattern::RepoPattern;

/// How long a digest that was once released stays after its last tag left, unless a rule says otherwise.
pub const RELEASED: Duration = Duration::from_hours(90 * 24);

/// What the repositories of a pattern keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRule {
    /// The repositories.
    pub repositories: RepoPattern,
    /// How long an untagged manifest stays after it was pushed; for ever if absent.
    pub untagged: Option<Duration>,
    /// How long a digest stays after the last tag that had released it left.
    pub released: Duration,
}

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
pub(super) struct Rules(Vec<RepositoryRule>);

impl Rules {
    pub(super) fn new(rules: Vec<RepositoryRule>) -> Self {
        Rules(rules)
    }

    /// What a repository keeps.
    pub(super) fn of(&self, repo: &RepoName) -> Kept {
        match self.0.iter().find(|rule| rule.repositories.matches(repo)) {
            None => Kept { untagged: None, released: RELEASED },
            Some(rule) => Kept { untagged: rule.untagged, released: rule.released },
        }
    }

    /// Whether untagged manifests stay everywhere.
    pub(super) fn keep_all(&self) -> bool {
        self.0.iter().all(|rule| rule.untagged.is_none())
    }

    /// Tells these rules from others.
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
            repositories: pattern.parse().unwrap(),
            untagged: hours.map(Duration::from_hours),
            released: RELEASED,
        };
        let rules = Rules::new(vec![rule("dev/keep", None), rule("dev/**", Some(1)), rule("**", Some(9))]);
        let of = |name: &str| rules.of(&name.parse().unwrap()).untagged;
        assert_eq!(of("dev/keep"), None);
        assert_eq!(of("dev/a/b"), Some(Duration::from_hours(1)));
        assert_eq!(of("prod"), Some(Duration::from_hours(9)));
        assert_eq!(Rules::default().of(&"a".parse().unwrap()), Kept { untagged: None, released: RELEASED });
        assert_ne!(rules.sha256(), Rules::default().sha256());
        assert!(Rules::new(vec![rule("**", None)]).keep_all() && !rules.keep_all());
    }
}
