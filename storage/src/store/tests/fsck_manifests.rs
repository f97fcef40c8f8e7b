// SPDX-License-Identifier: AGPL-3.0-only
//! Faults of manifests and tags: each is made, named, repaired, and then everything is served as before.

use super::fsck::{LAYER, Sample, finds, finds_and_repairs, fsck, is_clean, sample, told};
use super::fsck_rows::{GARBLED, mended};
use super::*;
use crate::rows::kind;

#[tokio::test]
async fn a_manifest_whose_bytes_are_gone_or_damaged_is_mended_by_its_next_push() {
    for (kind, damage) in
        [(FaultKind::ManifestBytesMissing, None), (FaultKind::ManifestBytesDamaged, Some(b"{}".to_vec()))]
    {
        on_both(async |lab| {
            let sample = sample(&lab).await;
            let key = keys::manifest_bytes(sample.id, &sample.image);
            let bytes = lab.raw(key.clone()).await.unwrap();
            match &damage {
                None => lab.delete_raw(key.clone()).await,
                Some(bytes) => lab.put_raw(key.clone(), bytes.clone()).await,
            }
            // What it may name is still held.
            let fault = finds(&lab, kind).await;
            assert!(matches!(&fault.repair, Repair::Manual(advice) if advice.contains("push")), "{fault}");
            let (faults, summary) = fsck(&lab, true).await;
            assert_eq!((faults.len(), summary.left()), (1, 1), "{}", told(&faults));
            lab.collect_after(100).await;
            assert_eq!(lab.read(&sample.repo, &sample.layer).await.unwrap(), LAYER);
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            lab.put(&sample.repo, &document, &[]).await.unwrap();
            is_clean(&lab).await;
            sample.is_served(&lab).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_manifest_without_a_row_has_one_made_from_its_document() {
    mended(FaultKind::ManifestRowMissing, async |lab, sample| {
        lab.delete_raw(keys::manifest(sample.id, &sample.image)).await;
    })
    .await;
    mended(FaultKind::RowUnreadable, async |lab, sample| {
        lab.put_raw(keys::manifest(sample.id, &sample.image), GARBLED.to_vec()).await;
    })
    .await;
}

#[tokio::test]
async fn a_manifest_of_which_nothing_can_be_read_does_not_keep_its_next_push_out() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let bytes = lab.raw(keys::manifest_bytes(sample.id, &sample.image)).await.unwrap();
        lab.put_raw(keys::manifest(sample.id, &sample.image), GARBLED.to_vec()).await;
        lab.put_raw(keys::manifest_bytes(sample.id, &sample.image), GARBLED.to_vec()).await;
        finds(&lab, FaultKind::RowUnreadable).await;
        fsck(&lab, true).await;
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        lab.put(&sample.repo, &document, &["v1"]).await.unwrap();
        is_clean(&lab).await;
        sample.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn bytes_of_no_manifest_go_home_or_away() {
    mended(FaultKind::ManifestBytesStray, async |lab, sample| {
        lab.put_raw(keys::manifest_bytes(sample.id, &sha256(b"other")), b"bytes".to_vec()).await;
    })
    .await;
    mended(FaultKind::ManifestBytesStray, async |lab, sample| {
        let bytes = lab.raw(keys::manifest_bytes(sample.id, &sample.image)).await.unwrap();
        lab.delete_raw(keys::manifest_bytes(sample.id, &sample.image)).await;
        lab.put_raw(keys::manifest_bytes(sample.id, &sha256(b"other")), bytes).await;
    })
    .await;
}

#[tokio::test]
async fn a_manifests_row_says_what_its_document_says() {
    let changes: [fn(rows::Manifest) -> rows::Manifest; 5] = [
        |row| rows::Manifest { size: 1, ..row },
        |row| rows::Manifest { sha256: [7; 32], ..row },
        |row| rows::Manifest { media_type: "application/json".into(), ..row },
        |row| rows::Manifest { artifact_type: Some("other/type".into()), ..row },
        |row| rows::Manifest { subject: None, ..row },
    ];
    for change in changes {
        mended(FaultKind::ManifestRowWrong, async |lab, sample| {
            let key = keys::manifest(sample.id, &sample.image);
            let row: rows::Manifest = lab.row(key.clone()).await.unwrap();
            lab.put_row(key, &change(row)).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_document_that_breaks_the_rules_is_told_of_and_left_alone() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let digest = sha256(b"{}");
        let row: rows::Manifest = lab.row(keys::manifest(sample.id, &sample.index)).await.unwrap();
        let row = rows::Manifest { size: 2, sha256: raw256(b"{}"), ..row };
        lab.put_row(keys::manifest(sample.id, &digest), &row).await;
        lab.put_raw(keys::manifest_bytes(sample.id, &digest), b"{}".to_vec()).await;
        lab.put_row(keys::references(sample.id, &digest), &rows::References::default()).await;
        finds(&lab, FaultKind::ManifestInvalid).await;
        let (_, summary) = fsck(&lab, true).await;
        assert_eq!((summary.found(), summary.left()), (1, 1), "{summary}");
        lab.store.delete_manifest(&sample.repo, &digest, &deleter("ci")).await.unwrap();
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn references_are_those_of_the_document() {
    let other = rows::Reference { target: sha256(b"other"), kinds: kind::LAYER };
    let other = rows::encode(&rows::References { edges: vec![other] }).unwrap();
    for value in [None, Some(GARBLED.to_vec()), Some(other)] {
        mended(FaultKind::ReferencesWrong, async |lab, sample| {
            let key = keys::references(sample.id, &sample.image);
            match &value {
                None => lab.delete_raw(key).await,
                Some(value) => lab.put_raw(key, value.clone()).await,
            }
        })
        .await;
    }
    mended(FaultKind::ReferencesStray, async |lab, sample| {
        let key = keys::references(sample.id, &sha256(b"other"));
        lab.put_row(key, &rows::References::default()).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_manifest_names_knows_it() {
    for value in [None, Some(vec![kind::SUBJECT]), Some(Vec::new())] {
        mended(FaultKind::EdgeMissing, async |lab, sample| {
            let key = keys::edge(sample.id, &sample.layer, &sample.image);
            match &value {
                None => lab.delete_raw(key).await,
                Some(value) => lab.put_raw(key, value.clone()).await,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_no_manifest_names_is_let_go_and_collected() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let held = lab.push(&sample.repo, b"held").await;
        lab.put_raw(keys::edge(sample.id, &held, &sample.image), vec![kind::LAYER]).await;
        lab.put_raw(keys::edge(sample.id, &held, &sha256(b"gone")), vec![kind::LAYER]).await;
        lab.collect_after(48).await;
        assert!(lab.has_blob(&sample.repo, &held).await);
        finds_and_repairs(&lab, FaultKind::EdgeStray).await;
        lab.collect_after(48).await;
        assert!(!lab.has_blob(&sample.repo, &held).await);
        is_clean(&lab).await;
        sample.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_subject_lists_its_referrers_and_no_others() {
    let key = |sample: &Sample| {
        keys::referrer(sample.id, &sample.subject, "application/octet-stream", &sample.image)
    };
    mended(FaultKind::ReferrerMissing, async |lab, sample| lab.delete_raw(key(sample)).await).await;
    mended(FaultKind::ReferrerWrong, async |lab, sample| lab.put_raw(key(sample), b"{}".to_vec()).await)
        .await;
    mended(FaultKind::ReferrerStray, async |lab, sample| {
        let key = keys::referrer(sample.id, &sample.subject, "other/type", &sample.image);
        lab.put_raw(key, b"{}".to_vec()).await;
    })
    .await;
    mended(FaultKind::ReferrerStray, async |lab, sample| {
        let key = keys::referrer(sample.id, &sample.subject, "other/type", &sha256(b"gone"));
        lab.put_raw(key, b"{}".to_vec()).await;
    })
    .await;
}

#[tokio::test]
async fn a_tag_of_a_manifest_that_is_gone_waits_for_it() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let document = index(&[descriptor(&sample.index, 1)]);
        let digest = lab.put(&sample.repo, &document, &["v3"]).await.unwrap();
        let row: rows::Tag = lab.row(keys::tag(sample.id, "v3")).await.unwrap();
        let index = keys::tag_of(sample.id, &digest, &tag("v3"));
        let history = lab.rows(&keys::moves(sample.id, &tag("v3"))).await.remove(0);
        lab.store.delete_manifest(&sample.repo, &digest, &deleter("ci")).await.unwrap();
        for (key, _) in lab.rows(&keys::moves(sample.id, &tag("v3"))).await {
            lab.delete_raw(key).await;
        }
        lab.put_row(keys::tag(sample.id, "v3"), &row).await;
        lab.put_raw(index, Vec::new()).await;
        lab.put_raw(history.0, history.1).await;
        finds(&lab, FaultKind::TagDangling).await;
        let (_, summary) = fsck(&lab, true).await;
        assert_eq!((summary.found(), summary.left()), (1, 1), "{summary}");
        lab.put(&sample.repo, &document, &[]).await.unwrap();
        is_clean(&lab).await;
        let stored = lab.store.manifest(&sample.repo, &by_tag("v3")).await.unwrap();
        assert_eq!(stored.head.digest, digest);
    })
    .await;
}

#[tokio::test]
async fn a_tag_is_made_anew_from_its_history() {
    let empty = rows::Tag {
        released: None,
        candidate: None,
        generation: 0,
        updated: START,
        pusher: String::new(),
        moves: 0,
        signed_at: None,
    };
    for value in [GARBLED.to_vec(), rows::encode(&empty).unwrap()] {
        mended(FaultKind::RowUnreadable, async |lab, sample| {
            lab.put_raw(keys::tag(sample.id, "v1"), value.clone()).await;
        })
        .await;
    }
    mended(FaultKind::TagMissing, async |lab, sample| lab.delete_raw(keys::tag(sample.id, "v1")).await).await;
}

#[tokio::test]
async fn a_manifest_knows_its_tags_and_no_others() {
    mended(FaultKind::TagIndexMissing, async |lab, sample| {
        lab.delete_raw(keys::tag_of(sample.id, &sample.image, &tag("v1"))).await;
    })
    .await;
    for name in ["v1", "v9"] {
        mended(FaultKind::TagIndexStray, async |lab, sample| {
            lab.put_raw(keys::tag_of(sample.id, &sample.index, &tag(name)), Vec::new()).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_tags_history_ends_where_it_points() {
    mended(FaultKind::TagHistoryWrong, async |lab, sample| {
        let newest = lab.rows(&keys::moves(sample.id, &tag("v1"))).await.remove(0);
        lab.delete_raw(newest.0).await;
    })
    .await;
    mended(FaultKind::TagHistoryWrong, async |lab, sample| {
        for (key, _) in lab.rows(&keys::moves(sample.id, &tag("v1"))).await {
            lab.delete_raw(key).await;
        }
    })
    .await;
    mended(FaultKind::TagHistoryWrong, async |lab, sample| {
        let row: rows::Tag = lab.row(keys::tag(sample.id, "v1")).await.unwrap();
        lab.put_row(keys::tag(sample.id, "v1"), &rows::Tag { moves: 99, ..row }).await;
    })
    .await;
}

#[tokio::test]
async fn lost_moves_are_stood_in_for() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let key = |number| keys::tag_move(sample.id, &tag("v1"), number);
        let (older, newer): (rows::TagMove, rows::TagMove) =
            (lab.row(key(2)).await.unwrap(), lab.row(key(5)).await.unwrap());
        for number in [3, 4] {
            lab.delete_raw(key(number)).await;
        }
        finds_and_repairs(&lab, FaultKind::TagHistoryGap).await;
        for number in [3, 4] {
            let row: rows::TagMove = lab.row(key(number)).await.unwrap();
            assert_eq!((row.from, row.to, row.by.as_str()), (older.to.clone(), newer.from.clone(), "fsck"));
        }
        // One that cannot be read, also the newest, also of a tag that is gone.
        for key in [key(1), key(7), keys::tag_move(sample.id, &tag("subject"), 2)] {
            lab.put_raw(key, GARBLED.to_vec()).await;
            finds_and_repairs(&lab, FaultKind::RowUnreadable).await;
        }
        sample.is_served(&lab).await;
        lab.put(&sample.repo, &index(&[]), &["subject"]).await.unwrap();
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_known_of_pulls_is_no_reason_to_fail() {
    mended(FaultKind::RowUnreadable, async |lab, sample| {
        lab.put_raw(keys::last_pull(sample.id, &tag("v1")), GARBLED.to_vec()).await;
    })
    .await;
}
