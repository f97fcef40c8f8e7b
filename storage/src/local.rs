// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs on a local disk: where bytes lie, how they get there durably, and how they are read.
//!
//! Each upload has a [`Location`] of its own, for ever: a file is written once, never renamed, never
//! copied, and deleting an old copy of some content can never hurt a new one. The catalog maps
//! digests to locations; nothing here knows digests. Files are spread over 256 folders, which are
//! made and synced once, when the store is opened.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::budget::Share;
use crate::disk::Disk;
use crate::error::{Error, Result, What};

mod draft;
mod inspection;
mod open;
mod part;
mod reader;

pub(crate) use draft::Draft;
pub(crate) use inspection::Inspection;
use open::{BufferPool, OpenBlob};
pub use part::FilePart;
pub use reader::BlobReader;

/// Names an upload session and, for ever, the bytes that it brings. Random, hence unguessable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(Uuid);

impl Location {
    /// A location that was never used.
    #[expect(clippy::new_without_default, reason = "each call differs")]
    pub fn new() -> Self {
        Location(Uuid::new_v4())
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Location(Uuid::from_bytes(bytes))
    }

    /// Which of the 256 folders its file lies in.
    pub(crate) fn part(self) -> u8 {
        self.0.as_bytes()[0]
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let uuid = Uuid::try_parse(text).map_err(|_| Error::NotFound(What::Upload))?;
        let location = Location(uuid);
        // One spelling only, so that a session has one URL.
        if location.to_string() == text { Ok(location) } else { Err(Error::NotFound(What::Upload)) }
    }
}

/// A file in the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) name: FileName,
    pub(crate) size: u64,
}

/// What a file in the folder of blobs is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileName {
    /// The bytes of an upload, finished or not.
    Blob(Location),
    /// Something that no location leads to: nothing of ours.
    Stray(OsString),
}

/// The folder of blob files.
#[derive(Clone)]
pub(crate) struct LocalBlobs {
    disk: Disk,
    root: Arc<Path>,
    buffers: BufferPool,
}

