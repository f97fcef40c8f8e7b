// SPDX-License-Identifier: AGPL-3.0-only
//! Enforcement that begins with a baseline: nothing stops, and what is pushed from then on must be signed.

use std::fs;

use super::Gated;
use crate::server::eventually;

#[test]
fn what_was_released_before_is_served_on_until_the_baseline_expires() {
    // The list is made by a server of its own, on the same data.
    let mut gated = Gated::start("pull: off");
    let (pushed, other) = (gated.push("prod/app", "1", "one"), gated.push("prod/app", "2", "two"));
    let list = gated.path("baseline.json");
    let list = list.to_str().unwrap().to_owned();
    let key = gated.path("cosign.key");
    let make = |gated: &Gated, expires: &str| {
        let arguments =
            ["policy", "baseline", "--key", key.to_str().unwrap(), "--expires", expires, "-o", &list];
        let data = gated.guarded.server.data().to_owned();
        crate::administration::stella_with(&data, &arguments, &[("COSIGN_PASSWORD", "secret")])
    };
    make(&gated, "0s").is(2);
    make(&gated, "366d").is(2);
    let said = make(&gated, "1h").is(0).stderr;
    assert!(said.contains("2 images in 1 repositories of r.test"), "{said}");
    let text = fs::read_to_string(&list).unwrap();

    let start = |gated: &mut Gated, list: &str, key: &str| {
        gated.guarded.server.terminate();
        gated.guarded.server.ended();
        let users = gated.guarded.users();
        let paths = format!("[{}]", gated.path("policies").display());
        let key = gated.path(key);
        let env = [
            ("STELLA_ACCESS", super::ACCESS),
            ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap()),
            ("STELLA_POLICY__HOST", super::HOST),
            ("STELLA_POLICY__PATHS", paths.as_str()),
            ("STELLA_POLICY__BASELINE__FILE", list),
            ("STELLA_POLICY__BASELINE__KEY", key.to_str().unwrap()),
        ];
        let data = gated.guarded.server.data().to_owned();
        gated.guarded.server = crate::server::Server::on(&data, &env);
    };
    start(&mut gated, &list, "cosign.pub");
    gated.policy("");
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), pushed.digest);
    gated.pull("prod/app", &other.digest).is(200);
    let explained = gated.send("reader", crate::client::get("/api/stella/v1/policy/explain?ref=prod/app:1"));
    let explained = explained.is(200).json();
    assert!(explained["why"].as_str().unwrap().contains("baseline until 20"), "{explained}");
    assert!(explained["validUntil"].is_string(), "{explained}");
    // What comes after it must be signed, and what is denied stays denied.
    let new = gated.push("prod/app", "1", "three");
    assert_eq!(new.answer.must("stella-verdict"), "waiting");
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), pushed.digest);
    gated.denied(&gated.pull("prod/app", &new.digest));
    gated.policy(&format!("denyDigests: [\"{}\"]", other.layer));
    gated.denied(&gated.pull("prod/app", "2"));
    gated.policy("");
    // A list that somebody touched, or of another key, changes nothing.
    let before = gated.status();
    fs::write(&list, text.replacen("\"payload\":\"", "\"payload\":\"AAAA", 1)).unwrap();
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is refused", || gated.status()["error"].is_string());
    assert!(
        gated.status()["error"].as_str().unwrap().contains("not signed by the key"),
        "{}",
        gated.status()
    );
    assert_eq!(gated.status()["epoch"], before["epoch"]);
    gated.pull("prod/app", "1").is(200);
    // A new one takes its place, which ends soon.
    make(&gated, "3s").is(0);
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is read", || gated.status()["error"].is_null());
    eventually("it is over", || gated.pull("prod/app", "1").status == 403);
    gated.denied(&gated.pull("prod/app", &other.digest));
}
