// SPDX-License-Identifier: AGPL-3.0-only
//! Clients that are slow, silent or many: each costs a place for a time that is limited.

use std::time::{Duration, Instant};

use crate::client::{PATIENCE, Wire, get, patch, put};
use crate::http2::frame;
use crate::role::{OCI_MANIFEST, noise, refused, sha256};
use crate::server::{Server, eventually};

/// Time-outs short enough for a test, long enough for a busy machine.
const HEADERS: (&str, &str) = ("STELLA_LIMITS__HEADER_TIMEOUT", "300ms");
/// Reads are logged too.
const LOGGED: (&str, &str) = ("STELLA_LOG__LEVEL", "info,access=debug");
const IDLE: (&str, &str) = ("STELLA_LIMITS__IDLE_TIMEOUT", "400ms");

/// Sends one piece every 50 ms until the server has closed; false if it never does.
fn drips(wire: &mut Wire, piece: impl AsRef<[u8]>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if wire.try_send(piece.as_ref()).is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let server = Server::with(&[HEADERS]);
    // Not a byte, and every beginning of HTTP/2's first bytes.
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = server.connect();
        wire.send(said);
        assert!(wire.is_closed_within(PATIENCE), "{said:?}");
    }
}

#[test]
fn a_connection_that_has_had_its_answer_is_closed_after_a_while() {
    let server = Server::with(&[HEADERS]);
    let mut wire = server.connect();
    for _ in 0..3 {
        get("/v2/").on(&mut wire).is(200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(wire.is_closed_within(PATIENCE));
}

#[test]
fn an_http2_connection_without_requests_is_closed() {
    let server = Server::with(&[HEADERS]);
    let mut wire = server.connect();
    // Preface and empty SETTINGS, then nothing: not even an answer to a ping.
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(wire.is_closed_within(PATIENCE));
    // Headers that never end, one byte at a time, are no request.
    let mut wire = server.connect();
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    wire.send(b"\0\x10\0\x01\0\0\0\0\x01");
    assert!(drips(&mut wire, "\0"));
}

#[test]
fn an_http2_client_that_opens_no_window_is_cut_off() {
    let server = Server::with(&[HEADERS, IDLE]);
    let repo = server.repo("team/app");
    repo.push_image("v1", "x");
    let mut wire = server.connect();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS_INITIAL_WINDOW_SIZE is 0: no byte of an answer may be sent.
    wire.send(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let path = repo.manifest("v1");
    let head = [b"\x82\x86\x04".as_slice(), &[u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    for stream in [1, 3, 5] {
        wire.send(frame(1, 5, stream, &head));
    }
    // Pings, and our answers to them, are no use of the connection.
    assert!(drips(&mut wire, frame(6, 0, 0, b"are you?")));
}

#[test]
fn dripping_headers_are_cut_off() {
    let server = Server::with(&[HEADERS]);
    let mut wire = server.connect();
    wire.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n");
    assert!(drips(&mut wire, "X-Drip: x\r\n"));
    get("/v2/").to(&server).is(200);
}

#[test]
fn a_dripping_body_is_cut_off_and_told_why() {
    let server = Server::with(&[IDLE]);
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let location = repo.begin();
    for request in [
        put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST).body(&image.bytes),
        patch(&location).body(noise(5000)),
        put(format!("{location}?digest={}", sha256("x"))).body(noise(5000)),
    ] {
        let mut wire = server.connect();
        let bytes = request.bytes();
        wire.send(&bytes[..bytes.len() - 100]);
        let mut rest = wire.stream().try_clone().unwrap();
        let dripping = std::thread::spawn(move || {
            for _ in 0..60 {
                if std::io::Write::write_all(&mut rest, b"x").is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        refused(&wire.answer(), 408, "SIZE_INVALID");
        drop(wire);
        dripping.join().unwrap();
    }
    assert!(repo.tags().is_empty() && !repo.has_manifest(&image.digest) && !repo.has_blob(&sha256("x")));
    // The session lives, and knows what it has.
    let held = usize::try_from(repo.holds(&location)).unwrap();
    repo.chunk(&location, held, b"more").is(202);
}

#[test]
fn a_slow_but_steady_body_may_take_its_time() {
    let server = Server::with(&[IDLE, HEADERS]);
    let repo = server.repo("team/app");
    let (location, bytes) = (repo.begin(), noise(30_000));
    let request = patch(&location).body(&bytes).bytes();
    let mut wire = server.connect();
    for piece in request.chunks(2000) {
        wire.send(piece);
        std::thread::sleep(Duration::from_millis(100));
    }
    wire.answer().is(202);
    repo.close(&location, &sha256(&bytes)).is(201);
}

#[test]
fn uploads_that_stand_still_hold_no_large_buffers_and_hold_nobody_up() {
    // More of them than may hold large buffers, and late enough to want one.
    const STANDING: usize = 60;
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(3 << 20);
    let stand = || {
        let (mut wire, location) = (server.connect(), repo.begin());
        let request = patch(&location).body(&bytes).bytes();
        let (now, later) = request.split_at(request.len() / 2);
        wire.send(now);
        (wire, location, later.to_vec())
    };
    let settled = || {
        let mut last = resident(&server);
        eventually("its memory does not change any more", || {
            std::thread::sleep(Duration::from_millis(200));
            let now = resident(&server);
            std::mem::replace(&mut last, now) == now
        });
        last
    };
    let first: Vec<_> = (0..20).map(|_| stand()).collect();
    let before = settled();
    let standing: Vec<_> = (0..STANDING).map(|_| stand()).collect();
    let each = settled().saturating_sub(before) / STANDING;
    // A large buffer is 64 KiB.
    assert!(each < 60, "{each} KiB each");
    assert_eq!(repo.push_blob(&bytes), sha256(&bytes));
    for (mut wire, location, later) in first.into_iter().chain(standing) {
        wire.send(later);
        wire.answer().is(202);
        repo.close(&location, &sha256(&bytes)).is(201);
    }
}

/// Memory that a server has, in KiB.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    for server in [Server::with(&[IDLE, LOGGED]), Server::over_tls(&[IDLE, LOGGED])] {
        does_not_read(&server);
    }
}

fn does_not_read(server: &Server) {
    let before = sockets(server);
    let repo = server.repo("team/app");
    let digest = repo.push_blob(noise(32 << 20));
    let mut wire = server.connect();
    wire.send(get(repo.blob(&digest)).bytes());
    eventually("the download is under way", || server.log().contains("\"GET\""));
    eventually("the server has let go of it", || sockets(server) == before);
    drop(wire);
}

/// How many sockets a server has open: the listener, the runtime's own, and connections.
fn sockets(server: &Server) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap();
    let names = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn more_connections_than_places_wait_and_are_served() {
    let server = Server::with(&[("STELLA_LIMITS__CONNECTIONS", "2"), HEADERS]);
    let mut silent = [server.connect(), server.connect()];
    // Two who say nothing hold both places, for a while.
    get("/v2/").to(&server).is(200);
    assert!(silent.iter_mut().all(|wire| wire.is_closed_within(PATIENCE)));
}
