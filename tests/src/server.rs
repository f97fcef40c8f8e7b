// SPDX-License-Identifier: AGPL-3.0-only
//! The server under test: the real program on a free loopback port, with a data directory of its own that
//! outlives restarts. None of the caller's `STELLA_` settings reach it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::Authority;
use crate::host::Host;
use crate::http::{Request, Response};
use crate::network::Network;
use crate::nginx::Nginx;
use crate::process::{Process, poll};
use crate::program::stella;
use crate::repository::Repository;
use crate::transport::Transport;

/// Its configuration file, beside its logs.
const CONFIGURATION: &str = "stella.yaml";

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where clients find it.
    host: Host,
    /// Where it listens itself.
    listen: String,
    authority: Option<Authority>,
    front: Option<Nginx>,
    settings: Vec<(String, String)>,
    starts: usize,
    data: PathBuf,
    // Last, so that it is removed after the process has ended.
    directory: TempDir,
}

impl Server {
    /// Starts a server with the default configuration and no content.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with these variables in its environment, such as
    /// `("STELLA_PUSH__ALLOW_MISSING", "true")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::with_prefix("stella-server-").unwrap();
        let data = directory.path().join("data");
        Self::begin(settings, directory, data)
    }

    /// Starts a server that is spoken to so, with these variables in its environment. With TLS it has a
    /// certificate of a private CA.
    pub fn over(transport: Transport, settings: &[(&str, &str)]) -> Self {
        match transport {
            Transport::Plain => Self::with(settings),
            Transport::Tls | Transport::TlsHttp1 => Self::with_tls(settings, &["127.0.0.1", "localhost"]),
            Transport::Nginx => {
                let trusted = ("STELLA_TRUSTED_PROXIES", "[127.0.0.1]");
                let mut server = Self::with(&[settings, &[trusted]].concat());
                let authority = Authority::new();
                let front = Nginx::before(&server.listen, &authority, server.directory.path());
                server.host = Host::tls(&front.address, authority.client(&[b"http/1.1"]));
                server.authority = Some(authority);
                server.front = Some(front);
                server
            }
        }
    }

    /// Starts a server on the loopback of a network of its own, where it can be reached by that network's
    /// address. It speaks TLS.
    pub fn inside(network: &mut Network, settings: &[(&str, &str)]) -> Self {
        let address = network.address().to_string();
        let mut server = network.inside(|| Self::with_tls(settings, &[&address]));
        let port = server.listen.rsplit_once(':').unwrap().1.parse().unwrap();
        let reached = network.forward(port).to_string();
        server.host = Host::tls(&reached, server.authority.as_ref().unwrap().client(&[b"http/1.1"]));
        server
    }

    /// Starts a server with a certificate for `names`, of a CA that nobody trusts by default.
    fn with_tls(settings: &[(&str, &str)], names: &[&str]) -> Self {
        let directory = TempDir::with_prefix("stella-server-").unwrap();
        let data = directory.path().join("data");
        let authority = Authority::new();
        let certificates = format!("[{}]", authority.issue(names).write(directory.path(), "server"));
        let settings = [settings, &[("STELLA_TLS__CERTIFICATES", certificates.as_str())]].concat();
        let mut server = Self::begin(&settings, directory, data);
        server.host = Host::tls(&server.listen, authority.client(&[b"http/1.1"]));
        server.authority = Some(authority);
        server
    }

    /// As [`Server::with`], with its data in a directory of the caller's.
    pub fn on(data: &Path, settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::with_prefix("stella-server-").unwrap();
        Self::begin(settings, directory, data.to_owned())
    }

    fn begin(settings: &[(&str, &str)], directory: TempDir, data: PathBuf) -> Self {
        let settings: Vec<_> = settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let log = directory.path().join("log-0");
        fs::write(directory.path().join(CONFIGURATION), "").unwrap();
        let mut process = launch(&data, &log, "127.0.0.1:0", &settings);
        let listen = address(&mut process).unwrap_or_else(|| panic!("the server ended at once"));
        let host = Host::plain(&listen);
        Self { process, host, listen, authority: None, front: None, settings, starts: 1, data, directory }
    }

    /// The directory of everything that it keeps.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The host and port that it listens on, or that nginx does before it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Who vouches for it, if it speaks TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// All that it has said since its first start.
    pub fn said(&self) -> String {
        let log = |start| fs::read(self.directory.path().join(format!("log-{start}"))).unwrap();
        (0..self.starts).map(|start| String::from_utf8_lossy(&log(start)).into_owned()).collect()
    }

    /// The repository `name`, spoken to without a client.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.host, name)
    }

    /// Sends a request, and reads its answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request.send(&self.host)
    }

    /// Stops the server as an operator does, and starts it again on the same port and data.
    pub fn restart(&mut self) {
        let status = self.process.stop(PATIENCE);
        assert!(status.success(), "the server ended with {status} after SIGTERM");
        self.start_again();
    }

    /// Ends the server with SIGKILL. [`Server::start_again`] brings it back.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again on the same port and data after [`Server::kill`].
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // Somebody else may use the port for a moment: connections of other tests take free ports too.
        loop {
            let mut process = self.launch_again();
            let listening = address(&mut process);
            let said = process.said();
            self.process = process;
            match listening {
                Some(host) => return assert_eq!(host, self.listen),
                None => assert!(Instant::now() < deadline, "the server does not start again:\n{said}"),
            }
        }
    }

    /// Starts the server again and ends it with SIGKILL after a while, wherever it is by then; `before` that
    /// something else may happen to it.
    pub fn start_and_kill(&mut self, after: Duration, before: impl FnOnce()) {
        let mut process = self.launch_again();
        thread::sleep(after);
        before();
        process.kill();
    }

    /// Whether its process is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Runs the program with these arguments on the data, as an operator does, to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(stella());
        set_environment(&mut command, &self.settings);
        command.args(arguments).arg("--data").arg(&self.data).stdin(Stdio::null()).output().unwrap()
    }

    fn launch_again(&mut self) -> Process {
        let log = self.directory.path().join(format!("log-{}", self.starts));
        self.starts += 1;
        launch(&self.data, &log, &self.listen, &self.settings)
    }

    /// The most memory that it has had in use since it was started (`VmHWM`), in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it has in use (`VmRSS`), in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Where it serves its metrics, if they have a listener of their own.
    #[track_caller]
    pub fn metrics_host(&self) -> String {
        let said = self.process.said();
        let line =
            said.lines().find_map(|line| line.strip_prefix("metrics on http://")?.strip_suffix("/metrics"));
        line.unwrap_or_else(|| panic!("no listener for metrics in\n{said}")).to_owned()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// How many of its open files are the metadata's, of which each reader that it keeps has some.
    pub fn open_metadata(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let names = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        names.filter(|name| name.to_string_lossy().contains("metadata.sqlite")).count()
    }

    /// Writes its configuration file, which is empty at first; the settings of its start are stronger.
    pub fn configure(&self, yaml: &str) {
        fs::write(self.directory.path().join(CONFIGURATION), yaml).unwrap();
    }

    /// Gives it another certificate of the same authority, if it has one, and another key.
    pub fn renew_certificate(&self) {
        if let Some(authority) = &self.authority {
            authority.issue(&["127.0.0.1", "localhost"]).write(self.directory.path(), "server");
        }
    }

    /// Tells it to read its files again, by SIGHUP.
    pub fn reload(&self) {
        self.process.hang_up();
    }
}

/// Starts the program; its output goes into a file of this start alone.
fn launch(data: &Path, log: &Path, listen: &str, settings: &[(String, String)]) -> Process {
    let mut command = Command::new(stella());
    set_environment(&mut command, settings);
    command.args(["serve", "--listen", listen, "--data"]).arg(data);
    command.arg("--config").arg(log.with_file_name(CONFIGURATION));
    Process::start("the server", &mut command, log)
}

fn set_environment(command: &mut Command, settings: &[(String, String)]) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STELLA_") {
            command.env_remove(name);
        }
    }
    command.env("STELLA_LOG__FORMAT", "human");
    // Tests look for what clients asked; also for what was only read.
    command.env("STELLA_LOG__LEVEL", "info,access=debug");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
}

/// The address that the server says it listens on, or `None` if it ended without.
fn address(process: &mut Process) -> Option<String> {
    poll("the server to listen", PATIENCE, || {
        let ended = process.ended().is_some();
        let said = process.said();
        // A last line without its end may not be whole.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let url = whole.lines().find_map(|line| line.strip_prefix("listening on "));
        let host = url.and_then(|url| url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")));
        match host {
            Some(host) => Some(Some(host.trim().to_owned())),
            None if ended => Some(None),
            None => None,
        }
    })
}
