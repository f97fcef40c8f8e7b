// SPDX-License-Identifier: AGPL-3.0-only
//! Tags and repositories: moves, generations, conditions and pages.

use super::*;
use crate::error::What;

async fn row(lab: &Lab, repo: &RepoName, name: &str) -> Option<rows::Tag> {
    lab.row(keys::tag(lab.id(repo).await, name)).await
}

/// Numbers and moves of a tag, newest first.
async fn moves(lab: &Lab, repo: &RepoName, name: &str) -> Vec<(u64, rows::TagMove)> {
    let prefix = keys::moves(lab.id(repo).await, &tag(name));
    let rows = lab.rows(&prefix).await;
    rows.iter()
        .map(|(key, value)| (keys::read_tag_move(key, &prefix).unwrap(), rows::decode(value).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_tag_row_has_released_candidate_and_generation() {
    on_both(async |lab| {
        let repo = repo("a");
        let first = lab.put_image(&repo, b"1", &["latest"]).await;
        assert_eq!(
            row(&lab, &repo, "latest").await.unwrap(),
            rows::Tag {
                released: Some(first.clone()),
                candidate: Some(first.clone()),
                generation: 1,
                updated: START,
                pusher: "pusher".to_owned(),
                moves: 1,
                signed_at: None,
            }
        );
        lab.clock.advance(Duration::from_secs(1));
        let second = lab.put_image(&repo, b"2", &["latest"]).await;
        let now = row(&lab, &repo, "latest").await.unwrap();
        assert_eq!(
            (&now.released, &now.candidate, now.generation),
            (&Some(second.clone()), &Some(second.clone()), 2)
        );
        assert_eq!(lab.store.manifest(&repo, &by_tag("latest")).await.unwrap().head.digest, second);
        let history = moves(&lab, &repo, "latest").await;
        let moved = |from: Option<&Digest>, to: &Digest, at, generation| rows::TagMove {
            from: from.cloned(),
            to: Some(to.clone()),
            at,
            by: "pusher".to_owned(),
            generation,
            signed_at: None,
        };
        assert_eq!(
            history,
            [(2, moved(Some(&first), &second, lab.now(), 2)), (1, moved(None, &first, START, 1))]
        );
        // The index by manifest follows.
        let id = lab.id(&repo).await;
        assert!(lab.rows(&keys::tags_of(id, &first)).await.is_empty());
        assert_eq!(lab.rows(&keys::tags_of(id, &second)).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn generations_never_repeat_over_a_deletion() {
    on_both(async |lab| {
        let repo = repo("a");
        let digest = lab.put_image(&repo, b"1", &["t"]).await;
        lab.put_image(&repo, b"1", &["t"]).await;
        lab.store.delete_tag(&repo, &tag("t"), &deleter("deleter")).await.unwrap();
        assert_eq!(row(&lab, &repo, "t").await, None);
        let unknown = lab.store.manifest(&repo, &by_tag("t")).await;
        assert!(matches!(unknown, Err(Error::NotFound(What::Manifest))));
        lab.store.manifest(&repo, &Reference::Digest(digest.clone())).await.unwrap();
        let again = lab.store.delete_tag(&repo, &tag("t"), &deleter("deleter")).await;
        assert!(matches!(again, Err(Error::NotFound(What::Manifest))));
        lab.put_image(&repo, b"1", &["t"]).await;
        assert_eq!(row(&lab, &repo, "t").await.unwrap().generation, 4);
        lab.store.delete_manifest(&repo, &digest, &deleter("deleter")).await.unwrap();
        lab.put_image(&repo, b"1", &["t"]).await;
        assert_eq!(row(&lab, &repo, "t").await.unwrap().generation, 6);
        let history = moves(&lab, &repo, "t").await;
        let numbered: Vec<_> = history.iter().map(|(number, moved)| (*number, moved.generation)).collect();
        // Generation 2 was the same image pushed again: no move.
        assert_eq!(numbered, [(5, 6), (4, 5), (3, 4), (2, 3), (1, 1)]);
        assert_eq!((&history[1].1.to, history[1].1.by.as_str()), (&None, "deleter"));
        // A tag whose name is a prefix of another has a history of its own.
        lab.put_image(&repo, b"1", &["t.1"]).await;
        assert_eq!(row(&lab, &repo, "t.1").await.unwrap().generation, 1);
    })
    .await;
}

#[tokio::test]
async fn the_last_hundred_moves_are_kept() {
    let lab = Lab::new(Kind::Memory).await;
    let repo = repo("a");
    let (a, b) = (lab.put_image(&repo, b"1", &[]).await, lab.put_image(&repo, b"2", &[]).await);
    let documents: Vec<NewManifest> = [b"1", b"2"]
        .map(|config| new_manifest(&repo, &image(&descriptor(&sha256(config), 1), &[]), &["t"]))
        .into();
    assert_eq!((&documents[0].digest, &documents[1].digest), (&a, &b));
    for number in 0..130 {
        lab.store.put_manifest(documents[number % 2].clone()).await.unwrap();
    }
    for _ in 0..150 {
        // The same image pushed again raises the generation and pushes no move out.
        lab.store.put_manifest(documents[1].clone()).await.unwrap();
    }
    let history = moves(&lab, &repo, "t").await;
    assert_eq!(history.len(), 100);
    assert_eq!((history[0].0, history[99].0), (130, 31));
    assert_eq!(row(&lab, &repo, "t").await.unwrap().generation, 280);
    lab.store.delete_tag(&repo, &tag("t"), &deleter("ci")).await.unwrap();
    assert_eq!(moves(&lab, &repo, "t").await.len(), 100);
}

#[tokio::test]
async fn conditions_hold_or_nothing_happens() {
    use TagCondition::{Absent, Exists, Is, IsNot};
    on_both(async |lab| {
        let repo = repo("a");
        let old = lab.put_image(&repo, b"1", &["t"]).await;
        lab.push(&repo, b"2").await;
        let document = image(&descriptor(&sha256(b"2"), 1), &[]);
        let put = async |tags: &[&str], condition: TagCondition| {
            let new = NewManifest { condition: Some(condition), ..new_manifest(&repo, &document, tags) };
            lab.store.put_manifest(new).await
        };
        let other = sha256(b"other");
        for refused in [Is(vec![other.clone()]), Is(vec![]), IsNot(vec![other.clone(), old.clone()]), Absent]
        {
            let result = put(&["t"], refused.clone()).await;
            assert!(matches!(result, Err(Error::ConditionFailed)), "{refused:?}");
        }
        for refused in [Is(vec![old.clone()]), Exists] {
            for tags in [["new"].as_slice(), &[]] {
                let result = put(tags, refused.clone()).await;
                assert!(matches!(result, Err(Error::ConditionFailed)), "{refused:?}");
            }
        }
        assert_eq!(lab.rows(b"x").await.len(), 1, "what is refused is not stored");
        put(&["t"], Is(vec![other.clone(), old.clone()])).await.unwrap();
        put(&["t"], Exists).await.unwrap();
        put(&["t"], IsNot(vec![old])).await.unwrap();
        put(&["new"], Absent).await.unwrap();
        put(&["newer"], IsNot(vec![other])).await.unwrap();
        // Without a tag the condition is about the digest.
        put(&[], Exists).await.unwrap();
        assert!(matches!(put(&[], Absent).await, Err(Error::ConditionFailed)));
    })
    .await;
}

#[tokio::test]
async fn only_one_of_many_creates_a_tag() {
    on_both(async |lab| {
        let repo = repo("a");
        let mut puts = Vec::new();
        for number in 0..8u8 {
            lab.push(&repo, &[number]).await;
            let document = image(&descriptor(&sha256(&[number]), 1), &[]);
            let new = NewManifest {
                condition: Some(TagCondition::Absent),
                ..new_manifest(&repo, &document, &["t"])
            };
            let store = Arc::clone(&lab.store);
            puts.push(tokio::spawn(async move { store.put_manifest(new).await }));
        }
        let mut stored = 0;
        for put in puts {
            match put.await.unwrap() {
                Ok(_) => stored += 1,
                Err(error) => assert!(matches!(error, Error::ConditionFailed), "{error}"),
            }
        }
        assert_eq!(stored, 1);
    })
    .await;
}

#[tokio::test]
async fn pages_of_tags_are_in_byte_order() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        lab.put_image(&repo, b"1", &["b", "a", "B", "_", "10", "9", "a.b", "a-b"]).await;
        let sorted = ["10", "9", "B", "_", "a", "a-b", "a.b", "b"];
        assert_eq!(store.tags(&repo, None, 100).await.unwrap(), sorted);
        assert_eq!(store.tags(&repo, None, 3).await.unwrap(), sorted[..3]);
        assert_eq!(store.tags(&repo, Some("B".to_owned()), 3).await.unwrap(), sorted[3..6]);
        // `last` need not exist, nor be a tag.
        assert_eq!(store.tags(&repo, Some("a!/\0é".to_owned()), 9).await.unwrap(), sorted[5..]);
        assert_eq!(store.tags(&repo, Some(String::new()), 2).await.unwrap(), sorted[..2]);
        assert!(store.tags(&repo, Some("zz".to_owned()), 9).await.unwrap().is_empty());
        assert!(store.tags(&repo, None, 0).await.unwrap().is_empty());
        let unknown = store.tags(&super::repo("none"), None, 9).await;
        assert!(matches!(unknown, Err(Error::NotFound(What::Repository))));
        // Neither a neighbour's tags nor those of a tag's history leak in.
        let neighbour = super::repo("b");
        lab.push(&neighbour, b"x").await;
        assert!(store.tags(&neighbour, None, 9).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn pages_of_repositories_are_in_byte_order() {
    on_both(async |lab| {
        let store = &lab.store;
        assert!(store.repositories(None, 10).await.unwrap().is_empty());
        for name in ["b", "a/b", "a", "a-b", "z"] {
            lab.push(&repo(name), b"x").await;
        }
        // An upload alone makes no repository.
        store.begin_upload(&repo("c"), Algorithm::Sha256, &actor("ci")).await.unwrap();
        assert_eq!(store.repositories(None, 10).await.unwrap(), ["a", "a-b", "a/b", "b", "z"]);
        assert_eq!(store.repositories(None, 2).await.unwrap(), ["a", "a-b"]);
        assert_eq!(store.repositories(Some("a-b".to_owned()), 2).await.unwrap(), ["a/b", "b"]);
        assert_eq!(store.repositories(Some("a.".to_owned()), 9).await.unwrap(), ["a/b", "b", "z"]);
        assert!(store.repositories(Some("zz".to_owned()), 9).await.unwrap().is_empty());
    })
    .await;
}
