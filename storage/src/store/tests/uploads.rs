// SPDX-License-Identifier: AGPL-3.0-only
//! Uploads by one writer: chunks, ends good and bad, resumption, and the two algorithms.

use super::*;
use crate::error::What;

fn at(start: u64) -> Chunk {
    Chunk { start: Some(start), len: None }
}

fn announced(len: u64) -> Chunk {
    Chunk { start: None, len: Some(len) }
}

#[tokio::test]
async fn chunks_become_a_blob() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a/b"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 0);
        let status = store.append_upload(&repo, id, at(0), body(b"hello ")).await.unwrap();
        assert_eq!(status.offset, 6);
        for wrong in [0, 5, 7, u64::MAX] {
            let refused = store.append_upload(&repo, id, at(wrong), body(b"x")).await;
            assert!(matches!(refused, Err(Error::OffsetMismatch { have: 6 })), "{wrong}: {refused:?}");
        }
        store.append_upload(&repo, id, announced(6), body(b"world,")).await.unwrap();
        let digest = sha256(b"hello world, bye");
        let finished = store.finish_upload(&repo, id, at(12), body(b" bye"), &digest).await.unwrap();
        assert!(!finished.reread);
        assert_eq!(lab.read(&repo, &digest).await.unwrap(), b"hello world, bye");
        assert_eq!(store.blob(&repo, &digest).await.unwrap().size, 16);
        let gone = store.upload_status(&repo, id).await;
        assert!(matches!(gone, Err(Error::NotFound(What::Upload))));
        // The bytes stay where the upload brought them.
        let content: rows::Content = lab.row(keys::content(&raw256(b"hello world, bye"))).await.unwrap();
        let expected = rows::Content { location: id, size: 16, sha512: None, created: START, damaged: None };
        assert_eq!(content, expected);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_a_blob_too() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        store.finish_upload(&repo, id, at(0), body(b""), &sha256(b"")).await.unwrap();
        assert_eq!(lab.read(&repo, &sha256(b"")).await.unwrap(), b"");
    })
    .await;
}

