// SPDX-License-Identifier: AGPL-3.0-only
//! Whether files are still where they were opened.
//!
//! A program that holds a file open goes on writing to it after its folder was removed, renamed or
//! unmounted, and every call succeeds. So whoever acknowledges what it wrote looks first whether the
//! path still leads to the same file: device and inode, a microsecond each.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::error::{DataFault, Error, Result};

/// Paths, and what they led to at first.
#[derive(Clone, Debug)]
pub(crate) struct Place(Vec<(PathBuf, Identity)>);

type Identity = (u64, u64);

impl Place {
    /// What these paths lead to now.
    pub(crate) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let mut place = Vec::new();
        for path in paths {
            let identity = identity(&path)?;
            place.push((path, identity));
        }
        Ok(Place(place))
    }

    /// Fails if a path leads nowhere or elsewhere.
    pub(crate) fn check(&self) -> Result<()> {
        for (path, expected) in &self.0 {
            if identity(path)? != *expected {
                return Err(Error::Data(DataFault::Replaced));
            }
        }
        Ok(())
    }
}

fn identity(path: &PathBuf) -> Result<Identity> {
    match fs::metadata(path) {
        Ok(file) => Ok((file.dev(), file.ino())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Error::Data(DataFault::Gone))
        }
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_another_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "x").unwrap();
        let place = Place::of([folder.path().to_owned(), path.clone()]).unwrap();
        place.check().unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(matches!(place.check(), Err(Error::Data(DataFault::Gone))));
        fs::write(&path, "x").unwrap();
        assert!(matches!(place.check(), Err(Error::Data(DataFault::Replaced))));
        fs::rename(&away, &path).unwrap();
        place.check().unwrap();
        assert!(Place::of([away]).is_err());
    }
}
