// SPDX-License-Identifier: AGPL-3.0-only
//! Folders of backups that are damaged, unfinished, or prepared by somebody else.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

/// A folder with one snapshot of two images.
async fn backup_of_two() -> (Lab, PathBuf, PathBuf) {
    let lab = Lab::new(Kind::Memory).await;
    for content in ["one", "two"] {
        lab.put_image(&repo("a"), content.as_bytes(), &[content]).await;
    }
    let backup = lab.folder.path().join("backup");
    let snapshot = backup.join("snapshots").join(back_up(&lab.store, &backup).await.unwrap().snapshot);
    (lab, backup, snapshot)
}

async fn refused(from: &Path, data: &Path) -> Error {
    let error = bring_back(from, data).await.unwrap_err();
    assert!(!data.exists(), "something was made: {error}");
    error
}

#[tokio::test]
async fn a_folder_without_backups_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (folder.path(), folder.path().join("data"));
    fs::write(path.join("file"), "").unwrap();
    for from in [path.to_owned(), path.join("absent"), path.join("file")] {
        assert!(matches!(refused(&from, &data).await, Error::NoBackup(_)));
        let verified = gather(async |items| verify(&from, None, items).await).await.0;
        assert!(matches!(verified, Err(Error::NoBackup(_))), "{verified:?}");
    }
}

#[tokio::test]
async fn an_unfinished_snapshot_is_ignored_and_said_so() {
    let (lab, backup, snapshot) = backup_of_two().await;
    lab.clock.advance(Duration::from_secs(1));
    let name = back_up(&lab.store, &backup).await.unwrap().snapshot;
    let later = backup.join("snapshots").join(&name);
    fs::remove_file(later.join("manifest.json")).unwrap();
    let (summary, items) = check(&backup).await;
    assert_eq!((summary.snapshots, summary.unfinished, summary.damaged_snapshots), (1, 1, 0));
    assert!(items.contains(&BackupItem::Unfinished { snapshot: name.clone() }));
    let data = lab.folder.path().join("data");
    let restored = bring_back(&backup, &data).await.unwrap();
    assert_eq!(restored.snapshot, snapshot.file_name().unwrap().to_str().unwrap());
    // Asked for by its name, it is refused.
    let options = StoreOptions::new(lab.folder.path().join("other"));
    let named = name.parse().unwrap();
    let asked = gather(async |items| restore(&backup, Some(&named), &options, items).await).await.0;
    assert!(asked.unwrap_err().to_string().contains("was never finished"));
    let asked = gather(async |items| verify(&backup, Some(&named), items).await).await.0;
    assert!(matches!(asked, Err(Error::NoBackup(_))));
    fs::remove_dir_all(&later).unwrap();
    let asked = gather(async |items| verify(&backup, Some(&named), items).await).await.0;
    assert!(asked.unwrap_err().to_string().contains("does not exist"));
}

#[tokio::test]
async fn damaged_metadata_is_refused_before_anything_is_made() {
    let (lab, backup, snapshot) = backup_of_two().await;
    let data = lab.folder.path().join("data");
    let (dump, manifest) = (snapshot.join("metadata.dump"), snapshot.join("manifest.json"));
    let (bytes, text) = (fs::read(&dump).unwrap(), fs::read_to_string(&manifest).unwrap());
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    for damage in [&bytes[..bytes.len() - 1], &bytes[..9], b"", &changed] {
        fs::write(&dump, damage).unwrap();
        let error = refused(&backup, &data).await;
        assert!(matches!(error, Error::DamagedBackup(_)), "{error}");
        assert!(error.to_string().contains("metadata.dump"), "{error}");
        assert_eq!(check(&backup).await.0.damaged_snapshots, 1);
    }
    fs::remove_file(&dump).unwrap();
    assert!(refused(&backup, &data).await.to_string().ends_with("metadata.dump is missing"));
    fs::write(&dump, &bytes).unwrap();
    for (damage, said) in [
        ("", "cannot be read"),
        ("{}", "missing field `version`"),
        ("[1]", "cannot be read"),
        (&"[".repeat(100_000), "cannot be read"),
        (&text.replace("\"version\": 1", "\"version\": -1"), "cannot be read"),
        (&text.replace("\"version\": 1", "\"version\": 2"), "use the newer program"),
        (&text.replace("\"rows\": ", "\"rows\": 1"), "as many rows"),
        (&text.replace("\"bytes\": ", "\"bytes\": 1"), "and had 1"),
        (&" ".repeat(2 << 20), "is larger than any manifest"),
    ] {
        fs::write(&manifest, damage).unwrap();
        let error = refused(&backup, &data).await.to_string();
        assert!(error.contains(said), "{error}, not {said}");
        assert_eq!(check(&backup).await.0.damaged_snapshots, 1, "{said}");
    }
}

