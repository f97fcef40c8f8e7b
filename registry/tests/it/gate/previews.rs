// SPDX-License-Identifier: AGPL-3.0-only
//! Each use of `preview` is written down: who saw what of that which is not released.

use std::fs;

use serde_json::Value;

use super::Gated;
use crate::client::{Answer, PATIENCE, get};

/// The line of an answer, once it is written.
fn line(file: &std::path::Path, answer: &Answer) -> Value {
    let id = answer.must("stella-decision");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(line) = lines.into_iter().find(|line| line["request_id"] == id) {
            return line;
        }
        assert!(std::time::Instant::now() < deadline, "no line {id} in {text}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn who_sees_what_is_not_released_is_written_down_for_manifests_blobs_and_lists() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("audit.log");
    let gated = Gated::with("", &[("STELLA_AUDIT__FILE", file.to_str().unwrap())]);
    let image = gated.push("prod/app", "v1", "x");
    for (what, action) in [
        (format!("manifests/{}", image.digest), "manifest.get"),
        (format!("blobs/{}", image.layer), "blob.get"),
        (format!("blobs/{}", image.config), "blob.get"),
        ("tags/list".to_owned(), "tags.list"),
        (format!("referrers/{}", image.digest), "referrers.list"),
    ] {
        let url = format!("/v2/prod/app/{what}");
        let seen = gated.send("signer", get(&url)).is(200);
        let line = line(&file, &seen);
        assert_eq!(line["actor"], "signer", "{line}");
        assert_eq!(line["action"], action, "{line}");
        assert_eq!(line["decision"]["preview"], true, "{line}");
        if what.starts_with("blobs") || what.starts_with("manifests") {
            assert_eq!(line["decision"]["verdict"], "waiting", "{line}");
            assert_eq!(line["decision"]["judged"], image.digest.as_str(), "{line}");
        }
        // Readers see nothing of it, and a list without it is no preview.
        let reader = gated.send("reader", get(&url));
        assert!(reader.status == 403 || reader.header("stella-decision").is_none(), "{reader}");
    }
    // What is released is everyone's.
    gated.sign("prod/app", "v1", &[]);
    for what in [format!("manifests/{}", image.digest), format!("blobs/{}", image.layer)] {
        let seen = gated.send("signer", get(format!("/v2/prod/app/{what}"))).is(200);
        assert_eq!(seen.header("stella-decision"), None, "{seen}");
    }
    // Bytes that no image names are nobody's yet.
    let alone = gated.push_blob("ci", "prod/app", "alone");
    let seen = gated.send("ci", get(format!("/v2/prod/app/blobs/{alone}"))).is(200);
    assert_eq!(line(&file, &seen)["decision"]["preview"], true);
}
