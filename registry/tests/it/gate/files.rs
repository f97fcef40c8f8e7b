// SPDX-License-Identifier: AGPL-3.0-only
//! Policies on disk that vanish, break or come back, and the gate that stays as it was.

use std::fs;

use super::Gated;
use crate::client::get;
use crate::server::{command, eventually};

#[test]
fn a_policy_that_is_away_for_a_moment_opens_nothing() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let before = gated.status();
    // Nobody says that it is meant: an editor does so, and a mount that is slow.
    fs::rename(gated.path("policies/prod.yaml"), gated.path("away.yaml")).unwrap();
    eventually("it is noticed", || gated.status()["error"].is_string());
    let status = gated.status();
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("would no longer be enforced") && error.contains("send SIGHUP"), "{error}");
    assert_eq!(status["epoch"], before["epoch"]);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.denied(&gated.pull("prod/app", &pushed.digest));
    fs::rename(gated.path("away.yaml"), gated.path("policies/prod.yaml")).unwrap();
    eventually("it is back", || gated.status()["error"].is_null());
    gated.denied(&gated.pull("prod/app", "1"));
    // Weaker by a field is no less open.
    let text = fs::read_to_string(gated.path("policies/prod.yaml")).unwrap();
    fs::write(gated.path("prod.yaml"), format!("{text}  pull: warn\n")).unwrap();
    fs::rename(gated.path("prod.yaml"), gated.path("policies/prod.yaml")).unwrap();
    eventually("it is noticed", || gated.status()["error"].is_string());
    gated.denied(&gated.pull("prod/app", "1"));
    // Who means it says so.
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is open", || gated.pull("prod/app", "1").status == 200);
    assert!(gated.status()["error"].is_null());
}

#[test]
fn a_folder_that_is_empty_or_broken_at_first_start_serves_nothing() {
    let mut gated = Gated::start("");
    gated.push("prod/app", "1", "one");
    gated.guarded.server.terminate();
    gated.guarded.server.ended();
    let (users, paths) = (gated.guarded.users(), format!("[{}]", gated.path("policies").display()));
    let env = [
        ("STELLA_ACCESS", super::ACCESS),
        ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap()),
        ("STELLA_POLICY__HOST", super::HOST),
        ("STELLA_POLICY__PATHS", paths.as_str()),
    ];
    let data = gated.guarded.server.data().to_owned();
    let refused = || {
        let output = command(&data, &env).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let prod = fs::read(gated.path("policies/prod.yaml")).unwrap();
    fs::write(gated.path("policies/prod.yaml"), "kind: RegistryPolicy\n").unwrap();
    assert!(refused().contains("prod.yaml"));
    for name in ["prod.yaml", "signed.yaml"] {
        fs::rename(gated.path(&format!("policies/{name}")), gated.path(name)).unwrap();
    }
    assert!(refused().contains("policies"));
    fs::remove_dir(gated.path("policies")).unwrap();
    assert!(refused().contains("policies"));
    fs::create_dir(gated.path("policies")).unwrap();
    fs::rename(gated.path("signed.yaml"), gated.path("policies/signed.yaml")).unwrap();
    fs::write(gated.path("policies/prod.yaml"), prod).unwrap();
    gated.guarded.server = crate::server::Server::on(&data, &env);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.send("alice", get("/readyz")).is(200);
}
