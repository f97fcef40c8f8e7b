// SPDX-License-Identifier: AGPL-3.0-only
//! Collection, and what repositories keep.

use std::str::FromStr;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use stella_storage::{Periods, RELEASED, RepoPattern, TextPattern};

use super::Period;

/// `collection`: when what nothing names any more is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collection {
    /// How often the queues are looked at; 1s to 1d. Default `30s`.
    pub interval: Period,
    /// How long something stays that a client who may push was told is there, or has pushed; 1s to 365d.
    /// Default `24h`.
    pub lease: Period,
    /// How long the bytes of a blob stay after its last name went, for readers that are under way; 0s to 365d.
    /// Default `1h`.
    pub grace: Period,
    /// How long an upload stays that gets no more bytes; 1s to 365d. Default `24h`.
    pub uploads: Period,
}

impl Collection {
    /// The same, as the store knows it.
    pub fn periods(&self) -> Periods {
        Periods { lease: self.lease.into(), grace: self.grace.into(), uploads: self.uploads.into() }
    }
}

impl Default for Collection {
    fn default() -> Self {
        let day = Period::seconds(24 * 60 * 60);
        Self { interval: Period::seconds(30), lease: day, grace: Period::seconds(60 * 60), uploads: day }
    }
}

/// An entry of `repositories`: what the repositories of a pattern keep. The first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRule {
    /// A pattern of repository names, such as `team/**`.
    #[serde(rename = "match", deserialize_with = "pattern", serialize_with = "pattern_text")]
    pub repositories: RepoPattern,
    /// How long an untagged manifest stays: `keep`, or a time after its push such as `7d`. Default `keep`.
    #[serde(default)]
    pub untagged: Keep,
    /// How long a digest stays after the last tag that pointed at it went elsewhere. Default `90d`.
    #[serde(default = "released")]
    pub released: Period,
    /// Patterns of tags that stay where they are once they are set. Signatures are exempt. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "patterns")]
    pub immutable_tags: Vec<TextPattern>,
    /// Patterns of tags that only who has `admin` there may set, move or remove. Signatures are exempt. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "patterns")]
    pub protected_tags: Vec<TextPattern>,
}

impl From<RepositoryRule> for stella_storage::RepositoryRule {
    fn from(rule: RepositoryRule) -> Self {
        let untagged = match rule.untagged {
            Keep::Always => None,
            Keep::For(period) => Some(period.into()),
        };
        Self {
            repositories: rule.repositories,
            untagged,
            released: rule.released.into(),
            immutable_tags: rule.immutable_tags,
            protected_tags: rule.protected_tags,
        }
    }
}

fn released() -> Period {
    Period::millis(u64::try_from(RELEASED.as_millis()).unwrap_or(u64::MAX))
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RepoPattern, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(Error::custom)
}

fn pattern_text<S: Serializer>(pattern: &RepoPattern, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pattern)
}

mod patterns {
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;
    use stella_storage::TextPattern;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<TextPattern>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }

    pub(super) fn serialize<S: Serializer>(
        patterns: &[TextPattern],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(patterns.iter().map(TextPattern::as_str))
    }
}

/// For ever, or for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// For ever.
    #[default]
    Always,
    /// For a time.
    For(Period),
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Keep::Always),
            _ => text
                .parse()
                .map(Keep::For)
                .map_err(|_| format!("{text:?} is neither `keep` nor a length of time such as 7d")),
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Keep::Always => serializer.serialize_str("keep"),
            Keep::For(period) => period.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}
