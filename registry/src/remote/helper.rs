// SPDX-License-Identifier: AGPL-3.0-only
//! Credential helpers: programs named `docker-credential-NAME` that keep secrets, asked with `get`. They get
//! a limited time and may say a limited amount; what they say is never shown, for it may be a secret.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::{Credential, Secret};
use super::error::{Error, Result};

const MAX_ANSWER: u64 = 64 << 10;
/// What a helper says on stdout when it has nothing, with exit code 1.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Asks the helper `name` for the credentials of `server`. The program is looked for in `path`, else in
/// that of this process.
pub(super) async fn ask(
    name: &str,
    server: &str,
    path: Option<&std::ffi::OsStr>,
    limit: Duration,
) -> Result<Option<Credential>> {
    let program = format!("docker-credential-{name}");
    // The name becomes part of a program's name, not of a path.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Error::Auth(format!("credential helper {name:?} has a name that is none")));
    }
    let failed = |why: String| Error::Auth(format!("credential helper {program} {why}"));
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|error| {
        failed(format!("cannot be run ({error}); install it, or remove it from the docker configuration"))
    })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input may still answer.
            let _unread = stdin.write_all(format!("{server}\n").as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER + 1).read_to_end(&mut said).await?;
        }
        if said.len() as u64 > MAX_ANSWER {
            return Ok((None, said));
        }
        child.wait().await.map(|status| (Some(status), said))
    };
    let (status, said) = tokio::time::timeout(limit, talk)
        .await
        .map_err(|_| failed(format!("did not answer within {} seconds", limit.as_secs_f64())))?
        .map_err(|error| failed(format!("failed: {error}")))?;
    let Some(status) = status else {
        return Err(failed("said more than 64 KiB".to_owned()));
    };
    if !status.success() {
        if String::from_utf8_lossy(&said).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed(format!("failed ({status}); try `{program} get` by hand")));
    }
    let answer: Answer =
        serde_json::from_slice(&said).map_err(|_| failed("gave no valid answer".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credential::Identity(secret),
        _ => Credential::Password { user: answer.username, secret },
    }))
}
