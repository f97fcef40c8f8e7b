// SPDX-License-Identifier: AGPL-3.0-only
//! The disk below blob files: every call that makes, writes, reads, syncs or removes one.
//!
//! In the program this is the operating system and nothing else. In tests it may be a
//! [`simulated`] disk, which keeps what was synced apart from what was not, loses the latter in a power
//! cut, and fails when it is told to. What calls mean here is what POSIX promises and no more: bytes are
//! durable after [`DiskFile::sync`], names after [`Disk::sync_folder`].

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
use rustix::io::ReadWriteFlags;

use crate::error::{Error, Result};

mod ballast;
mod place;
mod room;
#[cfg(test)]
pub(crate) mod simulated;

pub(crate) use ballast::Ballast;
pub(crate) use place::Place;
pub(crate) use room::Room;

/// What writes past the page cache are aligned to: no less than what any file system of Linux asks for.
pub(crate) const PAGE: usize = 4096;

/// Where files lie.
#[derive(Clone, Default)]
pub(crate) enum Disk {
    /// The operating system's.
    #[default]
    Real,
    /// One in memory.
    #[cfg(test)]
    Simulated(simulated::Machine),
}

/// An open file.
pub(crate) enum DiskFile {
    Real(File),
    #[cfg(test)]
    Simulated(simulated::Open),
}

impl Disk {
    /// Opens a file that is there, for reading.
    pub(crate) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        match self {
            Disk::Real => File::open(path).map(DiskFile::Real),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.open(path, false).map(DiskFile::Simulated),
        }
    }

    /// Opens a file for reading and writing; creates it when absent.
    pub(crate) fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        match self {
            Disk::Real => {
                let mut how = OpenOptions::new();
                how.read(true).write(true).create(true).truncate(false).open(path).map(DiskFile::Real)
            }
            #[cfg(test)]
            Disk::Simulated(machine) => machine.open(path, true).map(DiskFile::Simulated),
        }
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => fs::remove_file(path),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.remove(path),
        }
    }

    /// The size of a file.
    pub(crate) fn size(&self, path: &Path) -> io::Result<u64> {
        match self {
            Disk::Real => fs::metadata(path).map(|file| file.len()),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.size(path),
        }
    }

    /// The names in a folder and the sizes of what they name. What comes or goes meanwhile may be missing.
    pub(crate) fn list(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>> {
        match self {
            Disk::Real => {
                let mut files = Vec::new();
                for entry in fs::read_dir(folder)? {
                    let entry = entry?;
                    match entry.metadata() {
                        Ok(file) => files.push((entry.file_name(), file.len())),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(files)
            }
            #[cfg(test)]
            Disk::Simulated(machine) => machine.list(folder),
        }
    }

    /// Makes sure that a folder is there; its entry is not durable yet.
    pub(crate) fn make_folder(&self, folder: &Path) -> Result<()> {
        let made = match self {
            Disk::Real => fs::create_dir_all(folder),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.make_folder(folder),
        };
        made.map_err(|error| Error::io("create", folder, error))
    }

    /// Whether a folder is there.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        match self {
            Disk::Real => path.is_dir(),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.is_folder(path),
        }
    }

    /// Makes sure that a folder is there, with a durable entry; creates those above it as needed.
    pub(crate) fn create_folder(&self, folder: &Path) -> Result<()> {
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let existed = self.is_folder(folder);
        if !existed {
            if !self.is_folder(parent) {
                self.create_folder(parent)?;
            }
            self.make_folder(folder)?;
        }
        // Also when it existed: whoever created it may have been killed before this.
        match self.sync_folder(parent) {
            Err(Error::Io { cause, .. }) if existed && cause.kind() == io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            synced => synced,
        }
    }

    /// Makes the entries of a folder durable.
    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<()> {
        let synced = match self {
            Disk::Real => File::open(folder).and_then(|folder| folder.sync_all()),
            #[cfg(test)]
            Disk::Simulated(machine) => machine.sync_folder(folder),
        };
        synced.map_err(|error| Error::io("sync", folder, error))
    }
}

