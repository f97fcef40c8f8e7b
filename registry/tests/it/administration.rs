// SPDX-License-Identifier: AGPL-3.0-only
//! Commands on the data, beside a server and without one: the socket, what is printed, exit codes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{PATIENCE, post};
use crate::role::{OCI_MANIFEST, descriptor};
use crate::server::{Server, eventually};

/// What one run of the program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `stella` on the data directory `data`.
pub(crate) fn stella(data: &Path, args: &[&str]) -> Outcome {
    stella_with(data, args, &[])
}

/// The same, with variables in its environment.
pub(crate) fn stella_with(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let output = stella_command(data, args).envs(env.iter().copied()).output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn stella_command(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(args).arg("--data").arg(data).env_clear();
    command
}

impl Outcome {
    #[track_caller]
    pub(crate) fn is(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The lines of JSON that it printed.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A server that has more to collect than a client which does not read can be told.
fn server_with_much_to_tell() -> Server {
    let server = Server::with(&[("STELLA_COLLECTION__LEASE", "1s"), ("STELLA_COLLECTION__INTERVAL", "1h")]);
    let digest = server.repo("r").push_blob(b"blob");
    let mut wire = server.connect();
    for number in 0..1000 {
        post(format!("/v2/r{number}/blobs/uploads/?mount={digest}")).on(&mut wire).is(201);
    }
    eventually("everything is due", || {
        let dry = stella(server.data(), &["gc", "--dry-run", "--json"]).is(0);
        dry.json().last().unwrap()["summary"]["blobs"] == 1001
    });
    server
}

/// Sends a request to the socket.
fn ask(server: &Server, request: impl AsRef<[u8]>) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(server.data().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has heard enough closes.
    let _cut = stream.write_all(request.as_ref());
    BufReader::new(stream)
}

/// The one answer to a request.
fn answer(server: &Server, request: impl AsRef<[u8]>) -> Value {
    let mut line = String::new();
    ask(server, request).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn a_command_does_the_same_with_a_server_and_without_one() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let backup = folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    let mut server = Server::on(&data, &[]);
    server.repo("app").push_image("v1", "1");
    for held in [true, false] {
        let said = stella(&data, &["backup", "create", backup]).is(0);
        let (first, summary) = said.stdout.split_once('\n').unwrap();
        assert!(first.ends_with(" rows of metadata"), "{said:?}");
        let new = if held { "2 of them, 19 bytes, were new" } else { "0 of them, 0 bytes, were new" };
        assert!(summary.contains("2 blobs of 19 bytes; ") && summary.trim().ends_with(new), "{said:?}");
        assert_eq!(said.stderr, "");
        let said = stella(&data, &["backup", "create", backup, "--json"]).is(0).json();
        assert_eq!((&said[0]["item"], &said[1]["summary"]["blobs"]), (&"metadata".into(), &2.into()));
        let said = stella(&data, &["gc"]).is(0).stdout;
        assert_eq!(said, "removed 0 manifests, 0 blobs, 0 uploads; deleted 0 files of 0 bytes\n");
        let said = stella(&data, &["gc", "--dry-run", "--json"]).is(0).json();
        assert_eq!((&said[0]["summary"]["dry_run"], said.len()), (&true.into(), 1));
        let said = stella(&data, &["gc", "--resume"]).is(0).stdout;
        assert!(said.starts_with("collection was on already\nremoved"), "{said}");
        let said = stella(&data, &["fsck"]).is(0).stdout;
        assert!(said.starts_with("checked ") && said.ends_with(": no faults\n"), "{said}");
        let said = stella(&data, &["fsck", "--repair", "--json"]).is(0).json();
        assert_eq!((&said[0]["summary"]["repair"], said.len()), (&true.into(), 1));
        let inside = data.join("backup");
        let refused = stella(&data, &["backup", "create", inside.to_str().unwrap()]).is(2);
        assert!(refused.stderr.contains("inside the data directory"), "{refused:?}");
        if held {
            server.terminate();
            assert!(server.ended().success());
            assert!(!data.join("admin.sock").exists());
        }
    }
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = folder.path().join("data");
    let refused = stella(&data, &["gc"]).is(4);
    assert!(refused.stderr.contains("holds no registry's data"), "{refused:?}");
    let (file, inside) = (folder.path().join("file"), folder.path().join("file/data"));
    std::fs::write(&file, "").unwrap();
    let refused = stella(&inside, &["gc"]).is(1);
    assert!(refused.stderr.contains("cannot look into"), "{refused:?}");
    assert!(!data.exists(), "nothing is made");
    let refused = stella(&data, &["gc", "--json"]).is(4);
    assert_eq!(refused.json()[0]["exit"], 4);
    stella(&data, &["backup", "create", &path("backup")]).is(4);
    drop(Server::on(&data, &[]));
    stella(&data, &["gc", "--resume", "--dry-run"]).is(2);
    stella(&data, &["gc", "--no-such-flag"]).is(2);
    stella(&data, &["backup", "create"]).is(2);
    let verify = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
        let output = command.args(["backup", "verify"]).args(args).env_clear().output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(verify(&[&path("backup")]).0, 4);
    stella(&data, &["backup", "create", &path("backup")]).is(0);
    assert_eq!(verify(&[&path("backup")]).0, 0);
    assert_eq!(verify(&[&path("backup"), "--snapshot", "../data"]).0, 2);
    assert_eq!(verify(&[&path("backup"), "--snapshot", "20261124T205500.123Z"]).0, 4);
    let refused = stella(&data, &["backup", "restore", &path("backup")]).is(2);
    assert!(refused.stderr.contains("is not empty"), "{refused:?}");
    std::fs::create_dir(path("unfinished")).unwrap();
    std::fs::write(folder.path().join("unfinished/restoring"), "").unwrap();
    stella(&folder.path().join("unfinished"), &["backup", "restore", &path("backup")]).is(6);
    let said = stella(&folder.path().join("unfinished"), &["serve", "--listen", "127.0.0.1:0"]).is(6);
    assert!(said.stderr.contains("is an unfinished restore"), "{said:?}");
}

#[test]
fn a_holder_that_does_not_answer_is_named() {
    let server = Server::start();
    std::fs::remove_file(server.data().join("admin.sock")).unwrap();
    let refused = stella(server.data(), &["gc"]).is(10);
    assert!(refused.stderr.contains(&format!("in use by process {}", server.process())), "{refused:?}");
    // Nor does a socket on which nobody listens.
    drop(std::os::unix::net::UnixListener::bind(server.data().join("admin.sock")).unwrap());
    stella(server.data(), &["gc"]).is(10);
}

#[test]
fn a_server_takes_the_socket_that_a_killed_one_left() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    let socket = folder.path().join("admin.sock");
    let mode = || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    server.kill();
    assert!(socket.exists());
    // Without a server the command does it itself.
    stella(folder.path(), &["gc"]).is(0);
    let _server = Server::on(folder.path(), &[]);
    assert_eq!(mode(), 0o600);
    stella(folder.path(), &["gc"]).is(0);
}

#[test]
fn a_deep_data_directory_has_a_socket_too() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("d".repeat(120));
    let server = Server::on(&data, &[]);
    stella(&data, &["gc"]).is(0);
    assert!(server.log().contains("administration ended"), "{}", server.log());
}

#[test]
fn a_request_that_is_none_is_refused() {
    let server = Server::start();
    for request in [
        "\n".to_owned(),
        "gc\n".to_owned(),
        "{\"gc\":{}}\n".to_owned(),
        "{\"rm\":{\"dry_run\":true}}\n".to_owned(),
        "[".repeat(60_000) + "\n",
    ] {
        let answer = answer(&server, &request);
        assert_eq!(answer["exit"], 2, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("does not know this request"), "{answer}");
    }
    let long = answer(&server, "x".repeat(70_000));
    assert!(long["error"].as_str().unwrap().contains("at most 65536 bytes"), "{long}");
    let relative = answer(&server, "{\"backup\":{\"to\":\"here\"}}\n");
    assert!(relative["error"].as_str().unwrap().contains("absolute path"), "{relative}");
    // Whoever says nothing takes a place for a while, and there are others.
    let _silent = ask(&server, "");
    stella(server.data(), &["gc"]).is(0);
}

#[test]
fn one_operation_of_a_kind_runs_at_once_and_ends_with_its_client() {
    let mut server = server_with_much_to_tell();
    // A client that does not listen.
    let deaf = ask(&server, "{\"gc\":{\"dry_run\":true}}\n");
    eventually("it runs", || server.log().matches("administration begins").count() >= 2);
    eventually("another one is refused", || {
        let refused = stella(server.data(), &["gc", "--dry-run"]);
        refused.code == Some(10) && refused.stderr.contains("a collection is already running")
    });
    let folder = TempDir::new().unwrap();
    let backup = folder.path().join("backup");
    stella(server.data(), &["backup", "create", backup.to_str().unwrap()]).is(0);
    drop(deaf);
    eventually("the slot is free", || stella(server.data(), &["gc", "--dry-run"]).code == Some(0));
    assert!(server.log().contains("its client went away"), "{}", server.log());
    // It does not keep the server from its end, and is told so.
    let mut deaf = ask(&server, "{\"gc\":{\"dry_run\":true}}\n");
    let mut first = String::new();
    deaf.read_line(&mut first).unwrap();
    server.terminate();
    let mut rest = String::new();
    deaf.read_to_string(&mut rest).unwrap();
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!((&last["exit"], &last["error"]), (&10.into(), &"the server is shutting down".into()));
    assert!(server.ended().success());
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn a_client_that_never_listens_does_not_keep_a_server_from_its_end() {
    let mut server = server_with_much_to_tell();
    let _deaf = ask(&server, "{\"gc\":{\"dry_run\":true}}\n");
    eventually("it runs", || server.log().matches("administration begins").count() >= 2);
    server.terminate();
    assert!(server.ended().success());
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn a_closed_pipe_ends_the_command() {
    let server = server_with_much_to_tell();
    let mut command = stella_command(server.data(), &["gc", "--dry-run"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let mut ended = None;
    eventually("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(1));
}

#[test]
fn fsck_tells_what_is_wrong_and_what_it_mended() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    server.repo("app").push_image("v1", "1");
    for held in [true, false] {
        let stray = format!("blobs/ab/ab00000000000000000000000000000{}", u8::from(held));
        let stray = folder.path().join(stray);
        std::fs::write(&stray, "stray").unwrap();
        let said = stella(folder.path(), &["fsck"]).is(6).stdout;
        assert!(said.contains("file-stray at ") && said.contains(": 1 faults (file-stray 1)"), "{said}");
        assert!(stray.exists());
        let said = stella(folder.path(), &["fsck", "--json"]).is(6).json();
        assert_eq!(
            (&said[0]["kind"], &said[1]["summary"]["faults"]["file-stray"]),
            (&"file-stray".into(), &1.into())
        );
        let said = stella(folder.path(), &["fsck", "--repair"]).is(0).stdout;
        assert!(said.ends_with("1 repaired, 0 left\n"), "{said}");
        stella(folder.path(), &["fsck"]).is(0);
        if held {
            server.terminate();
            assert!(server.ended().success());
        }
    }
}

#[test]
fn gc_tells_what_it_removes() {
    let server = Server::with(&[("STELLA_COLLECTION__LEASE", "1s"), ("STELLA_COLLECTION__INTERVAL", "1h")]);
    let repo = server.repo("team/app");
    let (kept, lost) = (repo.push_blob(b"kept"), repo.push_blob(b"lost"));
    let image = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/octet-stream", &kept, 4), "layers": []});
    repo.put_manifest("v1", OCI_MANIFEST, image.to_string()).is(201);
    let line = format!("blob team/app@{lost}, 4 bytes: no manifest of the repository names it\n");
    eventually("it is due", || stella(server.data(), &["gc", "--dry-run"]).is(0).stdout.contains(&line));
    assert!(repo.has_blob(&lost), "nothing was changed");
    // Whoever asked may push, and was promised that it stays a while.
    eventually("it is removed", || {
        let said = stella(server.data(), &["gc"]).is(0).stdout;
        said.contains(&line) && said.contains("removed 0 manifests, 1 blobs")
    });
    assert!(!repo.has_blob(&lost) && repo.has_blob(&kept));
}
