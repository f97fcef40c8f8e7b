// SPDX-License-Identifier: AGPL-3.0-only
//! SIGHUP: what changes while the server runs, what is said of the rest, and a file that is wrong.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::client::get;
use crate::server::{Server, eventually};

struct Lab {
    folder: TempDir,
    file: PathBuf,
}

impl Lab {
    fn new(yaml: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("stella.yaml");
        fs::write(&file, yaml).unwrap();
        Lab { folder, file }
    }

    fn start(&self) -> Server {
        let env = [("STELLA_LOG__FORMAT", "json")];
        Server::configured(&self.folder.path().join("data"), &self.file, &env)
    }

    fn change(&self, server: &Server, yaml: &str) {
        fs::write(&self.file, yaml).unwrap();
        server.reload();
    }
}

fn reloads(server: &Server, result: &str) -> Option<u64> {
    let page = String::from_utf8(get("/metrics").to(server).is(200).body).unwrap();
    let name = format!("stella_config_reloads_total{{result=\"{result}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

#[test]
fn what_can_change_does_and_what_cannot_is_named_until_it_is_put_back() {
    let lab = Lab::new("log:\n  level: warn\n");
    let server = lab.start();
    let refused = get("/v2/a/manifests/x").to(&server).is(404);
    lab.change(&server, "log:\n  level: info\nlimits:\n  disk_reserve: 1048576GiB\n  connections: 7\n");
    let changed = get("/v2/a/manifests/x").to(&server).is(404);
    let told = |id: &str| server.log().contains(id);
    eventually("the new level is in force", || told(changed.must("x-request-id")));
    assert!(!told(refused.must("x-request-id")), "{}", server.log());
    let health = get("/healthz").to(&server).is(503).json();
    assert!(health["reason"].as_str().unwrap().contains("limits.disk_reserve"), "{health}");
    let needs_restart = |key: &str| {
        let log = server.log();
        let line = |line: &&str| line.contains("needs a restart") && line.contains(&format!("\"{key}\""));
        log.lines().filter(line).count()
    };
    assert_eq!((needs_restart("limits.connections"), needs_restart("log.level")), (1, 0), "{}", server.log());
    server.reload();
    assert_eq!(needs_restart("limits.connections"), 2);
    lab.change(&server, "");
    get("/readyz").to(&server).is(200);
    assert_eq!((needs_restart("limits.connections"), reloads(&server, "success")), (2, Some(3)));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_is_told() {
    let lab = Lab::new("limits:\n  disk_reserve: 0\n");
    let server = lab.start();
    for (nth, wrong) in
        ["limits:\n  disk_reserv: 1GiB\n", "limits: [", "metrics: {listen: 0.0.0.0:1}\n"].iter().enumerate()
    {
        lab.change(&server, wrong);
        get("/readyz").to(&server).is(200);
        assert_eq!(reloads(&server, "failure"), Some(nth as u64 + 1));
    }
    let log = server.log();
    assert!(log.contains("did you mean `limits.disk_reserve`") && log.contains("everything stays"), "{log}");
    fs::remove_file(&lab.file).unwrap();
    server.reload();
    assert_eq!((reloads(&server, "failure"), reloads(&server, "success")), (Some(4), Some(0)));
    server.repo("app").push_image("v1", "it goes on");
}

#[test]
fn new_rules_are_collected_by() {
    let soon = "collection: {interval: 1s, lease: 1s, grace: 0s}\n";
    let lab = Lab::new(&soon.replace("1s, lease", "1h, lease"));
    let server = lab.start();
    let repo = server.repo("dev/app");
    let old = repo.push_image("v1", "old");
    repo.push_image("v1", "new");
    assert!(repo.has_manifest(&old.digest));
    lab.change(&server, &format!("{soon}repositories:\n  - {{match: dev/**, untagged: 0s, released: 0s}}\n"));
    // The interval changed too: nobody waits for an hour. Asking for it by HEAD would keep it.
    eventually("the untagged one goes", || get(repo.manifest(&old.digest)).to(&server).status == 404);
    assert!(repo.has_manifest("v1"));
}
