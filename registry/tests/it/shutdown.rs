// SPDX-License-Identifier: AGPL-3.0-only
//! The server's end, and who may run beside it: what runs is finished, a second process is refused.

use std::io::Read as _;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Wire, get, patch, post};
use crate::role::{noise, sha256};
use crate::server::{Server, command, eventually};

fn accepts_no_more(server: &Server) -> bool {
    std::net::TcpStream::connect_timeout(&server.address(), Duration::from_secs(1)).is_err()
}

#[test]
fn an_upload_that_runs_is_finished_after_sigterm() {
    let mut server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha256("hello world");
    let request = post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body("hello world").bytes();
    let mut wire = server.connect();
    wire.send(&request[..request.len() - 6]);
    // A second connection that is between requests ends at once.
    let mut quiet = server.connect();
    get("/readyz").on(&mut quiet).is(200);
    server.terminate();
    eventually("nobody is accepted any more", || accepts_no_more(&server));
    assert!(quiet.is_closed_within(Duration::from_secs(10)));
    drop(quiet);
    wire.send(" world");
    wire.answer().is(201);
    drop(wire);
    assert!(server.ended().success());
}

#[test]
fn a_download_that_runs_is_finished_after_sigterm() {
    let mut server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(24 << 20);
    let digest = repo.push_blob(&bytes);
    let mut wire = server.connect();
    wire.send(get(repo.blob(&digest)).bytes());
    let mut first = [0; 17];
    std::io::Read::read_exact(&mut wire.stream(), &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK\r\n");
    server.terminate();
    eventually("nobody is accepted any more", || accepts_no_more(&server));
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut wire.stream(), &mut rest).unwrap();
    assert!(rest.ends_with(&bytes));
    assert!(server.ended().success());
}

#[test]
fn a_connection_that_was_busy_is_closed_after_its_answer() {
    let mut server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    // Busy when the end comes; it may not begin anything else.
    let mut wire = server.connect();
    let request = patch(&location).body("hello").bytes();
    wire.send(&request[..request.len() - 1]);
    eventually("the upload is under way", || repo.holds(&location) == 4);
    server.terminate();
    eventually("nobody is accepted any more", || accepts_no_more(&server));
    eventually("the log says so", || server.log().contains("shutting down"));
    wire.send("o");
    wire.answer().is(202);
    assert!(wire.is_closed_within(Duration::from_secs(10)));
    drop(wire);
    assert!(server.ended().success());
}

