// SPDX-License-Identifier: AGPL-3.0-only
//! What can go wrong that is no verdict: a verdict is a value, an error is not.

use std::path::PathBuf;

use thiserror::Error;

/// Why nothing could be judged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A document, key or root that cannot be used: `FILE:LINE:COLUMN: field: why`, one line for each fault.
    #[error("{0}")]
    Load(String),
    /// A file could not be read or written.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The password of a private key is wrong, or is needed.
    #[error("{0}")]
    Password(String),
    /// A key that cannot be used for what it should do.
    #[error("{0}")]
    Key(String),
    /// Evidence or content that is not of its form, or not of its digest.
    #[error("{0}")]
    Malformed(String),
    /// More than is looked at.
    #[error("{0}")]
    OverLimit(String),
    /// No such artifact.
    #[error("{0}")]
    NotFound(String),
    /// The place that artifacts come from failed; the text is the source's own.
    #[error("{0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
