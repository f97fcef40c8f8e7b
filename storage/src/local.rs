// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs on a local disk: where bytes lie, how they get there durably, and how they are read.
//!
//! Each upload has a [`Location`] of its own, for ever: a file is written once, never renamed, never
//! copied, and deleting an old copy of some content can never hurt a new one. The catalog maps
//! digests to locations; nothing here knows digests. Files are spread over 256 folders, which are
//! made and synced once, when the store is opened.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Result, What};

mod draft;
mod reader;

pub(crate) use draft::Draft;
pub use reader::BlobReader;
use reader::BufferPool;

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

/// The folder of blob files.
#[derive(Clone)]
pub(crate) struct LocalBlobs {
    root: Arc<Path>,
    buffers: BufferPool,
}

impl LocalBlobs {
    /// Opens the folder; creates it and its 256 parts when absent.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        create_folder(root)?;
        for part in 0..=u8::MAX {
            let folder = root.join(format!("{part:02x}"));
            fs::create_dir_all(&folder).map_err(|error| Error::io("create", &folder, error))?;
        }
        sync_folder(root)?;
        Ok(LocalBlobs { root: root.into(), buffers: BufferPool::default() })
    }

    fn path(&self, location: Location) -> PathBuf {
        let name = location.0.simple().to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Opens the bytes of a finished upload once, and a reader on each of several ranges.
    pub(crate) fn read(
        &self,
        location: Location,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Vec<BlobReader>> {
        let path = self.path(location);
        let file = Arc::new(File::open(&path).map_err(|error| Error::io("open", &path, error))?);
        let path: Arc<Path> = path.into();
        let reader =
            |range| BlobReader::new(Arc::clone(&file), Arc::clone(&path), range, self.buffers.clone());
        Ok(ranges.into_iter().map(reader).collect())
    }

    /// Whether the file of a finished upload is there in its full size.
    pub(crate) fn holds(&self, location: Location, size: u64) -> bool {
        fs::metadata(self.path(location)).is_ok_and(|file| file.len() == size)
    }

    /// Opens the file of an upload that stands at `offset`; bytes behind it were never acknowledged
    /// and are dropped. Blocks.
    pub(crate) fn draft(&self, location: Location, offset: u64) -> Result<Draft> {
        Draft::open(self.path(location), offset)
    }
}

/// Makes sure that a folder is there, with a durable entry; creates those above it as needed. Blocks.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let existed = folder.is_dir();
    if !existed {
        if !parent.is_dir() {
            create_folder(parent)?;
        }
        fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    }
    // Also when it existed: whoever created it may have been killed before this.
    match sync_folder(parent) {
        Err(Error::Io { cause, .. }) if existed && cause.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Makes the entries of a folder durable. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::io("sync", folder, error))
}

#[cfg(test)]
mod tests {
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
            let chunks: Vec<Bytes> =
                blobs.read(location, Some(start..end)).unwrap().remove(0).try_collect().await.unwrap();
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
        let chunks: Vec<Bytes> =
            blobs.read(location, Some(0..11)).unwrap().remove(0).try_collect().await.unwrap();
        assert_eq!(chunks.concat(), b"hello world");
        // A file that is shorter than what was acknowledged is damage, not a place to go on.
        assert!(matches!(blobs.draft(location, 12), Err(Error::Corrupt(_))));
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_not_a_short_answer() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let location = Location::new();
        blobs.draft(location, 0).unwrap().append(&[Bytes::from_static(b"abc")]).unwrap();
        let read: Result<Vec<Bytes>> =
            blobs.read(location, Some(0..10)).unwrap().remove(0).try_collect().await;
        assert!(matches!(read, Err(Error::Corrupt(_))));
    }
}
