// SPDX-License-Identifier: AGPL-3.0-only
//! Several requests on one session, requests that go away, and the memory that uploads share.

use super::*;

const ANYWHERE: Chunk = Chunk { start: None, len: None };

fn at(start: u64) -> Chunk {
    Chunk { start: Some(start), len: None }
}

/// A session to which a request is writing that has brought `abc` and goes on.
struct Busy {
    id: Location,
    more: mpsc::UnboundedSender<Piece>,
    request: tokio::task::JoinHandle<Result<UploadStatus>>,
}

async fn busy(lab: &Lab, repo: &RepoName) -> Busy {
    let id = lab.store.begin_upload(repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let (more, body) = pipe();
    let (store, name) = (Arc::clone(&lab.store), repo.clone());
    let request = tokio::spawn(async move { store.append_upload(&name, id, at(0), body).await });
    more.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    until(async || lab.store.upload_status(repo, id).await.unwrap().offset == 3).await;
    Busy { id, more, request }
}

#[tokio::test]
async fn a_second_writer_is_told_where_the_first_stands() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let busy = busy(&lab, &repo).await;
        for chunk in [ANYWHERE, at(0), at(4), at(u64::MAX)] {
            let refused = store.append_upload(&repo, busy.id, chunk, body(b"x")).await;
            assert!(matches!(refused, Err(Error::OffsetMismatch { have: 3 })), "{refused:?}");
        }
        busy.more.send(Ok(Bytes::from_static(b"def"))).unwrap();
        drop(busy.more);
        assert_eq!(busy.request.await.unwrap().unwrap().offset, 6);
        store.finish_upload(&repo, busy.id, ANYWHERE, body(b""), &sha256(b"abcdef")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_goes_on_where_the_first_stands_takes_over() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let busy = busy(&lab, &repo).await;
        let status = soon(store.append_upload(&repo, busy.id, at(3), body(b"def"))).await.unwrap();
        assert_eq!(status.unwrap().offset, 6);
        // The first is told at once, also when its client is silent: nobody will end its body.
        let first = soon(busy.request).await.expect("the first writer still waits for its client").unwrap();
        assert!(matches!(first, Err(Error::UploadTaken)), "{first:?}");
        assert!(busy.more.send(Ok(Bytes::from_static(b"late"))).is_err());
        store.finish_upload(&repo, busy.id, at(6), body(b""), &sha256(b"abcdef")).await.unwrap();
        assert_eq!(lab.read(&repo, &sha256(b"abcdef")).await.unwrap(), b"abcdef");
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_request_went_away_goes_on_at_once() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let busy = busy(&lab, &repo).await;
        busy.request.abort();
        assert!(busy.request.await.unwrap_err().is_cancelled());
        let status = soon(store.append_upload(&repo, busy.id, at(3), body(b"def"))).await.unwrap();
        assert_eq!(status.unwrap().offset, 6);
        let digest = sha256(b"abcdefg");
        soon(store.finish_upload(&repo, busy.id, ANYWHERE, body(b"g"), &digest)).await.unwrap().unwrap();
        assert_eq!(lab.read(&repo, &digest).await.unwrap(), b"abcdefg");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_went_away_keeps_what_it_brought() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let busy = busy(&lab, &repo).await;
        busy.request.abort();
        until(async || lab.upload(busy.id).await.unwrap().offset == 3).await;
        store.finish_upload(&repo, busy.id, at(3), body(b""), &sha256(b"abc")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_closing_request_may_be_repeated_while_the_first_works() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        for _ in 0..20 {
            let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
            store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
            let (other, name) = (Arc::clone(store), repo.clone());
            let first = tokio::spawn(async move {
                other.finish_upload(&name, id, ANYWHERE, body(b""), &sha256(b"abc")).await
            });
            // The client gives up at some moment of it, and asks again.
            tokio::task::yield_now().await;
            first.abort();
            let _whatever = first.await;
            let again =
                soon(store.finish_upload(&repo, id, ANYWHERE, body(b""), &sha256(b"abc"))).await.unwrap();
            again.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn cancelling_ends_a_writer() {
    on_both(async |lab| {
        let repo = repo("a");
        let busy = busy(&lab, &repo).await;
        soon(lab.store.cancel_upload(&repo, busy.id)).await.unwrap().unwrap();
        let first = soon(busy.request).await.expect("the writer still waits for its client").unwrap();
        assert!(matches!(first, Err(Error::UploadTaken)), "{first:?}");
        assert_eq!(lab.upload(busy.id).await, None);
        assert_eq!(lab.garbage().await, [(START, busy.id, 3)]);
    })
    .await;
}

#[tokio::test]
async fn each_claim_raises_the_epoch() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let epoch = async || lab.upload(id).await.unwrap().epoch;
        assert_eq!(epoch().await, 1, "for the first claim here");
        store.append_upload(&repo, id, at(1), body(b"abc")).await.unwrap_err();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        assert_eq!(epoch().await, 1);
        store.append_upload(&repo, id, at(1), body(b"abc")).await.unwrap_err();
        assert_eq!(epoch().await, 1, "a refused claim claims nothing");
        store.append_upload(&repo, id, ANYWHERE, broken_body(b"def")).await.unwrap_err();
        assert_eq!(epoch().await, 2);
        store.finish_upload(&repo, id, ANYWHERE, body(b""), &sha256(b"wrong")).await.unwrap_err();
        let row = lab.upload(id).await.unwrap();
        assert_eq!((row.epoch, row.offset), (3, 6));
    })
    .await;
}

#[tokio::test]
async fn a_writer_of_an_old_epoch_changes_nothing() {
    on_both(async |lab| {
        let repo = repo("a");
        let busy = busy(&lab, &repo).await;
        // Another process has claimed the session meanwhile.
        let mut row = lab.upload(busy.id).await.unwrap();
        row.epoch += 1;
        lab.put_raw(keys::upload(busy.id), rows::encode(&row).unwrap()).await;
        drop(busy.more);
        let first = busy.request.await.unwrap();
        assert!(matches!(first, Err(Error::UploadTaken)), "{first:?}");
        assert_eq!(lab.upload(busy.id).await, Some(row));
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_fails_gives_the_session_back() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
        let name = id.to_string().replace('-', "");
        let path = lab.folder.path().join("blobs").join(&name[..2]).join(&name);
        fs::rename(&path, path.with_extension("away")).unwrap();
        fs::create_dir(&path).unwrap();
        let (more, unending) = pipe();
        more.send(Ok(Bytes::from_static(b"def"))).unwrap();
        // Told at once, although the client would go on.
        let failed = soon(store.append_upload(&repo, id, at(3), unending)).await.expect("no answer");
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
        fs::remove_dir(&path).unwrap();
        fs::rename(path.with_extension("away"), &path).unwrap();
        store.finish_upload(&repo, id, at(3), body(b"def"), &sha256(b"abcdef")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn acknowledged_bytes_that_are_gone_are_damage() {
    let lab = Lab::new(Kind::Memory).await;
    let (store, repo) = (&lab.store, repo("a"));
    let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
    store.append_upload(&repo, id, at(0), body(b"abc")).await.unwrap();
    let name = id.to_string().replace('-', "");
    fs::write(lab.folder.path().join("blobs").join(&name[..2]).join(&name), b"ab").unwrap();
    for _ in 0..2 {
        let failed = store.append_upload(&repo, id, at(3), body(b"def")).await;
        assert!(matches!(failed, Err(Error::Corrupt(_))), "{failed:?}");
    }
}

/// Starts more requests than memory has room for, each fed by `feed`, and pushes a blob beside them.
async fn push_beside(feed: impl Fn(mpsc::UnboundedSender<Piece>) -> tokio::task::JoinHandle<()>) {
    let lab = Lab::new(Kind::Memory).await;
    let repo = repo("a");
    let mut others = Vec::new();
    // More than share the memory.
    for _ in 0..80 {
        let id = lab.store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let (more, body) = pipe();
        let (store, name) = (Arc::clone(&lab.store), repo.clone());
        let request = tokio::spawn(async move { store.append_upload(&name, id, ANYWHERE, body).await });
        others.push((id, feed(more), request));
    }
    let content = vec![1; 3 << 20];
    let (digest, who) = (sha256(&content), actor("ci"));
    let pushed = lab.store.push_blob(&repo, &digest, None, body(&content), &who);
    tokio::time::timeout(Duration::from_secs(30), pushed).await.expect("others hold all memory").unwrap();
    for (id, feeder, request) in others {
        until(async || lab.store.upload_status(&repo, id).await.unwrap().offset > 0).await;
        feeder.abort();
        request.abort();
        let _gone = request.await;
        until(async || lab.upload(id).await.unwrap().offset > 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_go_quiet_give_their_memory_back() {
    push_beside(|more| {
        tokio::spawn(async move {
            more.send(Ok(Bytes::from_static(b"x"))).unwrap();
            more.closed().await;
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_trickle_give_their_memory_back() {
    push_beside(|more| {
        tokio::spawn(async move {
            while more.send(Ok(Bytes::from_static(b"x"))).is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    })
    .await;
}

#[tokio::test]
async fn a_blob_in_one_request_leaves_nothing_wherever_its_client_goes_away() {
    on_both(async |lab| {
        let app = repo("a");
        for polls in 0..12 {
            let digest = sha256(b"abcdef");
            let (_more, body) = pipe();
            let who = actor("ci");
            let mut push = std::pin::pin!(lab.store.push_blob(&app, &digest, None, body, &who));
            for _ in 0..polls {
                let once = std::future::poll_fn(|context| {
                    let _pending = push.as_mut().poll(context);
                    std::task::Poll::Ready(())
                });
                once.await;
                tokio::task::yield_now().await;
            }
        }
        // Behind whatever was queued.
        lab.put_raw(keys::PROBE.to_vec(), Vec::new()).await;
        until(async || lab.rows(b"p").await.is_empty() && lab.store.sessions.held().is_empty()).await;
        assert!(lab.rows(b"l").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_blob_in_one_request_leaves_nothing_when_its_client_goes_away() {
    on_both(async |lab| {
        let (more, body) = pipe();
        let store = Arc::clone(&lab.store);
        let request = tokio::spawn(async move {
            let digest = sha256(b"abcdef");
            store.push_blob(&repo("a"), &digest, None, body, &actor("ci")).await
        });
        more.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        until(async || lab.rows(b"p").await.len() == 1).await;
        request.abort();
        until(async || lab.rows(b"p").await.is_empty()).await;
        assert_eq!(lab.rows(b"g").await.len(), 1, "its bytes are garbage");
        assert!(lab.rows(b"l").await.is_empty());
    })
    .await;
}
