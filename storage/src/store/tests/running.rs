// SPDX-License-Identifier: AGPL-3.0-only
//! What is told of a store that runs, and what can be changed.

use super::*;

#[tokio::test]
async fn uploads_are_counted_by_what_became_of_them() {
    on_both(async |lab| {
        let (store, repo, who) = (&lab.store, repo("a"), actor("ci"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &who).await.unwrap();
        store.append_upload(&repo, id, Chunk::default(), body(b"hello")).await.unwrap();
        let digest = sha256(b"hello!");
        store.finish_upload(&repo, id, Chunk::default(), body(b"!"), &digest).await.unwrap();
        let id = store.begin_upload(&repo, Algorithm::Sha256, &who).await.unwrap();
        store.cancel_upload(&repo, id).await.unwrap();
        // One request, and what it brings has another digest.
        store.push_blob(&repo, &sha256(b"x"), None, body(b"y"), &who).await.unwrap_err();
        store.mount(&super::repo("b"), Some(&repo), &digest, &who).await.unwrap();
        store.mount(&super::repo("b"), Some(&repo), &sha256(b"none"), &who).await.unwrap();
        let expected = UploadStats { begun: 3, finished: 1, cancelled: 2, mounted: 1, received: 7 };
        assert_eq!(store.upload_stats(), expected);
        assert_eq!(store.memory().held(), 0);
        store.answers().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn commits_are_counted_with_their_sizes() {
    let lab = Lab::new(Kind::Sqlite).await;
    let before = lab.store.commit_stats();
    for number in 0..5 {
        lab.put_image(&repo("a"), &[number], &["t"]).await;
    }
    let after = lab.store.commit_stats();
    let commits = after.commits() - before.commits();
    assert!((5..=30).contains(&commits), "{after:?}");
    assert!(after.transactions.sum >= commits && after.micros.sum > before.micros.sum, "{after:?}");
    assert_eq!(after.micros.counts.iter().sum::<u64>(), after.commits());
    assert_eq!(after.failed, 0);
}

#[tokio::test]
async fn what_a_tag_pointed_at_before_is_told() {
    on_both(async |lab| {
        let repo = repo("a");
        let first = lab.put_image(&repo, b"1", &["v1"]).await;
        let second = lab.put_image(&repo, b"2", &["v1", "v2"]).await;
        assert_eq!(
            lab.store.delete_tag(&repo, &tag("v1"), &deleter("ci")).await.unwrap(),
            Some(second.clone())
        );
        assert_eq!(lab.store.delete_manifest(&repo, &second, &deleter("ci")).await.unwrap(), [tag("v2")]);
        assert_eq!(lab.store.delete_manifest(&repo, &first, &deleter("ci")).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn rules_can_change_while_the_store_is_open() {
    on_both(async |lab| {
        let repo = repo("dev/app");
        let old = lab.put_image(&repo, b"1", &["v1"]).await;
        lab.put_image(&repo, b"2", &["v1"]).await;
        lab.collect_after(24 * 400).await;
        assert!(lab.has_manifest(&repo, &old).await);
        let rule = RepositoryRule {
            untagged: Some(Duration::from_hours(1)),
            released: Duration::ZERO,
            ..RepositoryRule::of("dev/**".parse().unwrap())
        };
        lab.store.set_rules(vec![rule]);
        lab.collect_after(2).await;
        assert!(!lab.has_manifest(&repo, &old).await);
    })
    .await;
}

#[tokio::test]
async fn missing_blobs_can_be_allowed_and_forbidden() {
    on_both(async |lab| {
        let repo = repo("a");
        let document = image(&descriptor(&sha256(b"nowhere"), 7), &[]);
        assert!(matches!(lab.put(&repo, &document, &[]).await, Err(Error::MissingBlobs(_))));
        lab.store.set_allow_missing(true);
        lab.put(&repo, &document, &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_oldest_row_that_is_due_tells_how_late_collection_is() {
    on_both(async |lab| {
        let id = lab.store.begin_upload(&repo("a"), Algorithm::Sha256, &actor("ci")).await;
        id.unwrap();
        assert_eq!(lab.store.collection_queues().await.unwrap().oldest_due, Duration::ZERO);
        lab.clock.advance(Duration::from_hours(24) + Duration::from_secs(90));
        let queues = lab.store.collection_queues().await.unwrap();
        assert_eq!((queues.reviews_due, queues.oldest_due), (1, Duration::from_secs(90)));
    })
    .await;
}
