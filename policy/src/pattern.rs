// SPDX-License-Identifier: AGPL-3.0-only
//! Whom a certificate must name: an issuer and a subject, each exactly or as a regular expression that must match the
//! whole text. Both halves are always demanded, so an identity can never be wider than what is written. Expressions are
//! of bounded size and match in time linear in the text (no backtracking).

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// The longest expression that is taken.
const MOST_PATTERN: usize = 1_000;
/// The most memory that a compiled expression may take.
const MOST_COMPILED: usize = 1 << 20;
/// The longest name that is looked at; a longer one matches nothing.
const MOST_TEXT: usize = 4_096;

/// What a text must be.
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Exact(String),
    Matching { text: String, regex: Regex },
}

impl Pattern {
    /// This text and no other.
    pub fn exact(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MOST_TEXT {
            return Err(format!("a name has 1 to {MOST_TEXT} bytes"));
        }
        Ok(Pattern(Kind::Exact(text.to_owned())))
    }

    /// Any text that this regular expression matches from the first to the last character.
    pub fn matching(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MOST_PATTERN {
            return Err(format!("a regular expression has 1 to {MOST_PATTERN} bytes"));
        }
        // By itself first: `a)|(b` must not break out of the group that anchors it.
        compile(text)?;
        let regex = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Pattern(Kind::Matching { text: text.to_owned(), regex }))
    }

    /// Whether a text is meant.
    pub fn matches(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Exact(exact) => exact == text,
            Kind::Matching { regex, .. } => text.len() <= MOST_TEXT && regex.is_match(text),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Exact(text) | Kind::Matching { text, .. } => text,
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match &self.0 {
            Kind::Exact(_) => "exact",
            Kind::Matching { .. } => "matching",
        };
        (kind, self.as_str()).serialize(serializer)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(MOST_COMPILED).dfa_size_limit(MOST_COMPILED).nest_limit(50);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "the regular expression is too large; use fewer or smaller repetitions".into()
        }
        other => format!("not a regular expression: {}", one_line(&other.to_string())),
    })
}

/// The parser draws the place below the expression; a message has one line.
fn one_line(text: &str) -> String {
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text);
    last.trim().trim_start_matches("error: ").to_owned()
}

/// Whom a certificate must name.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Who vouches for the subject.
    pub issuer: Pattern,
    /// The subject alternative name.
    pub subject: Pattern,
}

impl Identity {
    /// The same of a certificate by an authority that stands in the policy itself, which need not say who vouches: the
    /// authority does. Its issuer is then empty, and only an expression that matches the empty text means it.
    pub(crate) fn matches_private(&self, issuer: &str, subject: &str) -> bool {
        !subject.is_empty() && self.issuer.matches(issuer) && self.subject.matches(subject)
    }

    /// Whether these two are meant. A certificate that does not say who vouches for it is nobody's, whatever the pattern.
    pub fn matches(&self, issuer: &str, subject: &str) -> bool {
        !issuer.is_empty()
            && !subject.is_empty()
            && self.issuer.matches(issuer)
            && self.subject.matches(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn matching(text: &str) -> Pattern {
        Pattern::matching(text).unwrap()
    }

    #[test]
    fn an_expression_must_match_all_of_the_text() {
        for (pattern, yes, no) in [
            ("a|ab", "ab", "abc"),
            (r".*@example\.com", "joe@example.com", "joe@example.com.evil.org"),
            ("https://github.com/org/.*", "https://github.com/org/x", "http://evil/https://github.com/org/x"),
            ("^joe$", "joe", "joe\n"),
            ("(?i)JOE", "joe", "joey"),
            ("(?m)^a$", "a", "b\na"),
            ("", "", "x"),
        ] {
            if pattern.is_empty() {
                assert!(Pattern::matching(pattern).is_err());
                continue;
            }
            assert!(matching(pattern).matches(yes), "{pattern} {yes}");
            assert!(!matching(pattern).matches(no), "{pattern} {no:?}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_the_anchors() {
        for bad in ["a)|(?:b", "a)|(b", "****", "(", "[a", "(?x)a # b", r"\"] {
            assert!(Pattern::matching(bad).is_err(), "{bad}");
        }
        assert!(!matching("a|b").matches("ax"));
        assert!(!matching("a|b").matches("xb"));
    }

    #[test]
    fn large_expressions_are_refused_and_slow_ones_do_not_exist() {
        let began = Instant::now();
        assert!(Pattern::matching(&"a".repeat(1_001)).is_err());
        for bomb in ["a{1000}{1000}{1000}", r"(\w{900}){900}", &"(".repeat(400), "((((a{99}){99}){99}){99})"]
        {
            assert!(Pattern::matching(bomb).is_err(), "{bomb}");
        }
        let text = "a".repeat(4_000);
        for slow in ["(a+)+b", "(a|a)*b", "(.*)(.*)(.*)(.*)b", "(a*)*(a*)*b"] {
            assert!(!matching(slow).matches(&text), "{slow}");
        }
        assert!(!matching(".*").matches(&"a".repeat(5_000)), "a name that long is nobody's");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn both_halves_are_demanded() {
        let identity =
            Identity { issuer: Pattern::exact("https://issuer").unwrap(), subject: matching("joe@.*") };
        assert!(identity.matches("https://issuer", "joe@x"));
        assert!(!identity.matches("https://other", "joe@x"));
        assert!(!identity.matches("https://issuer", "ann@x"));
        assert!(Pattern::exact("").is_err());
        let any = Identity { issuer: matching(".*"), subject: matching(".*") };
        assert!(any.matches("https://issuer", "joe@x"));
        assert!(!any.matches("", "joe@x") && !any.matches("https://issuer", ""));
    }

    proptest! {
        #[test]
        fn an_exact_one_means_itself_alone(a in ".{1,20}", b in ".{1,20}") {
            prop_assert_eq!(Pattern::exact(&a).unwrap().matches(&b), a == b);
        }

        #[test]
        fn no_expression_makes_it_panic(text in r"[a-z(){}|*+?\[\]\\^$.0-9]{0,30}", other in ".{0,20}") {
            if let Ok(pattern) = Pattern::matching(&text) {
                let _ = pattern.matches(&other);
            }
        }
    }
}
