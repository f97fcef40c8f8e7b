// SPDX-License-Identifier: AGPL-3.0-only
//! What a test with clients works at: a server, and a scratch directory that is the home and the working
//! directory of every client. Nothing of the user's own configuration reaches a client, and a call to
//! anywhere but loopback fails at once, at a proxy that is not there.

use std::fs;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use crate::client::{Client, find, path_variable, usable};
use crate::network::{ADDRESSES, Network};
use crate::program::stella;
use crate::server::Server;
use crate::tar::tar_of;
use crate::tool::Tool;
use crate::transport::Transport;

/// Where skopeo looks by itself, and what podman and buildah are told.
const REGISTRIES: &str = ".config/containers/registries.conf";
/// The CA of a server that speaks TLS.
const CA: &str = "ca.crt";

/// A server and a scratch directory for clients.
#[derive(Debug)]
pub struct Bench {
    /// The server under test.
    pub server: Server,
    scratch: TempDir,
    over: Transport,
    clients: Vec<Client>,
    is_quiet: bool,
}

impl Bench {
    /// A fresh bench for `clients`, which speak to the server over `over`, or `None`, once that was said, if one of them cannot be used here.
    #[track_caller]
    pub fn with(clients: &[Client], over: Transport) -> Option<Self> {
        Self::with_settings(clients, over, &[])
    }

    /// The same, with these variables in the server's environment.
    #[track_caller]
    pub fn with_settings(clients: &[Client], over: Transport, settings: &[(&str, &str)]) -> Option<Self> {
        usable(&[clients, over.needs()].concat())
            .then(|| Self::around(Server::over(over, settings), clients, over))
    }

    /// The same around a server in a network of its own, which speaks TLS.
    #[track_caller]
    pub fn inside(network: &mut Network, clients: &[Client], settings: &[(&str, &str)]) -> Option<Self> {
        usable(clients).then(|| Self::around(Server::inside(network, settings), clients, Transport::Tls))
    }

    fn around(server: Server, clients: &[Client], over: Transport) -> Self {
        let scratch = TempDir::with_prefix("stella-test-").unwrap();
        let bench = Self { server, scratch, over, clients: clients.to_vec(), is_quiet: false };
        bench.furnish();
        bench
    }

    /// Says that no client may ask the server for anything, instead of that one must.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
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
        self.at("stella", stella().to_owned())
    }

    /// Another program of a client, such as its daemon.
    pub fn program(&self, name: &str) -> Tool {
        self.at(name, find(name).unwrap_or_else(|| panic!("{name} is not installed")))
    }

    fn at(&self, name: &str, path: PathBuf) -> Tool {
        let home = self.scratch.path();
        let tool = Tool::new(path, home)
            .env("PATH", path_variable())
            .env("HOME", home)
            .env("TMPDIR", home.join("tmp"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("NO_PROXY", ADDRESSES)
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("DOCKER_BUILDKIT", "0") // Debian's docker has no buildx
            .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
            .env("CONTAINERS_REGISTRIES_CONF", home.join(REGISTRIES))
            .env("REGCTL_CONFIG", home.join("regctl.json"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_DATA_HOME", home.join("helm/data"));
        if self.over.is_tls() { self.with_tls(tool, name) } else { tool }
    }

    /// A tool that has the CA, and to which nobody says that there is no TLS. Tests are written for plain
    /// HTTP, which many clients want to be told of.
    fn with_tls(&self, tool: Tool, name: &str) -> Tool {
        let certs_d =
            self.clients.iter().any(|client| client.has_certs_d() && client.programs().contains(&name));
        let tool = match name {
            "ctr" => tool.instead("--plain-http", "--hosts-dir certs.d"),
            // The engine checks nothing on 127.0.0.0/8; where it does, a test says what it trusts.
            "dockerd" => tool,
            _ if certs_d => tool,
            _ => tool.env("SSL_CERT_FILE", self.path(CA)),
        };
        let tool = match self.over {
            Transport::TlsHttp1 if name == "curl" => tool.flags("--http1.1"),
            Transport::TlsHttp1 => tool.env("GODEBUG", "http2client=0"),
            Transport::Plain | Transport::Tls | Transport::Nginx => tool,
        };
        ["--plain-http", "--from-plain-http", "--to-plain-http"]
            .into_iter()
            .fold(tool.instead("--tls=disabled", "--tls=enabled"), |tool, flag| tool.instead(flag, ""))
    }

    /// What clients find in their home.
    fn furnish(&self) {
        let host = self.server.host();
        for directory in ["tmp", "run", "docker"] {
            fs::create_dir_all(self.path(directory)).unwrap();
        }
        self.write("auth.json", "{}");
        let insecure = !self.over.is_tls();
        let registries = format!(
            "unqualified-search-registries = []\n[[registry]]\nlocation = \"{host}\"\ninsecure = {insecure}\n"
        );
        self.write(REGISTRIES, registries);
        self.write(".config/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        let tls = if insecure { "disabled" } else { "enabled" };
        self.write("regctl.json", format!(r#"{{"hosts": {{"{host}": {{"tls": "{tls}"}}}}}}"#));
        if let Some(authority) = self.server.authority() {
            let ca = self.write(CA, authority.pem());
            self.write(&format!(".config/containers/certs.d/{host}/ca.crt"), authority.pem());
            let hosts = format!(
                "server = \"https://{host}\"\n[host.\"https://{host}\"]\n\
                 capabilities = [\"pull\", \"resolve\", \"push\"]\nca = \"{}\"\n",
                ca.display()
            );
            self.write(&format!("certs.d/{host}/hosts.toml"), hosts);
        }
    }

    /// Checks in the server's log that the clients spoke what they were to speak. What the test asks by itself
    /// has no name there.
    fn check_protocols(&self) {
        let said = self.server.said();
        let lines: Vec<_> =
            said.lines().filter(|line| line.contains(" answered ") && line.contains(" agent=")).collect();
        let versions: Vec<_> = self.clients.iter().map(|&client| self.over.version(client)).collect();
        let scheme = self.server.host().scheme();
        let expected = |line: &str| {
            let version = versions.iter().any(|version| line.contains(&format!(" version={version} ")));
            version && line.contains(&format!(" scheme={scheme} "))
        };
        if let Some(line) = lines.iter().find(|line| !expected(line)) {
            panic!("not {versions:?} over {scheme}: {line}");
        }
        // Another server is no client of ours.
        let asks = self.clients.iter().any(|client| *client != Client::DockerRegistry);
        if self.is_quiet {
            assert!(lines.is_empty(), "a client has asked for something:\n{said}");
        } else {
            assert!(!asks || !lines.is_empty(), "no client has asked for anything:\n{said}");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.check_protocols();
        }
    }
}
