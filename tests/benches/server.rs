// SPDX-License-Identifier: AGPL-3.0-only
//! The servers that are measured: how each is found, told what to do, started, stopped for a while, and ended.
//! Each setting that is not a server's default is here:
//!
//! - `stella`: address and data directory; a log file, as all the others.
//! - `docker-registry` and `distribution`: the configuration that Debian installs (it keeps descriptors in memory),
//!   without its users, and with address and directory; `distribution` exports no traces. Neither syncs what it
//!   writes: it answers when the kernel has it.
//! - `nginx`: as fast as it goes with sendfile: `sendfile`, `tcp_nopush`, `open_file_cache`, no access log, no end
//!   to a connection; a worker for each core.
//! - `bare`: this very program, see `bare.rs`.
//!
//! Invariant: when a `Server` is dropped its processes and its data are gone.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::ClientConfig;
use stella_tests::{Authority, Process, find, stella};

use crate::machine::said;
use crate::plan::Plan;
use crate::usage::{self, Memory, Threads};
use crate::wire::Talk;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Kind {
    /// This registry.
    Stella,
    /// Distribution 2.8, as Debian packages it.
    DockerRegistry,
    /// Distribution 3.
    Distribution,
    /// A web server with files.
    Nginx,
    /// The least that a push can be.
    Bare,
    /// No server: what verifies signatures beside `stella verify`.
    #[value(skip)]
    Cosign,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Stella, Self::DockerRegistry, Self::Distribution, Self::Nginx, Self::Bare];
    /// Those that speak a registry's API.
    pub(crate) const REGISTRIES: [Self; 3] = [Self::Stella, Self::DockerRegistry, Self::Distribution];

    /// Its name in tables and arguments.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stella => "stella",
            Self::DockerRegistry => "docker-registry",
            Self::Distribution => "distribution",
            Self::Nginx => "nginx",
            Self::Bare => "bare",
            Self::Cosign => "cosign",
        }
    }
}

/// A program that is installed.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    path: PathBuf,
}

impl Program {
    /// Finds the program of this kind; `ours` is the one to take for the registry itself.
    pub(crate) fn find(kind: Kind, ours: Option<&Path>) -> anyhow::Result<Self> {
        let installed = match kind {
            Kind::Stella => Some(ours.map_or_else(|| stella().to_owned(), Path::to_owned)),
            Kind::Bare => Some(std::env::current_exe()?),
            Kind::DockerRegistry => find("docker-registry"),
            Kind::Distribution => find("registry"),
            Kind::Nginx => find("nginx"),
            Kind::Cosign => find("cosign"),
        };
        let name = kind.name();
        let path = installed.filter(|path| path.is_file()).with_context(|| {
            format!("{name} is not there: let tests/benches/run.sh install it, or leave it out of --servers")
        })?;
        Ok(Self { kind, path: fs::canonicalize(path)? })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says that it is.
    pub(crate) fn version(&self) -> String {
        let asks = match self.kind {
            Kind::Nginx => "-v",
            Kind::Bare => return "part of the benches".to_owned(),
            _ => "--version",
        };
        let path = self.path.to_string_lossy();
        let said = said(&path, &[asks]).unwrap_or_else(|| "unknown".to_owned());
        // Some say where they lie, which is no matter of versions.
        said.trim_start_matches(&*path).trim_start().to_owned()
    }
}

/// A running server of a run's own.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    process: Process,
    processes: Vec<u32>,
    host: String,
    folder: PathBuf,
    program: Program,
    settings: Vec<(String, String)>,
    /// How clients trust it, if it speaks TLS.
    tls: Option<Arc<ClientConfig>>,
    pinned: bool,
    starts: usize,
}

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_mins(5);

impl Server {
    /// Starts it without content; `settings` are variables of the registry's environment.
    pub(crate) fn start(plan: &Plan, program: &Program, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_with(plan, program, settings, None)
    }

