// SPDX-License-Identifier: AGPL-3.0-only
//! The way back: a snapshot becomes a data directory that serves at once, with collection off.
//!
//! Blobs come first, each to a new location, then the rows. What the backup lacks is marked as damaged: it
//! is not served, `stella fsck` names it, and the next push of the same bytes heals it.
//! A marker file stands in the directory from the first step to the last, and nothing opens it meanwhile.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::archive::{Archive, Manifest};
use super::dump::DumpReader;
use super::name::SnapshotName;
use super::verify::finished;
use super::{
    BackupItem, COPIES, Listener, Named, Progress, RestoreSummary, Running, blocking, contents, read_schema,
    transfer,
};
use crate::clock::{Clock as _, SystemClock};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{Engine, ReadTx, Row, WriteTx};
use crate::local::{LocalBlobs, Location, create_folder, sync_folder};
use crate::rows;
use crate::store::{BLOBS, SCHEMA, StoreOptions, lock, open_engine};

/// There while a restore into this directory is not finished.
const MARKER: &str = "restoring";
/// What one transaction writes: rows, and bytes of keys and values, but for the last row.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// Refuses a data directory whose restore did not finish.
pub(in crate::store) fn refuse_unfinished(data: &Path) -> Result<()> {
    match fs::symlink_metadata(data.join(MARKER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => Err(Error::Restoring(data.to_owned())),
    }
}

/// Restores a snapshot of the folder `from`, the latest if none is named, into an empty or absent data
/// directory, on the engine that `options` say.
pub async fn restore(
    from: &Path,
    snapshot: Option<&SnapshotName>,
    options: &StoreOptions,
    items: mpsc::Sender<BackupItem>,
) -> Result<RestoreSummary> {
    let running = Running::new(items);
    let (source, metadata) = {
        let (from, snapshot, listener) = (from.to_owned(), snapshot.cloned(), running.0.clone());
        blocking(move || Source::choose(&from, snapshot, &listener)).await?
    };
    let (data, inside) = (options.data.clone(), from.to_owned());
    blocking(move || refuse_inside(&inside, &data)).await?;
    let data = options.data.clone();
    let (blobs, _lock) = blocking(move || begin(&data)).await?;
    let engine = open_engine(options, None).await?;
    if !engine.scan(async |tx: &mut ReadTx| tx.range(b"", None, 1).await).await?.is_empty() {
        return Err(Error::Refused(
            "the database has rows already: restore into an empty database".to_owned(),
        ));
    }
    let (copied, damaged) = restore_blobs(&source, &blobs, &engine, &running.0).await?;
    restore_rows(&source, &engine, &running.0).await?;
    let reason = format!("the data was restored from snapshot {}", source.name);
    let off =
        async move |tx: &mut WriteTx| tx.put(keys::COLLECTION_OFF.to_vec(), reason.clone().into_bytes());
    engine.write(0, off).await?;
    // Closed before the marker goes: what it still has to do is part of the restore.
    let data = options.data.clone();
    blocking(move || {
        drop(engine);
        finish(&data)
    })
    .await?;
    Ok(RestoreSummary {
        snapshot: source.name.to_string(),
        data: options.data.clone(),
        rows: metadata,
        blobs: copied.blobs,
        bytes: copied.bytes,
        damaged,
    })
}

/// The snapshot that is restored.
struct Source {
    archive: Arc<Archive>,
    name: SnapshotName,
    manifest: Manifest,
}

impl Source {
    /// Finds it and reads its metadata once, so that a damaged one is refused before anything is made.
    fn choose(from: &Path, snapshot: Option<SnapshotName>, listener: &Listener) -> Result<(Self, u64)> {
        let archive = Archive::open(from)?;
        let (name, manifest) = match snapshot {
            Some(name) => {
                let manifest = finished(&archive, &name)?;
                (name, manifest)
            }
            None => latest(&archive, from)?,
        };
        let mut dump = archive.dump(&name, &manifest)?;
        let (mut rows, mut schema) = (0, None);
        while let Some((key, value)) = dump.next()? {
            listener.check()?;
            rows += 1;
            if key == keys::SCHEMA_VERSION {
                schema = Some(read_schema(&value)?);
            }
        }
        match schema {
            Some(found) if found > SCHEMA => return Err(Error::NewerSchema { found, supported: SCHEMA }),
            Some(_) => {}
            None => {
                let folder = archive.snapshot(&name);
                return Err(Error::DamagedBackup(format!("{} has no schema version", folder.display())));
            }
        }
        listener.tell_from_job(BackupItem::Metadata { snapshot: name.to_string(), rows })?;
        Ok((Source { archive: archive.into(), name, manifest }, rows))
    }

    /// Opens its metadata, on the blocking pool.
    fn opener(&self) -> impl FnOnce() -> Result<DumpReader> + Send + use<> {
        let (archive, name, manifest) = (Arc::clone(&self.archive), self.name.clone(), self.manifest.clone());
        move || archive.dump(&name, &manifest)
    }
}

fn latest(archive: &Archive, from: &Path) -> Result<(SnapshotName, Manifest)> {
    for name in archive.snapshots()?.into_iter().rev() {
        if let Some(manifest) = archive.manifest(&name)? {
            return Ok((name, manifest));
        }
    }
    Err(Error::NoBackup(format!("{} holds no finished snapshot", from.display())))
}

/// Takes an empty data directory, and marks it.
/// A registry in the folder of its backups would be taken for a stray part of them.
fn refuse_inside(backups: &Path, data: &Path) -> Result<()> {
    let failed = |error| Error::io("find", backups, error);
    let backups = fs::canonicalize(backups).map_err(failed)?;
    let absolute = std::path::absolute(data).map_err(failed)?;
    let present = absolute.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
    if present.is_some_and(|folder| folder.starts_with(&backups)) {
        let (data, backups) = (data.display(), backups.display());
        return Err(Error::Refused(format!("{data} is inside the backups in {backups}: restore elsewhere")));
    }
    Ok(())
}

fn begin(data: &Path) -> Result<(LocalBlobs, File)> {
    create_folder(data)?;
    refuse_unfinished(data)?;
    let failed = |error| Error::io("list", data, error);
    for entry in fs::read_dir(data).map_err(failed)? {
        // What a new file system brings along is no content.
        if entry.map_err(failed)?.file_name() != "lost+found" {
            return Err(Error::Refused(format!(
                "{} is not empty: restore into a new data directory",
                data.display()
            )));
        }
    }
    let marker = data.join(MARKER);
    let file = File::create_new(&marker).map_err(|error| Error::io("create", &marker, error))?;
    file.sync_all().map_err(|error| Error::io("sync", &marker, error))?;
    sync_folder(data)?;
    let lock = lock(data)?;
    Ok((LocalBlobs::open(&data.join(BLOBS))?, lock))
}

fn finish(data: &Path) -> Result<()> {
    let marker = data.join(MARKER);
    // The entries of the engine's files must last at least as long as the marker's removal.
    sync_folder(data)?;
    fs::remove_file(&marker).map_err(|error| Error::io("remove", &marker, error))?;
    sync_folder(data)
}

/// Brings the blobs back, with the rows that say where they lie. Counts those that came, and those that are
/// damaged.
async fn restore_blobs(
    source: &Source,
    blobs: &LocalBlobs,
    engine: &Engine,
    listener: &Listener,
) -> Result<(Progress, u64)> {
    let open = source.opener();
    let mut copies = contents(open)
        .map(|named| {
            let (archive, blobs) = (Arc::clone(&source.archive), blobs.clone());
            let listener = listener.clone();
            blocking(move || copy(named?, &archive, &blobs, &listener))
        })
        .buffer_unordered(COPIES);
    let (mut progress, mut damaged, mut batch) = (Progress::default(), 0, Batch::default());
    while let Some(copied) = copies.next().await {
        let ((sha256, mut content), outcome) = copied?;
        listener.check()?;
        content.damaged = None;
        if let Err(why) = outcome {
            damaged += 1;
            content.damaged = Some(SystemClock.now());
            let digest = Digest::Sha256(sha256);
            listener.tell(BackupItem::DamagedBlob { digest, why }).await?;
        } else if let Some(note) = progress.add(content.size) {
            listener.tell(note).await?;
        }
        batch.add((keys::content(&sha256), rows::encode(&content)?), engine).await?;
    }
    batch.write(engine).await?;
    Ok((progress, damaged))
}

/// Brings all other rows back.
async fn restore_rows(source: &Source, engine: &Engine, listener: &Listener) -> Result<()> {
    let (sender, receiver) = mpsc::channel(64);
    let open = source.opener();
    let reading = blocking(move || {
        let mut dump = open()?;
        while let Some(row) = dump.next()? {
            sender.blocking_send(row).map_err(|_| Error::Abandoned)?;
        }
        Ok(())
    });
    let (read, written) = tokio::join!(reading, write_rows(receiver, engine, listener));
    written.and(read)
}

/// When this ends nobody takes rows any more, so the reader ends too.
async fn write_rows(mut rows: mpsc::Receiver<Row>, engine: &Engine, listener: &Listener) -> Result<()> {
    let mut batch = Batch::default();
    while let Some((key, value)) = rows.recv().await {
        listener.check()?;
        if keys::in_backup(&key) && keys::read_content(&key)?.is_none() {
            batch.add((key, value), engine).await?;
        }
    }
    batch.write(engine).await
}

/// Copies a blob to a new location. The inner error says what is wrong with it.
fn copy(
    (sha256, mut content): Named,
    archive: &Archive,
    blobs: &LocalBlobs,
    listener: &Listener,
) -> Result<(Named, Result<(), String>)> {
    content.location = Location::new();
    let source = archive.blob(&sha256);
    if !matches!(source, Ok(Some(_))) {
        let outcome = transfer(source, &sha256, content.size, listener, |_| Ok(()))?;
        return Ok(((sha256, content), outcome));
    }
    let mut draft = blobs.draft(content.location, 0)?;
    let outcome = transfer(source, &sha256, content.size, listener, |piece| draft.append(&[piece]))?;
    match outcome {
        Ok(()) => draft.sync()?,
        Err(_) => blobs.delete_all(&[content.location])?,
    }
    Ok(((sha256, content), outcome))
}

/// Rows that are written together.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
}

impl Batch {
    async fn add(&mut self, row: Row, engine: &Engine) -> Result<()> {
        self.bytes += row.0.len() + row.1.len();
        self.rows.push(row);
        if self.rows.len() < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.write(engine).await
    }

    async fn write(&mut self, engine: &Engine) -> Result<()> {
        let Batch { rows, bytes } = std::mem::take(self);
        if rows.is_empty() {
            return Ok(());
        }
        let write = async move |tx: &mut WriteTx| {
            rows.iter().try_for_each(|(key, value)| tx.put(key.clone(), value.clone()))
        };
        engine.write(bytes, write).await
    }
}
