// SPDX-License-Identifier: AGPL-3.0-only
//! Requests whose end two readers would see in different places: refused, or read in one way only and
//! the connection closed.

use std::time::Duration;

use crate::role::{Repo, refused, sha256};
use crate::server::Server;

/// Sends raw bytes that hide a DELETE; checks that it was never read as a request.
#[track_caller]
fn hides_nothing(repo: Repo<'_>, digest: &str, head: &str, body: &str) -> u16 {
    let mut wire = repo.server.connect();
    let hidden = format!("DELETE {} HTTP/1.1\r\nHost: x\r\n\r\n", repo.manifest(digest));
    let path = repo.url(&format!("blobs/uploads/?digest={}", sha256("hello")));
    let head = head.replace("LENGTH", &(body.len() + hidden.len()).to_string());
    wire.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}{hidden}"));
    let answer = wire.answer();
    assert!(wire.is_closed_within(Duration::from_secs(7)), "{head:?}: the connection must not go on");
    assert!(repo.has_manifest(digest), "{head:?}: the hidden request was obeyed");
    answer.status
}

#[test]
fn two_lengths_never_hide_a_request() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for head in [
        "Content-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: LENGTH\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        // RFC 9112, section 6.1: refused, or chunked and then closed.
        let status = hides_nothing(repo, &image.digest, head, chunks);
        assert!(matches!(status, 400 | 201), "{head:?}: {status}");
    }
    for head in [
        "Content-Length: 5\r\nContent-Length: LENGTH\r\n",
        "Content-Length: 5, LENGTH\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        "Content-Length:\r\n",
    ] {
        assert_eq!(hides_nothing(repo, &image.digest, head, "hello"), 400, "{head:?}");
    }
}

#[test]
fn two_lengths_are_the_last_request_of_their_connection() {
    let server = Server::start();
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        let mut wire = server.connect();
        // What one reader takes for the body of the first is a request to the other.
        wire.send(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{lengths}\r\n0\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"));
        let answer = wire.answer();
        assert!([200, 400].contains(&answer.status), "{lengths:?}: {answer}");
        assert_eq!(answer.header("connection"), Some("close"), "{lengths:?}: {answer}");
        assert!(wire.try_answer_to("GET").is_err(), "{lengths:?}: there is no second answer");
    }
}

#[test]
fn codings_other_than_chunked_are_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    for head in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        " Transfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(hides_nothing(repo, &image.digest, head, "5\r\nhello\r\n0\r\n\r\n"), 400, "{head:?}");
    }
}

#[test]
fn heads_that_are_no_http_are_refused() {
    let server = Server::start();
    for head in [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nNo-Colon\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nNu\0l: y\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nValue: a\0b\r\n\r\n",
        "GET  /v2/ HTTP/1.1\r\n\r\n",
        "GET /v2/ HTTP/3.0\r\n\r\n",
        "GET /v2/ FTP/1.1\r\n\r\n",
        "G\0T /v2/ HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}",
        "GET /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut wire = server.connect();
        wire.send(head);
        let answer = wire.answer();
        assert_eq!(answer.status, 400, "{head:?}: {answer}");
        assert!(wire.is_closed_within(Duration::from_secs(7)), "{head:?}");
    }
}

#[test]
fn a_request_names_one_host() {
    let server = Server::start();
    for head in ["GET /v2/ HTTP/1.1\r\n\r\n", "GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"] {
        let mut wire = server.connect();
        wire.send(head);
        refused(&wire.answer(), 400, "UNSUPPORTED");
    }
    let mut wire = server.connect();
    wire.send("GET /v2/ HTTP/1.0\r\n\r\n");
    wire.answer().is(200);
}
