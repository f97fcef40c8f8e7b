// SPDX-License-Identifier: AGPL-3.0-only
//! Clients that are cut off at every kind of byte of a request: in its line, its headers, between head
//! and body, in a chunk's length, in its bytes, in its end, and right behind the last byte. What came is
//! there or not; an upload can always go on, and nothing wrong is ever stored.

use crate::client::{Request, get, patch, post, put};
use crate::role::{OCI_MANIFEST, Repo, sha256};
use crate::server::{Server, eventually};

const TEXT: &[u8] = b"hello world";

/// Every place from the last header on, and some before.
fn places(request: &[u8]) -> Vec<usize> {
    let dense = request.len().saturating_sub(48);
    (0..=request.len()).filter(|at| *at > dense || at % 11 == 0).collect()
}

/// Sends the first `count` bytes and goes away.
fn send_part(server: &Server, request: &Request, count: usize) {
    let mut wire = server.connect();
    wire.send(&request.bytes()[..count]);
}

/// Finishes the upload from wherever it stands; the cut-off request may still be on its way.
fn finish(repo: &Repo<'_>, location: &str) {
    eventually("the upload goes on", || {
        let digest = sha256(TEXT);
        let url = format!("{location}?digest={digest}");
        let status = get(location).to(repo.server).status;
        if status == 404 {
            // The cut-off request was whole and has finished it.
            return repo.has_blob(&digest);
        }
        let at = usize::try_from(repo.holds(location)).unwrap();
        let range = format!("{at}-{}", TEXT.len().max(at + 1) - 1);
        let closing = put(url).body(&TEXT[at..]);
        let closing = if at < TEXT.len() { closing.header("Content-Range", range) } else { closing };
        let answer = closing.to(repo.server);
        assert!(matches!(answer.status, 201 | 404 | 416), "{answer}");
        answer.status == 201
    });
    assert_eq!(get(repo.blob(&sha256(TEXT))).to(repo.server).is(200).body, TEXT);
}

fn cut_off_everywhere(name: &str, request: impl Fn(&str) -> Request) {
    let server = Server::start();
    let length = request(&server.repo(name).begin()).bytes().len();
    for at in places(&vec![0; length]) {
        // Another repository each time, so that the blob is not there yet.
        let repo = server.repo(&format!("{name}/at-{at}"));
        let location = repo.begin();
        repo.chunk(&location, 0, &TEXT[..6]).is(202);
        let request = request(&location);
        send_part(&server, &request, at.min(request.bytes().len()));
        finish(&repo, &location);
    }
}

#[test]
fn a_chunk_with_its_length() {
    cut_off_everywhere("patch", |location| patch(location).header("Content-Range", "6-10").body(&TEXT[6..]));
}

#[test]
fn a_streamed_chunk() {
    cut_off_everywhere("stream", |location| patch(location).chunked(&[&TEXT[6..8], &TEXT[8..]]));
}

#[test]
fn a_closing_request() {
    cut_off_everywhere("close", |location| {
        put(format!("{location}?digest={}", sha256(TEXT))).header("Content-Range", "6-10").body(&TEXT[6..])
    });
}

#[test]
fn a_blob_in_one_request() {
    let server = Server::start();
    let request = |repo: &Repo<'_>| {
        let url = format!("{}?digest={}", repo.url("blobs/uploads/"), sha256(TEXT));
        post(url).body(TEXT)
    };
    let length = request(&server.repo("whole/at-000")).bytes().len();
    for at in places(&vec![0; length]) {
        let repo = server.repo(&format!("whole/at-{at:03}"));
        send_part(&server, &request(&repo), at);
        if at == length {
            eventually("the whole request is done", || repo.has_blob(&sha256(TEXT)));
        } else {
            assert!(!repo.has_blob(&sha256(TEXT)), "{at} of {length} bytes made a blob");
        }
        request(&repo).to(&server).is(201);
        assert_eq!(get(repo.blob(&sha256(TEXT))).to(&server).is(200).body, TEXT);
    }
}

#[test]
fn a_manifest() {
    let server = Server::start();
    let draft = server.repo("manifest/at-0000").draft_image("x");
    let request =
        |repo: &Repo<'_>| put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST).body(&draft.bytes);
    let length = request(&server.repo("manifest/at-0000")).bytes().len();
    for at in places(&vec![0; length]) {
        let repo = server.repo(&format!("manifest/at-{at:04}"));
        repo.draft_image("x");
        send_part(&server, &request(&repo), at);
        if at == length {
            eventually("the whole request is done", || repo.has_manifest("v1"));
        } else {
            assert!(!repo.has_manifest("v1"), "{at} of {length} bytes made a manifest");
        }
        request(&repo).to(&server).is(201);
        assert_eq!(get(repo.manifest("v1")).to(&server).is(200).body, draft.bytes);
    }
}
