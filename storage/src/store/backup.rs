// SPDX-License-Identifier: AGPL-3.0-only
//! Backups: a consistent copy of everything in a folder of its own, its verification, and the way back.
//!
//! A backup (`create.rs`) runs beside pushes and collection. It dumps all metadata from one snapshot
//! (`dump.rs`), then copies the blobs that the dump names and the folder lacks (`archive.rs`); a hold
//! keeps collection from deleting them meanwhile. So one folder keeps many snapshots, and each blob
//! once. Restoring (`restore.rs`) fills an empty data directory, on whatever engine. Every byte is
//! hashed on its way in either direction; a blob that is damaged is named and left out, and the rest
//! goes on: whoever needs a backup needs all of it that there is.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys;
use crate::local::Inspection;
use crate::rows;

mod archive;
mod create;
mod dump;
mod files;
mod name;
mod restore;
mod verify;

pub use name::SnapshotName;
pub use restore::restore;
pub use verify::verify;

pub(super) use restore::refuse_unfinished;

use dump::DumpReader;

/// Blobs that are copied at once.
const COPIES: usize = 4;
/// What is read, hashed and written at once.
const PIECE: usize = 256 << 10;
/// So many blobs, or bytes, lie between two notes of progress.
const NOTE_BLOBS: u64 = 1_000;
const NOTE_BYTES: u64 = 1 << 30;

/// Something that a backup, its verification or a restore tells on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "kebab-case")]
pub enum BackupItem {
    /// The metadata has been read or written.
    Metadata {
        /// The snapshot.
        snapshot: String,
        /// Its rows.
        rows: u64,
    },
    /// How far it has come.
    Progress {
        /// Blobs done.
        blobs: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A blob is damaged or missing, and the snapshot is incomplete without it.
    DamagedBlob {
        /// The blob's digest.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A snapshot cannot be restored.
    DamagedSnapshot {
        /// The snapshot.
        snapshot: String,
        /// What is wrong.
        why: String,
    },
    /// A snapshot that was never finished; it is ignored.
    Unfinished {
        /// The snapshot.
        snapshot: String,
    },
    /// A file that no snapshot names.
    Stray {
        /// Where it lies.
        path: PathBuf,
    },
}

impl fmt::Display for BackupItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupItem::Metadata { snapshot, rows } => {
                write!(f, "snapshot {snapshot}: {rows} rows of metadata")
            }
            BackupItem::Progress { blobs, bytes } => write!(f, "{blobs} blobs done, {bytes} bytes"),
            BackupItem::DamagedBlob { digest, why } => write!(f, "damaged: blob {digest}: {why}"),
            BackupItem::DamagedSnapshot { snapshot, why } => write!(f, "damaged: snapshot {snapshot}: {why}"),
            BackupItem::Unfinished { snapshot } => {
                write!(f, "ignored: snapshot {snapshot} was never finished, and may be removed")
            }
            BackupItem::Stray { path } => {
                write!(f, "ignored: {} is no part of a finished snapshot", path.display())
            }
        }
    }
}

/// What a backup copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// The new snapshot.
    pub snapshot: String,
    /// Rows of metadata.
    pub rows: u64,
    /// Blobs that the snapshot names.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were not there yet.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Blobs that are damaged in the registry, and missing from the snapshot.
    pub damaged: u64,
}

impl fmt::Display for BackupSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupSummary { snapshot, rows, blobs, bytes, copied, copied_bytes, damaged } = self;
        write!(
            f,
            "snapshot {snapshot}: {rows} rows of metadata, {blobs} blobs of {bytes} bytes; \
             {copied} of them, {copied_bytes} bytes, were new"
        )?;
        if *damaged > 0 {
            write!(f, "; {damaged} blobs are damaged in the registry and MISSING from the snapshot")?;
        }
        Ok(())
    }
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Finished snapshots.
    pub snapshots: u64,
    /// Blobs that they name.
    pub blobs: u64,
    /// Bytes that were read of those.
    pub bytes: u64,
    /// Snapshots that cannot be restored.
    pub damaged_snapshots: u64,
    /// Blobs that are damaged or missing.
    pub damaged: u64,
    /// Snapshots that were never finished; they are ignored.
    pub unfinished: u64,
    /// Files that no snapshot names.
    pub strays: u64,
}

impl fmt::Display for VerifySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VerifySummary { snapshots, blobs, bytes, damaged_snapshots, damaged, .. } = self;
        write!(f, "{snapshots} snapshots, {blobs} blobs, {bytes} bytes: ")?;
        if *damaged_snapshots == 0 && *damaged == 0 {
            f.write_str("all is well")
        } else {
            write!(f, "{damaged_snapshots} snapshots and {damaged} blobs are DAMAGED")
        }
    }
}

/// What a restore brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSummary {
    /// The snapshot.
    pub snapshot: String,
    /// The new data directory.
    pub data: PathBuf,
    /// Rows of metadata.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that the snapshot names and the backup has not, or not whole: they are known to be damaged
    /// until they are pushed again.
    pub damaged: u64,
}

