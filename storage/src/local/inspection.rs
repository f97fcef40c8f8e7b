// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a whole file for a check, in order. Everything here blocks: it runs on the blocking pool.
//!
//! What a check reads would push out of the page cache what clients read. So a file that was not in
//! the cache is forgotten again behind the place that was read; one that was there stays.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{Advice, fadvise};
use rustix::io::ReadWriteFlags;

use crate::error::{Error, Result};

/// A file and how far it was read.
pub(crate) struct Inspection {
    file: File,
    path: PathBuf,
    at: u64,
    /// Whether the file was in the page cache before; unknown until its first bytes were read.
    cached: Option<bool>,
}

impl Inspection {
    pub(super) fn open(path: PathBuf) -> Result<Option<Self>> {
        match File::open(&path) {
            Ok(file) => Ok(Some(Self::of(file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// Inspects a file that is open; `path` names it.
    pub(crate) fn of(file: File, path: PathBuf) -> Self {
        Inspection { file, path, at: 0, cached: None }
    }

    /// Reads on into `buffer`; less than fills it only at the end of the file.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.cached.is_none() && !buffer.is_empty() {
            let first = &mut [IoSliceMut::new(&mut buffer[..1])];
            let now = rustix::io::preadv2(&self.file, first, self.at, ReadWriteFlags::NOWAIT);
            // Where the file system cannot say, nothing is forgotten.
            self.cached = Some(!matches!(now, Err(rustix::io::Errno::AGAIN)));
        }
        let from = self.at;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], self.at) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path, error)),
            }
        }
        if let (Some(false), Some(len)) = (self.cached, NonZeroU64::new(filled as u64)) {
            // It is advice: without it the check is the same.
            let _unadvised = fadvise(&self.file, from, Some(len), Advice::DontNeed);
        }
        Ok(filled)
    }
}