impl DiskFile {
    /// Bytes in the file.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            DiskFile::Real(file) => file.metadata().map(|file| file.len()),
            #[cfg(test)]
            DiskFile::Simulated(file) => Ok(file.len()),
        }
    }

    /// Cuts the file, or fills it up with zeros.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            DiskFile::Real(file) => file.set_len(len),
            #[cfg(test)]
            DiskFile::Simulated(file) => file.set_len(len),
        }
    }

    /// Writes some of the buffers, in their order; returns how many bytes.
    pub(crate) fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match self {
            DiskFile::Real(file) => rustix::io::pwritev(file, buffers, offset).map_err(io::Error::from),
            #[cfg(test)]
            DiskFile::Simulated(file) => file.write_at(buffers, offset),
        }
    }

    /// Writes some of the buffers past the page cache, which spares a copy and leaves the cache to what is read.
    /// Buffers, their lengths and the offset must be multiples of [`PAGE`]. An error of the kind `InvalidInput`
    /// or `Unsupported` says that this file cannot be written so.
    pub(crate) fn write_direct_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match self {
            DiskFile::Real(file) => {
                let flags = fcntl_getfl(file)?;
                fcntl_setfl(file, flags | OFlags::DIRECT)?;
                let written = rustix::io::pwritev(file, buffers, offset);
                fcntl_setfl(file, flags)?;
                written.map_err(io::Error::from)
            }
            #[cfg(test)]
            DiskFile::Simulated(file) => file.write_direct_at(buffers, offset),
        }
    }

    /// Reads what is in memory already; an error of the kind `WouldBlock` or `Unsupported` if it is not.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            DiskFile::Real(file) => {
                let slice = IoSliceMut::new(buffer);
                rustix::io::preadv2(file, &mut [slice], offset, ReadWriteFlags::NOWAIT)
                    .map_err(io::Error::from)
            }
            #[cfg(test)]
            DiskFile::Simulated(file) => file.read_cached(buffer, offset),
        }
    }

    /// Sends up to `most` bytes to a socket, straight from the kernel's memory; returns how many. What is not
    /// there is waited for: see [`DiskFile::read_cached`].
    pub(crate) fn send(&self, socket: impl AsFd, offset: u64, most: usize) -> io::Result<usize> {
        match self {
            DiskFile::Real(file) => {
                let mut offset = offset;
                rustix::fs::sendfile(socket, file, Some(&mut offset), most).map_err(io::Error::from)
            }
            #[cfg(test)]
            DiskFile::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads until the buffer is full or the file ends; returns how many bytes.
    pub(crate) fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            DiskFile::Real(file) => file.read_at(buffer, offset),
            #[cfg(test)]
            DiskFile::Simulated(file) => file.read_at(buffer, offset),
        }
    }

    /// Says that these bytes will not be read again soon. It is advice: without it nothing is wrong.
    pub(crate) fn forget(&self, from: u64, len: u64) {
        if let DiskFile::Real(file) = self
            && let Some(len) = NonZeroU64::new(len)
        {
            let _unadvised = fadvise(file, from, Some(len), Advice::DontNeed);
        }
    }

    /// Makes the file's bytes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            DiskFile::Real(file) => sync_file(file),
            #[cfg(test)]
            DiskFile::Simulated(file) => file.sync(),
        }
    }
}

/// Makes the bytes of a file that is open for writing durable.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    file.sync_data()?;
    believe_sync(file)
}

/// Fails if a sync that has just succeeded need not have written anything.
///
/// A sync that runs while ext4 shuts down after an error may be told of success although its transaction
/// was given up: the journal counts it as done. From before that moment on ext4 refuses every write, also
/// one of nothing, so whoever may still write now was synced by a file system that was whole.
pub(crate) fn believe_sync(file: &File) -> io::Result<()> {
    rustix::io::pwrite(file, &[], 0).map(|_| ()).map_err(io::Error::from)
}
