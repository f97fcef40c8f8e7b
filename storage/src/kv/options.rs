// SPDX-License-Identifier: AGPL-3.0-only
//! The choice of a metadata engine, and the file that holds a data directory to it.
//!
//! Every engine can be named in every build; one that was not built in answers with how to build it. A
//! data directory belongs to the engine that it was made with: another one would begin with an empty
//! catalog beside blobs that it does not know.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::{Engine, Sqlite, SqliteOptions};
use crate::disk::Ballast;
use crate::error::{Error, Result};
use crate::local::sync_folder;

/// Which engine keeps the metadata.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum EngineOptions {
    /// One SQLite file in the data directory.
    #[default]
    Sqlite,
    /// A folder of sled's in the data directory. Needs the cargo feature `sled`.
    Sled,
    /// A PostgreSQL database. Needs the cargo feature `postgres`.
    Postgres {
        /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`: a secret.
        url: String,
    },
}

/// Without the URL, which holds a password.
impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const SQLITE_FILE: &str = "metadata.sqlite";
#[cfg(feature = "sled")]
const SLED_FOLDER: &str = "metadata.sled";
/// Names the engine that a data directory was made with.
const MARK: &str = "engine";

impl EngineOptions {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            EngineOptions::Sqlite => "sqlite",
            EngineOptions::Sled => "sled",
            EngineOptions::Postgres { .. } => "postgres",
        }
    }

    /// Whether this program has the engine.
    pub fn is_built_in(&self) -> bool {
        match self {
            EngineOptions::Sqlite => true,
            EngineOptions::Sled => cfg!(feature = "sled"),
            EngineOptions::Postgres { .. } => cfg!(feature = "postgres"),
        }
    }

    /// What to tell who chose an engine that this program does not have.
    pub fn how_to_build_in(&self) -> String {
        let name = self.name();
        format!(
            "this program was built without the metadata engine {name}: build it with \
             `cargo build --release --features {name}`, or choose sqlite"
        )
    }

    /// Finds what can be found wrong without opening anything.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let EngineOptions::Postgres { url } = self {
            super::PostgresOptions::new(url)?;
        }
        Ok(())
    }

    /// Opens the metadata of a data directory, or creates it. `cache` is in bytes; an engine on the same
    /// disk may use the ballast when that is full.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "only an engine across a network waits")
    )]
    pub(crate) async fn open(
        &self,
        data: &Path,
        cache: usize,
        ballast: Option<Arc<Ballast>>,
    ) -> Result<Engine> {
        if !self.is_built_in() {
            return Err(Error::Refused(self.how_to_build_in()));
        }
        self.claim(data)?;
        match self {
            EngineOptions::Sqlite => {
                let options = SqliteOptions { path: data.join(SQLITE_FILE), cache };
                Ok(Engine::Sqlite(Sqlite::open_with(&options, ballast)?))
            }
            #[cfg(feature = "sled")]
            EngineOptions::Sled => {
                let options = super::SledOptions { path: data.join(SLED_FOLDER), cache };
                Ok(Engine::Sled(super::Sled::open(&options)?))
            }
            #[cfg(feature = "postgres")]
            EngineOptions::Postgres { url } => {
                let options = super::PostgresOptions::new(url)?;
                Ok(Engine::Postgres(super::Postgres::open(options).await?))
            }
            #[cfg(not(all(feature = "sled", feature = "postgres")))]
            _ => Err(Error::Refused(self.how_to_build_in())),
        }
    }

    /// Makes the directory this engine's, or says whose it is.
    fn claim(&self, data: &Path) -> Result<()> {
        let path = data.join(MARK);
        let found = match std::fs::read_to_string(&path) {
            Ok(found) => Some(found.trim().to_owned()),
            // Made before there was a choice.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                data.join(SQLITE_FILE).exists().then(|| EngineOptions::Sqlite.name().to_owned())
            }
            Err(error) => return Err(Error::io("read", path, error)),
        };
        match found {
            Some(found) if found == self.name() => Ok(()),
            Some(found) => Err(Error::Refused(format!(
                "the metadata of {} is kept by the engine {found:?}, not by {}: set `metadata.engine` to the \
                 former, or choose another data directory",
                data.display(),
                self.name()
            ))),
            None => {
                // Whole or not at all: a name by half would lock everybody out.
                let unfinished = data.join(format!("{MARK}.new"));
                let write = || {
                    let mut file = std::fs::File::create(&unfinished)?;
                    writeln!(file, "{}", self.name())?;
                    file.sync_all()?;
                    std::fs::rename(&unfinished, &path)
                };
                write().map_err(|error| Error::io("write", &path, error))?;
                sync_folder(data)
            }
        }
    }
}

#[cfg(test)]
mod tests;