#[tokio::test]
async fn a_session_is_known_in_its_repository_only() {
    on_both(async |lab| {
        let (store, mine, other) = (&lab.store, repo("mine"), repo("other"));
        let id = store.begin_upload(&mine, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let unknown =
            |result: Result<()>| assert!(matches!(result, Err(Error::NotFound(What::Upload))), "{result:?}");
        unknown(store.upload_status(&other, id).await.map(drop));
        unknown(store.append_upload(&other, id, at(0), body(b"x")).await.map(drop));
        unknown(store.finish_upload(&other, id, at(0), body(b"x"), &sha256(b"x")).await.map(drop));
        unknown(store.cancel_upload(&other, id).await);
        unknown(store.cancel_upload(&mine, Location::new()).await);
        let epoch = async || lab.upload(id).await.unwrap().epoch;
        assert_eq!(epoch().await, 1);
        store.append_upload(&mine, id, at(0), body(b"x")).await.unwrap();
        assert_eq!(epoch().await, 1, "strangers claim nothing: the first claim was still to come");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_fails_leaves_what_came() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let cut = store.append_upload(&repo, id, announced(100), broken_body(b"abc")).await;
        assert!(matches!(&cut, Err(Error::Body(why)) if why.contains("reset")), "{cut:?}");
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        let cut = store.finish_upload(&repo, id, at(3), broken_body(b"def"), &sha256(b"abcdef")).await;
        assert!(matches!(cut, Err(Error::Body(_))));
        store.finish_upload(&repo, id, at(6), body(b""), &sha256(b"abcdef")).await.unwrap();
        assert_eq!(lab.read(&repo, &sha256(b"abcdef")).await.unwrap(), b"abcdef");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_not_as_announced_changes_nothing() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        for (announce, expected) in [(2, 2), (4, 4), (0, 0)] {
            let refused = store.append_upload(&repo, id, announced(announce), body(b"def")).await;
            assert!(
                matches!(refused, Err(Error::SizeMismatch { expected: e, actual: 3 }) if e == expected)
                    || matches!(refused, Err(Error::SizeMismatch { expected: 0, .. })),
                "{refused:?}"
            );
            let refused =
                store.finish_upload(&repo, id, announced(announce), body(b"def"), &sha256(b"abcdef")).await;
            assert!(matches!(refused, Err(Error::SizeMismatch { .. })), "{refused:?}");
            assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        }
        store.finish_upload(&repo, id, announced(1), body(b"d"), &sha256(b"abcd")).await.unwrap();
        assert_eq!(lab.read(&repo, &sha256(b"abcd")).await.unwrap(), b"abcd");
    })
    .await;
}

#[tokio::test]
async fn a_long_body_is_undone_even_behind_its_checkpoint() {
    // Longer than what a request acknowledges to itself.
    const MIB: usize = 66;
    let lab = Lab::new(Kind::Sqlite).await;
    let (store, repo) = (&lab.store, repo("a"));
    let mib = Bytes::from(vec![7; 1 << 20]);
    let long = || stream::iter(vec![mib.clone(); MIB].into_iter().map(Ok::<_, io::Error>));
    let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
    store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
    let before = lab.upload(id).await.unwrap();
    let refused = store.append_upload(&repo, id, announced(5), long()).await;
    assert!(matches!(refused, Err(Error::SizeMismatch { .. })), "{refused:?}");
    let refused = store.append_upload(&repo, id, announced(1 << 30), long()).await;
    assert!(matches!(refused, Err(Error::SizeMismatch { .. })), "{refused:?}");
    let refused = store.finish_upload(&repo, id, at(3), long(), &sha256(b"wrong")).await;
    assert!(matches!(refused, Err(Error::DigestMismatch { .. })), "{refused:?}");
    let after = lab.upload(id).await.unwrap();
    assert_eq!((after.offset, &after.hash), (3, &before.hash));
    store.finish_upload(&repo, id, at(3), body(b"def"), &sha256(b"abcdef")).await.unwrap();
    assert_eq!(lab.read(&repo, &sha256(b"abcdef")).await.unwrap(), b"abcdef");
}

#[tokio::test]
async fn a_wrong_digest_leaves_the_session_where_it_stood() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        let (right, wrong) = (sha256(b"abcdef"), sha256(b"abcdeg"));
        match store.finish_upload(&repo, id, at(3), body(b"def"), &wrong).await {
            Err(Error::DigestMismatch { expected, actual }) => {
                assert_eq!((*expected, *actual), (wrong, right.clone()));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            store.finish_upload(&repo, id, at(3), body(b"def"), &sha512(b"abcdeg")).await,
            Err(Error::DigestMismatch { actual, .. }) if *actual == sha512(b"abcdef")
        ));
        let unknown = "unknown:abc".parse().unwrap();
        let refused = store.finish_upload(&repo, id, at(3), body(b"def"), &unknown).await;
        assert!(matches!(refused, Err(Error::Digest(DigestError::Unsupported(_)))));
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        assert!(lab.rows(b"c").await.is_empty() && lab.rows(b"l").await.is_empty(), "nothing is visible");
        store.finish_upload(&repo, id, at(3), body(b"def"), &right).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn finishing_twice_gives_the_same_answer() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        for _ in 0..2 {
            store.finish_upload(&repo, id, at(0), body(b"abc"), &sha256(b"abc")).await.unwrap();
        }
        let other = store.finish_upload(&repo, id, at(0), body(b"abc"), &sha256(b"other")).await;
        assert!(matches!(other, Err(Error::NotFound(What::Upload))), "{other:?}");
        let nowhere = super::repo("nowhere");
        let other = store.finish_upload(&nowhere, id, at(0), body(b"abc"), &sha256(b"abc")).await;
        assert!(matches!(other, Err(Error::NotFound(What::Upload))), "{other:?}");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_upload_is_garbage_at_once() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        store.cancel_upload(&repo, id).await.unwrap();
        assert_eq!(lab.garbage().await, [(START, id, 3)]);
        assert_eq!(lab.upload(id).await, None);
        let again = store.cancel_upload(&repo, id).await;
        assert!(matches!(again, Err(Error::NotFound(What::Upload))));
    })
    .await;
}