#[tokio::test]
async fn a_blob_that_is_a_link_or_a_pipe_is_not_followed() {
    let (lab, backup, _) = backup_of_two().await;
    let secret = lab.folder.path().join("secret");
    fs::write(&secret, "one").unwrap();
    let (one, two) = (blob_file(&backup, b"one"), blob_file(&backup, b"two"));
    fs::remove_file(&one).unwrap();
    symlink(&secret, &one).unwrap();
    fs::remove_file(&two).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &two, rustix::fs::Mode::RUSR).unwrap();
    let (summary, items) = soon(check(&backup)).await.unwrap();
    assert_eq!(summary.damaged, 2, "{items:?}");
    let data = lab.folder.path().join("data");
    assert_eq!(soon(bring_back(&backup, &data)).await.unwrap().unwrap().damaged, 2);
    assert!(files(&data.join("blobs")).is_empty());
    // The next backup puts blobs in their place.
    assert_eq!(back_up(&lab.store, &backup).await.unwrap().copied, 2);
    assert_eq!(check(&backup).await.0.damaged, 0);
    assert_eq!(fs::read(&secret).unwrap(), b"one");
}

#[tokio::test]
async fn strays_are_named_and_do_no_harm() {
    let (lab, backup, snapshot) = backup_of_two().await;
    let strays = [
        backup.join("notes.txt"),
        backup.join("blobs/zz"),
        backup.join("blobs/00/short"),
        blob_file(&backup, b"three"),
        backup.join("blobs/00").join(hex::encode(raw256(b"one")).to_uppercase()),
        backup.join("snapshots/latest"),
        snapshot.join("old"),
    ];
    for stray in &strays {
        fs::write(stray, "stray").unwrap();
    }
    let (summary, items) = check(&backup).await;
    assert_eq!((summary.strays, summary.damaged), (strays.len() as u64, 0), "{items:?}");
    for path in strays {
        assert!(items.contains(&BackupItem::Stray { path: path.clone() }), "{}", path.display());
    }
    bring_back(&backup, &lab.folder.path().join("data")).await.unwrap();
}