impl fmt::Display for RestoreSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RestoreSummary { snapshot, data, rows, blobs, bytes, damaged } = self;
        write!(
            f,
            "snapshot {snapshot} is restored into {}: {rows} rows of metadata, {blobs} blobs of {bytes} bytes",
            data.display()
        )?;
        if *damaged > 0 {
            write!(f, "; {damaged} blobs are damaged in the backup and MISSING until they are pushed again")?;
        }
        f.write_str("; collection is off until `stella gc --resume`")
    }
}

/// Where items go. Also what every job of an operation asks whether it should go on.
#[derive(Clone)]
struct Listener {
    items: mpsc::Sender<BackupItem>,
    over: Arc<AtomicBool>,
}

impl Listener {
    async fn tell(&self, item: BackupItem) -> Result<()> {
        self.items.send(item).await.map_err(|_| Error::Abandoned)
    }

    /// As [`Listener::tell`], on the blocking pool.
    fn tell_from_job(&self, item: BackupItem) -> Result<()> {
        self.items.blocking_send(item).map_err(|_| Error::Abandoned)
    }

    fn check(&self) -> Result<()> {
        if self.items.is_closed() || self.over.load(Ordering::Relaxed) {
            Err(Error::Abandoned)
        } else {
            Ok(())
        }
    }
}

/// An operation that runs: when it ends, in whatever way, so do its jobs on the blocking pool.
struct Running(Listener);

impl Running {
    fn new(items: mpsc::Sender<BackupItem>) -> Self {
        Running(Listener { items, over: Arc::default() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Counts what was done, and says now and then how much that is.
#[derive(Default)]
struct Progress {
    blobs: u64,
    bytes: u64,
    told: (u64, u64),
}

impl Progress {
    fn add(&mut self, size: u64) -> Option<BackupItem> {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.blobs - self.told.0 < NOTE_BLOBS && self.bytes - self.told.1 < NOTE_BYTES {
            return None;
        }
        self.told = (self.blobs, self.bytes);
        Some(BackupItem::Progress { blobs: self.blobs, bytes: self.bytes })
    }
}

/// Reads a blob, and passes it on to `sink`. The inner error says what is wrong with the blob: it cannot
/// be read, or is not what it should be. The outer one is the sink's. Blocks.
fn transfer(
    source: Result<Option<Inspection>>,
    sha256: &[u8; 32],
    size: u64,
    listener: &Listener,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Result<(), String>> {
    let mut source = match source {
        Ok(Some(source)) => source,
        Ok(None) => return Ok(Err("its file is gone".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (mut hash, mut read, mut buffer) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        listener.check()?;
        let piece = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(filled) => &buffer[..filled],
            Err(error) => return Ok(Err(error.to_string())),
        };
        read += piece.len() as u64;
        if read > size {
            return Ok(Err(format!("it has more than its {size} bytes")));
        }
        hash.update(piece);
        sink(piece)?;
    }
    if read < size {
        return Ok(Err(format!("it has {read} of its {size} bytes")));
    }
    let found: [u8; 32] = hash.finalize().into();
    Ok(if found == *sha256 {
        Ok(())
    } else {
        Err(format!("its bytes have the digest {}", Digest::Sha256(found)))
    })
}

/// A blob that a dump names.
type Named = ([u8; 32], rows::Content);

/// The next blob of a dump, whose other rows are passed over.
fn next_content(dump: &mut DumpReader) -> Result<Option<Named>> {
    while let Some((key, value)) = dump.next()? {
        if let Some(named) = read_content(&key, &value)? {
            return Ok(Some(named));
        }
    }
    Ok(None)
}

fn read_content(key: &[u8], value: &[u8]) -> Result<Option<Named>> {
    Ok(match keys::read_content(key)? {
        None => None,
        Some(sha256) => Some((sha256, rows::decode(value)?)),
    })
}

fn read_schema(value: &[u8]) -> Result<u32> {
    let version = value.try_into().map(u32::from_be_bytes);
    version.map_err(|_| Error::Corrupt("the schema version cannot be read".to_owned()))
}

/// All blobs of a dump, read by a job of its own as fast as they are taken.
fn contents(
    open: impl FnOnce() -> Result<DumpReader> + Send + 'static,
) -> impl Stream<Item = Result<Named>> + Unpin {
    let (sender, mut receiver) = mpsc::channel(64);
    // It ends with the dump, or when nobody takes any more.
    tokio::task::spawn_blocking(move || {
        let read = || {
            let mut dump = open()?;
            while let Some(next) = next_content(&mut dump)? {
                if sender.blocking_send(Ok(next)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            let _gone = sender.blocking_send(Err(error));
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// Runs a job on the blocking pool.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(job).await;
    ended.map_err(|error| Error::Unavailable(format!("a job of a backup ended abnormally: {error}")))?
}
