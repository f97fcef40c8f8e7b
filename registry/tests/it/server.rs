// SPDX-License-Identifier: AGPL-3.0-only
//! The program under test: started on a free port with a data directory of its own, ended with the
//! value that stands for it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustls::ClientConfig;
use stella_tests::{Authority, Channel};
use tempfile::TempDir;

use crate::client::{PATIENCE, Wire};
use crate::role::Repo;

/// A running `stella serve`.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    tls: Option<Arc<ClientConfig>>,
    /// What it said on stdout after its address.
    said: Arc<Mutex<String>>,
    data: PathBuf,
    // Removed after the program has ended.
    folder: Option<TempDir>,
}

impl Server {
    /// Starts with the defaults on an empty data directory.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts on an empty data directory with `env` as the environment.
    pub(crate) fn with(env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut server = Self::on(&folder.path().join("data"), env);
        server.folder = Some(folder);
        server
    }

    /// Starts with a certificate for 127.0.0.1, whose CA its clients trust.
    pub(crate) fn over_tls(env: &[(&str, &str)]) -> Self {
        Self::offering(b"http/1.1", env)
    }

    /// The same, and its clients offer HTTP/2 and nothing else.
    pub(crate) fn over_tls_http2(env: &[(&str, &str)]) -> Self {
        Self::offering(b"h2", env)
    }

    fn offering(protocol: &[u8], env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        let certificates = format!("[{}]", authority.issue(&["127.0.0.1"]).write(folder.path(), "server"));
        let certificates = ("STELLA_TLS__CERTIFICATES", certificates.as_str());
        let mut server = Self::on(&folder.path().join("data"), &[env, &[certificates]].concat());
        server.tls = Some(authority.client(&[protocol]));
        server.folder = Some(folder);
        server
    }

    /// Starts on a data directory that the caller keeps.
    pub(crate) fn on(data: &Path, env: &[(&str, &str)]) -> Self {
        Self::run(command(data, env), data)
    }

    /// Starts with a configuration file.
    pub(crate) fn configured(data: &Path, file: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = command(data, env);
        command.arg("--config").arg(file);
        Self::run(command, data)
    }

    /// Starts with a log that goes to `log` and is not read here.
    pub(crate) fn logging_to(data: &Path, log: Stdio, env: &[(&str, &str)]) -> Self {
        let mut command = command(data, env);
        command.stderr(log);
        Self::run(command, data)
    }

    fn run(mut command: Command, data: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(stderr) = child.stderr.take() {
            gather(stderr, Arc::clone(&log));
        }
        let (said, hear) = mpsc::channel();
        let after = Arc::new(Mutex::new(String::new()));
        let rest = Arc::clone(&after);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody listens once the deadline is over.
            let _unheard = stdout.read_line(&mut line).map(|_| said.send(line));
            gather(stdout, rest);
        });
        let line = hear.recv_timeout(PATIENCE);
        let address = line.as_ref().ok().and_then(|line| {
            let url = line.trim().strip_prefix("listening on ")?;
            let address = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
            address.parse().ok()
        });
        let Some(address) = address else {
            let _ended = child.kill().and_then(|()| child.wait());
            panic!("the server did not start: {line:?}, log: {}", log.lock().unwrap());
        };
        Server { child, address, log, said: after, tls: None, data: data.to_owned(), folder: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn connect(&self) -> Wire {
        match &self.tls {
            None => Wire::open(self.address),
            Some(tls) => Wire::through(self.channel(tls, "127.0.0.1")),
        }
    }

    /// Connects with TLS to a server of that name.
    pub(crate) fn channel(&self, tls: &Arc<ClientConfig>, name: &str) -> Channel {
        Channel::tls(Wire::socket(self.address), tls, name)
    }

    pub(crate) fn repo(&self, name: &str) -> Repo<'_> {
        Repo::new(self, name)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks it to read again what may have changed.
    pub(crate) fn hang_up(&self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Where it serves metrics and health, if not on its address.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        let find = || {
            let said = self.said.lock().unwrap();
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let line = whole.lines().find_map(|line| line.strip_prefix("metrics on http://"))?;
            Some(line.strip_suffix("/metrics").unwrap().parse().unwrap())
        };
        eventually("it says where metrics are", || find().is_some());
        find().unwrap()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again, and waits until it has.
    pub(crate) fn reload(&self) {
        let done = || {
            let log = self.log();
            log.matches("the configuration was reloaded").count()
                + log.matches("the configuration was not reloaded").count()
        };
        let before = done();
        self.signal(Signal::HUP);
        eventually("the configuration is reloaded", || done() > before);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it without a chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// `stella serve` on a free port, not yet started.
pub(crate) fn command(data: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.env_clear().envs(env.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn gather(mut source: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
}

/// Polls until `happens`, or fails.
#[track_caller]
pub(crate) fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happens() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
