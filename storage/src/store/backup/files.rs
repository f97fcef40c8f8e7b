// SPDX-License-Identifier: AGPL-3.0-only
//! Files of a backup: opened without following links or waiting, and their errors.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::Error;

/// Opens a regular file to read it; neither a link nor anything that would block.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// An error of a file here. A full disk is not the registry's: it is named by its path.
pub(super) fn failed(doing: &'static str, path: &Path, cause: io::Error) -> Error {
    Error::Io { doing, path: path.to_owned(), cause: std::sync::Arc::new(cause) }
}
