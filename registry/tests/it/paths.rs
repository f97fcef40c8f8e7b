// SPDX-License-Identifier: AGPL-3.0-only
//! Tricks with paths and targets, raw on the wire: nothing leaves its place, nothing comes to be.

use std::fs;
use std::path::Path;

use crate::client::{Request, get, post};
use crate::role::{refused, sha256};
use crate::server::Server;

const TRICKS: [&str; 16] = [
    "..",
    "../..",
    "%2e%2e",
    "%2E%2e/x",
    "a/../b",
    "a/..",
    "a/./b",
    "a//b",
    "/a",
    "a\\b",
    "..\\..",
    "a%5Cb",
    "a%2fb",
    "a%00b",
    "a;b",
    "%252e%252e",
];

/// Files below a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn a_name_with_a_trick_in_it_is_refused_and_creates_nothing() {
    let server = Server::start();
    let before = files(server.data().parent().unwrap());
    let digest = sha256("x");
    for name in TRICKS {
        for path in [
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/manifests/v1"),
            format!("/v2/{name}/blobs/{digest}"),
            format!("/v2/a/{name}/blobs/{digest}"),
            format!("/v2/{name}/referrers/{digest}"),
        ] {
            let answer = get(&path).to(&server);
            // A target that is no URI at all is refused by the HTTP layer.
            if answer.body.is_empty() {
                assert_eq!(answer.status, 400, "{path}: {answer}");
            } else {
                refused(&answer, 400, "NAME_INVALID");
            }
        }
        for query in ["", "?digest=sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"] {
            let answer = post(format!("/v2/{name}/blobs/uploads/{query}")).body("x").to(&server);
            assert_eq!(answer.status, 400, "{name}: {answer}");
        }
    }
    assert_eq!(files(server.data().parent().unwrap()), before);
    assert_eq!(get("/v2/_catalog").to(&server).json()["repositories"].as_array().unwrap().len(), 0);
}

#[test]
fn a_last_part_with_a_trick_in_it_names_nothing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let location = repo.begin();
    let hex = image.layer.trim_start_matches("sha256:").to_owned();
    for trick in [
        "%2e%2e",
        "..%2f..%2f..%2fetc%2fpasswd",
        "..%5c..",
        "v1%00",
        "v1%2f",
        "v1%20",
        "v1%0d%0aX:%20y",
        "%76%31%2e%2e%2f",
    ] {
        let answer = get(repo.manifest(trick)).to(&server);
        assert!(answer.status == 400 && !answer.body.is_empty(), "{trick}: {answer}");
        refused(&get(repo.blob(trick)).to(&server), 400, "DIGEST_INVALID");
        refused(
            &get(format!("{}/{trick}", location.rsplit_once('/').unwrap().0)).to(&server),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        );
    }
    for blob in [
        format!("sha256:..%2f{hex}"),
        format!("sha256:{hex}%00"),
        format!("sha256:{hex}/"),
        format!("sha256%2f{hex}"),
    ] {
        let answer = get(repo.blob(&blob)).to(&server);
        assert!(matches!(answer.status, 400 | 404), "{blob}: {answer}");
    }
    // An encoded letter is that letter, in the last part only.
    get(repo.manifest("%76%31")).to(&server).is(200);
    get("/v2/team%2fapp/manifests/v1").to(&server).is(400);
    get("/v2/te%61m/app/manifests/v1").to(&server).is(400);
    assert_eq!(repo.tags(), ["v1"]);
}

#[test]
fn raw_bytes_in_a_target_get_an_answer() {
    let server = Server::start();
    for target in [
        b"/v2/\xff/manifests/v1".as_slice(),
        b"/v2/\xc3\xa4/tags/list",
        b"/v2/a\tb/tags/list",
        b"/v2/<a>/tags/list",
        b"v2/",
        b"*",
        b"",
    ] {
        let mut wire = server.connect();
        wire.send([b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
        let answer = wire.answer();
        assert!(matches!(answer.status, 400 | 404), "{target:?}: {answer}");
    }
    get("/v2/").to(&server).is(200);
}

#[test]
fn other_forms_of_the_target_are_understood_or_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("v1", "x");
    // RFC 9112, section 3.2.2: a server must accept the absolute form.
    get(format!("http://registry.test{}", repo.manifest("v1"))).to(&server).is(200);
    get(format!("{}?unknown=1#fragment", repo.manifest("v1"))).to(&server).is(200);
    for (method, target) in
        [("OPTIONS", "*"), ("CONNECT", "registry.test:80"), ("GET", "http://registry.test")]
    {
        let answer = Request::new(method, target).to(&server);
        assert!((400..500).contains(&answer.status), "{method} {target}: {answer}");
    }
}

#[test]
fn queries_that_cannot_be_read_are_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("v1", "x");
    refused(&get(repo.url("tags/list?last=%ff")).to(&server), 400, "UNSUPPORTED");
    refused(&get(repo.url(&format!("tags/list?{}", "a=b&".repeat(300)))).to(&server), 400, "UNSUPPORTED");
    for odd in ["?", "?&&&", "?=", "?n", "?%", "?a=%zz"] {
        let answer = get(repo.url(&format!("tags/list{odd}"))).to(&server);
        assert!(matches!(answer.status, 200 | 400), "{odd}: {answer}");
    }
}
