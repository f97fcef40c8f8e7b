// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs in repositories: visibility, mounts, reading, deletion, and what becomes garbage.

use super::*;
use crate::error::What;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_blob_is_readable_through_a_link_only() {
    on_both(async |lab| {
        let (mine, other) = (repo("mine"), repo("other"));
        let digest = lab.push(&mine, b"abc").await;
        assert_eq!(lab.read(&mine, &digest).await.unwrap(), b"abc");
        let elsewhere = lab.read(&other, &digest).await;
        assert!(matches!(elsewhere, Err(Error::NotFound(What::Repository))));
        lab.push(&other, b"x").await;
        for unknown in [digest, sha512(b"abc"), "x:y".parse().unwrap()] {
            let elsewhere = lab.read(&other, &unknown).await;
            assert!(matches!(elsewhere, Err(Error::NotFound(What::Blob))));
        }
    })
    .await;
}

#[tokio::test]
async fn a_range_never_leaves_the_blob() {
    let lab = Lab::new(Kind::Memory).await;
    let repo = repo("a");
    let digest = lab.push(&repo, b"abcdef").await;
    let blob = lab.store.blob(&repo, &digest).await.unwrap();
    for (range, expected) in
        [(0..6, "abcdef"), (2..4, "cd"), (4..99, "ef"), (6..6, ""), (7..9, ""), (u64::MAX..u64::MAX, "")]
    {
        let pieces: Vec<Bytes> =
            lab.store.read_blob(&blob, &[range]).await.unwrap().remove(0).try_collect().await.unwrap();
        assert_eq!(pieces.concat(), expected.as_bytes());
    }
}

#[tokio::test]
async fn a_mount_needs_the_blob_in_the_source() {
    on_both(async |lab| {
        let (store, from, to, who) = (&lab.store, repo("from"), repo("to"), actor("mounter"));
        let digest = lab.push(&from, b"abc").await;
        for (source, what) in
            [(&from, sha256(b"other")), (&repo("nowhere"), digest.clone()), (&from, sha512(b"abc"))]
        {
            assert_eq!(store.mount(&to, Some(source), &what, &who).await.unwrap(), Mounted::No);
        }
        for what in [sha256(b"other"), sha512(b"abc"), "x:y".parse().unwrap()] {
            assert_eq!(store.mount(&to, None, &what, &who).await.unwrap(), Mounted::No);
        }
        assert_eq!(store.repositories(None, 10).await.unwrap(), ["from"], "a mount of nothing makes nothing");
        assert_eq!(store.mount(&to, Some(&from), &digest, &who).await.unwrap(), Mounted::Yes);
        assert_eq!(lab.read(&to, &digest).await.unwrap(), b"abc");
        let link = lab.link(&to, &digest).await.unwrap();
        assert_eq!(
            link,
            rows::Link {
                sha256: raw256(b"abc"),
                size: 3,
                lease_until: START.plus(24 * HOUR),
                created: START,
                pusher: who.subject,
                session: who.session,
            }
        );
        assert_eq!(lab.files().len(), 1, "a mount copies nothing");
    })
    .await;
}

