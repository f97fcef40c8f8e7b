// SPDX-License-Identifier: AGPL-3.0-only
//! The reserve of the disk: below it nothing is pushed, and everything else goes on.

use super::*;
use crate::disk::Room;

/// The store, with more in reserve than any disk has.
async fn below_the_reserve(kind: Kind) -> (Lab, Digest, Digest, Location) {
    let mut lab = Lab::new(kind).await;
    let app = repo("app");
    let blob = lab.push(&app, b"free").await;
    let manifest = lab.put_image(&app, b"config", &["v1"]).await;
    let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let file = lab.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let room = Room::below(file, lab.store.blobs.root(), u64::MAX / 2, None).unwrap();
    Arc::get_mut(&mut lab.store).unwrap().room = Arc::new(room);
    (lab, blob, manifest, id)
}

fn refused<T: std::fmt::Debug>(pushed: Result<T>) {
    match pushed.unwrap_err() {
        Error::Reserve { .. } => {}
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn below_the_reserve_nothing_is_pushed() {
    for kind in [Kind::Memory, Kind::Sqlite] {
        let (lab, blob, _, id) = below_the_reserve(kind).await;
        let (store, app, who) = (&lab.store, repo("app"), actor("ci"));
        refused(store.begin_upload(&app, Algorithm::Sha256, &who).await);
        refused(store.push_blob(&app, &sha256(b"x"), None, body(b"x"), &who).await);
        refused(store.append_upload(&app, id, Chunk::default(), body(b"x")).await);
        refused(store.finish_upload(&app, id, Chunk::default(), body(b"x"), &sha256(b"x")).await);
        refused(store.mount(&repo("other"), Some(&app), &blob, &who).await);
        refused(store.put_manifest(new_manifest(&app, &index(&[]), &["v2"])).await);
        refused(store.ready().await);
        assert_eq!(store.upload_status(&app, id).await.unwrap().offset, 0);
    }
}

#[tokio::test]
async fn below_the_reserve_reading_deleting_and_collecting_go_on() {
    for kind in [Kind::Memory, Kind::Sqlite] {
        let (lab, blob, manifest, id) = below_the_reserve(kind).await;
        let (store, app) = (&lab.store, repo("app"));
        assert_eq!(lab.read(&app, &blob).await.unwrap(), b"free");
        store.blob_for_push(&app, &blob).await.unwrap();
        store.manifest_for_push(&app, &by_tag("v1")).await.unwrap();
        store.cancel_upload(&app, id).await.unwrap();
        store.delete_blob(&app, &blob).await.unwrap();
        store.delete_tag(&app, &tag("v1"), &deleter("ci")).await.unwrap();
        store.delete_manifest(&app, &manifest, &deleter("ci")).await.unwrap();
        assert!(lab.collect_after(30).await.blobs > 0);
        lab.collect_after(2).await;
        assert!(lab.files().is_empty());
    }
}

#[tokio::test]
async fn an_upload_under_way_ends_at_the_reserve_and_goes_on_from_there() {
    let mut lab = Lab::new(Kind::Memory).await;
    let app = repo("app");
    let whole = vec![7; 12 << 20];
    let (roomy, narrow) = (Arc::new(Room::default()), Arc::new(Room::leaving(4 << 20)));
    Arc::get_mut(&mut lab.store).unwrap().room = narrow;
    let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let announced = Chunk { start: Some(0), len: Some(whole.len() as u64) };
    refused(lab.store.append_upload(&app, id, announced, body(&whole)).await);
    assert_eq!(
        lab.store.upload_status(&app, id).await.unwrap().offset,
        0,
        "it was told before the first byte"
    );
    let chunk = Chunk { start: Some(0), len: None };
    refused(lab.store.append_upload(&app, id, chunk, body(&whole)).await);
    let offset = lab.store.upload_status(&app, id).await.unwrap().offset;
    assert!((1 << 20..=4 << 20).contains(&offset), "{offset}");
    Arc::get_mut(&mut lab.store).unwrap().room = roomy;
    let (chunk, rest) =
        (Chunk { start: Some(offset), len: None }, &whole[usize::try_from(offset).unwrap()..]);
    lab.store.finish_upload(&app, id, chunk, body(rest), &sha256(&whole)).await.unwrap();
    assert_eq!(lab.read(&app, &sha256(&whole)).await.unwrap(), whole);
}
