// SPDX-License-Identifier: AGPL-3.0-only
//! Patterns of repository names, the one dialect of them in the whole program: `*` and `?` stand for
//! what has no slash, `**` as a whole part of the path for any number of parts, `{a,b}` for either.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use crate::name::RepoName;

/// Longer than any repository name.
const MAX_LEN: usize = 1_000;

/// A pattern of repository names, such as `team/**`.
#[derive(Clone, Debug)]
pub struct RepoPattern(GlobMatcher);

impl RepoPattern {
    /// Whether a repository is meant.
    pub fn matches(&self, repo: &RepoName) -> bool {
        self.0.is_match(repo.as_str())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for RepoPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RepoPattern {}

impl fmt::Display for RepoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RepoPattern {
    /// A sentence for a person.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(format!("a pattern of repository names has 1 to {MAX_LEN} characters"));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*?{},".contains(c);
        if let Some(wrong) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "{text:?} is not a pattern of repository names: {wrong:?} cannot be in one; use lower case letters, digits, '.', '_', '-', '/', '*', '**', '?' and '{{a,b}}'"
            ));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))?;
        Ok(RepoPattern(glob.compile_matcher()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_means_what_people_expect() {
        for (pattern, yes, no) in [
            ("app", "app", "app/x"),
            ("team/*", "team/app", "team/app/x"),
            ("team/**", "team/app/x", "teams/app"),
            ("**", "a/b/c", ""),
            ("**/cache", "a/b/cache", "a/cache/b"),
            ("dev-?", "dev-1", "dev-12"),
            ("{dev,test}/**", "test/a", "prod/a"),
        ] {
            let parsed: RepoPattern = pattern.parse().unwrap();
            assert!(parsed.matches(&yes.parse().unwrap()), "{pattern} {yes}");
            if !no.is_empty() {
                assert!(!parsed.matches(&no.parse().unwrap()), "{pattern} {no}");
            }
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused_with_a_sentence() {
        for bad in ["", "Team/*", "a b", "[a]", "{a,b", &"a".repeat(2000)] {
            assert!(bad.parse::<RepoPattern>().unwrap_err().contains("pattern"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z*?{},/.-]{0,40}") {
            let _ = text.parse::<RepoPattern>();
        }

        #[test]
        fn a_name_without_wildcards_means_itself_alone(name in "[a-z]{1,5}(/[a-z]{1,5}){0,2}", other in "[a-z]{1,5}(/[a-z]{1,5}){0,2}") {
            let pattern: RepoPattern = name.parse().unwrap();
            prop_assert!(pattern.matches(&name.parse().unwrap()));
            prop_assert_eq!(pattern.matches(&other.parse().unwrap()), name == other);
        }
    }
}