    /// The same, with a certificate of `authority` for HTTP/1.1 over TLS, which only the registry itself is set up for.
    pub(crate) fn start_with(
        plan: &Plan,
        program: &Program,
        settings: &[(&str, &str)],
        authority: Option<&Authority>,
    ) -> anyhow::Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = plan.folder.join(format!("{}-{number}", program.kind.name()));
        fs::create_dir_all(folder.join("data"))?;
        let mut settings: Vec<_> =
            settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        if let Some(authority) = authority {
            let certificate = authority.issue(&["127.0.0.1"]).write(&folder, "tls");
            settings.push(("STELLA_TLS__CERTIFICATES".to_owned(), format!("[{certificate}]")));
        }
        let pinned = plan.arguments.pin;
        let (process, host) = launch(program, &folder, &settings, pinned, 0)?;
        let mut server = Self {
            kind: program.kind,
            processes: vec![process.id()],
            process,
            host,
            folder,
            program: program.clone(),
            settings,
            tls: authority.map(|authority| authority.client(&[b"http/1.1"])),
            pinned,
            starts: 1,
        };
        server.wait_until_ready(Duration::from_millis(5))?;
        server.processes = usage::family(server.process.id())?;
        Ok(server)
    }

    /// Starts all of `kinds` that are to be measured.
    pub(crate) fn start_all(plan: &Plan, kinds: &[Kind]) -> anyhow::Result<Vec<Self>> {
        let chosen = plan.programs.iter().filter(|program| kinds.contains(&program.kind));
        chosen.map(|program| Self::start(plan, program, &[])).collect()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) {
        self.process.stop(PATIENCE);
    }

    /// Starts it again on what it has kept, and gives the time from its start until it was ready.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        (self.process, self.host) =
            launch(&self.program, &self.folder, &self.settings, self.pinned, self.starts)?;
        self.starts += 1;
        self.wait_until_ready(Duration::from_micros(500))?;
        let took = began.elapsed();
        self.processes = usage::family(self.process.id())?;
        Ok(took)
    }

    /// Asks whether it is ready until it is.
    fn wait_until_ready(&mut self, pause: Duration) -> anyhow::Result<()> {
        let target = match self.kind {
            Kind::Stella => "/readyz",
            Kind::DockerRegistry | Kind::Distribution => "/v2/",
            Kind::Nginx | Kind::Bare | Kind::Cosign => "/ready",
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.ended() {
                bail!(
                    "{} ended with {status} when it was started:\n{}",
                    self.kind.name(),
                    self.process.said()
                );
            }
            let answer = self.talk().and_then(|mut talk| talk.ask("GET", target, &[], &[]));
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {PATIENCE:?}:\n{}", self.kind.name(), self.process.said());
            }
            thread::sleep(pause);
        }
    }

    /// The host and port that it listens on.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// A new connection to it, in which it speaks as it is set up to.
    pub(crate) fn talk(&self) -> io::Result<Talk> {
        match &self.tls {
            Some(config) => Talk::open_tls(&self.host, config),
            None => Talk::open(&self.host),
        }
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The processor time that it has used since it was started, in seconds.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        usage::processor_seconds(&self.processes)
    }

    /// What its threads have used.
    pub(crate) fn threads(&self) -> anyhow::Result<Threads> {
        usage::threads(&self.processes)
    }

    /// The memory that it uses.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        usage::memory(&self.processes)
    }

    /// Lets it do nothing until [`Server::wake`].
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        for &id in &self.processes {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                // One that has ended is noticed by whoever talks to it next.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.wake();
            if self.kind == Kind::Nginx {
                // Killed, it would leave its workers.
                self.stop();
            } else {
                self.kill();
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts a program, and gives where it listens.
fn launch(
    program: &Program,
    folder: &Path,
    settings: &[(String, String)],
    pinned: bool,
    start: usize,
) -> anyhow::Result<(Process, String)> {
    let log = folder.join(format!("log-{start}"));
    let mut command = Command::new(&program.path);
    let mut host = String::new();
    match program.kind {
        Kind::Stella => {
            without_settings(&mut command, "STELLA_");
            command.envs(settings.iter().map(|(name, value)| (name, value)));
            command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data"));
        }
        Kind::DockerRegistry | Kind::Distribution => {
            host = free_address()?;
            let file = folder.join("config.yml");
            fs::write(&file, distribution_configuration(&folder.join("data"), &host))?;
            without_settings(&mut command, "REGISTRY_");
            command.env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(file);
        }
        Kind::Nginx => {
            host = free_address()?;
            let file = folder.join("nginx.conf");
            fs::write(&file, nginx_configuration(folder, &host))?;
            fs::write(folder.join("data/ready"), "ready\n")?;
            command.args([OsStr::new("-e"), folder.join("error.log").as_os_str()]);
            command.args([OsStr::new("-p"), folder.as_os_str(), OsStr::new("-c"), file.as_os_str()]);
        }
        Kind::Cosign => bail!("cosign is no server"),
        Kind::Bare => {
            command.arg("bare").arg(folder.join("data"));
        }
    }
    let mut process = on_core(pinned, || Process::start(program.kind.name(), &mut command, &log))?;
    if host.is_empty() {
        host = address(&mut process)?;
    }
    Ok((process, host))
}

/// Lets `start` start a process on the servers' core, if they have one, and goes back to the client's.
fn on_core<T>(pinned: bool, start: impl FnOnce() -> T) -> anyhow::Result<T> {
    let core = |number| {
        let mut set = CpuSet::new();
        set.set(number);
        sched_setaffinity(None, &set).context("cannot choose a core for --pin")
    };
    if pinned {
        core(0)?;
    }
    let started = start();
    if pinned {
        core(1)?;
    }
    Ok(started)
}

/// Keeps settings of the caller's shell from a server.
fn without_settings(command: &mut Command, prefix: &str) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
            command.env_remove(name);
        }
    }
}

