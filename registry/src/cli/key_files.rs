// SPDX-License-Identifier: AGPL-3.0-only
//! Files that signing writes. Each gets its name only once it is whole, and is readable by its owner alone unless it is
//! meant for everybody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::signing::usage;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    Owner,
    Everybody,
}

/// Writes a file that replaces what is there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes, Readers::Owner, |draft, path| fs::rename(draft, path))
}

/// Writes a key. What is there is replaced only if somebody agreed to that.
pub(super) fn write_key(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    may_replace: bool,
) -> anyhow::Result<()> {
    if may_replace {
        return write(path, bytes, readers, |draft, path| fs::rename(draft, path));
    }
    // A link is made only where there is nothing, whoever writes at the same moment.
    write(path, bytes, readers, |draft, path| {
        fs::hard_link(draft, path)?;
        fs::remove_file(draft)
    })
}

fn write(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    publish: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> anyhow::Result<()> {
    let failed = |error: io::Error| usage(format!("cannot write {}: {error}", path.display()));
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    let draft = draft_of(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(failed)?;
    let done = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| publish(&draft, path))
        .and_then(|()| File::open(folder_of(path))?.sync_all());
    done.map_err(|error| {
        // It is gone where it was published before something else failed.
        let _gone = fs::remove_file(&draft);
        failed(error)
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn draft_of(path: &Path) -> PathBuf {
    folder_of(path).join(format!(".{}.tmp", uuid::Uuid::new_v4()))
}
