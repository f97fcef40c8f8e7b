// SPDX-License-Identifier: AGPL-3.0-only
//! The folder that holds backups: where things lie in it, and how they get there durably.
//!
//! ```text
//! blobs/ab/<sha256>              shared by all snapshots; a file is complete once it is there
//! snapshots/<name>/metadata.dump
//! snapshots/<name>/manifest.json comes last: a snapshot without it is unfinished
//! tmp/                           what is being written; emptied by the next backup
//! lock                           held while a backup is written
//! ```
//!
//! Paths are made of digests and checked names only, never of text from a dump, and nothing but
//! regular files is read, so a folder that somebody prepared leads nowhere else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::dump::{DumpReader, Seal};
use super::files::{failed, open_file};
use super::name::SnapshotName;
use crate::digest::Digest;
use crate::disk::{DiskFile, believe_sync, sync_file};
use crate::error::{Error, Result};
use crate::local::{Inspection, Location, create_folder};

const VERSION: u32 = 1;
const BLOBS: &str = "blobs";
const SNAPSHOTS: &str = "snapshots";
const TEMPORARY: &str = "tmp";
const LOCK: &str = "lock";
const DUMP: &str = "metadata.dump";
const MANIFEST: &str = "manifest.json";
/// A manifest has a few hundred bytes, and some more for each damaged blob that it names.
const MAX_MANIFEST: u64 = 1 << 20;

/// What a snapshot's `manifest.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The version of this layout.
    pub(super) version: u32,
    /// When the snapshot was taken.
    pub(super) created: String,
    /// The schema version of the metadata.
    pub(super) schema: u32,
    /// Blobs that the metadata names.
    pub(super) blobs: u64,
    /// Bytes of those blobs.
    pub(super) blob_bytes: u64,
    /// The file of metadata.
    pub(super) metadata: Seal,
    /// How many blobs are missing, because they were damaged when the backup was made.
    pub(super) damaged: u64,
    /// Some of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) damaged_blobs: Vec<Digest>,
}

/// What every version of a manifest says.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// How many damaged blobs are named.
    pub(super) const NAMED: usize = 1_000;

    pub(super) fn version() -> u32 {
        VERSION
    }
}

/// A folder of backups.
pub(super) struct Archive {
    root: PathBuf,
    // Held while this is a backup's.
    lock: Option<File>,
}

