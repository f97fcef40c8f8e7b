// SPDX-License-Identifier: AGPL-3.0-only
//! A PostgreSQL server of a test's own: Debian's, in a temporary folder, on a unix socket.
//!
//! Where none is installed a test says so on one line and is skipped; with `STELLA_REQUIRE_CLIENTS=1` in
//! the environment that is a failure.

#![expect(clippy::panic, clippy::unwrap_used, reason = "test code behind a feature")]

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    folder: TempDir,
}

impl PostgresServer {
    /// Starts one, or says that `test` is skipped.
    ///
    /// # Panics
    ///
    /// When the server does not start, or must be there and is not.
    pub fn start(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("STELLA_REQUIRE_CLIENTS").is_none_or(|value| value != "1"),
                "PostgreSQL is not installed: run tests/clients/install.sh"
            );
            // Past the test harness, which hides what a test that passes prints.
            let line = format!("{test}: SKIPPED, PostgreSQL is not installed\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        let folder = TempDir::with_prefix("stella-pg-").unwrap();
        // PostgreSQL refuses root and runs as its own user, who must get there.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let server = PostgresServer { programs, folder };
        let data = server.data();
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&data));
        }
        run(server
            .program("initdb")
            .args(["-U", "stella", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data));
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 200\nlogging_collector = off\n",
            data.display()
        );
        let mut file = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        file.write_all(settings.as_bytes()).unwrap();
        server.start_again();
        Some(server)
    }

    /// Ends it as `kill -9` would: at once, nothing is tidied up.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn kill(&self) {
        run(self.program("pg_ctl").args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data()));
    }

    /// Starts it again after [`PostgresServer::kill`].
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&self) {
        let log = self.data().join("log");
        run(self.program("pg_ctl").args(["start", "-w", "-D"]).arg(self.data()).arg("-l").arg(log));
    }

    /// The URL of an empty schema of this name, which is made.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn schema(&self, name: &str) -> String {
        self.sql(&format!("CREATE SCHEMA {name}"));
        let socket = self.data();
        format!("postgres:///postgres?host={}&user=stella&options=-csearch_path%3D{name}", socket.display())
    }

    /// What the server says to a statement, without any decoration.
    ///
    /// # Panics
    ///
    /// When it refuses.
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-U", "stella", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qAtc", statement, "-h"]);
        run(psql.arg(self.data())).trim().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of PostgreSQL's programs that refuse root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // It may have ended already.
        let mut stop = self.program("pg_ctl");
        let _stopped = stop.args(["stop", "-s", "-m", "immediate", "-w", "-D"]).arg(self.data()).output();
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .collect();
    let version = |programs: &PathBuf| {
        let name = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    };
    found.sort_by_key(version);
    found.pop()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end. Its output goes through files: `pg_ctl` leaves them to the server.
fn run(command: &mut Command) -> String {
    let [mut stdout, mut stderr] = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let read = |file: &mut fs::File| {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).unwrap();
        text
    };
    let (stdout, stderr) = (read(&mut stdout), read(&mut stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout
}