impl LocalBlobs {
    /// Opens the folder; creates it and its 256 parts when absent.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        Self::open_on(Disk::Real, root)
    }

    /// As [`LocalBlobs::open`], on a disk of the caller's.
    pub(crate) fn open_on(disk: Disk, root: &Path) -> Result<Self> {
        disk.create_folder(root)?;
        let blobs = LocalBlobs { disk, root: root.into(), buffers: BufferPool::default() };
        for part in 0..=u8::MAX {
            blobs.disk.make_folder(&blobs.folder(part))?;
        }
        blobs.disk.sync_folder(root)?;
        Ok(blobs)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    #[cfg(test)]
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn path(&self, location: Location) -> PathBuf {
        self.folder(location.part()).join(location.0.simple().to_string())
    }

    fn folder(&self, part: u8) -> PathBuf {
        self.root.join(format!("{part:02x}"))
    }

    /// Opens the bytes of a finished upload once, and a reader on each of several ranges.
    pub(crate) fn read(
        &self,
        location: Location,
        ranges: impl IntoIterator<Item = Range<u64>>,
        memory: &Share,
    ) -> Result<Vec<BlobReader>> {
        let path = self.path(location);
        let file = self.disk.open(&path).map_err(|error| Error::io("open", &path, error))?;
        let blob = Arc::new(OpenBlob { file, path, buffers: self.buffers.clone(), memory: memory.clone() });
        Ok(ranges.into_iter().map(|range| BlobReader::new(Arc::clone(&blob), range)).collect())
    }

    /// All bytes of a small blob. Blocks.
    pub(crate) fn read_whole(&self, location: Location, size: u64) -> Result<Bytes> {
        let path = self.path(location);
        let failed = |doing, error| Error::io(doing, &path, error);
        let file = self.disk.open(&path).map_err(|error| failed("open", error))?;
        let size = usize::try_from(size).map_err(|_| Error::TooLarge(format!("a blob of {size} bytes")))?;
        let mut bytes = vec![0; size];
        let read = file.read_full_at(&mut bytes, 0).map_err(|error| failed("read", error))?;
        if read < size {
            return Err(Error::Corrupt(format!("{} ends at byte {read}", path.display())));
        }
        Ok(bytes.into())
    }

    /// Whether the file of a finished upload is there in its full size.
    pub(crate) fn holds(&self, location: Location, size: u64) -> bool {
        self.disk.size(&self.path(location)).is_ok_and(|found| found == size)
    }

    /// Opens a file to read all of it; `None` if it is not there. Blocks.
    pub(crate) fn inspect(&self, location: Location) -> Result<Option<Inspection>> {
        Inspection::open(&self.disk, self.path(location))
    }

    /// Makes one of the 256 folders anew, if it is gone. Blocks.
    pub(crate) fn make_folder(&self, part: u8) -> Result<()> {
        self.disk.create_folder(&self.folder(part))
    }

    /// What lies beside the 256 folders and is nothing of ours. Blocks.
    pub(crate) fn strangers(&self) -> Result<Vec<String>> {
        let names = self.disk.list(&self.root).map_err(|error| Error::io("list", &*self.root, error))?;
        let mut strangers = Vec::new();
        for (name, _) in names {
            let ours = name.to_str().is_some_and(|name| {
                let part = u8::from_str_radix(name, 16).ok();
                // The second is the file system's own, where the folder is a mount point.
                part.is_some_and(|part| name == format!("{part:02x}")) || name == "lost+found"
            });
            if !ours {
                strangers.push(self.root.join(name).display().to_string());
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    /// Where one of the 256 folders is.
    pub(crate) fn folder_name(&self, part: u8) -> String {
        self.folder(part).display().to_string()
    }

    /// Whether one of the 256 folders is there. Blocks.
    pub(crate) fn has_folder(&self, part: u8) -> bool {
        self.disk.is_folder(&self.folder(part))
    }

    /// Opens the file of an upload that stands at `offset`; bytes behind it were never acknowledged
    /// and are dropped. Blocks.
    pub(crate) fn draft(&self, location: Location, offset: u64) -> Result<Draft> {
        Draft::open(&self.disk, self.path(location), offset)
    }

    /// Removes files, whether they are there or not. When this returns they stay removed, also after a
    /// power cut: only then may the rows go that name them. Blocks.
    pub(crate) fn delete_all(&self, locations: &[Location]) -> Result<()> {
        let mut parts = BTreeSet::new();
        for &location in locations {
            let path = self.path(location);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("delete", &path, error));
                }
                // Also when it was absent: whoever removed it may have been killed before the sync.
                _ => parts.insert(location.part()),
            };
        }
        parts.into_iter().try_for_each(|part| self.disk.sync_folder(&self.folder(part)))
    }

    /// What lies in one of the 256 folders, in the order of the names. What comes or goes meanwhile may or
    /// may not be there. Blocks.
    pub(crate) fn list(&self, part: u8) -> Result<Vec<Listed>> {
        let folder = self.folder(part);
        let files = self.disk.list(&folder).map_err(|error| Error::io("list", &folder, error))?;
        let mut files: Vec<Listed> =
            files.into_iter().map(|(name, size)| Listed { name: FileName::of(name, part), size }).collect();
        files.sort();
        Ok(files)
    }
}

impl FileName {
    fn of(name: OsString, part: u8) -> Self {
        let location = name.to_str().and_then(|name| Uuid::try_parse(name).ok()).map(Location);
        match location {
            // One spelling only, in one folder: elsewhere no location leads to it.
            Some(location) if location.part() == part && *name == *location.0.simple().to_string() => {
                FileName::Blob(location)
            }
            _ => FileName::Stray(name),
        }
    }
}

/// Makes sure that a folder is there, with a durable entry; creates those above it as needed. Blocks.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    Disk::Real.create_folder(folder)
}

