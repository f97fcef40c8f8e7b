// SPDX-License-Identifier: AGPL-3.0-only
//! Uploads outlive a lost connection, an orderly end of the server, and one without warning.

use tempfile::TempDir;

use crate::client::{get, patch, put};
use crate::role::{noise, sha256, sha512};
use crate::server::{Server, eventually};

#[test]
fn an_upload_goes_on_after_an_orderly_restart() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    let location = server.repo("team/app").begin();
    server.repo("team/app").chunk(&location, 0, b"hello ").is(202);
    server.terminate();
    assert!(server.ended().success());
    let server = Server::on(folder.path(), &[]);
    let repo = server.repo("team/app");
    assert_eq!(repo.holds(&location), 6);
    repo.chunk(&location, 6, b"world").is(202);
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    let bytes = noise(2_500_000);
    let (first, rest) = bytes.split_at(1_200_000);
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    // Both hashes go on from where they were.
    let location = repo.begin_with("?digest-algorithm=sha512");
    repo.chunk(&location, 0, first).is(202);
    server.kill();
    let server = Server::on(folder.path(), &[]);
    let repo = server.repo("team/app");
    assert_eq!(repo.resolve("v1"), Some(image.digest));
    assert_eq!(get(repo.blob(&image.layer)).to(&server).is(200).body, b"layer x");
    assert_eq!(repo.holds(&location), first.len() as u64);
    put(format!("{location}?digest={}", sha512(&bytes))).body(rest).to(&server).is(201);
    assert!(get(repo.blob(&sha512(&bytes))).to(&server).body == bytes);
}

#[test]
fn a_kill_in_the_middle_of_a_chunk_leaves_a_session_that_can_go_on() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::on(folder.path(), &[]);
    let location = server.repo("team/app").begin();
    server.repo("team/app").chunk(&location, 0, b"hello ").is(202);
    let mut wire = server.connect();
    let request = patch(&location).header("Content-Range", "6-10").body("world").bytes();
    wire.send(&request[..request.len() - 2]);
    eventually("the server has some of it", || server.repo("team/app").holds(&location) == 9);
    server.kill();
    let server = Server::on(folder.path(), &[]);
    let repo = server.repo("team/app");
    let held = usize::try_from(repo.holds(&location)).unwrap();
    assert!((6..=9).contains(&held), "{held}");
    repo.chunk(&location, held, &b"hello world"[held..]).is(202);
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn a_lost_connection_keeps_what_came() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let mut wire = server.connect();
    let request = patch(&location).body("hello world").bytes();
    wire.send(&request[..request.len() - 6]);
    eventually("what came is written", || repo.holds(&location) == 5);
    drop(wire);
    // At once: the next request waits until the first one's bytes are in order.
    repo.chunk(&location, 5, b" world").is(202);
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn a_client_that_ends_its_half_in_the_middle_is_answered_and_may_go_on() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let mut wire = server.connect();
    let request = patch(&location).body("hello world").bytes();
    wire.send(&request[..request.len() - 6]);
    wire.finish();
    crate::role::refused(&wire.answer(), 400, "SIZE_INVALID");
    assert_eq!(repo.holds(&location), 5);
    repo.chunk(&location, 5, b" world").is(202);
    repo.close(&location, &sha256("hello world")).is(201);
}
