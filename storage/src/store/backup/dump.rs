// SPDX-License-Identifier: AGPL-3.0-only
//! The dump: all rows of the metadata in one file, in the order of their keys, for any engine.
//!
//! | bytes | what |
//! | --- | --- |
//! | 12 | `stella-dump` and a line feed |
//! | 4 | the version of this format |
//! | 4, 4, key, value | each row: how long key and value are, and both |
//! | 4 | zero, where the next key's length would be |
//! | 8 | how many rows there are |
//! | 32 | sha256 of all before it |
//!
//! Numbers are big-endian. A reader believes nothing: lengths have limits, keys must ascend, and the
//! end must be where the trailer says, so that a file which was cut off or changed is never read to
//! its end without an error.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files;
use crate::disk::sync_file;
use crate::error::{Error, Result};
use crate::kv::{MAX_WRITE_BYTES, Row};

const MAGIC: &[u8; 12] = b"stella-dump\n";
const VERSION: u32 = 1;
/// Keys are names and digests: the longest have a few kilobytes.
const MAX_KEY: usize = 64 << 10;
const BUFFER: usize = 256 << 10;

/// What tells one dump from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// The file's sha256, in hexadecimal digits.
    pub(super) sha256: String,
    /// Rows in it.
    pub(super) rows: u64,
}

/// A dump that is being written.
pub(super) struct DumpWriter {
    out: BufWriter<File>,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
    rows: u64,
}

impl DumpWriter {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        // Keys that sign tokens are among the rows.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| files::failed("create", &path, error))?;
        let out = BufWriter::with_capacity(BUFFER, file);
        let mut dump = DumpWriter { out, path, hash: Sha256::new(), bytes: 0, rows: 0 };
        dump.put(MAGIC)?;
        dump.put(&VERSION.to_be_bytes())?;
        Ok(dump)
    }

    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let len = |bytes: &[u8], limit| match u32::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= limit => Ok(len.to_be_bytes()),
            _ => Err(Error::TooLarge("a row of the metadata is too large for a backup".to_owned())),
        };
        self.put(&len(key, MAX_KEY)?)?;
        self.put(&len(value, MAX_WRITE_BYTES)?)?;
        self.put(key)?;
        self.put(value)?;
        self.rows += 1;
        Ok(())
    }

    /// Writes the end; when this returns the file is durable, but for its entry in the folder.
    pub(super) fn finish(mut self) -> Result<Seal> {
        self.put(&[0; 4])?;
        self.put(&self.rows.to_be_bytes())?;
        let trailer = self.hash.clone().finalize();
        self.put(&trailer)?;
        let DumpWriter { out, path, hash, bytes, rows } = self;
        let file = out.into_inner().map_err(|error| files::failed("write", &path, error.into_error()))?;
        sync_file(&file).map_err(|error| files::failed("sync", &path, error))?;
        Ok(Seal { bytes, sha256: hex::encode(hash.finalize()), rows })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| files::failed("write", &self.path, error))
    }
}

/// A dump that is being read.
pub(super) struct DumpReader {
    input: BufReader<File>,
    path: PathBuf,
    seal: Seal,
    hash: Sha256,
    rows: u64,
    last: Vec<u8>,
}