/// The address that a server says it listens on.
fn address(process: &mut Process) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = process.ended();
        let said = process.said();
        // A last line without its end may not be whole.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let url = whole.lines().find_map(|line| line.strip_prefix("listening on "));
        if let Some((_, host)) = url.and_then(|url| url.split_once("://")) {
            return Ok(host.trim().to_owned());
        }
        anyhow::ensure!(ended.is_none() && Instant::now() < deadline, "a server does not listen:\n{said}");
        thread::sleep(Duration::from_micros(500));
    }
}

/// An address that nobody listens on.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn distribution_configuration(data: &Path, host: &str) -> String {
    // A JSON string is a YAML string.
    let data = serde_json::Value::from(data.to_string_lossy());
    format!(
        "version: 0.1\n\
         log: {{fields: {{service: registry}}}}\n\
         storage:\n\
         \x20 cache: {{blobdescriptor: inmemory}}\n\
         \x20 filesystem: {{rootdirectory: {data}}}\n\
         \x20 delete: {{enabled: true}}\n\
         http: {{addr: {host:?}, secret: bench, headers: {{X-Content-Type-Options: [nosniff]}}}}\n\
         health: {{storagedriver: {{enabled: true, interval: 10s, threshold: 3}}}}\n"
    )
}

fn nginx_configuration(folder: &Path, host: &str) -> String {
    let folder = folder.display();
    // Its workers must be able to read what this user has written.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "daemon off;\n\
         {user}\
         pid {folder}/pid;\n\
         worker_processes auto;\n\
         error_log {folder}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         \x20 sendfile on;\n\
         \x20 tcp_nopush on;\n\
         \x20 open_file_cache max=10000 inactive=10m;\n\
         \x20 keepalive_requests 1000000000;\n\
         \x20 default_type application/octet-stream;\n\
         {temporary}\
         \x20 server {{ listen {host}; root {folder}/data; }}\n\
         }}\n"
    )
}
