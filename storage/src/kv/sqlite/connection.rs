// SPDX-License-Identifier: AGPL-3.0-only
//! Opening connections to the file: its format, and the pragmas that make a commit survive a power cut.

use std::ffi::CStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{IDLE_READERS, SqliteOptions};
use crate::error::{Error, Result};

/// "STEL": tells our files from other programs' SQLite files.
pub(super) const APPLICATION_ID: i32 = 0x5354_454c;
pub(super) const FORMAT: i32 = 1;
/// How SQLite calls the system: the file is this process's alone, and the index of its log is memory of ours.
/// Elsewhere that index is a file that is mapped, and a disk that dies would end the process (SIGBUS).
const VFS: &CStr = c"unix-excl";

pub(super) fn open_writer(options: &SqliteOptions, create: OpenFlags) -> Result<Connection> {
    let path = &options.path;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let failed = |error: rusqlite::Error| failure("open", path, &error);
    keep_private(path, create == OpenFlags::SQLITE_OPEN_CREATE)?;
    let connection = Connection::open_with_flags_and_vfs(path, flags, VFS).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    // First of all: the pragmas below would change a file that is not ours.
    check_format(&connection, path)?;
    let configure = || {
        connection.pragma_update(None, "journal_mode", "wal")?;
        // FULL: each commit syncs the log, so an acknowledged write survives a power cut.
        connection.pragma_update(None, "synchronous", "full")?;
        // The writer checkpoints inside its own commits; 1 000 pages gave the best p99 (ADR/0001).
        connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        set_cache(&connection, options.cache / 4)
    };
    configure().map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(16);
    check_pragmas(&connection, path)?;
    let create = "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID";
    connection.execute_batch(create).map_err(failed)?;
    Ok(connection)
}

/// Keys that sign tokens are among the rows: nobody else on the machine may read the file, nor the log beside it, which
/// SQLite gives the same mode.
fn keep_private(path: &Path, create: bool) -> Result<()> {
    let failed = |error: io::Error| Error::io("open", path, error);
    if create {
        let mut options = OpenOptions::new();
        // SQLite takes an empty file for a new database.
        options.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    }
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    for file in [path, Path::new(&log)] {
        match fs::metadata(file) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(file, Permissions::from_mode(0o600)).map_err(failed)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

pub(super) fn open_reader(options: &SqliteOptions) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags_and_vfs(&options.path, flags, VFS)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        set_cache(&connection, options.cache / 4 / IDLE_READERS)?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(connection)
    };
    open().map_err(|error| failure("open", &options.path, &error))
}

fn set_cache(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    // Negative: the unit is KiB, not pages.
    let kib = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib)
}

/// A pragma that a file system or build does not support is ignored silently: look.
fn check_pragmas(connection: &Connection, path: &Path) -> Result<()> {
    let journal: String = pragma(connection, path, "journal_mode")?;
    let synchronous: i64 = pragma(connection, path, "synchronous")?;
    if journal != "wal" || synchronous != 2 {
        return Err(Error::Unavailable(format!(
            "{} cannot be written durably (journal mode {journal}, synchronous {synchronous}): \
             put the data directory on a local file system",
            path.display()
        )));
    }
    Ok(())
}

fn check_format(connection: &Connection, path: &Path) -> Result<()> {
    let application: i32 = pragma(connection, path, "application_id")?;
    let format: i32 = pragma(connection, path, "user_version")?;
    match (application, format) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(Error::NewerSchema {
            found: u32::try_from(newer).unwrap_or(u32::MAX),
            supported: FORMAT.unsigned_abs(),
        }),
        // A new file, or one whose marking was interrupted between its two commits.
        (0 | APPLICATION_ID, 0) if pragma::<i64>(connection, path, "schema_version")? == 0 => {
            let mark = |name, value| connection.pragma_update(None, name, value);
            mark("application_id", APPLICATION_ID)
                .and_then(|()| mark("user_version", FORMAT))
                .map_err(|error| failure("create", path, &error))
        }
        _ => Err(Error::Corrupt(format!("{} is a database of another program", path.display()))),
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, path: &Path, name: &str) -> Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| failure("open", path, &error))
}

pub(super) fn failure(doing: &str, path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt(format!("{}: {error}", path.display()))
        }
        _ => Error::Unavailable(format!("cannot {doing} {}: {error}", path.display())),
    }
}
