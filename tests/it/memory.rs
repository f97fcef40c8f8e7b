// SPDX-License-Identifier: AGPL-3.0-only
//! Memory stays flat: what a server needs does not grow with the blobs that pass through it.

use std::env;
use std::io::Read;

use stella_tests::{Connection, Noise, Request, Server};

const MIB: u64 = 1 << 20;

#[test]
fn a_big_blob_takes_no_more_memory_than_a_small_one() {
    let big = env::var("STELLA_TEST_BIG_BLOB").map_or(512, |value| value.parse().unwrap());
    let small = peak_with_a_blob_of(MIB);
    let large = peak_with_a_blob_of(big * MIB);
    let peaks = format!("1 MiB: {} KiB of memory, {big} MiB: {} KiB", small / 1024, large / 1024);
    eprintln!("{peaks}");
    assert!(large.saturating_sub(small) <= 10 * MIB, "{peaks}");
}

/// The most memory of a fresh server that takes and gives a blob of `len` bytes, once in a PUT of known
/// length and once in a PATCH of unknown length.
fn peak_with_a_blob_of(len: u64) -> u64 {
    let server = Server::start();
    let repository = server.repository("big");
    let put = Noise::new(1, len);
    let digest = put.digest();
    let request = repository.upload().request("PUT").query("digest", &digest);
    let mut connection = Connection::open(server.host());
    connection.send_head(&request, Some(len));
    send(put, |piece| connection.write(piece).unwrap());
    connection.response(&request).must_be(201);
    expect(&server, &digest, len);

    let patch = Noise::new(2, len);
    let digest = patch.digest();
    let mut upload = repository.upload();
    let request = upload.request("PATCH");
    let mut connection = Connection::open(server.host());
    connection.send_head(&request, None);
    send(patch, |piece| connection.write_chunk(piece).unwrap());
    connection.write_chunk(&[]).unwrap();
    upload.go_on(&connection.response(&request).must_be(202));
    upload.finish(&[], &digest);
    expect(&server, &digest, len);
    server.peak_memory()
}

fn send(mut from: Noise, mut to: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return,
            count => to(&buffer[..count]),
        }
    }
}

/// Reads a blob to its end, keeping none of it.
fn expect(server: &Server, digest: &str, len: u64) {
    let request = Request::get(&format!("/v2/big/blobs/{digest}"));
    let mut connection = Connection::open(server.host());
    connection.send_head(&request, Some(0));
    let head = connection.response_head(&request).must_be(200);
    assert_eq!(head.must_have("content-length"), len.to_string());
    let read = stella_tests::digest_of(&mut connection.body(len)).unwrap();
    assert_eq!(read, (digest.to_owned(), len));
}
