// SPDX-License-Identifier: AGPL-3.0-only
//! What collection takes, what it leaves, and when.

use super::*;
use crate::error::What;

/// A day is a lease, and one more hour is past it.
const PAST_LEASE: u64 = 25;

fn rule(pattern: &str, untagged_days: Option<u64>, released_days: u64) -> RepositoryRule {
    let days = |days: u64| Duration::from_hours(days * 24);
    RepositoryRule {
        untagged: untagged_days.map(days),
        released: days(released_days),
        ..RepositoryRule::of(pattern.parse().unwrap())
    }
}

/// What a collection would tell, and its sum.
async fn told(lab: &Lab, dry_run: bool) -> (Vec<GcItem>, GcSummary) {
    let (sender, mut receiver) = mpsc::channel(1);
    let listening = tokio::spawn(async move {
        let mut items = Vec::new();
        while let Some(item) = receiver.recv().await {
            items.push(item);
        }
        items
    });
    let summary = lab.store.gc(dry_run, sender).await.unwrap();
    (listening.await.unwrap(), summary)
}

#[tokio::test]
async fn a_blob_that_nothing_names_goes_after_its_lease_and_its_file_after_the_grace() {
    on_both(async |lab| {
        let app = repo("app");
        let named = lab.put_image(&app, b"config", &["v1"]).await;
        let lost = lab.push(&app, b"lost").await;
        lab.collect_after(23).await;
        assert!(lab.has_blob(&app, &lost).await, "leased");
        let summary = lab.collect_after(2).await;
        assert_eq!((summary.blobs, summary.files, summary.bytes_later), (1, 0, 4));
        assert!(!lab.has_blob(&app, &lost).await);
        assert_eq!(lab.files().len(), 2, "readers may still be under way");
        let summary = lab.collect_after(1).await;
        assert_eq!((summary.files, summary.bytes), (1, 4));
        assert_eq!(lab.files().len(), 1);
        assert!(lab.garbage().await.is_empty());
        assert!(lab.has_manifest(&app, &named).await);
        assert_eq!(lab.read(&app, &sha256(b"config")).await.unwrap(), b"config");
        assert!(lab.reviews().await.is_empty(), "what is protected is not looked at again");
        assert_eq!(lab.collect_after(1000).await, GcSummary::default());
    })
    .await;
}

#[tokio::test]
async fn a_promise_renewed_is_a_promise_kept() {
    on_both(async |lab| {
        let app = repo("app");
        let digest = lab.push(&app, b"layer").await;
        for _ in 0..10 {
            lab.collect_after(20).await;
            lab.store.blob_for_push(&app, &digest).await.unwrap();
        }
        lab.collect_after(11).await;
        assert!(lab.has_blob(&app, &digest).await);
        lab.collect_after(14).await;
        assert!(!lab.has_blob(&app, &digest).await);
    })
    .await;
}

