// SPDX-License-Identifier: AGPL-3.0-only
//! Names that clients choose: repositories, tags, and references to manifests.
//!
//! Each type is parsed once, where text enters the program; whatever holds one may rely on its
//! grammar (OCI distribution-spec, "Pulling manifests"). No name can hold `..`, `%`, `\` or a
//! control character, so none can leave a path or forge a log line.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, shorten};
use crate::error::{Error, Result};

/// The name of a repository, such as `team/app`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(Box<str>);

impl RepoName {
    /// The longest name, in bytes. Clients limit host and name together to 255.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepoName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::InvalidName { text: shorten(text), why: why.to_owned() };
        if text.len() > Self::MAX_LEN {
            return Err(invalid("it is longer than 255 characters"));
        }
        if text.split('/').all(is_component) {
            Ok(RepoName(text.into()))
        } else {
            Err(invalid(
                "each part between slashes needs lower-case letters and digits, \
                 joined by '.', '_', '__' or '-'",
            ))
        }
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// [a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)*
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// The name of a tag, such as `1.0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// The longest tag, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest of which a tag such as `sha256-<hex>` or `sha256-<hex>.sig` holds evidence, by its name.
    pub fn subject(&self) -> Option<Digest> {
        let name = self.0.split_once('.').map_or(&*self.0, |(name, _)| name);
        let (algorithm, encoded) = name.split_once('-')?;
        format!("{algorithm}:{encoded}").parse().ok().filter(|digest| !matches!(digest, Digest::Other(_)))
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = bytes.first().is_some_and(|&b| word(b))
            && bytes.len() <= Self::MAX_LEN
            && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-');
        if valid { Ok(Tag(text.into())) } else { Err(Error::InvalidTag(shorten(text))) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What follows `/manifests/` in a URL: `<tag-or-digest>` in the specification's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A colon cannot stand in a tag, so whatever holds one is a digest or an error.
        if text.contains(':') {
            Ok(Reference::Digest(text.parse()?))
        } else {
            text.parse().map(Reference::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for good in ["a", "library/ubuntu", "a.b/c_d/e__f/g---h", "0/1", "blobs/uploads", "tags/list"] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            ".a",
            "a-",
            "_catalog",
            "a/../b",
            "..",
            "a%2eb",
            "a\\b",
            "a b",
            "ä",
            "a\n",
            long.as_str(),
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        let longest = "a".repeat(128);
        for good in ["latest", "_", "1.0", "index", "uploads", "latest..", "A-b_c.d", longest.as_str()] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".a", "-a", "a/b", "a:b", "a+b", "a b", "ä", "..", long.as_str()] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_with_a_colon_is_never_a_tag() {
        assert!("sha256:baddigeststring".parse::<Reference>().is_err());
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
    }

    proptest! {
        #[test]
        fn names_and_references_never_panic_and_round_trip(text in "\\PC{0,140}|[a-z0-9/._-]{0,40}") {
            if let Ok(name) = text.parse::<RepoName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.contains("..") && !text.contains("//"));
            }
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }

        #[test]
        fn grammatical_names_are_accepted(
            text in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}){0,3}"
        ) {
            prop_assert!(text.parse::<RepoName>().is_ok());
        }
    }
}
