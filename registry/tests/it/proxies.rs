// SPDX-License-Identifier: AGPL-3.0-only
//! The client's address in the log, with and without proxies that are trusted.

use serde_json::Value;

use crate::client::{Request, get};
use crate::server::{Server, eventually};

/// Reads are logged too.
const ALL: (&str, &str) = ("STELLA_LOG__LEVEL", "info,access=debug");

fn logged(server: &Server, request: &Request) -> Value {
    let answer = request.to(server).is(200);
    let id = answer.must("x-request-id").to_owned();
    let find = || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(&id) && line.contains("answered"))?;
        serde_json::from_str::<Value>(line).ok()
    };
    eventually("the request is logged", || find().is_some());
    find().unwrap()
}

fn forwarded() -> Request {
    get("/v2/")
        .header("X-Forwarded-For", "198.51.100.7, 192.0.2.1")
        .header("X-Forwarded-Proto", "https")
        .header("User-Agent", "crane/v0.22.1")
}

#[test]
fn a_client_cannot_choose_its_address() {
    let server =
        Server::with(&[("STELLA_LOG__FORMAT", "json"), ALL, ("STELLA_TRUSTED_PROXIES", "[10.0.0.0/8]")]);
    let line = logged(&server, &forwarded());
    assert_eq!((&line["client"], &line["scheme"]), (&"127.0.0.1".into(), &"http".into()), "{line}");
    assert_eq!((&line["version"], &line["agent"]), (&"HTTP/1.1".into(), &"crane/v0.22.1".into()), "{line}");
    assert!(logged(&server, &get("/v2/"))["agent"].is_null());
}

#[test]
fn a_trusted_proxy_tells_the_address() {
    let server =
        Server::with(&[("STELLA_LOG__FORMAT", "json"), ALL, ("STELLA_TRUSTED_PROXIES", "[127.0.0.0/8]")]);
    let line = logged(&server, &forwarded());
    assert_eq!((&line["client"], &line["scheme"]), (&"192.0.2.1".into(), &"https".into()), "{line}");
    // Nothing that stands there makes a request fail.
    for strange in ["", ",,,", "unknown", "300.1.1.1", "[::1", "1.2.3.4:x", "ü"] {
        let request = get("/v2/").header("X-Forwarded-For", strange).header("Forwarded", strange);
        assert_eq!(logged(&server, &request)["client"], "127.0.0.1", "{strange:?}");
    }
}

#[test]
fn locations_are_relative_whatever_a_proxy_says() {
    let server = Server::with(&[
        ("STELLA_TRUSTED_PROXIES", "[127.0.0.0/8]"),
        ("STELLA_EXTERNAL_URL", "https://registry.example"),
    ]);
    let repo = server.repo("team/app");
    let answer = crate::client::post(repo.url("blobs/uploads/"))
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Forwarded-Proto", "https")
        .to(&server)
        .is(202);
    assert!(answer.must("location").starts_with("/v2/team/app/blobs/uploads/"), "{answer}");
}
