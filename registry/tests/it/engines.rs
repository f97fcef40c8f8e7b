// SPDX-License-Identifier: AGPL-3.0-only
//! The program on the metadata engines beside SQLite: push, pull, kill, restart; a database that goes
//! away and comes back.

use std::path::Path;

use tempfile::TempDir;

use crate::client::get;
use crate::role::{Image, noise};
use crate::server::Server;
#[cfg(feature = "postgres")]
use crate::{client::post, role::sha256, server::command, server::eventually};
#[cfg(feature = "postgres")]
use stella_storage::kv::postgres_server::PostgresServer;

fn pulls(server: &Server, image: &Image) {
    let repo = server.repo("team/app");
    assert_eq!(get(repo.manifest("v1")).to(server).is(200).body, image.bytes);
    for blob in [&image.config, &image.layer] {
        get(repo.blob(blob)).to(server).is(200);
    }
    assert_eq!(get("/v2/team/app/tags/list").to(server).is(200).json()["tags"], serde_json::json!(["v1"]));
}

/// Pushes, and pulls after a restart and after a kill.
fn what_is_pushed_stays(data: &Path, env: &[(&str, &str)]) {
    let mut server = Server::on(data, env);
    let image = server.repo("team/app").push_image("v1", "salt");
    server.repo("team/app").push_blob(noise(3_000_000));
    pulls(&server, &image);
    server.terminate();
    assert!(server.ended().success());
    let mut server = Server::on(data, env);
    pulls(&server, &image);
    server.kill();
    pulls(&Server::on(data, env), &image);
}

#[cfg(feature = "sled")]
#[test]
fn what_is_pushed_stays_on_sled() {
    let folder = TempDir::new().unwrap();
    what_is_pushed_stays(folder.path(), &[("STELLA_METADATA__ENGINE", "sled")]);
    assert!(folder.path().join("metadata.sled").is_dir() && !folder.path().join("metadata.sqlite").exists());
}

#[cfg(feature = "postgres")]
#[test]
fn what_is_pushed_stays_on_postgres() {
    let Some(database) = PostgresServer::start("push and pull on PostgreSQL") else { return };
    let folder = TempDir::new().unwrap();
    let url = database.schema("s");
    what_is_pushed_stays(
        folder.path(),
        &[("STELLA_METADATA__ENGINE", "postgres"), ("STELLA_METADATA__URL", &url)],
    );
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_that_goes_away_makes_the_registry_unready_until_it_is_back() {
    let Some(database) = PostgresServer::start("a lost database") else { return };
    let folder = TempDir::new().unwrap();
    let url = format!("{}&password=secret", database.schema("s"));
    let file = folder.path().join("url");
    std::fs::write(&file, &url).unwrap();
    let env = [
        ("STELLA_METADATA__ENGINE", "postgres"),
        ("STELLA_METADATA__URL_FILE", file.to_str().unwrap()),
        ("STELLA_LOG__LEVEL", "trace"),
    ];
    let server = Server::on(&folder.path().join("data"), &env);
    let image = server.repo("team/app").push_image("v1", "salt");
    // Another data directory, the same database.
    let other = command(&folder.path().join("other"), &env).output().unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert_eq!(other.status.code(), Some(10));
    assert!(said.contains(&format!("is in use by stella process {} on ", server.process())), "{said}");
    database.kill();
    eventually("it is not ready", || get("/readyz").to(&server).status == 503);
    get("/livez").to(&server).is(200);
    get(server.repo("team/app").manifest("v1")).to(&server).is(503);
    let push = post(format!("/v2/team/app/blobs/uploads/?digest={}", sha256("x"))).body("x");
    push.to(&server).is(503);
    database.start_again();
    eventually("it is ready again", || get("/readyz").to(&server).status == 200);
    pulls(&server, &image);
    push.to(&server).is(201);
    assert!(!format!("{said}{}", server.log()).contains("secret"), "the password was logged");
}
