// SPDX-License-Identifier: AGPL-3.0-only
//! The log: one line a request with its id, as JSON or for a person, and nothing secret.

use serde_json::Value;

use crate::client::{get, put};
use crate::role::refused;
use crate::server::{Server, eventually};

const JSON: (&str, &str) = ("STELLA_LOG__FORMAT", "json");
/// Also reads that succeed.
const ALL: (&str, &str) = ("STELLA_LOG__LEVEL", "info,access=debug");

fn line_of(server: &Server, id: &str) -> String {
    let find = || {
        server.log().lines().find(|line| line.contains(id) && line.contains("answered")).map(str::to_owned)
    };
    eventually("the request is logged", || find().is_some());
    find().unwrap()
}

#[test]
fn each_request_is_a_json_line_with_the_id_of_its_answer() {
    let server = Server::with(&[JSON, ALL]);
    let repo = server.repo("team/app");
    for (request, status) in
        [(get("/v2/"), 200), (get(repo.manifest("v1")), 404), (get("/livez"), 200), (get("/v1/_ping"), 404)]
    {
        let answer = request.to(&server).is(status);
        let id = answer.must("x-request-id");
        let line: Value = serde_json::from_str(&line_of(&server, id)).unwrap();
        assert_eq!(line["request_id"], id, "{line}");
        assert_eq!((&line["status"], &line["method"]), (&status.into(), &"GET".into()), "{line}");
        assert!(
            line["path"].is_string() && line["timestamp"].is_string() && line["client"] == "127.0.0.1",
            "{line}"
        );
        assert_eq!(line["level"], if status < 400 { "DEBUG" } else { "INFO" }, "{line}");
        assert!(line["micros"].is_u64(), "{line}");
    }
    for line in server.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn a_line_for_a_person_has_the_id_too() {
    let server = Server::with(&[("STELLA_LOG__FORMAT", "human"), ALL]);
    let answer = get("/v2/").to(&server);
    let line = line_of(&server, answer.must("x-request-id"));
    assert!(line.contains("GET") && line.contains("/v2/") && line.contains("200"), "{line}");
    assert!(!line.contains('\u{1b}') && !line.starts_with('{'), "{line:?}");
}

#[test]
fn reads_that_succeed_are_not_logged_unless_asked_for() {
    let server = Server::with(&[JSON]);
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let read = get(repo.manifest("v1")).to(&server).is(200);
    let failed = get(repo.manifest("v2")).to(&server).is(404);
    line_of(&server, failed.must("x-request-id"));
    let log = server.log();
    assert!(!log.contains(read.must("x-request-id")), "{log}");
    // What was pushed is told.
    assert!(log.contains("\"method\":\"PUT\"") && log.contains(&image.digest), "{log}");
}

#[test]
fn an_id_that_a_client_sends_is_not_taken_for_ours() {
    let server = Server::with(&[JSON, ALL]);
    let answer = get("/v2/").header("X-Request-Id", "forged-by-client").to(&server);
    line_of(&server, answer.must("x-request-id"));
    assert!(!server.log().contains("forged-by-client"));
}

#[test]
fn secrets_are_never_logged_at_any_level() {
    let server = Server::with(&[JSON, ("STELLA_LOG__LEVEL", "trace")]);
    let repo = server.repo("team/app");
    let secret = "dXNlcjpodW50ZXIy";
    let answer = put(format!("{}?token=hunter3&digest=x", repo.manifest("v1")))
        .header("Authorization", format!("Basic {secret}"))
        .header("Cookie", "session=hunter4")
        .body("hunter5")
        .to(&server);
    refused(&answer, 400, "DIGEST_INVALID");
    line_of(&server, answer.must("x-request-id"));
    let log = server.log();
    for hidden in [secret, "hunter3", "hunter4", "hunter5"] {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
}

#[test]
fn a_path_cannot_forge_a_line() {
    for format in ["json", "human"] {
        let server = Server::with(&[("STELLA_LOG__FORMAT", format)]);
        let answer = get("/v2/%0aforged%1b[31m/tags/list?x=%0aforged").to(&server).is(400);
        line_of(&server, answer.must("x-request-id"));
        assert!(!server.log().lines().any(|line| line.starts_with("forged")), "{}", server.log());
        assert!(!server.log().contains('\u{1b}'));
    }
}

#[test]
fn stdout_is_for_the_address_alone() {
    let server = Server::with(&[JSON]);
    get("/v2/").to(&server).is(200);
    assert!(!server.log().contains("listening on http://"), "{}", server.log());
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let soon = ["INTERVAL", "LEASE", "GRACE"].map(|key| (format!("STELLA_COLLECTION__{key}"), "1s"));
    let soon: Vec<_> = soon.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    for (name, log) in [("full", full.into()), ("closed", closed.into())] {
        let mut server = Server::logging_to(&folder.path().join(name), log, &soon);
        let repo = server.repo("team/app");
        repo.push_image("v1", "x");
        let lost = repo.push_blob("never named");
        get("/readyz").to(&server).is(200);
        eventually("collection goes on", || get(repo.blob(&lost)).to(&server).status == 404);
        server.terminate();
        assert!(server.ended().success());
    }
}