#[tokio::test]
async fn what_a_deleted_manifest_protected_goes_once_its_lease_is_over() {
    on_both(async |lab| {
        let (app, other) = (repo("app"), repo("other"));
        let manifest = lab.put_image(&app, b"config", &["v1"]).await;
        lab.store.mount(&other, Some(&app), &sha256(b"config"), &actor("ci")).await.unwrap();
        let kept = lab.put(&other, &image(&descriptor(&sha256(b"config"), 6), &[]), &["v1"]).await.unwrap();
        lab.collect_after(PAST_LEASE).await;
        lab.store.delete_manifest(&app, &manifest, &deleter("ops")).await.unwrap();
        let (items, summary) = told(&lab, false).await;
        assert_eq!((summary.blobs, summary.bytes_later), (1, 0), "another repository has it too");
        assert!(items[0].to_string().ends_with("other repositories keep its bytes"), "{}", items[0]);
        assert!(!lab.has_blob(&app, &sha256(b"config")).await);
        lab.collect_after(1000).await;
        assert_eq!(lab.read(&other, &sha256(b"config")).await.unwrap(), b"config");
        lab.store.delete_manifest(&other, &kept, &deleter("ops")).await.unwrap();
        assert_eq!(lab.collect().await.bytes_later, 6);
        lab.collect_after(2).await;
        assert!(lab.files().is_empty());
        for table in [b"l", b"k", b"c", b"a", b"x", b"b", b"f", b"e", b"u", b"g"] {
            assert!(lab.rows(table).await.is_empty(), "table {}", char::from(table[0]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_blob_that_only_comes_to_be_named_later_is_protected_then() {
    on_both(async |lab| {
        let app = repo("app");
        let digest = lab.push(&app, b"config").await;
        lab.clock.advance(Duration::from_hours(30));
        // The lease is over, no round was yet, and the manifest still finds it.
        lab.put(&app, &image(&descriptor(&digest, 6), &[]), &["v1"]).await.unwrap();
        lab.collect_after(1000).await;
        assert!(lab.has_blob(&app, &digest).await);
    })
    .await;
}

#[tokio::test]
async fn untagged_manifests_stay_unless_a_rule_says_otherwise() {
    for &kind in Kind::ALL {
        let lab = Lab::tuned(kind, |options| options.rules = vec![rule("dev/**", Some(7), 90)]).await;
        let (dev, prod) = (repo("dev/app"), repo("prod/app"));
        let mut pushed = Vec::new();
        for repo in [&dev, &prod] {
            pushed.push(lab.put_image(repo, b"config", &[]).await);
            let child = lab.put_image(repo, b"child", &[]).await;
            lab.put(repo, &index(&[descriptor(&child, 1)]), &["multi"]).await.unwrap();
            pushed.push(child);
        }
        lab.collect_after(6 * 24).await;
        assert!(lab.has_manifest(&dev, &pushed[0]).await);
        let summary = lab.collect_after(25).await;
        assert_eq!((summary.manifests, summary.blobs), (1, 1));
        assert!(!lab.has_manifest(&dev, &pushed[0]).await);
        assert!(!lab.has_blob(&dev, &sha256(b"config")).await);
        assert!(lab.has_manifest(&dev, &pushed[1]).await, "an index names it");
        lab.collect_after(10_000).await;
        assert!(lab.has_manifest(&prod, &pushed[2]).await && lab.has_manifest(&prod, &pushed[3]).await);
        // When its index goes, a child is an untagged manifest like any other.
        let index = lab.store.manifest(&dev, &by_tag("multi")).await.unwrap().head.digest;
        lab.store.delete_manifest(&dev, &index, &deleter("ops")).await.unwrap();
        lab.collect().await;
        assert!(!lab.has_manifest(&dev, &pushed[1]).await);
    }
}

#[tokio::test]
async fn a_digest_that_was_once_released_stays_for_a_while_after_its_last_tag_left() {
    for &kind in Kind::ALL {
        let lab = Lab::tuned(kind, |options| {
            options.rules = vec![rule("short", Some(1), 10), rule("**", Some(1), 90)];
        })
        .await;
        for (name, days) in [("short", 10), ("long", 90)] {
            let app = repo(name);
            let first = lab.put_image(&app, b"first", &["v1", "latest"]).await;
            lab.collect_after(500).await;
            lab.put_image(&app, b"second", &["latest"]).await;
            lab.collect_after(500).await;
            lab.store.delete_tag(&app, &tag("v1"), &deleter("ops")).await.unwrap();
            lab.collect_after(days * 24 - 1).await;
            assert!(lab.has_manifest(&app, &first).await);
            lab.collect_after(1).await;
            assert!(!lab.has_manifest(&app, &first).await);
            assert!(lab.store.manifest(&app, &by_tag("latest")).await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_new_rule_reaches_manifests_that_were_judged_by_the_old_one() {
    let lab = Lab::new(Kind::Memory).await;
    let app = repo("app");
    for number in 0..30 {
        lab.put_image(&app, format!("config {number}").as_bytes(), &[]).await;
    }
    let tagged = lab.put_image(&app, b"tagged", &["v1"]).await;
    lab.collect_after(PAST_LEASE).await;
    assert!(lab.reviews().await.is_empty());
    // The same data, opened with another rule.
    let Lab { store, clock, folder } = lab;
    let Ok(store) = Arc::try_unwrap(store) else { panic!("one owner") };
    let Ok(engine) = Arc::try_unwrap(store.engine) else { panic!("one owner") };
    let options = StoreOptions {
        memory: Budget::of(0, 4 << 20),
        rules: vec![rule("**", Some(1), 1)],
        ..StoreOptions::new(folder.path().to_owned())
    };
    let store = Store::with_engine(engine, Arc::clone(&clock) as Arc<dyn Clock>, &options).await.unwrap();
    let lab = Lab { store: Arc::new(store), clock, folder };
    assert_eq!(lab.collect().await.manifests, 30);
    assert!(lab.has_manifest(&app, &tagged).await);
    assert_eq!(lab.collect().await.reviewed, 0, "once is enough");
}

#[tokio::test]
async fn the_history_of_a_deleted_tag_is_forgotten_after_ninety_days() {
    on_both(async |lab| {
        let app = repo("app");
        for number in 0..5u8 {
            lab.put_image(&app, &[number], &["v1", "other"]).await;
        }
        lab.store.delete_tag(&app, &tag("v1"), &deleter("ops")).await.unwrap();
        lab.collect_after(89 * 24).await;
        assert_eq!(lab.rows(&keys::moves(lab.id(&app).await, &tag("v1"))).await.len(), 6);
        // A tag that came back and went again starts anew.
        lab.put_image(&app, b"again", &["v1"]).await;
        lab.store.delete_tag(&app, &tag("v1"), &deleter("ops")).await.unwrap();
        lab.collect_after(2 * 24).await;
        assert_eq!(lab.rows(&keys::moves(lab.id(&app).await, &tag("v1"))).await.len(), 8);
        lab.collect_after(89 * 24).await;
        assert!(lab.rows(&keys::moves(lab.id(&app).await, &tag("v1"))).await.is_empty());
        assert_eq!(lab.rows(&keys::moves(lab.id(&app).await, &tag("other"))).await.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_upload_goes_and_one_that_is_being_written_stays() {
    on_both(async |lab| {
        let app = repo("app");
        let idle = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
        lab.store.append_upload(&app, idle, Chunk::default(), body(b"some")).await.unwrap();
        let busy = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let (sender, incoming) = pipe();
        sender.send(Ok(Bytes::from_static(b"begun"))).unwrap();
        let writing = tokio::spawn({
            let (store, app) = (Arc::clone(&lab.store), app.clone());
            async move { store.append_upload(&app, busy, Chunk::default(), incoming).await }
        });
        until(async || lab.store.sessions.is_held(busy)).await;
        lab.collect_after(23).await;
        assert!(lab.upload(idle).await.is_some());
        let summary = lab.collect_after(2).await;
        assert_eq!((summary.uploads, summary.files, summary.bytes), (1, 1, 4));
        assert!(lab.upload(idle).await.is_none());
        assert!(lab.upload(busy).await.is_some());
        sender.send(Ok(Bytes::from_static(b" and done"))).unwrap();
        drop(sender);
        assert_eq!(writing.await.unwrap().unwrap().offset, 14);
        lab.collect_after(23).await;
        assert!(lab.upload(busy).await.is_some(), "it was touched just now");
        lab.collect_after(2).await;
        lab.collect_after(24).await;
        assert!(lab.upload(busy).await.is_none());
        assert!(lab.files().is_empty() && lab.reviews().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_tells_what_the_next_round_does_and_changes_nothing() {
    for &kind in Kind::ALL {
        let lab = Lab::tuned(kind, |options| options.rules = vec![rule("**", Some(1), 1)]).await;
        let app = repo("app");
        // An index, its child and its blobs; a referrer of it; an upload; garbage that waits.
        let child = lab.put_image(&app, b"config", &[]).await;
        let top = lab.put(&app, &index(&[descriptor(&child, 1)]), &[]).await.unwrap();
        let mut sbom = image(&descriptor(&lab.push(&app, b"sbom").await, 4), &[]);
        sbom["subject"] = descriptor(&top, 1);
        lab.put(&app, &sbom, &[]).await.unwrap();
        lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let gone = lab.push(&app, b"deleted").await;
        lab.store.delete_blob(&app, &gone).await.unwrap();
        lab.clock.advance(Duration::from_hours(PAST_LEASE));
        let before = (lab.rows(b"").await, lab.files());
        let (mut would, rehearsed) = told(&lab, true).await;
        assert!(before == (lab.rows(b"").await, lab.files()), "nothing changed");
        let (mut did, summary) = told(&lab, false).await;
        assert_eq!((rehearsed.manifests, rehearsed.blobs, rehearsed.uploads, rehearsed.files), (3, 2, 1, 1));
        // The real round deletes the upload's file at once, which has no grace.
        assert_eq!((summary.manifests, summary.blobs, summary.uploads, summary.files), (3, 2, 1, 2));
        did.retain(|item| !matches!(item, GcItem::File { bytes: 0, .. }));
        would.sort_by_key(ToString::to_string);
        did.sort_by_key(ToString::to_string);
        assert_eq!(would, did);
        assert!(rehearsed.to_string().starts_with("would remove 3 manifests, 2 blobs, 1 uploads"));
        assert_eq!(lab.store.collection_stats().manifests, 3);
    }
}

#[tokio::test]
async fn a_jump_of_the_clock_pauses_collection_for_a_lease() {
    on_both(async |lab| {
        let app = repo("app");
        let digest = lab.push(&app, b"layer").await;
        lab.collect().await;
        lab.clock.set(lab.now().plus(Duration::from_hours(PAST_LEASE)));
        let paused = lab.collect().await.paused.unwrap();
        assert_eq!(paused, "the clock jumped forward by 90000 s");
        // Whoever pushes meanwhile is given a new promise.
        lab.collect_after(5).await;
        lab.store.blob_for_push(&app, &digest).await.unwrap();
        let summary = lab.collect_after(18).await;
        assert!(summary.paused.unwrap().starts_with("the clock jumped, so collection waits 3600 s more"));
        assert!(lab.has_blob(&app, &digest).await);
        lab.collect_after(2).await;
        assert!(lab.has_blob(&app, &digest).await, "leased");
        lab.collect_after(5).await;
        assert!(!lab.has_blob(&app, &digest).await);
        // Back again: nothing is due early, and nothing is lost.
        lab.clock.set(lab.now().minus(Duration::from_hours(1)));
        assert!(lab.collect().await.paused.unwrap().contains("back by 3600 s"));
        assert!(lab.store.resume_collection().await.unwrap());
        assert_eq!(lab.collect().await.paused, None);
        assert!(!lab.store.resume_collection().await.unwrap());
        assert_eq!(lab.store.collection_stats().paused, 4);
    })
    .await;
}

#[tokio::test]
async fn collection_that_is_off_does_nothing_until_it_is_resumed() {
    on_both(async |lab| {
        let app = repo("app");
        let digest = lab.push(&app, b"layer").await;
        lab.put_raw(keys::COLLECTION_OFF.to_vec(), b"restored from a backup".to_vec()).await;
        let summary = lab.collect_after(PAST_LEASE).await;
        let expected = "collection is off: restored from a backup; `stella gc --resume` turns it on again";
        assert_eq!(summary.paused.as_deref(), Some(expected));
        assert!(lab.has_blob(&app, &digest).await);
        assert_eq!(told(&lab, true).await.1.blobs, 1, "a dry run tells all the same");
        lab.store.resume_collection().await.unwrap();
        assert_eq!(lab.collect().await.blobs, 1);
    })
    .await;
}

#[tokio::test]
async fn one_damaged_row_does_not_hold_up_the_others() {
    on_both(async |lab| {
        let app = repo("app");
        let damaged = lab.push(&app, b"damaged").await;
        let lost: Vec<Digest> = {
            let mut lost = Vec::new();
            for number in 0..30u8 {
                lost.push(lab.push(&app, &[number]).await);
            }
            lost
        };
        lab.put_raw(keys::link(lab.id(&app).await, &damaged), b"\xff".to_vec()).await;
        lab.collect_after(PAST_LEASE).await;
        for digest in &lost {
            assert!(matches!(lab.store.blob(&app, digest).await, Err(Error::NotFound(What::Blob))));
        }
        assert_eq!(lab.store.collection_stats().failures, 1);
        assert_eq!(lab.reviews().await.len(), 1, "it is put off");
    })
    .await;
}

#[tokio::test]
async fn a_running_backup_keeps_files_from_being_deleted() {
    on_both(async |lab| {
        let app = repo("app");
        lab.push(&app, b"layer").await;
        let hold = lab.store.holds.take(lab.now());
        lab.collect_after(PAST_LEASE).await;
        lab.collect_after(PAST_LEASE).await;
        assert_eq!((lab.files().len(), lab.garbage().await.len()), (1, 1));
        drop(hold);
        lab.collect().await;
        assert!(lab.files().is_empty());
    })
    .await;
}

#[tokio::test]
async fn collectors_that_run_at_once_remove_each_thing_once() {
    on_both(async |lab| {
        let app = repo("app");
        for number in 0..120u16 {
            lab.push(&app, &number.to_be_bytes()).await;
        }
        lab.clock.advance(Duration::from_hours(PAST_LEASE));
        let (a, b, c) = tokio::join!(lab.store.collect(), lab.store.collect(), lab.store.collect());
        let blobs: u64 = [a, b, c].into_iter().map(|summary| summary.unwrap().blobs).sum();
        assert_eq!(blobs, 120);
        lab.clock.advance(Duration::from_hours(2));
        let (a, b) = tokio::join!(lab.store.collect(), lab.store.collect());
        drop((a.unwrap(), b.unwrap()));
        assert!(lab.files().is_empty() && lab.garbage().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_queues_are_counted() {
    on_both(async |lab| {
        let app = repo("app");
        let lost = lab.push(&app, b"lost").await;
        lab.push(&app, b"leased").await;
        lab.store.delete_blob(&app, &lost).await.unwrap();
        let queues = lab.store.collection_queues().await.unwrap();
        // Each push leaves a review of its session too.
        assert_eq!((queues.reviews, queues.reviews_due), (4, 0));
        assert_eq!((queues.garbage, queues.garbage_due, queues.garbage_bytes), (1, 0, 4));
        lab.clock.advance(Duration::from_hours(PAST_LEASE));
        let queues = lab.store.collection_queues().await.unwrap();
        assert_eq!((queues.reviews_due, queues.garbage_due), (4, 1));
    })
    .await;
}

#[tokio::test]
async fn a_collection_that_nobody_listens_to_ends() {
    let lab = Lab::new(Kind::Memory).await;
    lab.push(&repo("app"), b"lost").await;
    lab.clock.advance(Duration::from_hours(PAST_LEASE));
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    assert!(lab.store.gc(false, sender).await.is_err());
    lab.collect().await;
    lab.collect_after(2).await;
    assert!(lab.files().is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_does_not_hold_up_the_others() {
    on_both(async |lab| {
        let app = repo("app");
        for number in 0..40u8 {
            let digest = lab.push(&app, &[number]).await;
            lab.store.delete_blob(&app, &digest).await.unwrap();
        }
        // A folder in the place of one file: unlink refuses it, even for root.
        let name = lab.garbage().await[0].1.to_string().replace('-', "");
        let path = lab.folder.path().join("blobs").join(&name[..2]).join(&name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let summary = lab.collect_after(2).await;
        assert_eq!((summary.files, lab.garbage().await.len()), (39, 1));
        assert!(lab.store.collection_stats().failures > 0);
        fs::remove_dir(&path).unwrap();
        lab.collect().await;
        assert!(lab.garbage().await.is_empty());
    })
    .await;
}
