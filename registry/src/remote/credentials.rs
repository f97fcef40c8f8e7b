// SPDX-License-Identifier: AGPL-3.0-only
//! Credentials, found where docker's and podman's logins leave them. Files are read when a registry first
//! asks for a login, in this order; the first that knows the registry wins:
//!
//! 1. the file that `$REGISTRY_AUTH_FILE` names (podman, skopeo, buildah);
//! 2. `$DOCKER_CONFIG/config.json`, or without that variable `~/.docker/config.json`;
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`.
//!
//! Within a file `credHelpers` beat `auths`, which beat `credsStore`. A [`Secret`] cannot be printed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use stella_storage::RepoName;

use super::error::{Error, Result};
use super::helper;
use super::reference::Host;

/// What docker calls Docker Hub in its configuration.
const HUB: &str = "https://index.docker.io/v1/";
const MAX_FILE: u64 = 4 << 20;

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Box<str>);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Secret(text.into())
    }

    /// The secret itself, for the wire.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What to show to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A name and a password.
    Password {
        /// Who.
        user: String,
        /// The password.
        secret: Secret,
    },
    /// A token that is exchanged for others: docker's identity token.
    Identity(Secret),
    /// A token that the registry takes as it is.
    Registry(Secret),
}

/// Where credentials may be.
#[derive(Clone, Debug)]
pub(crate) struct CredentialStore {
    files: Vec<PathBuf>,
    /// Where helpers are looked for; the process' own `PATH` if not given.
    path: Option<OsString>,
    helper_limit: Duration,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl CredentialStore {
    /// The places that the environment names.
    pub(crate) fn from_environment(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = get("DOCKER_CONFIG").or_else(|| get("HOME").map(|home| home.join(".docker")));
        let files = [
            get("REGISTRY_AUTH_FILE"),
            docker.map(|folder| folder.join("config.json")),
            get("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        ];
        let files = files.into_iter().flatten().collect();
        CredentialStore { files, path: None, helper_limit: Duration::from_secs(30) }
    }

    /// The credentials for a repository, if there are any.
    pub(crate) async fn find(&self, host: &Host, repository: &RepoName) -> Result<Option<Credential>> {
        for path in &self.files {
            let Some(config) = read(path)? else { continue };
            if let Some(found) = self.find_in(&config, path, host, repository).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_in(
        &self,
        config: &ConfigFile,
        path: &Path,
        host: &Host,
        repository: &RepoName,
    ) -> Result<Option<Credential>> {
        let server = if host.is_hub() { HUB } else { host.as_str() };
        let ask = async |name: &str| {
            helper::ask(name, server, self.path.as_deref().map(OsStr::new), self.helper_limit).await
        };
        let helper = config.helpers.iter().find(|(key, _)| normal(key) == host.as_str());
        if let Some((_, name)) = helper
            && let Some(found) = ask(name).await?
        {
            return Ok(Some(found));
        }
        // podman keeps logins for parts of a registry: the longest that fits.
        let place = format!("{host}/{repository}");
        let fits =
            |key: &str| place.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let entries = config.auths.iter().map(|(key, entry)| (normal(key), entry));
        let entry = entries.filter(|(key, _)| fits(key)).max_by_key(|(key, _)| key.len());
        if let Some((_, entry)) = entry
            && let Some(found) = entry.credential(path)?
        {
            return Ok(Some(found));
        }
        if config.store.is_empty() { Ok(None) } else { ask(&config.store).await }
    }

    #[cfg(test)]
    pub(super) fn for_test(files: Vec<PathBuf>, path: &Path, helper_limit: Duration) -> Self {
        CredentialStore { files, path: Some(path.into()), helper_limit }
    }
}

impl Entry {
    fn credential(&self, path: &Path) -> Result<Option<Credential>> {
        let malformed =
            || Error::Auth(format!("{} holds an `auth` that is not NAME:PASSWORD in base64", path.display()));
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Registry(Secret::new(self.registrytoken.clone()))));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(Secret::new(self.identitytoken.clone()))));
        }
        if !self.auth.is_empty() {
            let bytes = BASE64_STANDARD.decode(self.auth.trim()).map_err(|_| malformed())?;
            let text = String::from_utf8(bytes).map_err(|_| malformed())?;
            // docker ends the password with a zero in some versions.
            let (user, secret) = text.trim_end_matches('\0').split_once(':').ok_or_else(malformed)?;
            return Ok(Some(Credential::Password {
                user: user.to_owned(),
                secret: Secret::new(secret.to_owned()),
            }));
        }
        if self.username.is_empty() {
            return Ok(None);
        }
        let secret = Secret::new(self.password.clone());
        Ok(Some(Credential::Password { user: self.username.clone(), secret }))
    }
}

/// The host that a key of the configuration means: docker wrote URLs once.
fn normal(key: &str) -> String {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, rest) = key.split_once('/').map_or((key, None), |(host, rest)| (host, Some(rest)));
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

fn read(path: &Path) -> Result<Option<ConfigFile>> {
    let failed = |why: String| Error::Auth(format!("cannot read credentials from {}: {why}", path.display()));
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
        Ok(_) => {}
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed("it is larger than 4 MiB".to_owned()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // The parser's words may quote the file, secrets and all: its place is enough.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        failed(format!("line {}, column {} is not what docker writes there", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests;