#[test]
fn who_takes_longer_than_the_limit_is_cut_off() {
    let mut server = Server::with(&[("STELLA_LIMITS__SHUTDOWN_TIMEOUT", "200ms")]);
    let repo = server.repo("team/app");
    let mut wire = server.connect();
    let location = repo.begin();
    let request = patch(&location).body("hello").bytes();
    wire.send(&request[..request.len() - 1]);
    eventually("the upload is under way", || repo.holds(&location) == 4);
    server.terminate();
    assert!(server.ended().success());
    assert!(server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn told_twice_the_server_ends_at_once() {
    let mut server = Server::start();
    let repo = server.repo("team/app");
    let mut wire = server.connect();
    let request = patch(repo.begin()).body("hello").bytes();
    wire.send(&request[..request.len() - 1]);
    let started = Instant::now();
    server.terminate();
    eventually("the first signal is seen", || server.log().contains("shutting down"));
    server.terminate();
    assert!(server.ended().success());
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Begins to read a blob that is larger than what buffers hold, and reads a little of it.
fn begin_to_read(server: &Server, blob: &str) -> Wire {
    let mut wire = server.connect();
    wire.send(get(blob).bytes());
    let mut first = [0; 17];
    wire.stream().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK\r\n");
    wire
}

#[test]
fn a_slow_reader_may_finish_within_the_limit_while_idle_ones_are_closed_at_once() {
    let mut server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(24 << 20);
    let digest = repo.push_blob(&bytes);
    let mut idle = server.connect();
    get("/livez").on(&mut idle).is(200);
    let never_used = server.connect();
    let wire = begin_to_read(&server, &repo.blob(&digest));
    server.terminate();
    for mut wire in [idle, never_used] {
        assert!(wire.is_closed_within(Duration::from_secs(10)));
    }
    let (mut rest, mut piece) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match wire.stream().read(&mut piece).unwrap() {
            0 => break,
            read => rest.extend_from_slice(&piece[..read]),
        }
        // As over a long line, and longer than the others took to be closed.
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(rest.ends_with(&bytes));
    assert!(server.ended().success());
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn a_reader_who_takes_longer_than_the_limit_is_cut_off() {
    let mut server = Server::with(&[("STELLA_LIMITS__SHUTDOWN_TIMEOUT", "200ms")]);
    let repo = server.repo("team/app");
    let bytes = noise(24 << 20);
    let digest = repo.push_blob(&bytes);
    let wire = begin_to_read(&server, &repo.blob(&digest));
    server.terminate();
    assert!(server.ended().success());
    assert!(server.log().contains("\"connections\":1"), "{}", server.log());
    let mut rest = Vec::new();
    // What was on its way arrives; then the connection ends, one way or another.
    let _reset = wire.stream().read_to_end(&mut rest);
    assert!(rest.len() < bytes.len());
}

#[test]
fn for_a_while_the_server_says_that_it_ends_and_serves_all_the_same() {
    let mut server =
        Server::with(&[("STELLA_LIMITS__DRAIN_DELAY", "1h"), ("STELLA_METRICS__LISTEN", "127.0.0.1:0")]);
    let metrics = server.metrics_address();
    server.terminate();
    eventually("it says so", || get("/readyz").to(&server).status == 503);
    let answer = get("/healthz").on(&mut Wire::open(metrics)).is(503);
    assert_eq!(answer.json()["reason"], "shutting down");
    get("/livez").to(&server).is(200);
    server.repo("team/app").push_image("v1", "new connections are served");
    // Whoever does not want to wait says so again.
    server.terminate();
    assert!(server.ended().success());
}

#[test]
fn after_the_delay_the_server_ends() {
    let mut server = Server::with(&[("STELLA_LIMITS__DRAIN_DELAY", "300ms")]);
    server.terminate();
    assert!(server.ended().success());
    assert!(!server.log().contains("told twice"), "{}", server.log());
}

#[test]
fn a_second_process_on_the_same_data_is_refused_and_told_who_has_it() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    let output = command(folder.path(), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(10), b"".as_slice()));
    assert!(said.contains(&format!("process {}", server.process())), "{said}");
    assert!(said.contains(&folder.path().display().to_string()), "{said}");
    assert!(said.contains("while it serves, `stella gc`, `fsck` and `backup` work through it"), "{said}");
    get("/v2/").to(&server).is(200);
    // A dead holder holds nothing.
    server.kill();
    let server = Server::on(folder.path(), &[]);
    get("/v2/").to(&server).is(200);
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let address = server.address().to_string();
    let mut stella = std::process::Command::new(env!("CARGO_BIN_EXE_stella"));
    stella.args(["serve", "--listen", &address, "--data"]).arg(folder.path()).env_clear();
    let output = stella.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    assert!(said.contains(&format!("cannot listen on {address} (`listen`)")), "{said}");
}

#[test]
fn only_loopback_is_served() {
    let folder = TempDir::new().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let mut stella = std::process::Command::new(env!("CARGO_BIN_EXE_stella"));
        stella.args(["serve", "--listen", listen, "--data"]).arg(folder.path().join("data")).env_clear();
        let output = stella.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("not a loopback address"), "{said}");
        assert!(!folder.path().join("data").exists(), "nothing is created");
    }
}

#[test]
fn a_name_for_loopback_is_served_on_what_it_resolves_to() {
    let folder = TempDir::new().unwrap();
    let mut stella = std::process::Command::new(env!("CARGO_BIN_EXE_stella"));
    stella.args(["serve", "--listen", "127.0.0.2:0", "--data"]).arg(folder.path()).env_clear();
    stella.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = stella.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let address = line.trim().strip_prefix("listening on http://").map(|text| text.parse().unwrap());
    let answered = address.map(|address| {
        let mut wire = Wire::open(address);
        get("/v2/").on(&mut wire).status
    });
    child.kill().and_then(|()| child.wait()).unwrap();
    assert_eq!(answered, Some(200), "{line}");
}

#[test]
fn clients_that_ignore_the_end_do_not_delay_it() {
    let mut server = Server::with(&[("STELLA_LIMITS__SHUTDOWN_TIMEOUT", "1s")]);
    let mut idle: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for wire in &mut idle {
        get("/v2/").on(wire).is(200);
    }
    server.terminate();
    assert!(server.ended().success());
    assert!(!server.log().contains("still busy"), "{}", server.log());
}

#[test]
fn whoever_has_asked_before_the_end_is_answered() {
    for _ in 0..5 {
        let mut server = Server::start();
        let mut wires: Vec<_> = (0..64).map(|_| server.connect()).collect();
        // The last one to be accepted has an answer, so all were.
        get("/v2/").on(&mut server.connect()).is(200);
        // The server meets requests and signal at the same time.
        for wire in &mut wires {
            wire.send(get("/v2/").bytes());
        }
        server.terminate();
        for mut wire in wires {
            wire.answer().is(200);
        }
        assert!(server.ended().success());
    }
}
