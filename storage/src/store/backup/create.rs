// SPDX-License-Identifier: AGPL-3.0-only
//! Making a backup: a hold, a dump from one snapshot, the blobs that it names, and last the manifest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::archive::{Archive, Manifest};
use super::dump::{DumpReader, DumpWriter};
use super::name::SnapshotName;
use super::{
    BackupItem, BackupSummary, COPIES, Listener, Named, Progress, Running, blocking, contents, read_content,
    read_schema, transfer,
};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys;
use crate::local::LocalBlobs;
use crate::store::Store;

impl Store {
    /// Copies everything into the folder `to`, as it is at one moment, while everything goes on. What
    /// the folder has already is not copied again. A damaged blob is named and left out.
    pub async fn backup(&self, to: &Path, items: mpsc::Sender<BackupItem>) -> Result<BackupSummary> {
        let running = Running::new(items);
        let listener = &running.0;
        // Before the snapshot: from here on nothing vanishes that it may name.
        let now = self.now();
        let _hold = self.holds.take(now);
        let (root, lock) = (to.to_owned(), self.room.file().map(Path::to_owned));
        let beginning = {
            let listener = listener.clone();
            move || {
                if let Some(data) = lock.as_deref().and_then(Path::parent) {
                    refuse_inside(&root, data)?;
                }
                let archive = Archive::prepare(&root)?;
                let dump = Dump::begin(archive.temporary(), listener)?;
                Ok((Arc::new(archive), dump))
            }
        };
        let (archive, dump) = blocking(beginning).await?;
        let Dump { out, path, schema, blobs, bytes, .. } = self.engine.dump(dump, Dump::row).await?;
        let Some(schema) = schema else {
            return Err(Error::Corrupt("the metadata has no schema version".to_owned()));
        };
        let metadata = blocking(move || out.finish()).await?;
        let name = free_name(&archive, now);
        let (snapshot, rows) = (name.to_string(), metadata.rows);
        listener.tell(BackupItem::Metadata { snapshot: snapshot.clone(), rows }).await?;

        let named = {
            let (path, metadata) = (path.clone(), metadata.clone());
            contents(move || DumpReader::open(&path, &metadata))
        };
        let Copied { new, damaged, damaged_blobs, parts } =
            copy_all(named, &archive, &self.blobs, listener).await?;
        let manifest = Manifest {
            version: Manifest::version(),
            created: now.rfc3339(),
            schema,
            blobs,
            blob_bytes: bytes,
            metadata,
            damaged,
            damaged_blobs,
        };
        let publishing = move || {
            archive.sync_blobs(parts)?;
            archive.publish(&name, &path, &manifest)
        };
        blocking(publishing).await?;
        let (copied, copied_bytes) = (new.blobs, new.bytes);
        Ok(BackupSummary { snapshot, rows, blobs, bytes, copied, copied_bytes, damaged })
    }
}

/// A backup inside the data directory would go with it.
fn refuse_inside(root: &Path, data: &Path) -> Result<()> {
    let Ok(data) = fs::canonicalize(data) else { return Ok(()) };
    // What is not there yet lies where the first folder above it lies that is.
    let there = root.ancestors().find_map(|folder| match folder {
        folder if folder.as_os_str().is_empty() => fs::canonicalize(".").ok(),
        folder => fs::canonicalize(folder).ok(),
    });
    if there.is_some_and(|there| there.starts_with(&data)) {
        return Err(Error::Refused(format!(
            "{} lies inside the data directory and would be lost with it: choose another folder",
            root.display()
        )));
    }
    Ok(())
}

/// The name for a snapshot of this moment; another one may have been made in the same millisecond.
fn free_name(archive: &Archive, now: Timestamp) -> SnapshotName {
    let mut at = now;
    loop {
        let name = SnapshotName::of(at);
        if fs::symlink_metadata(archive.snapshot(&name)).is_err() {
            return name;
        }
        at = Timestamp(at.0 + 1);
    }
}

/// The dump while the engine shows its rows.
struct Dump {
    out: DumpWriter,
    path: PathBuf,
    listener: Listener,
    schema: Option<u32>,
    blobs: u64,
    bytes: u64,
}

impl Dump {
    fn begin(path: PathBuf, listener: Listener) -> Result<Self> {
        let out = DumpWriter::create(path.clone())?;
        Ok(Dump { out, path, listener, schema: None, blobs: 0, bytes: 0 })
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.listener.check()?;
        if !keys::in_backup(key) {
            return Ok(());
        }
        if key == keys::SCHEMA_VERSION {
            self.schema = Some(read_schema(value)?);
        }
        if let Some((_, content)) = read_content(key, value)? {
            self.blobs += 1;
            self.bytes = self.bytes.saturating_add(content.size);
        }
        self.out.row(key, value)
    }
}

/// What became of the blobs.
#[derive(Default)]
struct Copied {
    new: Count,
    damaged: u64,
    damaged_blobs: Vec<Digest>,
    /// Which folders of the archive hold blobs of this snapshot.
    parts: BTreeSet<u8>,
}

#[derive(Default)]
struct Count {
    blobs: u64,
    bytes: u64,
}

enum Fate {
    There,
    Copied,
    Damaged(String),
}

async fn copy_all(
    named: impl Stream<Item = Result<Named>> + Unpin,
    archive: &Arc<Archive>,
    blobs: &LocalBlobs,
    listener: &Listener,
) -> Result<Copied> {
    let mut copied = Copied::default();
    let mut progress = Progress::default();
    let mut fates = named
        .map(|named| {
            let (archive, blobs, listener) = (Arc::clone(archive), blobs.clone(), listener.clone());
            blocking(move || {
                let named = named?;
                let fate = copy(&named, &archive, &blobs, &listener)?;
                Ok((named, fate))
            })
        })
        .buffer_unordered(COPIES);
    while let Some(done) = fates.next().await {
        let ((sha256, content), fate) = done?;
        listener.check()?;
        copied.parts.insert(sha256[0]);
        match fate {
            Fate::There => {}
            Fate::Copied => {
                copied.new.blobs += 1;
                copied.new.bytes += content.size;
            }
            Fate::Damaged(why) => {
                let digest = Digest::Sha256(sha256);
                copied.damaged += 1;
                if copied.damaged_blobs.len() < Manifest::NAMED {
                    copied.damaged_blobs.push(digest.clone());
                }
                listener.tell(BackupItem::DamagedBlob { digest, why }).await?;
            }
        }
        if let Some(note) = progress.add(content.size) {
            listener.tell(note).await?;
        }
    }
    Ok(copied)
}

fn copy(
    (sha256, content): &Named,
    archive: &Archive,
    blobs: &LocalBlobs,
    listener: &Listener,
) -> Result<Fate> {
    listener.check()?;
    if archive.has_blob(sha256, content.size)? {
        return Ok(Fate::There);
    }
    let mut new = archive.new_blob()?;
    let source = blobs.inspect(content.location);
    if let Err(why) = transfer(source, sha256, content.size, listener, |piece| new.write(piece))? {
        return Ok(Fate::Damaged(why));
    }
    archive.add_blob(new, sha256)?;
    Ok(Fate::Copied)
}
