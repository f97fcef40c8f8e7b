// SPDX-License-Identifier: AGPL-3.0-only
//! Patterns of repository names, tags and other text, in the one dialect of the whole program: `*` and `?`
//! stand for what has no slash, `**` as a whole part of the path for any number of parts, `{a,b}` for either.

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
        check_stars(text)?;
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))?;
        Ok(RepoPattern(glob.compile_matcher()))
    }
}

/// A pattern of any text, in the same dialect. A backslash takes a character as it is.
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
        // The matcher knows sets of characters; the dialect does not, and `bot[bot]` shall not mean `botb`.
        if has_bracket(text) {
            return Err(format!(
                "{text:?} is not a pattern: brackets have no meaning in one; write \\[ and \\] for the characters"
            ));
        }
        check_stars(text)?;
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))?;
        Ok(TextPattern(glob.compile_matcher()))
    }
}

/// Inside a part `**` would mean no more than `*`, which nobody means who writes it.
fn check_stars(text: &str) -> Result<(), String> {
    let begins = |before: &str| before.is_empty() || before.ends_with(['/', '{', ',']);
    let ends = |after: &str| after.is_empty() || after.starts_with(['/', '}', ',']);
    for (at, stars) in text.match_indices("**") {
        let (before, after) = (&text[..at], &text[at + stars.len()..]);
        if !begins(before) || !ends(after) {
            return Err(format!(
                "{text:?} is not a pattern: `**` stands for whole parts between slashes, such as in a/**; inside a part \
                 write `*`, and `*/**` for what has more parts"
            ));
        }
    }
    Ok(())
}

/// Whether there is a bracket that no backslash takes as it is.
fn has_bracket(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' | ']' => return true,
            _ => {}
        }
    }
    false
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
    fn a_pattern_of_text_means_what_people_expect() {
        for (pattern, yes, no) in [
            ("v*", "v1.2", "rc-v1"),
            ("v*", "v", "V1"),
            ("*", "Latest_1.0-rc", "a/b"),
            ("v?.?", "v1.2", "v1x2"),
            ("{stable,v*}", "stable", "unstable"),
            ("repo:team/**", "repo:team/app:ref:x", "repo:teams/app"),
            (r"a\*", "a*", "ab"),
            (r"bot\[bot\]", "bot[bot]", "botb"),
        ] {
            let parsed: TextPattern = pattern.parse().unwrap();
            assert!(parsed.matches(yes), "{pattern} {yes}");
            assert!(!parsed.matches(no), "{pattern} {no}");
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(parsed, pattern.parse().unwrap());
        }
        assert_ne!("v*".parse::<TextPattern>().unwrap(), "v?".parse().unwrap());
    }

    #[test]
    fn what_is_no_pattern_of_text_is_refused_with_a_sentence() {
        for bad in ["", "{a,b", "[a]", "a]", r"\\[a]", "a\\", &"a".repeat(2000)] {
            assert!(bad.parse::<TextPattern>().unwrap_err().contains("pattern"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r"[a-zé*?{},/.\\\[\]-]{0,40}", other in ".{0,20}") {
            let _ = text.parse::<RepoPattern>();
            if let Ok(pattern) = text.parse::<TextPattern>() {
                let _ = pattern.matches(&other);
            }
        }

        #[test]
        fn a_text_without_wildcards_means_itself_alone(text in "[a-zA-Z0-9._-]{1,9}", other in "[a-zA-Z0-9._-]{1,9}") {
            let pattern: TextPattern = text.parse().unwrap();
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn a_name_without_wildcards_means_itself_alone(name in "[a-z]{1,5}(/[a-z]{1,5}){0,2}", other in "[a-z]{1,5}(/[a-z]{1,5}){0,2}") {
            let pattern: RepoPattern = name.parse().unwrap();
            prop_assert!(pattern.matches(&name.parse().unwrap()));
            prop_assert_eq!(pattern.matches(&other.parse().unwrap()), name == other);
        }
    }
}
