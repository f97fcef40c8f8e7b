// SPDX-License-Identifier: AGPL-3.0-only
//! Verdicts that end by themselves.

use std::fs;

use stella_storage::{Clock as _, SystemClock};

use super::Gated;
use super::signer::{Legacy, Log};
use crate::server::eventually;

#[test]
fn what_is_signed_too_long_ago_ends_unless_it_was_released_in_time() {
    let (log, folder) = (Log::new(), tempfile::TempDir::new().unwrap());
    let root = folder.path().join("root.json");
    fs::write(&root, log.trusted_root()).unwrap();
    let roots = format!("{{ours: {}}}", root.display());
    let gated = Gated::with("maxAge: 1h", &[("STELLA_POLICY__TRUST_ROOTS", &roots)]);
    let key = gated.key();
    let sign = |repo: &str, digest: &str, left: i64| {
        let mut signature = Legacy::new(&key, repo, digest);
        log.stamp(&mut signature, &key, i64::try_from(SystemClock.now().0 / 1_000).unwrap() - 3_600 + left);
        gated.put_legacy(repo, &signature);
    };
    let old = gated.push("prod/app", "1", "one");
    sign("prod/app", &old.digest, -1);
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("too-old"), "{message}");
    // In the first repository it is released under a tag; in the second one nobody ever did.
    let [released, read] = ["prod/released", "prod/read"].map(|repo| gated.push(repo, "1", "two").digest);
    gated.send("ci", crate::client::delete("/v2/prod/read/manifests/1")).is(202);
    for repo in ["prod/released", "prod/read"] {
        sign(repo, &released, 5);
    }
    gated.pull("prod/read", &read).is(200);
    gated.pull("prod/released", "1").is(200);
    eventually("it is too old", || gated.pull("prod/read", &read).status == 403);
    gated.pull("prod/released", "1").is(200);
    gated.pull("prod/released", &released).is(200);
}
