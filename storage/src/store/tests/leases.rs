// SPDX-License-Identifier: AGPL-3.0-only
//! Leases: who extends them, when, and who never does.

use super::*;

const LEASE: Duration = Duration::from_hours(24);
const HALF: Duration = Duration::from_hours(12);
const MINUTE: Duration = Duration::from_mins(1);

async fn manifest_lease(lab: &Lab, repo: &RepoName, digest: &Digest) -> Timestamp {
    let row: rows::Manifest = lab.row(keys::manifest(lab.id(repo).await, digest)).await.unwrap();
    row.lease_until
}

#[tokio::test]
async fn reading_never_extends_a_lease() {
    on_both(async |lab| {
        let repo = repo("a");
        let manifest = lab.put_image(&repo, b"config", &["1"]).await;
        lab.clock.advance(LEASE * 2);
        lab.store.blob(&repo, &sha256(b"config")).await.unwrap();
        lab.store.manifest(&repo, &by_tag("1")).await.unwrap();
        lab.store.manifest(&repo, &Reference::Digest(manifest.clone())).await.unwrap();
        assert_eq!(lab.link(&repo, &sha256(b"config")).await.unwrap().lease_until, START.plus(LEASE));
        assert_eq!(manifest_lease(&lab, &repo, &manifest).await, START.plus(LEASE));
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_a_pusher_extends_a_lease_when_less_than_half_is_left() {
    on_both(async |lab| {
        let repo = repo("a");
        let manifest = lab.put_image(&repo, b"config", &["1"]).await;
        let config = sha256(b"config");
        for (advance, extended) in [(HALF, false), (MINUTE, true), (MINUTE, false), (LEASE * 5, true)] {
            lab.clock.advance(advance);
            let link_before = lab.link(&repo, &config).await.unwrap();
            let before = manifest_lease(&lab, &repo, &manifest).await;
            lab.store.blob_for_push(&repo, &config).await.unwrap();
            lab.store.manifest_for_push(&repo, &by_tag("1")).await.unwrap();
            lab.store.manifest_for_push(&repo, &Reference::Digest(manifest.clone())).await.unwrap();
            let until = if extended { lab.now().plus(LEASE) } else { before };
            assert_eq!(manifest_lease(&lab, &repo, &manifest).await, until);
            let until = if extended { lab.now().plus(LEASE) } else { link_before.lease_until };
            assert_eq!(
                lab.link(&repo, &config).await.unwrap(),
                rows::Link { lease_until: until, ..link_before }
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_pushed_or_mounted_again_keeps_its_row_while_half_a_lease_is_left() {
    on_both(async |lab| {
        let (from, repo) = (repo("from"), repo("a"));
        let manifest = lab.put_image(&repo, b"config", &["1"]).await;
        lab.push(&from, b"config").await;
        let config = sha256(b"config");
        let again = async || {
            lab.store.mount(&repo, Some(&from), &config, &actor("other")).await.unwrap();
            lab.push(&repo, b"config").await;
            let document = image(&descriptor(&config, 6), &[]);
            assert_eq!(lab.put(&repo, &document, &["1"]).await.unwrap(), manifest);
        };
        lab.clock.advance(HALF);
        again().await;
        assert_eq!(lab.link(&repo, &config).await.unwrap().lease_until, START.plus(LEASE));
        assert_eq!(manifest_lease(&lab, &repo, &manifest).await, START.plus(LEASE));
        lab.clock.advance(MINUTE);
        again().await;
        let link = lab.link(&repo, &config).await.unwrap();
        assert_eq!(link.lease_until, lab.now().plus(LEASE));
        assert_eq!((link.pusher.as_str(), link.created), ("pusher", START), "the first pusher stays");
        assert_eq!(manifest_lease(&lab, &repo, &manifest).await, lab.now().plus(LEASE));
    })
    .await;
}

#[tokio::test]
async fn finishing_again_promises_too() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let finish = async || {
            let chunk = Chunk::default();
            store.finish_upload(&repo, id, chunk, body(b"abc"), &sha256(b"abc")).await.unwrap();
        };
        finish().await;
        lab.clock.advance(LEASE);
        finish().await;
        let link = lab.link(&repo, &sha256(b"abc")).await.unwrap();
        assert_eq!(link.lease_until, lab.now().plus(LEASE));
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_goes_back_shortens_nothing() {
    let lab = Lab::new(Kind::Memory).await;
    let repo = repo("a");
    let digest = lab.push(&repo, b"abc").await;
    let mut link = lab.link(&repo, &digest).await.unwrap();
    link.lease_until = START.plus(LEASE * 100);
    lab.put_raw(keys::link(lab.id(&repo).await, &digest), rows::encode(&link).unwrap()).await;
    lab.store.blob_for_push(&repo, &digest).await.unwrap();
    lab.push(&repo, b"abc").await;
    assert_eq!(lab.link(&repo, &digest).await.unwrap(), link);
}