#[tokio::test]
async fn a_push_in_one_request_leaves_a_blob_or_nothing() {
    on_both(async |lab| {
        let (store, repo, who) = (&lab.store, repo("a"), actor("ci"));
        let wrong = store.push_blob(&repo, &sha256(b"x"), None, body(b"abc"), &who).await;
        assert!(matches!(wrong, Err(Error::DigestMismatch { .. })));
        let cut = store.push_blob(&repo, &sha256(b"abc"), None, broken_body(b"abc"), &who).await;
        assert!(matches!(cut, Err(Error::Body(_))));
        let short = store.push_blob(&repo, &sha256(b"abc"), Some(4), body(b"abc"), &who).await;
        assert!(matches!(short, Err(Error::SizeMismatch { expected: 4, actual: 3 })));
        let unknown = store.push_blob(&repo, &"x:y".parse().unwrap(), None, body(b"abc"), &who).await;
        assert!(matches!(unknown, Err(Error::Digest(DigestError::Unsupported(_)))));
        assert!(lab.rows(b"p").await.is_empty() && lab.rows(b"l").await.is_empty());
        assert_eq!(lab.garbage().await.len(), 3);
        for digest in [sha256(b"abc"), sha512(b"abc")] {
            store.push_blob(&repo, &digest, Some(3), body(b"abc"), &who).await.unwrap();
            assert_eq!(lab.read(&repo, &digest).await.unwrap(), b"abc");
        }
    })
    .await;
}

#[tokio::test]
async fn each_algorithm_closes_either_session() {
    on_both(async |lab| {
        let (store, content) = (&lab.store, b"abcdef".as_slice());
        for (number, (session, digest, reread)) in [
            (Algorithm::Sha256, sha256(content), false),
            (Algorithm::Sha256, sha512(content), true),
            (Algorithm::Sha512, sha256(content), false),
            (Algorithm::Sha512, sha512(content), false),
        ]
        .into_iter()
        .enumerate()
        {
            let repo = repo(&format!("r{number}"));
            let id = store.begin_upload(&repo, session, &actor("ci")).await.unwrap();
            store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
            let finished = store.finish_upload(&repo, id, at(3), body(b"def"), &digest).await.unwrap();
            assert_eq!(finished.reread, reread, "{session:?} {digest}");
            assert_eq!(lab.read(&repo, &digest).await.unwrap(), content);
        }
        assert_eq!(lab.rows(b"c").await.len(), 1, "one content, whoever names it how");
        assert_eq!(lab.garbage().await.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_upload_resumes_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        memory: Budget::of(1 << 20, 4 << 20),
        ..StoreOptions::new(folder.path().join("data"))
    };
    let repo = repo("a/b");
    for (algorithm, digest) in
        [(Algorithm::Sha256, sha256(b"abcdef")), (Algorithm::Sha512, sha512(b"abcdef"))]
    {
        let store = Store::open(&options).await.unwrap();
        let id = store.begin_upload(&repo, algorithm, &actor("ci")).await.unwrap();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        drop(store);
        let store = Store::open(&options).await.unwrap();
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        store.append_upload(&repo, id, at(3), body(b"de")).await.unwrap();
        drop(store);
        let store = Store::open(&options).await.unwrap();
        let finished = store.finish_upload(&repo, id, at(5), body(b"f"), &digest).await.unwrap();
        assert!(!finished.reread);
        drop(store);
        let store = Store::open(&options).await.unwrap();
        assert_eq!(read(&store, &repo, &digest).await.unwrap(), b"abcdef");
    }
}

#[tokio::test]
async fn a_body_is_not_asked_for_more_after_its_end() {
    let lab = Lab::new(Kind::Memory).await;
    let (store, repo) = (&lab.store, repo("a"));
    let mut pieces = vec![Bytes::from_static(b"abc")];
    let mut ended = false;
    let once = stream::poll_fn(move |_| {
        assert!(!ended, "a stream may panic when polled after its end");
        let piece = pieces.pop();
        ended = piece.is_none();
        std::task::Poll::Ready(piece.map(Ok::<_, io::Error>))
    });
    store.push_blob(&repo, &sha256(b"abc"), None, once, &actor("ci")).await.unwrap();
}

#[tokio::test]
async fn a_cut_request_that_names_no_place_can_be_sent_again_as_it_was() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let digest = sha256(b"abcdef");
        let cut = || stream::iter([Ok(Bytes::from_static(b"abc")), Err(io::Error::other("cut"))]);
        let whole = Chunk::default();
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let broken = store.finish_upload(&repo, id, whole, cut(), &digest).await;
        assert!(matches!(broken, Err(Error::Body(_))), "{broken:?}");
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 0);
        store.finish_upload(&repo, id, whole, body(b"abcdef"), &digest).await.unwrap();
        // One that says where its bytes belong keeps what came.
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let part = Chunk { start: Some(0), len: None };
        store.finish_upload(&repo, id, part, cut(), &digest).await.unwrap_err();
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        store.finish_upload(&repo, id, whole, body(b"def"), &digest).await.unwrap();
    })
    .await;
}
