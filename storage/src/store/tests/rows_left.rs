// SPDX-License-Identifier: AGPL-3.0-only
//! Rows that later parts rely on: reviews, and who did what in which session.

use super::*;

const LEASE: Duration = Duration::from_hours(24);

fn object(lab_id: RepoId, digest: &Digest) -> Review {
    Review::Object(lab_id, digest.clone())
}

#[tokio::test]
async fn making_something_leaves_a_review_for_when_its_lease_ends() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let upload = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let due = START.plus(LEASE);
        assert_eq!(lab.reviews().await, [(due, Review::Upload(upload))]);
        lab.clock.advance(LEASE);
        let due = lab.now().plus(LEASE);
        let manifest = lab.put_image(&repo, b"config", &["t"]).await;
        let id = lab.id(&repo).await;
        let reviews = lab.reviews().await;
        assert!(reviews.contains(&(due, object(id, &sha256(b"config")))));
        assert!(reviews.contains(&(due, object(id, &manifest))));
        store.mount(&super::repo("b"), None, &sha256(b"config"), &actor("ci")).await.unwrap();
        let other = lab.id(&super::repo("b")).await;
        assert!(lab.reviews().await.contains(&(due, object(other, &sha256(b"config")))));
    })
    .await;
}

#[tokio::test]
async fn what_loses_a_tag_comes_up_for_review() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let first = lab.put_image(&repo, b"1", &["t", "u"]).await;
        let second = lab.put_image(&repo, b"2", &[]).await;
        let id = lab.id(&repo).await;
        lab.clock.advance(LEASE * 2);
        let now = lab.now();
        // A tag that stays where it is takes nothing from anyone.
        lab.put_image(&repo, b"1", &["t"]).await;
        assert!(!lab.reviews().await.contains(&(now, object(id, &first))));
        lab.put_image(&repo, b"2", &["t"]).await;
        assert!(lab.reviews().await.contains(&(now, object(id, &first))));
        store.delete_tag(&repo, &tag("t"), &deleter("ci")).await.unwrap();
        let reviews = lab.reviews().await;
        assert!(reviews.contains(&(now, object(id, &second))));
        let history = Review::TagHistory(id, tag("t"));
        assert!(reviews.contains(&(now.plus(Duration::from_hours(90 * 24)), history)));
    })
    .await;
}

#[tokio::test]
async fn what_a_deleted_manifest_protected_comes_up_for_review() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let (config, layer) = (lab.push(&repo, b"config").await, lab.push(&repo, b"layer").await);
        let mut document = image(&descriptor(&config, 6), &[descriptor(&layer, 5)]);
        document["subject"] = descriptor(&sha256(b"subject"), 7);
        let manifest = lab.put(&repo, &document, &["t"]).await.unwrap();
        let child = descriptor(&manifest, document.to_string().len());
        let missing = descriptor(&sha256(b"missing"), 7);
        let outer = lab.put(&repo, &index(&[child, missing]), &[]).await.unwrap();
        let id = lab.id(&repo).await;
        lab.clock.advance(LEASE * 2);
        let now = lab.now();
        store.delete_manifest(&repo, &outer, &deleter("ci")).await.unwrap();
        let reviews = lab.reviews().await;
        assert!(reviews.contains(&(now, object(id, &manifest))));
        assert!(reviews.contains(&(now, object(id, &sha256(b"missing")))), "it may arrive yet");
        assert!(reviews.contains(&(now, Review::Referrers(id, outer))));
        store.delete_manifest(&repo, &manifest, &deleter("ci")).await.unwrap();
        let reviews = lab.reviews().await;
        for protected in [&config, &layer] {
            assert!(reviews.contains(&(now, object(id, protected))));
        }
        assert!(
            !reviews.contains(&(now, object(id, &sha256(b"subject")))),
            "a subject edge protects nothing"
        );
        assert!(reviews.contains(&(now, Review::Referrers(id, manifest))));
        assert!(
            reviews.contains(&(now.plus(Duration::from_hours(90 * 24)), Review::TagHistory(id, tag("t"))))
        );
    })
    .await;
}

#[tokio::test]
async fn rows_say_who_pushed_in_which_session() {
    on_both(async |lab| {
        let (store, repo, who) = (&lab.store, repo("a"), actor("pusher"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &who).await.unwrap();
        let upload = lab.upload(id).await.unwrap();
        assert_eq!((&upload.pusher, &upload.session), (&who.subject, &who.session));
        lab.clock.advance(Duration::from_secs(5));
        store.append_upload(&repo, id, Chunk::default(), body(b"abc")).await.unwrap();
        let upload = lab.upload(id).await.unwrap();
        assert_eq!((upload.started, upload.touched), (START, lab.now()));
        // Who began the upload pushed the blob.
        store.finish_upload(&repo, id, Chunk::default(), body(b""), &sha256(b"abc")).await.unwrap();
        let link = lab.link(&repo, &sha256(b"abc")).await.unwrap();
        assert_eq!(
            (link.pusher, link.session, link.created),
            (who.subject.clone(), who.session.clone(), lab.now())
        );
        let manifest = lab.put(&repo, &image(&descriptor(&sha256(b"abc"), 3), &[]), &["t"]).await.unwrap();
        let row: rows::Manifest = lab.row(keys::manifest(lab.id(&repo).await, &manifest)).await.unwrap();
        assert_eq!((row.pusher, row.session, row.created), (who.subject, who.session, lab.now()));
        assert_eq!(row.artifact_type.as_deref(), Some("application/octet-stream"));
        assert_eq!(row.subject, None);
    })
    .await;
}
