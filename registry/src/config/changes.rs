// SPDX-License-Identifier: AGPL-3.0-only
//! What differs between two configurations, and which of it a running server takes over.

use super::{Config, ConfigError, file, render};

impl Config {
    /// Takes over from `new` what can change while the server runs. Whatever is not named here needs a
    /// restart.
    pub(crate) fn adopt(&mut self, new: &Self) {
        self.log.level = new.log.level.clone();
        self.push.allow_missing = new.push.allow_missing;
        self.limits.idle_timeout = new.limits.idle_timeout;
        self.limits.shutdown_timeout = new.limits.shutdown_timeout;
        self.limits.drain_delay = new.limits.drain_delay;
        self.limits.disk_reserve = new.limits.disk_reserve;
        self.collection.interval = new.collection.interval;
        self.scrub.rate = new.scrub.rate;
        self.access.clone_from(&new.access);
        self.policy.clone_from(&new.policy);
        self.repositories.clone_from(&new.repositories);
    }

    /// What repositories keep, as the store knows it.
    pub(crate) fn rules(&self) -> Vec<stella_storage::RepositoryRule> {
        self.repositories.iter().cloned().map(Into::into).collect()
    }

    /// The keys whose values differ.
    pub(crate) fn differences(&self, other: &Self) -> Result<Vec<String>, ConfigError> {
        let (mine, theirs) = (file::tree_of(self)?, file::tree_of(other)?);
        let shown = |tree: &super::Node| -> Vec<_> {
            tree.leaves().into_iter().map(|(key, node)| (key, render::flow(node))).collect()
        };
        let pairs = shown(&mine).into_iter().zip(shown(&theirs));
        let mut keys: Vec<_> =
            pairs.filter(|(mine, theirs)| mine != theirs).map(|(mine, _)| mine.0).collect();
        // A secret is not shown, and two of them look alike.
        if self.metadata.url != other.metadata.url && !keys.iter().any(|key| key == "metadata.url") {
            keys.push("metadata.url".to_owned());
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    fn config(pairs: &[(&str, &str)]) -> Config {
        let env = pairs.iter().map(|(name, value)| (format!("STELLA_{name}"), (*value).to_owned()));
        Config::load(None, env, Overrides::default()).unwrap()
    }

    #[test]
    fn what_differs_is_named_and_what_was_taken_over_differs_no_more() {
        let mut running = config(&[("METADATA__URL", "postgres://a/b"), ("METADATA__ENGINE", "postgres")]);
        assert_eq!(running.differences(&running.clone()).unwrap(), Vec::<String>::new());
        let new = config(&[
            ("METADATA__URL", "postgres://a/c"),
            ("METADATA__ENGINE", "postgres"),
            ("LISTEN", "127.0.0.1:1"),
            ("LOG__LEVEL", "debug"),
            ("LIMITS__DRAIN_DELAY", "5s"),
            ("REPOSITORIES", "[{match: a/**, untagged: 7d}]"),
        ]);
        let all = ["listen", "log.level", "limits.drain_delay", "repositories", "metadata.url"];
        assert_eq!(running.differences(&new).unwrap(), all);
        running.adopt(&new);
        assert_eq!(running.differences(&new).unwrap(), ["listen", "metadata.url"]);
    }
}
