// SPDX-License-Identifier: AGPL-3.0-only
//! Patterns of repository names, and of other names, the one dialect of them in the whole program: `*` and `?` stand
//! for what has no slash, `**` as a whole part of the path for any number of parts, `{a,b}` for either.

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

/// A pattern of any text, in the same dialect: `*` and `?` stand for what has no slash, `**` as a whole part for any
/// number of parts, `{a,b}` for either. A backslash takes a character as it is.
#[derive(Clone, Debug)]
pub struct TextPattern(GlobMatcher);

impl TextPattern {
    /// Whether a text is meant.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TextPattern {}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TextPattern {
    /// A sentence for a person.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(format!("a pattern has 1 to {MAX_LEN} characters"));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))?;
        Ok(TextPattern(glob.compile_matcher()))
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

    #[test]
    fn any_text_can_be_meant() {
        for (pattern, yes, no) in [
            ("gitlab:group/*", "gitlab:group/app", "gitlab:group/app/x"),
            ("V1.*", "V1.2", "v1.2"),
            ("refs/heads/{main,release-*}", "refs/heads/release-2", "refs/heads/dev"),
            ("a\\*", "a*", "ab"),
            ("true", "true", "false"),
        ] {
            let parsed: TextPattern = pattern.parse().unwrap();
            assert!(parsed.matches(yes) && !parsed.matches(no), "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for bad in ["", "[a", "{a"] {
            assert!(bad.parse::<TextPattern>().unwrap_err().contains("pattern"), "{bad}");
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