/// Makes the entries of a folder durable. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    Disk::Real.sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    #[test]
    fn a_location_has_one_spelling() {
        let location = Location::new();
        assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
        for bad in ["", "..", "x", &location.0.simple().to_string(), &location.to_string().to_uppercase()] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn bytes_written_in_batches_are_read_back_in_any_range() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(&folder.path().join("blobs")).unwrap();
        let location = Location::new();
        let content: Vec<u8> = (0..1_000_003u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut draft = blobs.draft(location, 0).unwrap();
        for batch in content.chunks(300_000) {
            draft
                .append(&[Bytes::copy_from_slice(&batch[..7]), Bytes::copy_from_slice(&batch[7..])])
                .unwrap();
        }
        draft.sync().unwrap();
        for (start, end) in [(0, 1_000_003), (0, 0), (5, 6), (262_143, 524_289), (1_000_002, 1_000_003)] {
            let chunks: Vec<Bytes> = blobs
                .read(location, Some(start..end), &Share::of(1 << 20))
                .unwrap()
                .remove(0)
                .try_collect()
                .await
                .unwrap();
            let (start, end) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
            assert!(chunks.concat() == content[start..end], "{start}..{end}");
        }
    }

    #[tokio::test]
    async fn a_draft_continues_at_its_offset_and_drops_what_lies_behind() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let location = Location::new();
        blobs.draft(location, 0).unwrap().append(&[Bytes::from_static(b"hello wrong")]).unwrap();
        let mut draft = blobs.draft(location, 6).unwrap();
        draft.append(&[Bytes::from_static(b"world")]).unwrap();
        let chunks: Vec<Bytes> = blobs
            .read(location, Some(0..11), &Share::of(1 << 20))
            .unwrap()
            .remove(0)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(chunks.concat(), b"hello world");
        // A file that is shorter than what was acknowledged is damage, not a place to go on.
        assert!(matches!(blobs.draft(location, 12), Err(Error::Corrupt(_))));
    }

    #[test]
    fn what_was_deleted_is_gone_whether_it_was_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let files: Vec<_> = (0..5).map(|_| Location::new()).collect();
        for location in &files[..4] {
            blobs.draft(*location, 0).unwrap().append(&[Bytes::from_static(b"abc")]).unwrap();
        }
        blobs.delete_all(&files[1..]).unwrap();
        blobs.delete_all(&files[1..]).unwrap();
        assert!(blobs.holds(files[0], 3));
        assert!(files[1..].iter().all(|location| !blobs.path(*location).exists()));
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(blobs.delete_all(&files).is_err(), "a folder that is gone proves nothing");
    }

    #[test]
    fn a_list_tells_blobs_from_strays() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let location = Location::new();
        blobs.draft(location, 0).unwrap().append(&[Bytes::from_static(b"abc")]).unwrap();
        let name = location.0.simple().to_string();
        let elsewhere = location.part().wrapping_add(1);
        fs::write(blobs.folder(elsewhere).join(&name), b"lost").unwrap();
        for stray in [name.to_uppercase() + "0", location.to_string()] {
            fs::write(blobs.folder(location.part()).join(stray), b"x").unwrap();
        }
        let listed = blobs.list(location.part()).unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[0], Listed { name: FileName::Blob(location), size: 3 });
        assert!(listed[1..].iter().all(|file| matches!(file.name, FileName::Stray(_)) && file.size == 1));
        let lost = Listed { name: FileName::Stray(name.into()), size: 4 };
        assert_eq!(blobs.list(elsewhere).unwrap(), [lost]);
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_not_a_short_answer() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let location = Location::new();
        blobs.draft(location, 0).unwrap().append(&[Bytes::from_static(b"abc")]).unwrap();
        let read: Result<Vec<Bytes>> =
            blobs.read(location, Some(0..10), &Share::of(1 << 20)).unwrap().remove(0).try_collect().await;
        assert!(matches!(read, Err(Error::Corrupt(_))));
    }
}
