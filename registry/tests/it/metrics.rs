// SPDX-License-Identifier: AGPL-3.0-only
//! `/metrics`: well-formed, and what it counts.

use std::collections::BTreeMap;

use crate::administration::stella;
use crate::client::{get, head, post};
use crate::server::{Server, eventually};

/// The samples of a scrape by their names and labels; checks the form of every line.
fn scrape(server: &Server) -> BTreeMap<String, u64> {
    let answer = get("/metrics").to(server).is(200);
    assert_eq!(answer.must("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with('\n'));
    let (mut samples, mut family) = (BTreeMap::new(), "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(
                [format!("{family} counter"), format!("{family} gauge")].contains(&kind.to_owned()),
                "{line}"
            );
            assert_eq!(kind.ends_with("counter"), family.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), family, "{line}");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    samples
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
