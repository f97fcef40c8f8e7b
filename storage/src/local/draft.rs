// SPDX-License-Identifier: AGPL-3.0-only
//! The file of an upload while it is written. Everything here blocks: it runs on the blocking pool.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::PathBuf;

use bytes::Bytes;

use super::sync_folder;
use crate::error::{Error, Result};

/// An open upload file and where its next byte goes.
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    offset: u64,
}

impl Draft {
    pub(super) fn open(path: PathBuf, offset: u64) -> Result<Self> {
        let failed = |doing, error| Error::io(doing, &path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("open", error))?;
        let len = file.metadata().map_err(|error| failed("read the size of", error))?.len();
        if len < offset {
            return Err(Error::Corrupt(format!(
                "{} has {len} bytes, {offset} were acknowledged",
                path.display()
            )));
        }
        if len > offset {
            file.set_len(offset).map_err(|error| failed("truncate", error))?;
        }
        if offset == 0 {
            // The entry must be durable before anything in the catalog relies on the file.
            if let Some(folder) = path.parent() {
                sync_folder(folder)?;
            }
        }
        Ok(Draft { file, path, offset })
    }

    /// Appends buffers as they are.
    pub(crate) fn append(&mut self, buffers: &[Bytes]) -> Result<()> {
        for group in buffers.chunks(64) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, self.offset) {
                    Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                    Ok(written) => {
                        self.offset += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(self.failed("write", error.into())),
                }
            }
        }
        Ok(())
    }

    /// Bytes in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.failed("sync", error))
    }

    /// Reads the file from its start, for a hash that was not computed on the way.
    pub(crate) fn reread(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < self.offset {
            let want = usize::try_from(self.offset - at).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_exact_at(&mut buffer[..want], at).map_err(|error| self.failed("read", error))?;
            each(&buffer[..want]);
            at += want as u64;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Error {
        Error::io(doing, &self.path, error)
    }
}