impl DumpReader {
    /// Opens the dump that `seal` describes.
    pub(super) fn open(path: &Path, seal: &Seal) -> Result<Self> {
        let file = files::open_file(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(path, "is missing"),
            _ => files::failed("open", path, error),
        })?;
        let bytes = file.metadata().map_err(|error| files::failed("look at", path, error))?.len();
        if bytes != seal.bytes {
            return Err(damaged(path, &format!("has {bytes} bytes, and had {}", seal.bytes)));
        }
        let mut dump = DumpReader {
            input: BufReader::with_capacity(BUFFER, file),
            path: path.to_owned(),
            seal: seal.clone(),
            hash: Sha256::new(),
            rows: 0,
            last: Vec::new(),
        };
        if dump.take(MAGIC.len())? != MAGIC {
            return Err(damaged(path, "is not a dump of metadata"));
        }
        match u32::from_be_bytes(dump.array()?) {
            VERSION => Ok(dump),
            newer if newer > VERSION => Err(Error::Refused(format!(
                "{} has format version {newer}, this program knows {VERSION}: use the newer program that wrote it",
                path.display()
            ))),
            other => Err(damaged(path, &format!("has format version {other}, which never was"))),
        }
    }

    /// The next row; `None` at the end, and then the dump is known to be whole.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        if len == 0 {
            self.end()?;
            return Ok(None);
        }
        let value = u32::from_be_bytes(self.array()?) as usize;
        if len > MAX_KEY || value > MAX_WRITE_BYTES {
            return Err(self.damaged("is larger than any row"));
        }
        let key = self.take(len)?;
        if key <= self.last {
            return Err(self.damaged("does not follow the one before it"));
        }
        self.last.clone_from(&key);
        let value = self.take(value)?;
        self.rows += 1;
        Ok(Some((key, value)))
    }

    fn end(&mut self) -> Result<()> {
        let rows = u64::from_be_bytes(self.array()?);
        let expected: [u8; 32] = self.hash.clone().finalize().into();
        let trailer = self.array::<32>()?;
        let more = self.input.read(&mut [0]).map_err(|error| files::failed("read", &self.path, error))?;
        let why = if more != 0 {
            "goes on behind its end"
        } else if rows != self.rows || rows != self.seal.rows {
            "does not have as many rows as it should"
        } else if trailer != expected || hex::encode(self.hash.clone().finalize()) != self.seal.sha256 {
            "has another sha256 than it had"
        } else {
            return Ok(());
        };
        Err(damaged(&self.path, why))
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.input.read_exact(&mut bytes) {
            Ok(()) => {
                self.hash.update(&bytes);
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("is cut off")),
            Err(error) => Err(files::failed("read", &self.path, error)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| self.damaged("is cut off"))
    }

    fn damaged(&self, why: &str) -> Error {
        damaged(&self.path, &format!("row {} {why}", self.rows + 1))
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::DamagedBackup(format!("{} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(folder: &Path, rows: &[(&[u8], &[u8])]) -> (PathBuf, Seal) {
        let path = folder.join("dump");
        let mut dump = DumpWriter::create(path.clone()).unwrap();
        for (key, value) in rows {
            dump.row(key, value).unwrap();
        }
        (path, dump.finish().unwrap())
    }

    fn read(path: &Path, seal: &Seal) -> Result<Vec<Row>> {
        let mut dump = DumpReader::open(path, seal)?;
        let mut rows = Vec::new();
        while let Some(row) = dump.next()? {
            rows.push(row);
        }
        Ok(rows)
    }

    fn sealed(bytes: &[u8], rows: u64) -> Seal {
        Seal { bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)), rows }
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_the_seal_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, seal) = write(folder.path(), &[(b"a", b""), (b"b", &vec![7; 300_000])]);
        assert_eq!(read(&path, &seal).unwrap(), [(b"a".to_vec(), vec![]), (b"b".to_vec(), vec![7; 300_000])]);
        assert_eq!(sealed(&std::fs::read(&path).unwrap(), 2), seal);
        std::fs::remove_file(&path).unwrap();
        let (path, seal) = write(folder.path(), &[]);
        assert_eq!(read(&path, &seal).unwrap(), []);
    }

    #[test]
    fn faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let head = [MAGIC.as_slice(), &1u32.to_be_bytes()].concat();
        let row = |key: &[u8]| [1u32.to_be_bytes().as_slice(), &0u32.to_be_bytes(), key].concat();
        for (bytes, rows, said) in [
            (b"other".to_vec(), 0, "row 1 is cut off"),
            ([MAGIC.as_slice(), &9u32.to_be_bytes()].concat(), 0, "format version 9, this program knows 1"),
            (b"something else, and long enough".to_vec(), 0, "is not a dump"),
            (head.clone(), 0, "row 1 is cut off"),
            ([head.clone(), vec![0xff; 8]].concat(), 0, "row 1 is larger than any row"),
            ([head.clone(), row(b"b"), row(b"a")].concat(), 2, "row 2 does not follow"),
            ([head.clone(), row(b"b"), row(b"b")].concat(), 2, "row 2 does not follow"),
            ([head.clone(), row(b"b"), vec![0; 44]].concat(), 1, "as many rows"),
            ([head.clone(), vec![0; 44]].concat(), 0, "another sha256"),
            ([head, vec![0; 45]].concat(), 0, "goes on behind its end"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            let error = read(&path, &sealed(&bytes, rows)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}, not {said}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path, &sealed(b"", 0)).unwrap_err().to_string().ends_with("dump is missing"));
    }

    proptest! {
        #[test]
        fn no_changed_byte_and_no_cut_goes_unnoticed(at: proptest::sample::Index, bit in 0u8..8, cut: bool) {
            let folder = tempfile::tempdir().unwrap();
            let (path, seal) = write(folder.path(), &[(b"aa", b"1"), (b"ab", b"22"), (b"b", b"")]);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(read(&path, &seal).is_err());
            // Also with a seal that was forged to fit, but for the trailer.
            if cut {
                prop_assert!(read(&path, &sealed(&bytes, 3)).is_err());
            }
        }
    }
}
