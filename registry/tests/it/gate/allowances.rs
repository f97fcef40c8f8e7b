// SPDX-License-Identifier: AGPL-3.0-only
//! Break-glass: `stella policy allow`.

use super::Gated;
use crate::administration::{Outcome, stella_with};
use crate::server::eventually;

impl Gated {
    /// Runs a command on the data, as the operator `olga`.
    pub(super) fn operate(&self, arguments: &[&str]) -> Outcome {
        stella_with(self.guarded.server.data(), arguments, &[("USER", "olga")])
    }

    fn allow(&self, digest: &str, more: &[&str]) -> Outcome {
        let arguments = ["policy", "allow", digest, "--reason", "INC-42", "--expires", "1h"];
        self.operate(&[&arguments[..], more].concat())
    }
}

#[test]
fn what_an_operator_allows_is_released_at_once_and_taken_back_at_once() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let pushed = gated.push("prod/app", "1", "two");
    gated.denied(&gated.pull("prod/app", &pushed.digest));
    let said = gated.allow(&pushed.digest, &["--repository", "prod/app"]).is(0).stdout;
    assert!(
        said.contains("is allowed in prod/app until ") && said.ends_with("it is in prod/app\n"),
        "{said}"
    );
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), pushed.digest);
    gated.pull("prod/app", &pushed.digest).is(200);
    gated.send("reader", crate::client::get(format!("/v2/prod/app/blobs/{}", pushed.layer))).is(200);
    let explained = gated.run("reader", &["policy", "explain", &gated.at("prod/app:1")]).is(0).stdout;
    for part in ["allowed: olga lets it through until ", "INC-42", "no-evidence", "valid until "] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let log = gated.guarded.server.log();
    assert!(log.lines().any(|line| line.contains("policy.allow") && line.contains(&pushed.digest)), "{log}");
    let listed = gated.operate(&["policy", "allow", "--list", "--json"]).is(0).json();
    assert_eq!((&listed[0]["by"], &listed[0]["active"]), (&"olga".into(), &true.into()));
    // In another repository nothing changed.
    let bytes = gated.pull("prod/app", "1").body;
    for blob in ["{\"salt\":\"two\"}", "layer two"] {
        gated.push_blob("ci", "prod/other", blob);
    }
    let again = crate::client::put("/v2/prod/other/manifests/1")
        .header("Content-Type", crate::role::OCI_MANIFEST)
        .body(&bytes);
    gated.send("ci", again).is(201);
    gated.denied(&gated.pull("prod/other", "1"));
    gated.allow(&pushed.digest, &[]).is(0);
    gated.pull("prod/other", "1").is(200);
    // A denied digest stays denied.
    gated.policy(&format!("denyDigests: [\"{}\"]", pushed.layer));
    gated.denied(&gated.pull("prod/other", "1"));
    gated.policy("");
    gated.pull("prod/other", "1").is(200);

    gated.operate(&["policy", "allow", &pushed.digest, "--revoke"]).is(0);
    gated.denied(&gated.pull("prod/other", "1"));
    gated.pull("prod/app", "1").is(200);
    gated.operate(&["policy", "allow", &pushed.digest, "--repository", "prod/app", "--revoke"]).is(0);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.denied(&gated.pull("prod/app", &pushed.digest));
    gated.operate(&["policy", "allow", &pushed.digest, "--revoke"]).is(4);
    assert_eq!(gated.operate(&["policy", "allow", "--list"]).is(0).stdout, "0 allowances\n");
    // And the way back is open.
    gated.run("ci", &["tag", "rollback", &gated.at("prod/app:1"), "--to", &first.digest]).is(0);
    gated.pull("prod/app", "1").is(200);
}

#[test]
fn an_allowance_ends_by_itself_and_lasts_over_a_restart_without_a_server() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let arguments = ["policy", "allow", &pushed.digest, "--reason", "a while", "--expires", "3s"];
    gated.operate(&arguments).is(0);
    gated.pull("prod/app", "1").is(200);
    eventually("it is over", || gated.pull("prod/app", "1").status == 403);
    let listed = gated.operate(&["policy", "allow", "--list"]).is(0).stdout;
    assert!(listed.contains("over since") && listed.contains("olga: a while"), "{listed}");
    for wrong in [
        vec!["policy", "allow", &pushed.digest],
        vec!["policy", "allow", &pushed.digest, "--reason", " ", "--expires", "1h"],
        vec!["policy", "allow", &pushed.digest, "--reason", "x", "--expires", "31d"],
        vec!["policy", "allow", "sha256:00", "--reason", "x", "--expires", "1h"],
        vec!["policy", "allow", &pushed.digest, "--repository", "Prod", "--reason", "x", "--expires", "1h"],
        vec!["policy", "allow", "--list", "--revoke"],
    ] {
        gated.operate(&wrong).is(2);
    }
    // Without a server the data is opened itself.
    let mut gated = gated;
    let data = gated.guarded.server.data().to_owned();
    gated.guarded.server.terminate();
    assert!(gated.guarded.server.ended().success());
    let allow = ["policy", "allow", &pushed.digest, "--reason", "again", "--expires", "1h"];
    stella_with(&data, &allow, &[("USER", "olga")]).is(0);
    let backup = gated.path("backup");
    stella_with(&data, &["backup", "create", backup.to_str().unwrap()], &[]).is(0);
    stella_with(&data, &["fsck"], &[]).is(0);
    let restored = gated.path("restored");
    stella_with(&restored, &["backup", "restore", backup.to_str().unwrap()], &[]).is(0);
    let listed = stella_with(&restored, &["policy", "allow", "--list"], &[]).is(0).stdout;
    assert!(listed.contains("olga: again"), "{listed}");
}
