// SPDX-License-Identifier: AGPL-3.0-only
//! Parts of a blob: one range, a suffix, several, and those that do not exist.

use crate::client::{Answer, get, head};
use crate::role::{Repo, noise, refused};
use crate::server::Server;

fn part(repo: Repo<'_>, digest: &str, range: &str) -> Answer {
    get(repo.blob(digest)).header("Range", range).to(repo.server)
}

#[test]
fn one_range_is_served_with_its_place() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(2048);
    let digest = repo.push_blob(&bytes);
    for (range, place, expected) in [
        ("bytes=500-1499", "bytes 500-1499/2048", 500..1500),
        ("bytes=500-", "bytes 500-2047/2048", 500..2048),
        ("bytes=-500", "bytes 1548-2047/2048", 1548..2048),
        ("bytes=-5000", "bytes 0-2047/2048", 0..2048),
        ("bytes=2000-5000", "bytes 2000-2047/2048", 2000..2048),
        ("bytes=0-0", "bytes 0-0/2048", 0..1),
        ("bytes=2047-2047", "bytes 2047-2047/2048", 2047..2048),
        // Of several, those that exist.
        ("bytes=0-9,9000-", "bytes 0-9/2048", 0..10),
    ] {
        let answer = part(repo, &digest, range).is(206);
        assert_eq!(answer.must("content-range"), place);
        assert_eq!(answer.must("content-length"), expected.len().to_string());
        assert_eq!(answer.must("docker-content-digest"), digest);
        assert_eq!(answer.must("content-type"), "application/octet-stream");
        assert_eq!(answer.body, bytes[expected]);
    }
}

#[test]
fn a_range_that_does_not_exist_is_416_with_the_length() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = repo.push_blob(noise(2048));
    let empty = repo.push_blob("");
    let mut wire = server.connect();
    for (blob, range) in [
        (&digest, "bytes=500-0"),
        (&digest, "bytes=5000-10000"),
        (&digest, "bytes=2048-"),
        (&digest, "bytes=-0"),
        (&digest, "bytes=x-y"),
        (&digest, "bytes=1-2-3"),
        (&digest, "bytes=0-1,x"),
        (&digest, "bytes=99999999999999999999999-"),
        (&empty, "bytes=0-"),
        (&empty, "bytes=-1"),
    ] {
        let answer = get(repo.blob(blob)).header("Range", range).on(&mut wire);
        refused(&answer, 416, "SIZE_INVALID");
        let length = if *blob == digest { 2048 } else { 0 };
        assert_eq!(answer.must("content-range"), format!("bytes */{length}"), "{range}");
    }
}

#[test]
fn several_ranges_come_as_parts_of_one_answer() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(300_000);
    let digest = repo.push_blob(&bytes);
    let answer = part(repo, &digest, "bytes=0-9, 100-199,-5,250000-299000").is(206);
    let media_type = answer.must("content-type");
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(answer.header("content-range"), None);
    assert_eq!(answer.must("content-length"), answer.body.len().to_string());
    let mut expected = Vec::new();
    for (place, range) in [
        ("0-9", 0..10),
        ("100-199", 100..200),
        ("299995-299999", 299_995..300_000),
        ("250000-299000", 250_000..299_001),
    ] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {place}/300000\r\n\r\n"
        );
        expected.extend(head.into_bytes());
        expected.extend(&bytes[range]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    assert!(answer.body == expected);
}

#[test]
fn ranges_that_together_exceed_the_blob_cannot_multiply_it() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(100_000);
    let digest = repo.push_blob(&bytes);
    let answer = part(repo, &digest, &format!("bytes={}", vec!["0-"; 60].join(",")));
    assert!(answer.body.len() < 2 * bytes.len(), "{} bytes", answer.body.len());
    let flood = format!("bytes={}", vec!["1-2"; 1000].join(","));
    refused(&part(repo, &digest, &flood), 416, "SIZE_INVALID");
}

#[test]
fn what_is_no_byte_range_is_answered_in_whole() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = repo.push_blob("hello");
    assert_eq!(part(repo, &digest, "lines=1-2").is(200).body, b"hello");
    // A part of something else would not fit; RFC 9110, section 13.1.5.
    let stale = get(repo.blob(&digest)).header("Range", "bytes=0-1");
    assert_eq!(stale.clone().header("If-Range", "\"other\"").to(&server).is(200).body, b"hello");
    assert_eq!(stale.header("If-Range", format!("\"{digest}\"")).to(&server).is(206).body, b"he");
    // A range is for GET only.
    let answer = head(repo.blob(&digest)).header("Range", "bytes=0-1").to(&server).is(200);
    assert_eq!(answer.must("content-length"), "5");
}
