// SPDX-License-Identifier: AGPL-3.0-only
//! The file of an upload while it is written. Everything here blocks: it runs on the blocking pool.

use std::io::{self, IoSlice};
use std::path::PathBuf;

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// An open upload file and where its next byte goes.
pub(crate) struct Draft {
    file: DiskFile,
    disk: Disk,
    path: PathBuf,
    offset: u64,
    /// Whether the file's name is durable.
    named: bool,
}

impl Draft {
    pub(super) fn open(disk: &Disk, path: PathBuf, offset: u64) -> Result<Self> {
        let failed = |doing, error| Error::io(doing, &path, error);
        let file = disk.open_or_create(&path).map_err(|error| failed("open", error))?;
        let len = file.len().map_err(|error| failed("read the size of", error))?;
        if len < offset {
            return Err(Error::Corrupt(format!(
                "{} has {len} bytes, {offset} were acknowledged",
                path.display()
            )));
        }
        if len > offset {
            file.set_len(offset).map_err(|error| failed("truncate", error))?;
        }
        Ok(Draft { file, disk: disk.clone(), path, offset, named: offset > 0 })
    }

    /// Appends buffers as they are.
    pub(crate) fn append(&mut self, buffers: &[impl AsRef<[u8]>]) -> Result<()> {
        for group in buffers.chunks(64) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().map(|buffer| IoSlice::new(buffer.as_ref())).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match self.file.write_at(rest, self.offset) {
                    Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                    Ok(written) => {
                        self.offset += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.failed("write", error)),
                }
            }
        }
        Ok(())
    }

    /// Bytes in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes what was appended durable, and the file's name, before anything in the catalog relies on them.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|error| self.failed("sync", error))?;
        // After the file: what its sync made durable with it costs nothing more here.
        if let (false, Some(folder)) = (self.named, self.path.parent()) {
            self.disk.sync_folder(folder)?;
            self.named = true;
        }
        Ok(())
    }

    /// Reads the file from its start, for a hash that was not computed on the way.
    pub(crate) fn reread(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < self.offset {
            let want = usize::try_from(self.offset - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.file.read_full_at(&mut buffer[..want], at);
            if read.map_err(|error| self.failed("read", error))? < want {
                return Err(self.failed("read", io::ErrorKind::UnexpectedEof.into()));
            }
            each(&buffer[..want]);
            at += want as u64;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Error {
        Error::io(doing, &self.path, error)
    }
}
