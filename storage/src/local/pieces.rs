// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a whole file in order, for checks and copies. Blocks.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use crate::error::{Error, Result};

const PIECE: usize = 256 << 10;

/// The bytes of a file, piece by piece, from its start to its end.
pub(crate) struct Pieces {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Pieces {
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        Pieces { file, path, buffer: vec![0; PIECE] }
    }

    /// The next piece; `None` at the file's end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => return Ok(Some(&self.buffer[..read])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path, error)),
            }
        }
    }
}
