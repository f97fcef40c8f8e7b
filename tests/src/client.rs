// SPDX-License-Identifier: AGPL-3.0-only
//! The real clients: which programs each needs, where they are, and what happens where one is missing. A
//! test then says so on one line of stderr and passes; with `STELLA_REQUIRE_CLIENTS=1` it fails.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::geteuid;

/// A client, or another program that a test needs, that `tests/clients/install.sh` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Docker's engine and command line.
    Docker,
    /// podman.
    Podman,
    /// skopeo.
    Skopeo,
    /// buildah.
    Buildah,
    /// containerd and its `ctr`.
    Containerd,
    /// crane, of go-containerregistry.
    Crane,
    /// oras.
    Oras,
    /// helm.
    Helm,
    /// regctl, of regclient.
    Regctl,
    /// cosign, version 3.
    Cosign,
    /// cosign, version 2.
    Cosign2,
    /// A timestamp authority, of Sigstore.
    TimestampServer,
    /// curl, which is no registry's client.
    Curl,
    /// nginx, which stands before the registry.
    Nginx,
    /// Prometheus and its promtool.
    Prometheus,
    /// What judges units, of systemd.
    Systemd,
    /// Debian's docker-registry, a server; and what its certificates and passwords are made with.
    DockerRegistry,
}

impl Client {
    /// Its programs, the one that tests run first.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["docker", "dockerd"],
            Self::Podman => &["podman"],
            Self::Skopeo => &["skopeo"],
            Self::Buildah => &["buildah"],
            Self::Containerd => &["ctr", "containerd"],
            Self::Crane => &["crane"],
            Self::Oras => &["oras"],
            Self::Helm => &["helm"],
            Self::Regctl => &["regctl"],
            Self::Cosign => &["cosign"],
            Self::Cosign2 => &["cosign2"],
            Self::TimestampServer => &["timestamp-server"],
            Self::Curl => &["curl"],
            Self::Nginx => &["nginx"],
            Self::Prometheus => &["prometheus", "promtool"],
            Self::Systemd => &["systemd-analyze"],
            Self::DockerRegistry => &["docker-registry", "openssl", "perl"],
        }
    }

    /// Whether it agrees on HTTP/2 where TLS lets it choose.
    pub(crate) fn prefers_http2(self) -> bool {
        matches!(
            self,
            Self::Crane | Self::Oras | Self::Helm | Self::Regctl | Self::Cosign | Self::Cosign2 | Self::Curl
        )
    }

    /// Whether it looks for CAs in `~/.config/containers/certs.d`, where its users put them.
    pub(crate) fn has_certs_d(self) -> bool {
        matches!(self, Self::Skopeo | Self::Podman | Self::Buildah)
    }

    /// Whether tests run it as root: it mounts, or keeps files of several owners.
    fn needs_root(self) -> bool {
        matches!(self, Self::Docker | Self::Podman | Self::Buildah | Self::Containerd)
    }

    /// Why it cannot be used here, if it cannot.
    fn obstacle(self) -> Option<String> {
        let missing = self.programs().iter().find(|program| find(program).is_none());
        if let Some(program) = missing {
            return Some(format!("{program} is not installed; run tests/clients/install.sh"));
        }
        (self.needs_root() && !geteuid().is_root())
            .then(|| format!("{} needs root here; run the tests as root", self.programs()[0]))
    }
}

/// Whether all of `clients` can be used. If not, the test that runs is to end here, and that is said.
#[track_caller]
pub(crate) fn usable(clients: &[Client]) -> bool {
    match clients.iter().find_map(|client| client.obstacle()) {
        None => true,
        Some(obstacle) => {
            skip(&obstacle);
            false
        }
    }
}

/// Says that the test that runs ends here, and why; fails it where nothing may be missing.
#[track_caller]
pub(crate) fn skip(obstacle: &str) {
    let required = env::var_os("STELLA_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "{obstacle} (STELLA_REQUIRE_CLIENTS=1 makes this a failure)");
    // The test thread has the name of its test, except where tests run one by one in the main thread.
    let caller = Location::caller().to_string();
    let test = thread::current().name().filter(|&name| name != "main").map_or(caller, str::to_owned);
    // Not eprintln!: what a passing test prints with it is never shown.
    let _ = io::stderr().write_all(format!("SKIPPED {test}: {obstacle}\n").as_bytes());
}

/// Where `program` is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path().iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The directories that programs are looked for in, as `PATH` for them too.
pub(crate) fn path_variable() -> OsString {
    env::join_paths(search_path()).unwrap()
}

fn search_path() -> Vec<PathBuf> {
    let mut path = vec![installed()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    // Daemons are there, and a user's PATH often leaves it out.
    path.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    path
}

/// Where `tests/clients/install.sh` puts what it builds.
fn installed() -> PathBuf {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("STELLA_CLIENTS").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("stella-clients")
    });
    Path::new(&root).join("bin")
}