#[tokio::test]
async fn a_mount_from_what_its_client_cannot_read_finds_nothing() {
    on_both(async |lab| {
        let (store, secret, shared, to, who) =
            (&lab.store, repo("secret"), repo("shared"), repo("to"), actor("mounter"));
        let (hidden, open) = (lab.push(&secret, b"hidden").await, lab.push(&secret, b"open").await);
        lab.push(&shared, b"open").await;
        let readable: Arc<dyn Fn(&RepoName) -> bool + Send + Sync> =
            Arc::new(|repo: &RepoName| repo.as_str() == "shared");
        for (from, digest, expected) in [
            (Some(&secret), &hidden, Mounted::No),
            (Some(&secret), &open, Mounted::No),
            (None, &hidden, Mounted::No),
            (Some(&shared), &open, Mounted::Yes),
            (None, &open, Mounted::Yes),
        ] {
            let mounted =
                store.mount_readable(&to, from, digest, &who, None, Arc::clone(&readable)).await.unwrap();
            assert_eq!(mounted, expected, "{from:?} {digest}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_mount_from_anywhere_finds_either_digest() {
    on_both(async |lab| {
        let (store, from, who) = (&lab.store, repo("from"), actor("ci"));
        store.push_blob(&from, &sha512(b"abc"), None, body(b"abc"), &who).await.unwrap();
        for (name, digest) in [("a", sha256(b"abc")), ("b", sha512(b"abc"))] {
            assert_eq!(store.mount(&repo(name), None, &digest, &who).await.unwrap(), Mounted::Yes);
            assert_eq!(lab.read(&repo(name), &digest).await.unwrap(), b"abc");
        }
        assert_eq!(store.mount(&from, Some(&from), &sha512(b"abc"), &who).await.unwrap(), Mounted::Yes);
        let content: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        let Digest::Sha512(named) = sha512(b"abc") else { panic!() };
        assert_eq!(content.sha512, Some(named));
        assert_eq!(lab.raw(keys::alias(&named)).await.unwrap(), raw256(b"abc"));
        // The alias goes with the content.
        for (name, digest) in [("a", sha256(b"abc")), ("b", sha512(b"abc")), ("from", sha512(b"abc"))] {
            store.delete_blob(&repo(name), &digest).await.unwrap();
        }
        assert!(lab.rows(b"a").await.is_empty() && lab.rows(b"c").await.is_empty());
        assert_eq!(store.mount(&from, None, &sha512(b"abc"), &who).await.unwrap(), Mounted::No);
    })
    .await;
}

#[tokio::test]
async fn content_that_comes_again_under_sha512_gains_its_alias() {
    on_both(async |lab| {
        let repo = repo("a");
        lab.push(&repo, b"abc").await;
        let first: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        assert_eq!(first.sha512, None);
        lab.store.push_blob(&repo, &sha512(b"abc"), None, body(b"abc"), &actor("ci")).await.unwrap();
        lab.push(&repo, b"abc").await;
        let then: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        let Digest::Sha512(named) = sha512(b"abc") else { panic!() };
        assert_eq!(then, rows::Content { sha512: Some(named), ..first });
        assert_eq!(lab.rows(b"k").await.len(), 2, "a link for each name");
    })
    .await;
}

#[tokio::test]
async fn the_same_content_twice_leaves_one_copy_and_garbage() {
    on_both(async |lab| {
        let repo = repo("a");
        lab.push(&repo, b"abc").await;
        let kept: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        lab.clock.advance(HOUR);
        lab.push(&repo, b"abc").await;
        assert_eq!(lab.row::<rows::Content>(keys::content(&raw256(b"abc"))).await.unwrap(), kept);
        let garbage = lab.garbage().await;
        assert_eq!(garbage.len(), 1);
        assert_eq!((garbage[0].0, garbage[0].2), (START.plus(HOUR), 3));
        assert_ne!(garbage[0].1, kept.location);
        assert_eq!(lab.link(&repo, &sha256(b"abc")).await.unwrap().created, START);
    })
    .await;
}

#[tokio::test]
async fn the_last_link_takes_the_content_with_it() {
    on_both(async |lab| {
        let (store, a, b) = (&lab.store, repo("a"), repo("b"));
        let digest = lab.push(&a, b"abc").await;
        store.mount(&b, Some(&a), &digest, &actor("ci")).await.unwrap();
        let blob = store.blob(&a, &digest).await.unwrap();
        let content: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        store.delete_blob(&a, &digest).await.unwrap();
        assert!(matches!(lab.read(&a, &digest).await, Err(Error::NotFound(What::Blob))));
        assert_eq!(lab.read(&b, &digest).await.unwrap(), b"abc");
        assert!(lab.garbage().await.is_empty());
        store.delete_blob(&b, &digest).await.unwrap();
        assert_eq!(lab.garbage().await, [(START.plus(HOUR), content.location, 3)]);
        for table in [b"c", b"l", b"k"] {
            assert!(lab.rows(table).await.is_empty());
        }
        // Whoever is reading it may finish.
        let pieces: Vec<Bytes> =
            store.read_blob(&blob, &[0..3, 1..2]).await.unwrap().remove(0).try_collect().await.unwrap();
        assert_eq!(pieces.concat(), b"abc");
        let again = store.delete_blob(&b, &digest).await;
        assert!(matches!(again, Err(Error::NotFound(What::Blob))));
        // A later copy lies elsewhere.
        lab.push(&a, b"abc").await;
        let later: rows::Content = lab.row(keys::content(&raw256(b"abc"))).await.unwrap();
        assert_ne!(later.location, content.location);
    })
    .await;
}

#[tokio::test]
async fn a_blob_that_a_manifest_names_is_not_deleted() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let (config, layer, child, subject) = (
            lab.push(&repo, b"config").await,
            lab.push(&repo, b"layer").await,
            lab.push(&repo, b"child").await,
            lab.push(&repo, b"subject").await,
        );
        let image = image(&descriptor(&config, 6), &[descriptor(&layer, 5)]);
        let image = lab.put(&repo, &image, &[]).await.unwrap();
        // BuildKit's caches are indexes whose children are blobs.
        let mut cache = index(&[descriptor(&child, 5)]);
        cache["subject"] = descriptor(&subject, 7);
        let cache = lab.put(&repo, &cache, &[]).await.unwrap();
        for (blob, by) in [(&config, &image), (&layer, &image), (&child, &cache)] {
            let refused = store.delete_blob(&repo, blob).await;
            assert!(matches!(&refused, Err(Error::Referenced { manifest }) if manifest == by), "{refused:?}");
            assert!(refused.unwrap_err().to_string().contains(&by.to_string()));
        }
        // A subject edge protects nothing.
        store.delete_blob(&repo, &subject).await.unwrap();
        store.delete_manifest(&repo, &image, &deleter("ci")).await.unwrap();
        store.delete_manifest(&repo, &cache, &deleter("ci")).await.unwrap();
        for blob in [config, layer, child] {
            store.delete_blob(&repo, &blob).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_naming_manifest_is_found_behind_many_subject_edges() {
    let lab = Lab::new(Kind::Memory).await;
    let (repo, digest) = (repo("a"), sha256(b"blob"));
    lab.push(&repo, b"blob").await;
    // More subject edges than one page holds, all before the one that counts.
    let id = lab.id(&repo).await;
    for number in 0..250u8 {
        let manifest = Digest::Sha256([number; 32]);
        lab.put_raw(keys::edge(id, &digest, &manifest), vec![rows::kind::SUBJECT]).await;
    }
    lab.put_raw(keys::edge(id, &digest, &Digest::Sha256([250; 32])), vec![rows::kind::CHILD]).await;
    let refused = lab.store.delete_blob(&repo, &digest).await;
    assert!(matches!(refused, Err(Error::Referenced { manifest }) if manifest == Digest::Sha256([250; 32])));
}

#[tokio::test]
async fn concurrent_pushes_of_one_content_keep_one_copy() {
    on_both(async |lab| {
        let mut pushes = Vec::new();
        for number in 0..16 {
            let (store, repo) = (Arc::clone(&lab.store), repo(&format!("r{}", number % 3)));
            pushes.push(tokio::spawn(async move {
                store.push_blob(&repo, &sha256(b"abc"), None, body(b"abc"), &actor("ci")).await
            }));
        }
        for push in pushes {
            push.await.unwrap().unwrap();
        }
        assert_eq!(lab.rows(b"c").await.len(), 1);
        assert_eq!(lab.rows(b"l").await.len(), 3);
        assert_eq!(lab.garbage().await.len(), 15);
        assert_eq!(lab.read(&repo("r2"), &sha256(b"abc")).await.unwrap(), b"abc");
    })
    .await;
}

#[tokio::test]
async fn a_blob_whose_file_is_lost_or_cut_is_mended_by_pushing_it_again() {
    on_both(async |lab| {
        let (first, second) = (repo("a"), repo("b"));
        for damage in [None, Some(b"ab".as_slice())] {
            let digest = lab.push(&first, b"abcdef").await;
            let content: rows::Content = rows::decode(&lab.rows(b"c").await[0].1).unwrap();
            let name = content.location.to_string().replace('-', "");
            let file = lab.folder.path().join("blobs").join(&name[..2]).join(&name);
            match damage {
                None => fs::remove_file(&file).unwrap(),
                Some(rest) => fs::write(&file, rest).unwrap(),
            }
            lab.push(&second, b"abcdef").await;
            for repo in [&first, &second] {
                assert_eq!(lab.read(repo, &digest).await.unwrap(), b"abcdef");
            }
            assert_eq!(lab.rows(b"c").await.len(), 1);
        }
    })
    .await;
}
