// SPDX-License-Identifier: AGPL-3.0-only
//! Data that an older version of this program wrote: what is changed in it, and who may do that.
//!
//! The version of the data is a number, `SCHEMA`; it rises when an older program could misread what is
//! written. Each step below brings the data from one version to the next. It says in a sentence what it
//! does, and that is logged before it begins. A step writes pages of rows and its version with the last
//! one, so that one which was interrupted begins again. Invariant: without [`Upgrade::Auto`] nothing of an
//! older version is changed.

use serde::{Deserialize, Serialize};

use super::{SCHEMA, repositories};
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{Engine, WriteTx};

/// What happens with data of an older version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upgrade {
    /// It is upgraded when it is opened, and the log says what changes.
    #[default]
    Auto,
    /// It is left as it is, and not opened: [`Error::OlderSchema`].
    Wait,
}

/// The steps, one for each version but the first: what it changes, as the end of a sentence.
pub(super) const STEPS: [(u32, &str); 1] =
    [(2, "adds a row for each repository, by which its name is found from its number")];

/// Brings data to the present version, or makes sure that it is of that version.
pub(super) async fn bring_up(engine: &Engine, upgrade: Upgrade) -> Result<()> {
    let found = engine.write(0, check_schema).await?;
    let steps: Vec<_> = STEPS.into_iter().filter(|&(version, _)| version > found).collect();
    if steps.is_empty() {
        return Ok(());
    }
    if upgrade == Upgrade::Wait {
        let changes = steps.into_iter().map(|(_, change)| change.to_owned()).collect();
        return Err(Error::OlderSchema { found, current: SCHEMA, changes });
    }
    for (version, change) in steps {
        tracing::warn!(
            from = version - 1,
            to = version,
            change,
            "upgrading the data; older programs will refuse it"
        );
        step(engine, version).await?;
    }
    tracing::info!(version = SCHEMA, "the data is upgraded");
    Ok(())
}

/// The version of the stored data, which becomes the present one if there is none yet.
pub(super) async fn check_schema(tx: &mut WriteTx) -> Result<u32> {
    match tx.get(keys::SCHEMA_VERSION).await? {
        None => {
            tx.put(keys::SCHEMA_VERSION.to_vec(), SCHEMA.to_be_bytes().to_vec())?;
            Ok(SCHEMA)
        }
        Some(bytes) => {
            let found = bytes.try_into().map(u32::from_be_bytes).map_err(|_| {
                Error::Corrupt(
                    "the schema version cannot be read: restore the metadata from a backup".to_owned(),
                )
            })?;
            if found > SCHEMA { Err(Error::NewerSchema { found, supported: SCHEMA }) } else { Ok(found) }
        }
    }
}

/// Brings the data from the version before `version` to it. There is one step so far: names by id.
async fn step(engine: &Engine, version: u32) -> Result<()> {
    let mut after = None;
    loop {
        let from: Option<Vec<u8>> = after.take();
        let page = engine.write(0, async move |tx: &mut WriteTx| {
            let next = repositories::index_names(tx, from.as_deref()).await?;
            if next.is_none() {
                tx.put(keys::SCHEMA_VERSION.to_vec(), version.to_be_bytes().to_vec())?;
            }
            Ok(next)
        });
        after = page.await?;
        if after.is_none() {
            return Ok(());
        }
    }
}
