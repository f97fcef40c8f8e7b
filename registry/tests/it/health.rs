// SPDX-License-Identifier: AGPL-3.0-only
//! `/livez`, `/startupz`, `/readyz` and `/healthz`.

use crate::client::{get, head, put};
use crate::server::Server;

#[test]
fn a_running_server_is_alive_and_ready() {
    let server = Server::start();
    for (path, text) in [("/livez", "ok\n"), ("/startupz", "started\n"), ("/readyz", "ready\n")] {
        let answer = get(path).to(&server).is(200);
        assert_eq!(String::from_utf8_lossy(&answer.body), text);
        // These are not the registry's API.
        assert_eq!(answer.header("docker-distribution-api-version"), None);
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(head(path).to(&server).is(200).must("content-length"), text.len().to_string());
        let answer = put(path).body("x").to(&server).is(405);
        assert_eq!(answer.must("allow").replace(' ', ""), "GET,HEAD");
    }
    get("/livez/").to(&server).is(404);
}

#[test]
fn health_is_told_with_numbers() {
    let server = Server::start();
    server.repo("team/app").begin();
    let answer = get("/healthz").to(&server).is(200);
    assert_eq!(answer.must("content-type"), "application/json");
    let health = answer.json();
    assert_eq!((&health["status"], &health["reason"]), (&"ok".into(), &serde_json::Value::Null), "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&health["uploads"], &health["queues"]["review"]["length"]),
        (&1.into(), &1.into()),
        "{health}"
    );
    assert_eq!(health["queues"]["garbage"]["due"], 0);
    assert!(health["disk"]["free_bytes"].as_u64() > Some(0) && health["uptime_seconds"].is_u64(), "{health}");
    let server = Server::with(&[("STELLA_LIMITS__DISK_RESERVE", "1048576GiB")]);
    let health = get("/healthz").to(&server).is(503).json();
    assert_eq!(
        (&health["status"], &health["disk"]["reserve_bytes"]),
        (&"unready".into(), &(1_u64 << 50).into())
    );
    assert!(health["reason"].as_str().unwrap().contains("limits.disk_reserve"), "{health}");
}
