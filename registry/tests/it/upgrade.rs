// SPDX-License-Identifier: AGPL-3.0-only
//! Data of an older version: who serves it, who upgrades it, and what an operator is told.

use std::path::Path;

use tempfile::TempDir;

use crate::administration::stella;
use crate::client::get;
use crate::server::{Server, command};

/// A data directory with an image, as schema version 1 had it: without names by number.
fn old_data(data: &Path) {
    let mut server = Server::on(data, &[]);
    server.repo("team/app").push_image("v1", "salt");
    server.terminate();
    assert!(server.ended().success());
    let metadata = rusqlite::Connection::open(data.join("metadata.sqlite")).unwrap();
    metadata.execute("DELETE FROM kv WHERE k BETWEEN CAST('i' AS BLOB) AND CAST('j' AS BLOB)", []).unwrap();
    let aged =
        metadata.execute("UPDATE kv SET v = x'00000001' WHERE k = CAST('mschema' AS BLOB)", []).unwrap();
    assert_eq!(aged, 1);
}

#[test]
fn a_server_upgrades_older_data_and_says_what_it_changes() {
    let folder = TempDir::new().unwrap();
    old_data(folder.path());
    let server = Server::on(folder.path(), &[]);
    get("/v2/team/app/manifests/v1").to(&server).is(200);
    let log = server.log();
    assert!(log.contains("upgrading the data") && log.contains("adds a row for each repository"), "{log}");
    drop(server);
    // Once is enough.
    let server = Server::on(folder.path(), &[]);
    get("/v2/team/app/manifests/v1").to(&server).is(200);
    assert!(!server.log().contains("upgrading"), "{}", server.log());
}

#[test]
fn a_server_that_is_told_to_wait_leaves_older_data_alone_until_the_operator_upgrades_it() {
    let folder = TempDir::new().unwrap();
    old_data(folder.path());
    let env = [("STELLA_UPGRADE", "wait")];
    let output = command(folder.path(), &env).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), b"".as_slice()), "{said}");
    for part in
        ["schema version 1", "this program writes 2", "adds a row for each repository", "`stella upgrade`"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // To look at the data is not to upgrade it, whatever the server would do.
    for command in [["fsck"].as_slice(), &["gc", "--dry-run"], &["backup", "create", "/nowhere"]] {
        let refused = stella(folder.path(), command).is(2);
        assert!(refused.stderr.contains("was not told to change it"), "{refused:?}");
    }
    let told = stella(folder.path(), &["upgrade", "--dry-run"]).is(0);
    assert!(told.stdout.contains("nothing was changed"), "{told:?}");
    assert_eq!(command(folder.path(), &env).output().unwrap().status.code(), Some(2));

    let told = stella(folder.path(), &["upgrade", "--json"]).is(0);
    let summary = &told.json()[0]["summary"];
    assert_eq!((&summary["from"], &summary["done"]), (&1.into(), &true.into()), "{told:?}");
    let told = stella(folder.path(), &["upgrade"]).is(0);
    assert_eq!(told.stdout, "the data is of the present version already\n");
    stella(folder.path(), &["fsck"]).is(0);
    let server = Server::on(folder.path(), &env);
    get("/v2/team/app/manifests/v1").to(&server).is(200);
    // Beside a server there is nothing to upgrade, and the one who asks is told who has the data.
    let busy = stella(folder.path(), &["upgrade"]).is(10);
    assert!(busy.stderr.contains(&format!("process {}", server.process())), "{busy:?}");
}

#[test]
fn a_directory_without_data_is_not_upgraded() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("nothing");
    stella(&data, &["upgrade"]).is(4);
    assert!(!data.exists());
}