/// A folder as somebody would forge it: the seal is right, the rows are not.
fn forged(snapshot: &Path, change: impl Fn(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
    let manifest = snapshot.join("manifest.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let path = snapshot.join("metadata.dump");
    let bytes = fs::read(&path).unwrap();
    let mut rows = BTreeMap::new();
    let mut at = 16;
    loop {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (key, len) = (number(at), number(at + 4));
        if key == 0 {
            break;
        }
        at += 8;
        rows.insert(bytes[at..at + key].to_vec(), bytes[at + key..at + key + len].to_vec());
        at += key + len;
    }
    change(&mut rows);
    let mut forged = bytes[..16].to_vec();
    for (key, row) in &rows {
        forged.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
        forged.extend(u32::try_from(row.len()).unwrap().to_be_bytes());
        forged.extend(key);
        forged.extend(row);
    }
    forged.extend([0; 4]);
    forged.extend((rows.len() as u64).to_be_bytes());
    forged.extend(raw256(&forged));
    value["metadata"] =
        json!({"bytes": forged.len(), "rows": rows.len(), "sha256": hex::encode(raw256(&forged))});
    fs::write(&path, forged).unwrap();
    fs::write(manifest, value.to_string()).unwrap();
}

#[tokio::test]
async fn a_forged_dump_that_contradicts_itself_is_an_error_or_does_no_harm() {
    let (lab, backup, snapshot) = backup_of_two().await;
    let data = lab.folder.path().join("data");
    forged(&snapshot, |rows| {
        rows.insert(keys::SCHEMA_VERSION.to_vec(), (SCHEMA + 1).to_be_bytes().to_vec());
    });
    assert!(matches!(refused(&backup, &data).await, Error::NewerSchema { .. }));
    forged(&snapshot, |rows| {
        rows.remove(keys::SCHEMA_VERSION);
    });
    assert!(refused(&backup, &data).await.to_string().contains("has no schema version"));
    let schema = |rows: &mut BTreeMap<Vec<u8>, Vec<u8>>| {
        rows.insert(keys::SCHEMA_VERSION.to_vec(), SCHEMA.to_be_bytes().to_vec());
    };
    // Rows that no backup has: they are left out.
    forged(&snapshot, |rows| {
        schema(rows);
        rows.insert(keys::upload(Location::new()), vec![]);
        rows.insert(keys::garbage(START, Location::new()), vec![]);
    });
    bring_back(&backup, &data).await.unwrap();
    let store = open(&data).await.unwrap();
    let found = rows(&store).await;
    assert!(!found.keys().any(|key| key[0] == b'p' || key[0] == b'g'));
    // Contents whose rows cannot be read.
    for (key, value) in [(b"c".to_vec(), vec![]), (keys::content(&[1; 32]), b"?".to_vec())] {
        let data = lab.folder.path().join("other");
        forged(&snapshot, |rows| {
            schema(rows);
            rows.insert(key.clone(), value.clone());
        });
        assert_eq!(check(&backup).await.0.damaged_snapshots, 1);
        assert!(matches!(bring_back(&backup, &data).await.unwrap_err(), Error::Corrupt(_)));
        assert!(matches!(open(&data).await.err().unwrap(), Error::Restoring(_)));
        fs::remove_dir_all(data).unwrap();
        forged(&snapshot, |rows| {
            rows.remove(&key);
        });
    }
}

#[test]
fn any_damage_to_any_file_is_noticed_and_nothing_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lab, backup, snapshot) = runtime.block_on(backup_of_two());
    let config = ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() };
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..8, 0u8..3);
    let paths: Vec<_> =
        files(&backup).into_iter().filter(|(_, size)| *size > 0).map(|(path, _)| path).collect();
    let outcome = TestRunner::new(config).run(&damage, |(file, at, bit, how)| {
        let path = &paths[file.index(paths.len())];
        let good = fs::read(path).unwrap();
        let mut bytes = good.clone();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] ^= 1 << bit,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, bit),
        }
        fs::write(path, &bytes).unwrap();
        let verified = runtime.block_on(gather(async |items| verify(&backup, None, items).await)).0;
        let noticed = verified.as_ref().map_or(true, |found| found.damaged + found.damaged_snapshots > 0);
        let data = lab.folder.path().join("data");
        let restored = runtime.block_on(bring_back(&backup, &data));
        let whole = restored.as_ref().is_ok_and(|restored| restored.damaged == 0);
        fs::write(path, good).unwrap();
        let _absent = fs::remove_dir_all(&data);
        // The manifest has words that only people read.
        prop_assert!(noticed || *path == snapshot.join("manifest.json"), "{verified:?}");
        prop_assert!(!(noticed && whole), "{verified:?} {restored:?}");
        Ok(())
    });
    outcome.unwrap();
}
