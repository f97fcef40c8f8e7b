// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a whole file for a check, in order. Everything here blocks: it runs on the blocking pool.
//!
//! What a check reads would push out of the page cache what clients read. So a file that was not in
//! the cache is forgotten again behind the place that was read; one that was there stays.

use std::io;
use std::path::PathBuf;

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// A file and how far it was read.
pub(crate) struct Inspection {
    file: DiskFile,
    path: PathBuf,
    at: u64,
    /// Whether the file was in the page cache before; unknown until its first bytes were read.
    cached: Option<bool>,
}

impl Inspection {
    pub(super) fn open(disk: &Disk, path: PathBuf) -> Result<Option<Self>> {
        match disk.open(&path) {
            Ok(file) => Ok(Some(Self::of(file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// Inspects a file that is open; `path` names it.
    pub(crate) fn of(file: DiskFile, path: PathBuf) -> Self {
        Inspection { file, path, at: 0, cached: None }
    }

    /// Reads on into `buffer`; less than fills it only at the end of the file.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.cached.is_none() && !buffer.is_empty() {
            let now = self.file.read_cached(&mut buffer[..1], self.at);
            // Where the file system cannot say, nothing is forgotten.
            self.cached = Some(!now.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        }
        let from = self.at;
        let read = self.file.read_full_at(buffer, from);
        let filled = read.map_err(|error| Error::io("read", &self.path, error))?;
        self.at += filled as u64;
        if self.cached == Some(false) {
            self.file.forget(from, filled as u64);
        }
        Ok(filled)
    }
}
