// SPDX-License-Identifier: AGPL-3.0-only
//! The command line's side of the socket. It blocks: a command does nothing else.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;

use serde_json::Value;

use super::{Done, Failed, Operation, socket};
use crate::exit;

/// Asks the server that holds the data directory `data` for an operation, and shows its items to `each`.
/// `holder` names the server.
pub(crate) fn ask<O: Operation>(
    data: &Path,
    holder: &str,
    operation: O,
    mut each: impl FnMut(O::Item) -> io::Result<()>,
) -> anyhow::Result<O::Summary> {
    let failed = |error: String, exit| Failed { error, exit };
    let path = socket::path(data);
    let path = path.display();
    let mut stream = socket::connect(data).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => failed(
            format!(
                "{} is in use by {holder}, which does not answer at {path}: try again later",
                data.display()
            ),
            exit::RETRY,
        ),
        _ => failed(format!("cannot connect to {path} of {holder}: {error}"), exit::INTERNAL),
    })?;
    let lost = |error: io::Error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ended(),
        _ => failed(format!("cannot speak with {holder}: {error}"), exit::INTERNAL),
    };
    let mut request = serde_json::to_vec(&operation.request())?;
    request.push(b'\n');
    stream.write_all(&request).map_err(lost)?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(lost)?;
        let value: Value = serde_json::from_str(&line).map_err(|error| not_understood(&error))?;
        if value.get("error").is_some() {
            let failed: Failed = serde_json::from_value(value).map_err(|error| not_understood(&error))?;
            return Err(failed.into());
        }
        if value.get("summary").is_some() {
            let done: Done<O::Summary> =
                serde_json::from_value(value).map_err(|error| not_understood(&error))?;
            return Ok(done.summary);
        }
        each(serde_json::from_value(value).map_err(|error| not_understood(&error))?)?;
    }
    Err(ended().into())
}

fn ended() -> Failed {
    Failed { error: "the server ended before the operation did".to_owned(), exit: exit::RETRY }
}

fn not_understood(error: &serde_json::Error) -> Failed {
    let error = format!("the server's answer is not understood; is it of another version? {error}");
    Failed { error, exit: exit::INTERNAL }
}
