// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of the choice between engines.

use super::*;

const URL: &str = "postgres://user:secret@localhost/db";

#[test]
fn a_url_is_not_printed() {
    let options = EngineOptions::Postgres { url: URL.to_owned() };
    assert_eq!(format!("{options:?}"), "postgres");
}

#[tokio::test]
async fn a_data_directory_keeps_its_engine() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || EngineOptions::Sqlite.open(folder.path(), 4 << 20, None).await;
    drop(open().await.unwrap());
    assert_eq!(std::fs::read_to_string(folder.path().join(MARK)).unwrap(), "sqlite\n");
    // One that was made before there was a choice.
    std::fs::remove_file(folder.path().join(MARK)).unwrap();
    assert!(matches!(EngineOptions::Sled.claim(folder.path()), Err(Error::Refused(_))));
    drop(open().await.unwrap());
    std::fs::write(folder.path().join(MARK), "sled\n").unwrap();
    let error = open().await.err().unwrap().to_string();
    assert!(error.contains("\"sled\"") && error.contains("`metadata.engine`"), "{error}");
}

#[cfg(not(feature = "sled"))]
#[tokio::test]
async fn an_engine_that_is_not_built_in_says_how_to_build_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = EngineOptions::Sled.open(folder.path(), 0, None).await.err().unwrap().to_string();
    assert!(error.contains("cargo build --release --features sled"), "{error}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}
