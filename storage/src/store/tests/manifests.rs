// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests: identity, media type, missing references, and deletion with many tags.

use super::*;
use crate::error::What;
use crate::manifest::media_type;

#[tokio::test]
async fn a_manifest_is_served_exactly_as_pushed() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let config = lab.push(&repo, b"{}").await;
        let text = format!(
            "{{ \"schemaVersion\" : 2,\n \"layers\": null, \"x\": [1.50],\n \"config\": {} }}\n",
            descriptor(&config, 2)
        );
        let bytes = Bytes::from(text);
        for digest in [sha256(&bytes), sha512(&bytes)] {
            let new = NewManifest {
                repo: repo.clone(),
                digest: digest.clone(),
                manifest: Manifest::parse(&bytes, None).unwrap(),
                bytes: bytes.clone(),
                tags: vec![tag("t"), tag("u")],
                condition: None,
                actor: actor("ci"),
                evidence: false,
                held: false,
                rights: TagRights::default(),
            };
            store.put_manifest(new).await.unwrap();
            for reference in [Reference::Digest(digest.clone()), by_tag("t"), by_tag("u")] {
                let stored = store.manifest(&repo, &reference).await.unwrap();
                assert_eq!(stored.bytes, bytes);
                let head = stored.head;
                assert_eq!((&head.digest, head.size), (&digest, bytes.len() as u64));
                assert_eq!(head.media_type, media_type::OCI_MANIFEST);
                assert_eq!(head.state.sha256, sha256(&bytes), "sha256 is known whatever names it");
                assert_eq!(store.manifest_for_push(&repo, &reference).await.unwrap(), head);
            }
            let id = lab.id(&repo).await;
            let row: rows::Manifest = lab.row(keys::manifest(id, &digest)).await.unwrap();
            assert_eq!(row.sha256, raw256(&bytes), "sha256 is stored whatever names it");
        }
        assert_eq!(lab.rows(b"x").await.len(), 2, "a name is an identity");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_unknown() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        for reference in [by_tag("t"), Reference::Digest(sha256(b"x"))] {
            let unknown = store.manifest(&repo, &reference).await;
            assert!(matches!(unknown, Err(Error::NotFound(What::Repository))));
        }
        lab.push(&repo, b"x").await;
        for reference in
            [by_tag("t"), Reference::Digest(sha256(b"x")), Reference::Digest("x:y".parse().unwrap())]
        {
            let unknown = store.manifest(&repo, &reference).await;
            assert!(matches!(unknown, Err(Error::NotFound(What::Manifest))));
            let unknown = store.manifest_for_push(&repo, &reference).await;
            assert!(matches!(unknown, Err(Error::NotFound(What::Manifest))));
        }
        let unknown = store.delete_manifest(&repo, &sha256(b"x"), &deleter("ci")).await;
        assert!(matches!(unknown, Err(Error::NotFound(What::Manifest))));
    })
    .await;
}

#[tokio::test]
async fn the_first_push_fixes_the_media_type() {
    on_both(async |lab| {
        let repo = repo("a");
        let digest = lab.put_image(&repo, b"1", &["t"]).await;
        let document = image(&descriptor(&sha256(b"1"), 1), &[]);
        let mut new = new_manifest(&repo, &document, &["other"]);
        new.manifest = Manifest::parse(&new.bytes, Some(media_type::DOCKER_MANIFEST)).unwrap();
        let refused = lab.store.put_manifest(new.clone()).await;
        assert!(
            matches!(&refused, Err(Error::InvalidManifest(why)) if why.contains(media_type::OCI_MANIFEST))
        );
        assert_eq!(lab.store.tags(&repo, None, 9).await.unwrap(), ["t"]);
        // Once deleted, the next push is a first one.
        lab.store.delete_manifest(&repo, &digest, &deleter("ci")).await.unwrap();
        lab.store.put_manifest(new).await.unwrap();
        let head = lab.store.manifest(&repo, &by_tag("other")).await.unwrap().head;
        assert_eq!(head.media_type, media_type::DOCKER_MANIFEST);
    })
    .await;
}

#[tokio::test]
async fn a_missing_config_or_layer_is_an_error_one_per_digest() {
    on_both(async |lab| {
        let repo = repo("a");
        let there = lab.push(&repo, b"there").await;
        lab.push(&super::repo("other"), b"elsewhere").await;
        let (config, layer) = (sha256(b"elsewhere"), sha512(b"layer"));
        let layers = [&layer, &there, &layer, &config].map(|digest| descriptor(digest, 5));
        let refused = lab.put(&repo, &image(&descriptor(&config, 9), &layers), &["t"]).await;
        match refused {
            Err(Error::MissingBlobs(missing)) => assert_eq!(missing, [config, layer]),
            other => panic!("{other:?}"),
        }
        for table in [b"x", b"e", b"t", b"f", b"b"] {
            assert!(lab.rows(table).await.is_empty());
        }
    })
    .await;
}

