// SPDX-License-Identifier: AGPL-3.0-only
//! The client against registries that err, lie, stall and never end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use stella_storage::{Algorithm, Digest, Reference};
use tempfile::TempDir;

use super::credentials::CredentialStore;
use super::registry::Options;
use super::wire::Patience;
use super::{Content, Error, ImageName, Remote, Result};

mod evil;
mod login;
mod pulls;
mod pushes;
mod source;

use evil::{Evil, Reply, Request};

/// Little, so that tests need not wait; what must not happen soon gets more.
fn patience() -> Patience {
    Patience {
        idle: Duration::from_secs(20),
        small: Duration::from_secs(20),
        attempts: 3,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_secs(1),
    }
}

/// A client of one evil registry.
struct Client {
    remote: Remote,
    runtime: tokio::runtime::Runtime,
    _home: TempDir,
}

impl Client {
    fn new(evil: &Evil) -> Self {
        Self::with(evil, patience(), "{}")
    }

    /// With a docker configuration in which `HOST` stands for the registry.
    fn with(evil: &Evil, patience: Patience, config: &str) -> Self {
        let home = TempDir::new().unwrap();
        let file = home.path().join("config.json");
        fs::write(&file, config.replace("HOST", evil.host())).unwrap();
        let credentials = CredentialStore::for_test(vec![file], Path::new("/nowhere"), patience.small);
        let options = Options { cacert: None, plain_http: true, allow_http: false, credentials, patience };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let name: ImageName = format!("{}/app:1", evil.host()).parse().unwrap();
        let remote = runtime.block_on(Remote::connect(&options, &name)).unwrap();
        Client { remote, runtime, _home: home }
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn manifest(&self, reference: &str) -> Result<super::Manifest> {
        let reference: Reference = reference.parse().unwrap();
        self.run(self.remote.manifest(&reference))
    }

    fn blob(&self, bytes: &[u8]) -> Result<Bytes> {
        let digest = sha256(bytes);
        self.run(async { self.remote.blob(&digest, bytes.len() as u64).await?.whole().await })
    }

    fn push(&self, bytes: &'static [u8]) -> Result<super::Pushed> {
        self.push_as(&sha256(bytes), bytes)
    }

    fn push_as(&self, digest: &Digest, bytes: &'static [u8]) -> Result<super::Pushed> {
        let open = || async { content(digest, bytes) };
        self.run(self.remote.push_blob(digest, None, open))
    }
}

fn content(digest: &Digest, bytes: &'static [u8]) -> Result<Content> {
    let pieces: Vec<_> = bytes.chunks(7).map(|piece| Ok(Bytes::from_static(piece))).collect();
    Content::verified(digest, bytes.len() as u64, futures_util::stream::iter(pieces))
}

fn sha256(bytes: &[u8]) -> Digest {
    Algorithm::Sha256.digest(bytes)
}

fn index() -> Vec<u8> {
    let kind = "application/vnd.oci.image.index.v1+json";
    json!({"schemaVersion": 2, "mediaType": kind, "manifests": []}).to_string().into_bytes()
}
