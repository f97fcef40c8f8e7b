// SPDX-License-Identifier: AGPL-3.0-only
//! `/metrics`: well-formed, and what it counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::administration::stella;
use crate::client::{Wire, delete, get, head, patch, post, put};
use crate::server::{Server, eventually};

/// The samples of a scrape that are whole numbers, by their names and labels; checks the form of all.
fn scrape(server: &Server) -> BTreeMap<String, u64> {
    scrape_at(server.address())
}

fn scrape_at(address: SocketAddr) -> BTreeMap<String, u64> {
    let answer = get("/metrics").on(&mut Wire::open(address)).is(200);
    assert_eq!(answer.must("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with('\n'));
    let (mut samples, mut seen, mut family, mut kind) = (BTreeMap::new(), Vec::new(), "", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(!seen.contains(&family), "twice: {line}");
            seen.push(family);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let name;
            (name, kind) = typed.split_once(' ').unwrap();
            assert!(name == family && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let suffix = bare.strip_prefix(family).unwrap_or_else(|| panic!("{line} in {family}"));
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            if let Ok(value) = value.parse() {
                assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
            }
        }
    }
    samples
}

fn requests(route: &str, method: &str, status: u16) -> String {
    format!("stella_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[test]
fn requests_are_counted_by_the_form_of_their_path_and_what_was_pushed_and_pulled_by_its_bytes() {
    let server = Server::start();
    let repo = server.repo("secret/name");
    let layer = vec![7; 1 << 20];
    let digest = repo.push_blob(&layer);
    let location = repo.begin();
    delete(&location).to(&server).is(204);
    repo.push_image("v1", "x");
    get(repo.manifest("v1")).to(&server).is(200);
    get(repo.manifest("v2")).to(&server).is(404);
    get("/v2/BAD//name/manifests/v2").to(&server).is(400);
    assert_eq!(get(repo.blob(&digest)).to(&server).is(200).body, layer);
    post(server.repo("other").url(&format!("blobs/uploads/?mount={digest}"))).to(&server).is(201);
    put("/v2/").to(&server).is(405);
    let samples = scrape(&server);
    let manifests = "/v2/{name}/manifests/{reference}";
    let uploads = "/v2/{name}/blobs/uploads/";
    for (name, expected) in [
        (requests(manifests, "PUT", 201), 1),
        (requests(manifests, "GET", 200), 1),
        (requests(manifests, "GET", 404), 1),
        (requests(manifests, "GET", 400), 1),
        (requests("/v2/{name}/blobs/{digest}", "GET", 200), 1),
        (requests(uploads, "POST", 201), 4),
        (requests(uploads, "POST", 202), 1),
        (requests("/v2/{name}/blobs/uploads/{id}", "DELETE", 204), 1),
        (requests("/v2/", "PUT", 405), 1),
        (format!("stella_http_request_seconds_count{{route=\"{manifests}\"}}"), 4),
        (format!("stella_http_request_seconds_bucket{{route=\"{manifests}\",le=\"+Inf\"}}"), 4),
        ("stella_uploads_begun_total".to_owned(), 4),
        ("stella_uploads_finished_total".to_owned(), 3),
        ("stella_uploads_cancelled_total".to_owned(), 1),
        ("stella_uploads_mounted_total".to_owned(), 1),
        ("stella_uploads_expired_total".to_owned(), 0),
        // The scrape itself.
        ("stella_http_requests_in_flight".to_owned(), 1),
        ("stella_memory_budget_bytes".to_owned(), 256 << 20),
        ("stella_memory_budget_used_bytes".to_owned(), 0),
        ("stella_disk_reserve_bytes".to_owned(), 512 << 20),
        ("stella_ready".to_owned(), 1),
        ("stella_commit_failures_total".to_owned(), 0),
        (format!("stella_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1),
    ] {
        assert_eq!(samples.get(&name), Some(&expected), "{name} in {samples:#?}");
    }
    let (received, sent) =
        (samples["stella_http_received_bytes_total"], samples["stella_http_sent_bytes_total"]);
    assert!((1 << 20..2 << 20).contains(&received) && (1 << 20..2 << 20).contains(&sent));
    assert!((1 << 20..2 << 20).contains(&samples["stella_uploads_received_bytes_total"]));
    let commits = samples["stella_commits_total"];
    assert!(commits >= 8 && samples["stella_commit_seconds_count"] == commits, "{samples:#?}");
    assert_eq!(samples["stella_commit_transactions_count"], commits);
    assert!(samples["stella_connections_open"] >= 1 && samples["stella_connections_total"] >= 10);
    assert!(samples["process_resident_memory_bytes"] > 1 << 20 && samples["process_open_fds"] > 5);
    assert!(samples["process_start_time_seconds"] > 1_700_000_000);
    let page = get("/metrics").to(&server).is(200).body;
    assert!(!String::from_utf8(page).unwrap().contains("secret"));
}

#[test]
fn metrics_have_a_listener_of_their_own_if_they_are_given_one() {
    let server = Server::with(&[("STELLA_METRICS__LISTEN", "127.0.0.1:0")]);
    let address = server.metrics_address();
    assert_ne!(address, server.address());
    get("/metrics").to(&server).is(404);
    let mut wire = Wire::open(address);
    for path in ["/livez", "/startupz", "/readyz", "/healthz", "/metrics"] {
        get(path).on(&mut wire).is(200);
        assert_eq!(get(path).to(&server).status, if path == "/metrics" { 404 } else { 200 });
    }
    get("/v2/").on(&mut wire).is(404);
    // It is not the registry: it counts nothing.
    assert_eq!(scrape_at(address).get(&requests("monitoring", "GET", 200)), Some(&4));
}

#[test]
fn a_metrics_listener_for_other_machines_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let env = [("STELLA_METRICS__LISTEN", "0.0.0.0:0")];
    let output = crate::server::command(folder.path(), &env).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`metrics.listen`: 0.0.0.0:0 is not a loopback address"), "{said}");
}

#[test]
fn memory_that_uploads_hold_is_told() {
    let server = Server::start();
    let location = server.repo("app").begin();
    let mut wire = server.connect();
    let request = patch(&location).body(vec![1; 600_000]).bytes();
    wire.send(&request[..request.len() - 1]);
    // What came is written after a while, and its memory is given back.
    eventually("some is held, or was", || {
        let samples = scrape(&server);
        samples["stella_uploads_received_bytes_total"] > 0 || samples["stella_memory_budget_used_bytes"] > 0
    });
    wire.send([1]);
    wire.answer().is(202);
    let samples = scrape(&server);
    assert_eq!(samples["stella_memory_budget_used_bytes"], 0);
    assert_eq!(samples["stella_uploads_received_bytes_total"], 600_000);
}

#[test]
fn collection_is_counted() {
    let server = Server::with(&[
        ("STELLA_COLLECTION__LEASE", "1s"),
        ("STELLA_COLLECTION__GRACE", "0s"),
        ("STELLA_COLLECTION__INTERVAL", "1h"),
    ]);
    let repo = server.repo("app");
    repo.push_blob(b"12345");
    post(repo.url("blobs/uploads/")).to(&server).is(202);
    let before = scrape(&server);
    assert_eq!(before["stella_collection_rounds_total"], 0);
    assert_eq!(before["stella_uploads_open"], 1);
    let waiting = before["stella_collection_queue_length{queue=\"review\",due=\"false\"}"];
    // The blob's, and those of two uploads.
    assert_eq!(waiting + before["stella_collection_queue_length{queue=\"review\",due=\"true\"}"], 3);
    assert!(before["stella_disk_free_bytes"] > 0);
    eventually("it is collected", || {
        stella(server.data(), &["gc"]).is(0);
        scrape(&server)["stella_collection_freed_bytes_total"] == 5
    });
    let after = scrape(&server);
    assert_eq!(after["stella_collection_removed_total{kind=\"blob\"}"], 1);
    assert_eq!(after["stella_collection_removed_total{kind=\"manifest\"}"], 0);
    assert_eq!(after["stella_collection_deleted_files_total"], 1);
    assert!(after["stella_collection_rounds_total"] >= 1 && after["stella_collection_reviews_total"] >= 1);
    assert_eq!(after["stella_collection_failures_total"], 0);
}

#[test]
fn metrics_are_read_only() {
    let server = Server::start();
    post("/metrics").body("x").to(&server).is(405);
}

#[test]
fn damage_is_found_by_the_scrub_marked_by_fsck_and_healed_by_a_push() {
    let folder = tempfile::TempDir::new().unwrap();
    let damaged = "stella_scrub_damaged_total";
    let mut server = Server::on(folder.path(), &[("STELLA_SCRUB__RATE", "0")]);
    let digest = server.repo("app").push_blob(b"precious");
    assert_eq!(scrape(&server)[damaged], 0);
    server.terminate();
    assert!(server.ended().success());
    for part in std::fs::read_dir(folder.path().join("blobs")).unwrap() {
        for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), b"PRECIOUS").unwrap();
        }
    }
    let server = Server::on(folder.path(), &[]);
    eventually("it is read", || scrape(&server)["stella_scrub_passes_total"] == 1);
    let samples = scrape(&server);
    assert_eq!((samples[damaged], samples["stella_scrub_objects_total{kind=\"blob\"}"]), (1, 1));
    assert!(samples["stella_scrub_ended_seconds"] > 1_700_000_000);
    let said = stella(folder.path(), &["fsck", "--repair"]).is(6).stdout;
    assert!(said.contains("content-damaged") && said.contains("push the blob again"), "{said}");
    let url = server.repo("app").url(&format!("blobs/{digest}"));
    head(&url).to(&server).is(404);
    get(&url).to(&server).is(500);
    server.repo("other").push_blob(b"precious");
    assert_eq!(get(&url).to(&server).is(200).body, b"precious");
    stella(folder.path(), &["fsck"]).is(0);
}