/// A manifest that names missing things in each way that is accepted.
fn sparse_documents() -> Vec<Value> {
    let missing = |text: &str| descriptor(&sha256(text.as_bytes()), text.len());
    let with = |mut descriptor: Value, field: &str, value: Value| {
        descriptor[field] = value;
        descriptor
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let layers = [
        with(missing("foreign"), "mediaType", foreign.into()),
        with(missing("elsewhere"), "urls", json!(["https://example.com/layer"])),
        with(missing("unknown"), "digest", "unknown:abc".into()),
    ];
    let mut late = image(&missing("late config"), &[missing("late layer")]);
    late["subject"] = missing("subject");
    vec![
        index(&[missing("child"), with(missing("odd"), "digest", "unknown:child".into())]),
        image(&descriptor(&sha256(b"{}"), 2), &layers),
        late,
    ]
}

#[tokio::test]
async fn what_may_be_missing_may_be_missing() {
    on_both(async |lab| {
        let repo = repo("a");
        lab.push(&repo, b"{}").await;
        for document in sparse_documents() {
            lab.put(&repo, &document, &[]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn missing_blobs_may_be_allowed() {
    let lab = Lab::with(Kind::Memory, true).await;
    let missing = descriptor(&sha256(b"missing"), 7);
    let digest = lab.put(&repo("a"), &image(&missing, std::slice::from_ref(&missing)), &[]).await.unwrap();
    // What arrives late is protected by the edge that waits for it.
    lab.push(&repo("a"), b"missing").await;
    let refused = lab.store.delete_blob(&repo("a"), &sha256(b"missing")).await;
    assert!(matches!(refused, Err(Error::Referenced { manifest }) if manifest == digest));
}

#[tokio::test]
async fn a_wrong_size_is_a_warning() {
    on_both(async |lab| {
        let repo = repo("a");
        let config = lab.push(&repo, b"config").await;
        let put =
            lab.store.put_manifest(new_manifest(&repo, &image(&descriptor(&config, 7), &[]), &[])).await;
        let warnings = put.unwrap().warnings;
        assert_eq!(warnings, [format!("the manifest says that {config} has 7 bytes, it has 6")]);
    })
    .await;
}

#[tokio::test]
async fn every_descriptor_makes_an_edge_present_or_not() {
    use rows::kind::{CHILD, CONFIG, LAYER, SUBJECT};
    on_both(async |lab| {
        let repo = repo("a");
        lab.push(&repo, b"{}").await;
        let documents = sparse_documents();
        let mut puts = Vec::new();
        for document in &documents {
            puts.push(lab.put(&repo, document, &[]).await.unwrap());
        }
        let both = image(&descriptor(&sha256(b"{}"), 2), &[descriptor(&sha256(b"{}"), 2)]);
        puts.push(lab.put(&repo, &both, &[]).await.unwrap());
        let id = lab.id(&repo).await;
        let digest = |text: &str| sha256(text.as_bytes());
        let unknown = |text: &str| text.parse::<Digest>().unwrap();
        let mut expected = Vec::new();
        for (target, manifest, kinds) in [
            (digest("child"), 0, CHILD),
            (unknown("unknown:child"), 0, CHILD),
            (digest("{}"), 1, CONFIG),
            (digest("foreign"), 1, LAYER),
            (digest("elsewhere"), 1, LAYER),
            (unknown("unknown:abc"), 1, LAYER),
            (digest("late config"), 2, CONFIG),
            (digest("late layer"), 2, LAYER),
            (digest("subject"), 2, SUBJECT),
            (digest("{}"), 3, CONFIG | LAYER),
        ] {
            expected.push((keys::edge(id, &target, &puts[manifest]), vec![kinds]));
            let found: rows::References = lab.row(keys::references(id, &puts[manifest])).await.unwrap();
            assert!(found.edges.contains(&rows::Reference { target, kinds }), "{found:?}");
        }
        expected.sort();
        assert_eq!(lab.rows(b"e").await, expected);
        for manifest in &puts {
            lab.store.delete_manifest(&repo, manifest, &deleter("ci")).await.unwrap();
        }
        for table in [b"e", b"f", b"b", b"x", b"s"] {
            assert!(lab.rows(table).await.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn deleting_a_manifest_takes_hundreds_of_tags_along() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        let names: Vec<String> = (0..520).map(|number| format!("t{number:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let digest = lab.put_image(&repo, b"1", &names).await;
        let other = lab.put_image(&repo, b"2", &["kept", "t100"]).await;
        assert_eq!(store.tags(&repo, None, 1000).await.unwrap().len(), 521);
        store.delete_manifest(&repo, &digest, &deleter("ci")).await.unwrap();
        assert_eq!(store.tags(&repo, None, 1000).await.unwrap(), ["kept", "t100"]);
        let unknown = store.manifest(&repo, &Reference::Digest(digest.clone())).await;
        assert!(matches!(unknown, Err(Error::NotFound(What::Manifest))));
        let id = lab.id(&repo).await;
        assert!(lab.rows(&keys::tags_of(id, &digest)).await.is_empty());
        assert_eq!(store.manifest(&repo, &by_tag("t100")).await.unwrap().head.digest, other);
    })
    .await;
}

#[tokio::test]
async fn the_largest_manifest_can_be_stored_and_deleted() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        // The most descriptors, with the longest digests that a document of 4 MiB has room for.
        let children: Vec<Value> = (0..crate::manifest::MAX_DESCRIPTORS)
            .map(|number| {
                let digest = format!("unknown:{number}-{}", "x".repeat(480));
                json!({"mediaType": "a/b", "digest": digest, "size": 1})
            })
            .collect();
        let names: Vec<String> = (0..200).map(|number| format!("t{number:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let digest = lab.put(&repo, &index(&children), &names).await.unwrap();
        store.delete_manifest(&repo, &digest, &deleter("ci")).await.unwrap();
        assert!(lab.rows(b"e").await.is_empty() && lab.rows(b"t").await.is_empty());
    })
    .await;
}
