// SPDX-License-Identifier: AGPL-3.0-only
//! Faults of files, and of what names them.

use super::fsck::{LAYER, finds, finds_and_repairs, fsck, is_clean, sample, told};
use super::*;
use crate::error::What;

/// Content that two repositories have; its file.
async fn shared(lab: &Lab) -> (Digest, std::path::PathBuf) {
    let digest = lab.push(&repo("a"), b"content").await;
    lab.store.mount(&repo("b"), None, &digest, &actor("ci")).await.unwrap();
    (digest, lab.file_at(lab.content(b"content").await.location))
}

/// The damage is told of, marked, not served, not mounted, not taken for present, and healed by a push.
async fn healed_by_a_push(lab: &Lab, kind: FaultKind, digest: &Digest) {
    let fault = finds(lab, kind).await;
    assert!(fault.what.contains("(in a, b)"), "{fault}");
    assert!(matches!(&fault.repair, Repair::Manual(advice) if advice.contains("push")), "{fault}");
    let (faults, summary) = fsck(lab, true).await;
    assert_eq!((faults.len(), summary.left()), (1, 1), "{}", told(&faults));
    let store = &lab.store;
    assert!(matches!(store.blob(&repo("a"), digest).await, Err(Error::Corrupt(_))));
    assert!(matches!(store.blob_for_push(&repo("a"), digest).await, Err(Error::NotFound(What::Blob))));
    for from in [None, Some(repo("a"))] {
        let mounted = store.mount(&repo("c"), from.as_ref(), digest, &actor("ci")).await.unwrap();
        assert_eq!(mounted, Mounted::No);
    }
    finds(lab, kind).await;
    lab.push(&repo("b"), b"content").await;
    is_clean(lab).await;
    for name in ["a", "b"] {
        assert_eq!(lab.read(&repo(name), digest).await.unwrap(), b"content");
    }
    lab.collect_after(2).await;
    is_clean(lab).await;
    assert_eq!(lab.files().len(), 1);
}

#[tokio::test]
async fn content_whose_bytes_are_wrong_or_gone_is_healed_by_a_push_to_any_repository() {
    on_both(async |lab| {
        let (digest, file) = shared(&lab).await;
        fs::write(&file, b"CONTENT").unwrap();
        healed_by_a_push(&lab, FaultKind::ContentDamaged, &digest).await;
        let file = lab.file_at(lab.content(b"content").await.location);
        fs::write(&file, b"cont").unwrap();
        healed_by_a_push(&lab, FaultKind::ContentDamaged, &digest).await;
        let file = lab.file_at(lab.content(b"content").await.location);
        fs::remove_file(&file).unwrap();
        healed_by_a_push(&lab, FaultKind::ContentFileMissing, &digest).await;
    })
    .await;
}

#[tokio::test]
async fn content_that_is_whole_again_is_served_again() {
    on_both(async |lab| {
        let (digest, file) = shared(&lab).await;
        fs::write(&file, b"CONTENT").unwrap();
        fsck(&lab, true).await;
        fs::write(&file, b"content").unwrap();
        finds_and_repairs(&lab, FaultKind::ContentMarkStale).await;
        assert_eq!(lab.read(&repo("a"), &digest).await.unwrap(), b"content");
    })
    .await;
}

#[tokio::test]
async fn sizes_are_those_of_the_right_bytes() {
    on_both(async |lab| {
        let (digest, file) = shared(&lab).await;
        for size in [3, 99] {
            let row = rows::Content { size, ..lab.content(b"content").await };
            lab.put_row(keys::content(&raw256(b"content")), &row).await;
            let kind = FaultKind::ContentSizeWrong;
            finds_and_repairs(&lab, kind).await;
            assert_eq!(lab.read(&repo("a"), &digest).await.unwrap(), b"content");
        }
        fs::write(&file, b"content and more").unwrap();
        finds_and_repairs(&lab, FaultKind::ContentFileLong).await;
        assert_eq!(fs::read(&file).unwrap(), b"content");
        assert_eq!(lab.read(&repo("a"), &digest).await.unwrap(), b"content");
    })
    .await;
}

#[tokio::test]
async fn the_sha512_of_a_content_is_that_of_its_bytes() {
    for sha512 in [None, Some([7; 64])] {
        on_both(async |lab| {
            let sample = sample(&lab).await;
            let row = rows::Content { sha512, ..lab.content(LAYER).await };
            lab.put_row(keys::content(&raw256(LAYER)), &row).await;
            finds_and_repairs(&lab, FaultKind::ContentSha512Wrong).await;
            sample.is_served(&lab).await;
        })
        .await;
    }
}

