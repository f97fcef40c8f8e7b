// SPDX-License-Identifier: AGPL-3.0-only
//! `metadata`: what keeps the metadata, and the URL of its database, which is a secret: it is never
//! shown, and no message repeats it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use stella_storage::kv::EngineOptions;

use super::{Config, ConfigError, file};

/// `metadata`: what keeps the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    /// `sqlite`, `postgres` or `sled`; the last two must be built in. Default `sqlite`.
    pub engine: MetadataEngine,
    /// The database of the engine `postgres`, such as `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: Option<Secret>,
    /// A file with that URL on one line.
    pub url_file: Option<PathBuf>,
}

/// `metadata.engine`: which engine keeps the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataEngine {
    /// One SQLite file in the data directory.
    #[default]
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
    /// A folder of sled's in the data directory.
    Sled,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

/// What is shown instead.
const HIDDEN: &str = "(hidden)";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl Config {
    /// The engine that is chosen, ready to be opened. Reads `metadata.url_file`.
    pub fn engine(&self) -> Result<EngineOptions, ConfigError> {
        let Metadata { engine, url, url_file } = &self.metadata;
        let bad = |key: &str, reason: String| ConfigError::BadValue {
            origin: self.origin(key),
            key: key.to_owned(),
            reason,
        };
        let url_key = if url.is_some() { "metadata.url" } else { "metadata.url_file" };
        let url = match (url, url_file) {
            (Some(_), Some(_)) => {
                return Err(bad(
                    "metadata.url_file",
                    "`metadata.url` is set too; keep one of them".to_owned(),
                ));
            }
            (Some(Secret(url)), None) if url == HIDDEN => {
                let reason = "this is what `config show` prints instead of the URL; write the URL";
                return Err(bad(url_key, reason.to_owned()));
            }
            (Some(Secret(url)), None) => Some(url.clone()),
            (None, Some(path)) => {
                let text = file::read_text(path, "the file that `metadata.url_file` names:")?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        let options = match (engine, url) {
            (MetadataEngine::Sqlite, None) => EngineOptions::Sqlite,
            (MetadataEngine::Sled, None) => EngineOptions::Sled,
            (MetadataEngine::Postgres, Some(url)) => EngineOptions::Postgres { url },
            (MetadataEngine::Postgres, None) => {
                let reason = "postgres needs its database: set `metadata.url_file` to a file with its URL, such as \
                              postgres://USER:PASSWORD@HOST/DATABASE, or `metadata.url` to the URL itself";
                return Err(bad("metadata.engine", reason.to_owned()));
            }
            (MetadataEngine::Sqlite | MetadataEngine::Sled, Some(_)) => {
                let reason =
                    "only the engine postgres has a URL: set `metadata.engine` to postgres, or remove this";
                return Err(bad(url_key, reason.to_owned()));
            }
        };
        if !options.is_built_in() {
            return Err(bad("metadata.engine", options.how_to_build_in()));
        }
        options.check().map_err(|error| bad(url_key, error.to_string()))?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests;
