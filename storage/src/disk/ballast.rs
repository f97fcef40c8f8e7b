// SPDX-License-Identifier: AGPL-3.0-only
//! Ballast: space that is kept in a file so that deleting works when no other is left.
//!
//! Also a delete needs space: SQLite writes its log first. When a metadata write finds the disk full, a
//! piece of this file is given up and the write is tried again. The file shrinks piece by piece, because
//! whoever filled the disk may take what becomes free. As long as it is not whole again, nothing is
//! uploaded, so that uploads do not eat it.
//!
//! Its size: the log is rewritten from its start after some 4 MiB, and the database may have to grow by as
//! much for that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Bytes kept.
const SIZE: u64 = 16 << 20;
/// What is given up at once.
const PIECE: u64 = 1 << 20;

/// A file of which each byte has its place on the disk.
pub(crate) struct Ballast {
    path: PathBuf,
    file: File,
    held: Mutex<u64>,
}

impl Ballast {
    /// Opens the ballast of a data directory, and makes it whole if there is room. Blocks.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let path = data.join("ballast");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        let len = file.metadata().map_err(|error| Error::io("look at", &path, error))?.len();
        let ballast = Ballast { path, file, held: Mutex::new(len.min(SIZE)) };
        match ballast.restore() {
            // Then it stays as small as it is until there is room.
            Err(Error::Full) => {}
            other => other?,
        }
        Ok(ballast)
    }

    /// Bytes that were given up.
    pub(super) fn missing(&self) -> u64 {
        SIZE - *self.lock()
    }

    /// Gives up a piece; false if nothing is left. Blocks.
    pub(crate) fn release(&self) -> bool {
        let mut held = self.lock();
        if *held == 0 {
            return false;
        }
        let rest = held.saturating_sub(PIECE);
        // Synced, because some file systems hand freed space out only then.
        if let Err(error) = self.file.set_len(rest).and_then(|()| self.file.sync_all()) {
            tracing::error!(path = %self.path.display(), %error, "cannot give up ballast");
            return false;
        }
        tracing::warn!(bytes = PIECE, left = rest, "the disk is full: gave up ballast so that deletes work");
        *held = rest;
        true
    }

    /// Gives up a piece if nothing is free. Blocks.
    pub(crate) fn release_if_full(&self) {
        let free =
            rustix::fs::fstatvfs(&self.file).map(|system| system.f_bavail.saturating_mul(system.f_frsize));
        if free.is_ok_and(|free| free < PIECE) {
            self.release();
        }
    }

    /// Takes back what was given up. Blocks.
    pub(super) fn restore(&self) -> Result<()> {
        let mut held = self.lock();
        match allocate(&self.file, SIZE) {
            Ok(()) => {
                *held = SIZE;
                Ok(())
            }
            Err(error) => {
                // What a failed try has got may be holes: only what is surely there counts.
                let cut = self.file.set_len(*held);
                cut.and(Err(error)).map_err(|error| Error::io("allocate", &self.path, error))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allocate(file: &File, size: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // Not on this file system.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let noise: Vec<u8> =
        (0..1u32 << 16).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let mut at = 0;
    while at < size {
        file.write_all_at(&noise, at)?;
        at += noise.len() as u64;
    }
    file.sync_all()
}