#[tokio::test]
async fn content_without_a_row_is_found_again_by_its_bytes() {
    for damage in [None, Some(b"\xff".to_vec())] {
        on_both(async |lab| {
            let sample = sample(&lab).await;
            for bytes in [b"config".as_slice(), LAYER] {
                let key = keys::content(&raw256(bytes));
                match &damage {
                    None => lab.delete_raw(key).await,
                    Some(value) => lab.put_raw(key, value.clone()).await,
                }
                finds_and_repairs(&lab, FaultKind::FileStray).await;
            }
            sample.is_served(&lab).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_link_whose_content_is_gone_is_healed_by_a_push() {
    on_both(async |lab| {
        let (digest, file) = shared(&lab).await;
        lab.delete_raw(keys::content(&raw256(b"content"))).await;
        fs::remove_file(file).unwrap();
        finds(&lab, FaultKind::LinkWithoutContent).await;
        let (faults, summary) = fsck(&lab, true).await;
        assert_eq!((faults.len(), summary.left()), (2, 2), "{}", told(&faults));
        let asked = lab.store.blob_for_push(&repo("a"), &digest).await;
        assert!(matches!(asked, Err(Error::NotFound(What::Blob))));
        // One that is not wanted any more can go.
        lab.store.delete_blob(&repo("a"), &digest).await.unwrap();
        lab.push(&repo("c"), b"content").await;
        is_clean(&lab).await;
        assert_eq!(lab.read(&repo("b"), &digest).await.unwrap(), b"content");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_no_row_names_is_handed_to_collection() {
    on_both(async |lab| {
        let stray = Location::new();
        fs::write(lab.file_at(stray), b"stray").unwrap();
        finds_and_repairs(&lab, FaultKind::FileStray).await;
        lab.collect_after(2).await;
        assert!(!lab.file_at(stray).exists());
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_several_rows_name_belongs_to_the_rightful_one() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let content = lab.content(b"config").await;
        let garbage = rows::Garbage { size: 6 };
        let other = rows::Content { location: content.location, ..lab.content(b"subject").await };
        let id = lab.store.begin_upload(&sample.repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let upload = lab.upload(id).await.unwrap();
        let subject = lab.content(b"subject").await;
        for (key, row) in [
            (keys::garbage(START, content.location), rows::encode(&garbage).unwrap()),
            (keys::upload(content.location), rows::encode(&upload).unwrap()),
            (keys::content(&raw256(b"subject")), rows::encode(&other).unwrap()),
        ] {
            lab.put_raw(key, row).await;
            let fault = finds(&lab, FaultKind::LocationNamedTwice).await;
            assert!(matches!(fault.repair, Repair::Would(_)), "{fault}");
            fsck(&lab, true).await;
            assert_eq!(lab.content(b"config").await, content);
        }
        // The other content's own file became a stray, and went back to it.
        is_clean(&lab).await;
        assert_eq!(lab.content(b"subject").await.location, subject.location);
        // Of an upload and garbage, the upload; of two garbage rows, the later.
        lab.put_row(keys::garbage(START, id), &garbage).await;
        finds_and_repairs(&lab, FaultKind::LocationNamedTwice).await;
        assert!(lab.upload(id).await.is_some());
        let twice = Location::new();
        for due in [START, START.plus(Duration::from_hours(9))] {
            lab.put_row(keys::garbage(due, twice), &garbage).await;
        }
        finds_and_repairs(&lab, FaultKind::LocationNamedTwice).await;
        assert!(lab.garbage().await.contains(&(START.plus(Duration::from_hours(9)), twice, 6)));
        sample.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_ours_is_told_of_and_left_alone() {
    on_both(async |lab| {
        let blobs = lab.folder.path().join("blobs");
        fs::create_dir(blobs.join("lost+found")).unwrap();
        is_clean(&lab).await;
        let strange = [blobs.join("note.txt"), blobs.join("00/notes"), blobs.join("0")];
        for path in &strange {
            fs::write(path, b"x").unwrap();
        }
        finds(&lab, FaultKind::NameStray).await;
        let (faults, summary) = fsck(&lab, true).await;
        assert_eq!((faults.len(), summary.left()), (3, 3), "{}", told(&faults));
        assert!(strange.iter().all(|path| path.exists()));
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_gone_is_made_anew() {
    on_both(async |lab| {
        fs::remove_dir(lab.folder.path().join("blobs/7f")).unwrap();
        finds_and_repairs(&lab, FaultKind::FolderMissing).await;
        assert!(lab.folder.path().join("blobs/7f").is_dir());
    })
    .await;
}

#[tokio::test]
async fn an_upload_whose_bytes_are_not_those_that_were_received_is_ended() {
    for (kind, damage) in [
        (FaultKind::UploadFileShort, None),
        (FaultKind::UploadFileShort, Some(b"pa".as_slice())),
        (FaultKind::UploadBytesDamaged, Some(b"PART".as_slice())),
    ] {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            on_both(async |lab| {
                let (store, repo) = (&lab.store, repo("a"));
                let id = store.begin_upload(&repo, algorithm, &actor("ci")).await.unwrap();
                store.append_upload(&repo, id, Chunk::default(), body(b"part")).await.unwrap();
                // Bytes that were never acknowledged do not matter.
                fs::write(lab.file_at(id), b"part and more").unwrap();
                is_clean(&lab).await;
                match damage {
                    None => fs::remove_file(lab.file_at(id)).unwrap(),
                    Some(bytes) => fs::write(lab.file_at(id), bytes).unwrap(),
                }
                finds_and_repairs(&lab, kind).await;
                assert!(matches!(store.upload_status(&repo, id).await, Err(Error::NotFound(What::Upload))));
                lab.collect().await;
                assert!(lab.files().is_empty());
            })
            .await;
        }
    }
}

#[tokio::test]
async fn damage_to_the_engine_is_told_of() {
    let lab = Lab::new(Kind::Sqlite).await;
    for number in 0..200u32 {
        lab.put_raw([b"m", number.to_string().as_bytes()].concat(), vec![7; 500]).await;
    }
    let path = lab.folder.path().join("metadata.sqlite");
    // Everything goes from the log to the file, and a page of the file is overwritten.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(other);
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 10);
    // A leaf in the middle: its header says how many rows it has.
    bytes[(pages / 2) * 4096..][..8].fill(0xee);
    fs::write(&path, bytes).unwrap();
    let (sender, mut receiver) = mpsc::channel(1000);
    let outcome = lab.store.fsck(false, sender).await;
    let mut faults = Vec::new();
    while let Some(fault) = receiver.recv().await {
        faults.push(fault);
    }
    let damaged = faults.iter().find(|fault| fault.kind == FaultKind::EngineDamaged);
    assert!(matches!(damaged.unwrap().repair, Repair::Manual(_)), "{outcome:?} {}", told(&faults));
}
