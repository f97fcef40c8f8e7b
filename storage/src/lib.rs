// SPDX-License-Identifier: AGPL-3.0-only
//! What Stella Registry keeps: blobs, manifests, tags, upload sessions and what clients prove themselves
//! with. No HTTP.
//!
//! [`Store`] is what the registry calls. Below it, metadata lives in an ordered key-value
//! [engine](kv) under the keys of `keys.rs` and the rows of `rows.rs`; blob bytes live in files of
//! their own (`local.rs`). What always holds:
//!
//! 1. When an operation that changes something returns `Ok`, the change survives `kill -9` and a
//!    power cut.
//! 2. Every object on disk is named by exactly one upload, content or garbage row; the row is
//!    written before the object and removed after it.
//! 3. A content row means bytes that are complete, verified and durable. A link implies content.
//! 4. A location is used once, for ever.
//! 5. Only the holder of an upload's current epoch advances it.
//! 6. Everything that nothing protects has a review row, so collection need not search.

mod budget;
mod cache;
mod clock;
mod digest;
mod disk;
mod error;
mod histogram;
mod keys;
pub mod kv;
mod local;
pub mod manifest;
mod name;
mod pattern;
mod rows;
mod store;

pub use budget::{Budget, Share, Taken};
pub use cache::CacheStats;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use digest::{Algorithm, Digest, DigestError};
pub use error::{DataFault, Error, Result, What};
pub use histogram::{Distribution, Histogram};
pub use kv::Commit;
pub use local::{BlobReader, FilePart, Location};
pub use manifest::Manifest;
pub use name::{Reference, RepoName, Tag};
pub use pattern::{RepoPattern, TextPattern};
pub use store::*;
