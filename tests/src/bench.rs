// SPDX-License-Identifier: AGPL-3.0-only
//! What a test with clients works at: a server, and a scratch directory that is the home and the working
//! directory of every client. Nothing of the user's own configuration reaches a client, and a call to
//! anywhere but loopback fails at once, at a proxy that is not there.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::client::{Client, find, path_variable, usable};
use crate::program::stella;
use crate::server::Server;
use crate::tar::tar_of;
use crate::tool::Tool;

/// Where skopeo looks by itself, and what podman and buildah are told.
const REGISTRIES: &str = ".config/containers/registries.conf";

/// A server and a scratch directory for clients.
#[derive(Debug)]
pub struct Bench {
    /// The server under test.
    pub server: Server,
    scratch: TempDir,
}

impl Bench {
    /// A fresh bench for `clients`, or `None`, once that was said, if one of them cannot be used here.
    #[track_caller]
    pub fn with(clients: &[Client]) -> Option<Self> {
        if !usable(clients) {
            return None;
        }
        let scratch = TempDir::with_prefix("stella-test-").unwrap();
        let bench = Self { server: Server::start(), scratch };
        bench.furnish();
        Some(bench)
    }

    /// Runs `check` before and after a restart of the server, and tells it which of both this is.
    pub fn around_a_restart(&mut self, mut check: impl FnMut(&Self, &str)) {
        check(self, "before");
        self.server.restart();
        check(self, "after");
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Writes a file into the scratch directory.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Reads a file from the scratch directory.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// Packs the directory `name` into an archive, and gives the archive's name.
    pub fn archive(&self, name: &str) -> String {
        let archive = format!("{name}.tar");
        self.write(&archive, tar_of(&self.path(name)));
        archive
    }

    /// The client's program, ready to run.
    pub fn tool(&self, client: Client) -> Tool {
        self.program(client.programs()[0])
    }

    /// Our own command line.
    pub fn stella(&self) -> Tool {
        self.at(stella().to_owned())
    }

    /// Another program of a client, such as its daemon.
    pub fn program(&self, name: &str) -> Tool {
        self.at(find(name).unwrap_or_else(|| panic!("{name} is not installed")))
    }

    fn at(&self, path: PathBuf) -> Tool {
        let home = self.scratch.path();
        Tool::new(path, home)
            .env("PATH", path_variable())
            .env("HOME", home)
            .env("TMPDIR", home.join("tmp"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("DOCKER_BUILDKIT", "0") // Debian's docker has no buildx
            .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
            .env("CONTAINERS_REGISTRIES_CONF", home.join(REGISTRIES))
            .env("REGCTL_CONFIG", home.join("regctl.json"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_DATA_HOME", home.join("helm/data"))
    }

    /// What clients find in their home.
    fn furnish(&self) {
        let host = self.server.host();
        for directory in ["tmp", "run", "docker"] {
            fs::create_dir_all(self.path(directory)).unwrap();
        }
        self.write("auth.json", "{}");
        let registries = format!(
            "unqualified-search-registries = []\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"
        );
        self.write(REGISTRIES, registries);
        self.write(".config/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        self.write("regctl.json", format!(r#"{{"hosts": {{"{host}": {{"tls": "disabled"}}}}}}"#));
    }
}
