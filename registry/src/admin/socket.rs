// SPDX-License-Identifier: AGPL-3.0-only
//! The socket in the data directory, also where its path is longer than an address may be.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

const NAME: &str = "admin.sock";
/// The most that fits into an address, with its end.
const MAX_PATH: usize = 107;

/// The path of the socket, for a person.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// Listens in the data directory, which this process holds: what lies there is of a process that has ended.
pub(super) fn listen(data: &Path) -> io::Result<UnixListener> {
    remove(data)?;
    let kind = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, kind, None)?;
    // Before the file exists, so that nobody else gets in between.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let (_folder, address) = address(data)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(address)?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

/// Connects to the server that holds the data directory.
pub(super) fn connect(data: &Path) -> io::Result<UnixStream> {
    let (_folder, address) = address(data)?;
    UnixStream::connect(address)
}

pub(super) fn remove(data: &Path) -> io::Result<()> {
    match fs::remove_file(path(data)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A path that is short enough; good while the folder beside it is open.
fn address(data: &Path) -> io::Result<(Option<File>, PathBuf)> {
    let path = path(data);
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((None, path));
    }
    let folder = File::open(data)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(NAME);
    Ok((Some(folder), short))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_socket_works_at_any_depth_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        for depth in [0, 3] {
            let data = (0..depth).fold(folder.path().to_owned(), |path, _| path.join("x".repeat(90)));
            fs::create_dir_all(&data).unwrap();
            let first = listen(&data).unwrap();
            assert_eq!(fs::metadata(path(&data)).unwrap().permissions().mode() & 0o777, 0o600);
            connect(&data).unwrap();
            drop(first);
            assert_eq!(connect(&data).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            // What a server that was killed left behind.
            let _second = listen(&data).unwrap();
            connect(&data).unwrap();
            remove(&data).unwrap();
            assert_eq!(connect(&data).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}
