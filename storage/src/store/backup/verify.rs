// SPDX-License-Identifier: AGPL-3.0-only
//! Verification: reads every byte of a folder of backups, with no server and no registry at hand.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::mpsc;

use super::archive::{Archive, Manifest};
use super::name::SnapshotName;
use super::{BackupItem, Listener, Progress, Running, VerifySummary, blocking, read_content, transfer};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Checks one snapshot of the folder `from`, or all of them: its metadata, and each blob that it names.
/// Checking all also tells which files no snapshot names. It keeps some 100 bytes a blob in memory.
pub async fn verify(
    from: &Path,
    snapshot: Option<&SnapshotName>,
    items: mpsc::Sender<BackupItem>,
) -> Result<VerifySummary> {
    let running = Running::new(items);
    let (from, snapshot, listener) = (from.to_owned(), snapshot.cloned(), running.0.clone());
    blocking(move || Verification::new(listener).run(&from, snapshot.as_ref())).await
}

/// The manifest of a snapshot that is to be used.
pub(super) fn finished(archive: &Archive, name: &SnapshotName) -> Result<Manifest> {
    let folder = archive.snapshot(name);
    match archive.manifest(name)? {
        Some(manifest) => Ok(manifest),
        None if folder.is_dir() => {
            Err(Error::NoBackup(format!("{} was never finished and cannot be used", folder.display())))
        }
        None => Err(Error::NoBackup(format!("{} does not exist", folder.display()))),
    }
}

struct Verification {
    listener: Listener,
    /// The blobs that snapshots name, and their sizes.
    named: BTreeMap<[u8; 32], u64>,
    summary: VerifySummary,
}

impl Verification {
    fn new(listener: Listener) -> Self {
        Verification { listener, named: BTreeMap::new(), summary: VerifySummary::default() }
    }

    fn run(mut self, from: &Path, snapshot: Option<&SnapshotName>) -> Result<VerifySummary> {
        let archive = Archive::open(from)?;
        if let Some(name) = snapshot {
            match finished(&archive, name) {
                // Damage is told as a fault of the snapshot.
                Ok(_) | Err(Error::DamagedBackup(_)) => self.snapshot(&archive, name)?,
                Err(error) => return Err(error),
            }
        } else {
            archive.snapshots()?.iter().try_for_each(|name| self.snapshot(&archive, name))?;
            if self.summary.snapshots + self.summary.damaged_snapshots == 0 {
                return Err(Error::NoBackup(format!("{} holds no finished snapshot", from.display())));
            }
        }
        self.blobs(&archive)?;
        // Who was not read may name anything.
        if snapshot.is_none() && self.summary.damaged_snapshots == 0 {
            for path in archive.strays(|sha256| self.named.contains_key(sha256))? {
                self.summary.strays += 1;
                self.listener.tell_from_job(BackupItem::Stray { path })?;
            }
        }
        Ok(self.summary)
    }

    fn snapshot(&mut self, archive: &Archive, name: &SnapshotName) -> Result<()> {
        let snapshot = name.to_string();
        let item = match self.metadata(archive, name) {
            Ok(None) => {
                self.summary.unfinished += 1;
                BackupItem::Unfinished { snapshot }
            }
            Ok(Some(rows)) => {
                self.summary.snapshots += 1;
                BackupItem::Metadata { snapshot, rows }
            }
            Err(Error::Abandoned) => return Err(Error::Abandoned),
            Err(error) => {
                self.summary.damaged_snapshots += 1;
                BackupItem::DamagedSnapshot { snapshot, why: error.to_string() }
            }
        };
        self.listener.tell_from_job(item)
    }

    /// Reads a snapshot's metadata to its end; gives how many rows it has.
    fn metadata(&mut self, archive: &Archive, name: &SnapshotName) -> Result<Option<u64>> {
        let Some(manifest) = archive.manifest(name)? else { return Ok(None) };
        let mut dump = archive.dump(name, &manifest)?;
        let (mut rows, mut named) = (0, Vec::new());
        while let Some((key, value)) = dump.next()? {
            self.listener.check()?;
            rows += 1;
            named.extend(read_content(&key, &value)?.map(|(sha256, content)| (sha256, content.size)));
        }
        self.named.extend(named);
        Ok(Some(rows))
    }

    fn blobs(&mut self, archive: &Archive) -> Result<()> {
        let mut progress = Progress::default();
        for (sha256, &size) in &self.named {
            self.summary.blobs += 1;
            match transfer(archive.blob(sha256), sha256, size, &self.listener, |_| Ok(()))? {
                Ok(()) => self.summary.bytes += size,
                Err(why) => {
                    self.summary.damaged += 1;
                    let digest = Digest::Sha256(*sha256);
                    self.listener.tell_from_job(BackupItem::DamagedBlob { digest, why })?;
                }
            }
            if let Some(note) = progress.add(size) {
                self.listener.tell_from_job(note)?;
            }
        }
        Ok(())
    }
}
