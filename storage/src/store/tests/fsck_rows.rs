// SPDX-License-Identifier: AGPL-3.0-only
//! Faults of names, links, contents and queues: each is made, named, repaired, and then everything is served as before.

use super::fsck::{LAYER, Sample, finds, finds_and_repairs, fsck, is_clean, sample, told};
use super::*;

/// Makes one fault in a sample, sees it told and mended, and everything served.
pub(super) async fn mended(kind: FaultKind, damage: impl AsyncFn(&Lab, &Sample)) {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        damage(&lab, &sample).await;
        let fault = finds_and_repairs(&lab, kind).await;
        assert!(!fault.what.is_empty());
        sample.is_served(&lab).await;
    })
    .await;
}

pub(super) const GARBLED: &[u8] = b"\xff\x00";

fn raw512(bytes: &[u8]) -> [u8; 64] {
    match sha512(bytes) {
        Digest::Sha512(bytes) => bytes,
        other => panic!("{other} is not a sha512"),
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_removed() {
    for key in [b"l\x00".to_vec(), b"x\x00\x00\x00\x00\x01ab".to_vec(), b"n../x".to_vec(), b"v\x00x".to_vec()]
    {
        mended(FaultKind::KeyUnreadable, async |lab, _| lab.put_raw(key.clone(), b"x".to_vec()).await).await;
    }
}

#[tokio::test]
async fn a_table_that_is_not_known_is_told_of_and_left_alone() {
    on_both(async |lab| {
        lab.put_raw(b"\xf0key".to_vec(), b"value".to_vec()).await;
        let fault = finds(&lab, FaultKind::TableUnknown).await;
        assert!(matches!(fault.repair, Repair::Manual(_)));
        let (_, summary) = fsck(&lab, true).await;
        assert_eq!(summary.left(), 1);
        assert_eq!(lab.raw(b"\xf0key".to_vec()).await.unwrap(), b"value");
    })
    .await;
}

#[tokio::test]
async fn rows_of_the_store_itself_are_made_anew() {
    for key in [keys::SCHEMA_VERSION, keys::NEXT_REPOSITORY, keys::COLLECTION_PAUSE, keys::RULES, keys::SCRUB]
    {
        mended(FaultKind::MetaUnreadable, async |lab, _| lab.put_raw(key.to_vec(), GARBLED.to_vec()).await)
            .await;
    }
    mended(FaultKind::MetaUnreadable, async |lab, _| lab.delete_raw(keys::SCHEMA_VERSION.to_vec()).await)
        .await;
    // The next id lies behind all that are in use.
    on_both(async |lab| {
        lab.push(&repo("a"), b"1").await;
        lab.push(&repo("b"), b"2").await;
        lab.put_raw(keys::NEXT_REPOSITORY.to_vec(), GARBLED.to_vec()).await;
        finds_and_repairs(&lab, FaultKind::MetaUnreadable).await;
        lab.push(&repo("c"), b"3").await;
        assert_eq!(lab.id(&repo("c")).await, RepoId(2));
    })
    .await;
}

#[tokio::test]
async fn a_repository_whose_row_cannot_be_read_gets_its_id_again() {
    mended(FaultKind::RowUnreadable, async |lab, sample| {
        lab.put_raw(keys::repository(sample.repo.as_str()), GARBLED.to_vec()).await;
    })
    .await;
}

#[tokio::test]
async fn a_repository_with_the_id_of_another_gets_its_own_again() {
    mended(FaultKind::RepositoryIdWrong, async |lab, sample| {
        lab.push(&repo("other"), b"other").await;
        let row = rows::Repository { id: lab.id(&repo("other")).await, created: START };
        lab.put_row(keys::repository(sample.repo.as_str()), &row).await;
    })
    .await;
}

#[tokio::test]
async fn an_id_that_does_not_lead_to_its_name_does_again() {
    for value in [None, Some("other/name"), Some("NOT A NAME")] {
        mended(FaultKind::RepositoryIndexWrong, async |lab, sample| {
            let key = keys::repository_by_id(sample.id);
            match value {
                None => lab.delete_raw(key).await,
                Some(value) => lab.put_raw(key, value.as_bytes().to_vec()).await,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_name_that_is_gone_is_found_by_its_id() {
    mended(FaultKind::RepositoryMissing, async |lab, sample| {
        lab.delete_raw(keys::repository(sample.repo.as_str())).await;
    })
    .await;
}

#[tokio::test]
async fn an_id_is_not_given_out_twice() {
    mended(FaultKind::RepositoryIdBeyondNext, async |lab, sample| {
        lab.put_raw(keys::NEXT_REPOSITORY.to_vec(), sample.id.0.to_be_bytes().to_vec()).await;
    })
    .await;
    mended(FaultKind::RepositoryIdBeyondNext, async |lab, _| {
        lab.delete_raw(keys::NEXT_REPOSITORY.to_vec()).await;
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_no_name_is_found_again_under_another() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        lab.delete_raw(keys::repository(sample.repo.as_str())).await;
        lab.delete_raw(keys::repository_by_id(sample.id)).await;
        let fault = finds_and_repairs(&lab, FaultKind::RepositoryUnknown).await;
        assert!(fault.to_string().contains("lost-and-found/0"), "{fault}");
        let found = Sample { repo: repo("lost-and-found/0"), ..sample };
        found.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_link_whose_row_cannot_be_read_is_made_anew() {
    for digest in [|sample: &Sample| sample.config.clone(), |sample: &Sample| sample.layer.clone()] {
        mended(FaultKind::RowUnreadable, async |lab, sample| {
            lab.put_raw(keys::link(sample.id, &digest(sample)), GARBLED.to_vec()).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_link_to_other_content_leads_to_its_own_again() {
    for digest in [|sample: &Sample| sample.config.clone(), |sample: &Sample| sample.layer.clone()] {
        mended(FaultKind::LinkWrong, async |lab, sample| {
            let digest = digest(sample);
            let link = lab.link(&sample.repo, &digest).await.unwrap();
            let row = rows::Link { sha256: raw256(b"subject"), ..link };
            lab.put_row(keys::link(sample.id, &digest), &row).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_link_has_the_size_of_its_content() {
    mended(FaultKind::LinkSizeWrong, async |lab, sample| {
        let link = lab.link(&sample.repo, &sample.config).await.unwrap();
        lab.put_row(keys::link(sample.id, &sample.config), &rows::Link { size: 99, ..link }).await;
    })
    .await;
}

#[tokio::test]
async fn a_link_and_its_content_know_each_other() {
    mended(FaultKind::LinkIndexMissing, async |lab, sample| {
        lab.delete_raw(keys::link_of(&raw256(b"config"), sample.id, &sample.config)).await;
    })
    .await;
    for (bytes, digest) in [(b"config".as_slice(), sha256(b"config")), (LAYER, sha512(LAYER))] {
        mended(FaultKind::LinkMissing, async |lab, sample| {
            lab.delete_raw(keys::link(sample.id, &digest)).await;
            assert!(lab.raw(keys::link_of(&raw256(bytes), sample.id, &digest)).await.is_some());
        })
        .await;
    }
    for content in [raw256(b"nothing"), raw256(b"subject")] {
        mended(FaultKind::LinkIndexStray, async |lab, sample| {
            lab.put_raw(keys::link_of(&content, sample.id, &sample.config), Vec::new()).await;
        })
        .await;
    }
}

#[tokio::test]
async fn content_that_only_a_manifest_still_names_gets_its_links_again() {
    on_both(async |lab| {
        let (a, b) = (repo("a"), repo("b"));
        for repo in [&a, &b] {
            lab.put_image(repo, b"abc", &["v1"]).await;
            let (id, digest) = (lab.id(repo).await, sha256(b"abc"));
            lab.delete_raw(keys::link(id, &digest)).await;
            lab.delete_raw(keys::link_of(&raw256(b"abc"), id, &digest)).await;
        }
        finds_and_repairs(&lab, FaultKind::LinkMissing).await;
        lab.collect_after(1000).await;
        for repo in [&a, &b] {
            assert_eq!(lab.read(repo, &sha256(b"abc")).await.unwrap(), b"abc");
        }
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_tag_index_that_is_no_tag_stops_neither_the_check_nor_a_delete() {
    on_both(async |lab| {
        let app = repo("a");
        let digest = lab.put_image(&app, b"abc", &["v1"]).await;
        let id = lab.id(&app).await;
        let right = keys::tag_of(id, &digest, &tag("v1"));
        lab.delete_raw(right.clone()).await;
        lab.put_raw([right, vec![7]].concat(), Vec::new()).await;
        let deleted = lab.store.delete_manifest(&app, &digest, &deleter("ops")).await;
        assert!(deleted.unwrap_err().is_internal(), "it is no fault of the client");
        let (sender, mut receiver) = mpsc::channel(100);
        lab.store.fsck(true, sender).await.unwrap();
        let mut kinds = Vec::new();
        while let Some(fault) = receiver.recv().await {
            kinds.push(fault.kind);
        }
        assert!(kinds.contains(&FaultKind::KeyUnreadable), "{kinds:?}");
        is_clean(&lab).await;
        lab.store.delete_manifest(&app, &digest, &deleter("ops")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn content_that_nobody_has_is_handed_to_collection() {
    on_both(async |lab| {
        let digest = lab.push(&repo("a"), b"abc").await;
        let id = lab.id(&repo("a")).await;
        lab.delete_raw(keys::link(id, &digest)).await;
        lab.delete_raw(keys::link_of(&raw256(b"abc"), id, &digest)).await;
        finds_and_repairs(&lab, FaultKind::ContentWithoutLink).await;
        lab.collect_after(2).await;
        assert!(lab.files().is_empty());
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn the_other_digest_of_a_content_leads_to_it() {
    for value in [None, Some(raw256(b"config").to_vec()), Some(GARBLED.to_vec())] {
        mended(FaultKind::AliasWrong, async |lab, _| {
            let key = keys::alias(&raw512(LAYER));
            match &value {
                None => lab.delete_raw(key).await,
                Some(value) => lab.put_raw(key, value.clone()).await,
            }
        })
        .await;
    }
    mended(FaultKind::AliasStray, async |lab, _| {
        lab.put_raw(keys::alias(&raw512(b"other")), raw256(b"config").to_vec()).await;
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_cannot_go_on_is_ended() {
    for (kind, change) in [(FaultKind::RowUnreadable, None), (FaultKind::UploadDamaged, Some("NO NAME"))] {
        on_both(async |lab| {
            let sample = sample(&lab).await;
            let id = lab.store.begin_upload(&sample.repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
            lab.store.append_upload(&sample.repo, id, Chunk::default(), body(b"part")).await.unwrap();
            match change {
                None => lab.put_raw(keys::upload(id), GARBLED.to_vec()).await,
                Some(name) => {
                    let row = rows::Upload { repo: name.to_owned(), ..lab.upload(id).await.unwrap() };
                    lab.put_row(keys::upload(id), &row).await;
                }
            }
            finds_and_repairs(&lab, kind).await;
            assert_eq!(lab.garbage().await.iter().filter(|row| row.1 == id).count(), 1);
            lab.collect_after(48).await;
            is_clean(&lab).await;
            sample.is_served(&lab).await;
        })
        .await;
    }
}

#[tokio::test]
async fn what_collection_would_never_look_at_is_queued() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let loose = lab.push(&sample.repo, b"loose").await;
        let id = lab.store.begin_upload(&sample.repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        for (key, _) in lab.rows(b"v").await {
            lab.delete_raw(key).await;
        }
        finds(&lab, FaultKind::ReviewMissing).await;
        let (faults, summary) = fsck(&lab, true).await;
        assert_eq!((faults.len(), summary.left()), (3, 0), "{}", told(&faults));
        let mut queued: Vec<Review> = lab.reviews().await.into_iter().map(|row| row.1).collect();
        let mut wanted = vec![
            Review::Object(sample.id, loose.clone()),
            Review::TagHistory(sample.id, tag("subject")),
            Review::Upload(id),
        ];
        queued.sort_by_key(|review| format!("{review:?}"));
        wanted.sort_by_key(|review| format!("{review:?}"));
        assert_eq!(queued, wanted);
        is_clean(&lab).await;
        lab.collect_after(100 * 24).await;
        assert!(!lab.has_blob(&sample.repo, &loose).await);
        assert!(lab.upload(id).await.is_none());
        assert!(lab.rows(&keys::moves(sample.id, &tag("subject"))).await.is_empty());
        is_clean(&lab).await;
        sample.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_review_in_no_repository_is_removed() {
    mended(FaultKind::ReviewStray, async |lab, _| {
        let review = Review::Object(RepoId(77), sha256(b"x"));
        lab.put_raw(keys::review(START, &review), Vec::new()).await;
    })
    .await;
}

#[tokio::test]
async fn garbage_whose_row_cannot_be_read_is_still_deleted() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        let garbage = Location::new();
        fs::write(lab.file_at(garbage), b"garbage").unwrap();
        lab.put_raw(keys::garbage(START, garbage), GARBLED.to_vec()).await;
        finds_and_repairs(&lab, FaultKind::RowUnreadable).await;
        lab.collect_after(48).await;
        assert!(!lab.file_at(garbage).exists());
        sample.is_served(&lab).await;
    })
    .await;
}