impl Archive {
    /// Opens the folder to read it.
    pub(super) fn open(root: &Path) -> Result<Self> {
        match fs::metadata(root.join(SNAPSHOTS)) {
            Ok(found) if found.is_dir() => Ok(Archive { root: root.to_owned(), lock: None }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(failed("open", root, error)),
            _ => Err(Error::NoBackup(format!("{} holds no backups", root.display()))),
        }
    }

    /// Opens the folder to add a backup; makes it when absent.
    pub(super) fn prepare(root: &Path) -> Result<Self> {
        let made = !root.exists();
        for folder in [root.to_owned(), root.join(BLOBS), root.join(SNAPSHOTS), root.join(TEMPORARY)] {
            create_folder(&folder).map_err(|error| match error {
                Error::Full => failed("create", &folder, ErrorKind::StorageFull.into()),
                other => other,
            })?;
        }
        if made {
            // It holds every image, whoever may read which in the registry.
            fs::set_permissions(root, fs::Permissions::from_mode(0o700))
                .map_err(|error| failed("close to others", root, error))?;
        }
        let path = root.join(LOCK);
        let mut options = OpenOptions::new();
        let lock = options.read(true).write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|error| failed("open", &path, error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Busy(format!("another backup into {} is running", root.display())));
            }
            Err(error) => return Err(failed("lock", &path, error.into())),
        }
        let archive = Archive { root: root.to_owned(), lock: Some(lock) };
        // What a backup left that was killed.
        archive.clear()?;
        for part in 0..=u8::MAX {
            let folder = archive.part(part);
            fs::create_dir_all(&folder).map_err(|error| failed("create", &folder, error))?;
        }
        sync_folder(&archive.root.join(BLOBS))?;
        Ok(archive)
    }

    fn clear(&self) -> Result<()> {
        list(&self.root.join(TEMPORARY))?.iter().try_for_each(|entry| remove(entry))
    }

    /// A path that nobody uses, for something that is being written.
    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join(TEMPORARY).join(Location::new().to_string())
    }

    fn part(&self, part: u8) -> PathBuf {
        self.root.join(BLOBS).join(format!("{part:02x}"))
    }

    pub(super) fn blob_path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.part(sha256[0]).join(hex::encode(sha256))
    }

    /// Whether a blob is there in its full size. Whether it is whole is for verification to say.
    pub(super) fn has_blob(&self, sha256: &[u8; 32], size: u64) -> Result<bool> {
        let path = self.blob_path(sha256);
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == size),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look at", &path, error)),
        }
    }

    /// The bytes of a blob; `None` if it is not there.
    pub(super) fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Inspection>> {
        let path = self.blob_path(sha256);
        match open_file(&path) {
            Ok(file) => Ok(Some(Inspection::of(DiskFile::Real(file), path))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path, error)),
        }
    }

    /// Begins to write a blob.
    pub(super) fn new_blob(&self) -> Result<NewBlob> {
        let path = self.temporary();
        let file = File::create_new(&path).map_err(|error| failed("create", &path, error))?;
        Ok(NewBlob { file, path: Some(path) })
    }

    /// Makes a blob visible that is complete. Its entry is durable after [`Archive::sync_blobs`].
    pub(super) fn add_blob(&self, mut new: NewBlob, sha256: &[u8; 32]) -> Result<()> {
        let path = self.blob_path(sha256);
        sync_file(&new.file).map_err(|error| failed("sync", &path, error))?;
        if let Some(written) = new.path.take() {
            fs::rename(&written, &path).map_err(|error| failed("write", &path, error))?;
        }
        Ok(())
    }

    /// Makes the entries of these parts durable, also those that an earlier backup made and did not sync.
    pub(super) fn sync_blobs(&self, parts: impl IntoIterator<Item = u8>) -> Result<()> {
        parts.into_iter().try_for_each(|part| sync_folder(&self.part(part)))
    }

    /// The path of a snapshot's metadata.
    fn dump_path(&self, name: &SnapshotName) -> PathBuf {
        self.snapshot(name).join(DUMP)
    }

    pub(super) fn snapshot(&self, name: &SnapshotName) -> PathBuf {
        self.root.join(SNAPSHOTS).join(name.as_str())
    }

    /// Makes a finished snapshot of the dump that lies at `dump`: all of it, or nothing.
    pub(super) fn publish(&self, name: &SnapshotName, dump: &Path, manifest: &Manifest) -> Result<()> {
        let folder = self.snapshot(name);
        fs::create_dir(&folder).map_err(|error| failed("create", &folder, error))?;
        let published = self.fill(name, dump, manifest);
        if published.is_err() {
            // Without its manifest nobody takes it for a snapshot, so it may also stay.
            let _left = fs::remove_dir_all(&folder);
        }
        published
    }

    fn fill(&self, name: &SnapshotName, dump: &Path, manifest: &Manifest) -> Result<()> {
        let (folder, written) = (self.snapshot(name), self.temporary());
        let to = self.dump_path(name);
        fs::rename(dump, &to).map_err(|error| failed("write", &to, error))?;
        let text = serde_json::to_string_pretty(manifest).map_err(|error| {
            Error::Corrupt(format!("the manifest of a backup cannot be written: {error}"))
        })?;
        let write = || {
            let mut file = File::create_new(&written)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            sync_file(&file)?;
            Ok(file)
        };
        let manifest = write().map_err(|error| failed("write", &written, error))?;
        sync_folder(&folder)?;
        sync_folder(&self.root.join(SNAPSHOTS))?;
        // From here on it is a snapshot.
        let to = folder.join(MANIFEST);
        fs::rename(&written, &to).map_err(|error| failed("write", &to, error))?;
        sync_folder(&folder)?;
        believe_sync(&manifest).map_err(|error| failed("write", &to, error))
    }

    /// The manifest of a snapshot; `None` when the snapshot is unfinished.
    pub(super) fn manifest(&self, name: &SnapshotName) -> Result<Option<Manifest>> {
        let path = self.snapshot(name).join(MANIFEST);
        let damaged = |why: &str| Error::DamagedBackup(format!("{} {why}", path.display()));
        let file = match open_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| failed("open", &path, error))?,
        };
        let mut text = Vec::new();
        let read = file.take(MAX_MANIFEST + 1).read_to_end(&mut text);
        read.map_err(|error| failed("read", &path, error))?;
        if text.len() as u64 > MAX_MANIFEST {
            return Err(damaged("is larger than any manifest"));
        }
        let unreadable = |error: serde_json::Error| damaged(&format!("cannot be read: {error}"));
        // First of all: another version may have other fields.
        let Versioned { version } = serde_json::from_slice(&text).map_err(unreadable)?;
        if version > VERSION {
            return Err(Error::Refused(format!(
                "{} has version {version}, this program knows {VERSION}: use the newer program that wrote it",
                path.display()
            )));
        }
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }

    /// Opens a snapshot's metadata.
    pub(super) fn dump(&self, name: &SnapshotName, manifest: &Manifest) -> Result<DumpReader> {
        DumpReader::open(&self.dump_path(name), &manifest.metadata)
    }

    /// The snapshots, finished or not, oldest first.
    pub(super) fn snapshots(&self) -> Result<Vec<SnapshotName>> {
        let names = list(&self.root.join(SNAPSHOTS))?;
        let names = names.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        let mut names: Vec<SnapshotName> = names.collect();
        names.sort();
        Ok(names)
    }

    /// What lies here and is neither a snapshot nor one of the blobs for which `named` is true.
    pub(super) fn strays(&self, named: impl Fn(&[u8; 32]) -> bool) -> Result<Vec<PathBuf>> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut strays = Vec::new();
        for path in list(&self.root)? {
            if ![BLOBS, SNAPSHOTS, TEMPORARY, LOCK].contains(&name(&path).as_str()) {
                strays.push(path);
            }
        }
        for path in list(&self.root.join(SNAPSHOTS))? {
            let Ok(snapshot) = name(&path).parse::<SnapshotName>() else {
                strays.push(path);
                continue;
            };
            let inside = list(&self.snapshot(&snapshot))?;
            strays.extend(inside.into_iter().filter(|path| ![DUMP, MANIFEST].contains(&name(path).as_str())));
        }
        for folder in list(&self.root.join(BLOBS))? {
            let part = (0..=u8::MAX).find(|part| self.part(*part) == folder);
            if part.is_none() || !folder.is_dir() {
                strays.push(folder);
                continue;
            }
            for path in list(&folder)? {
                let mut sha256 = [0; 32];
                let ours = hex::decode_to_slice(name(&path), &mut sha256).is_ok()
                    && self.blob_path(&sha256) == path
                    && named(&sha256);
                if !ours {
                    strays.push(path);
                }
            }
        }
        Ok(strays)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What stays is removed by the next backup.
            let _left = self.clear();
        }
    }
}

/// A blob that is being written; its file goes when this is dropped.
pub(super) struct NewBlob {
    file: File,
    path: Option<PathBuf>,
}

impl NewBlob {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path.as_deref().unwrap_or(Path::new("a blob"));
        self.file.write_all(bytes).map_err(|error| failed("write", path, error))
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays is removed by the next backup.
            let _left = fs::remove_file(path);
        }
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("sync", folder, error))
}

/// The paths of what lies in a folder, in order.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    match list() {
        Ok(mut paths) => {
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("list", folder, error)),
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|error| failed("remove", path, error))
}
