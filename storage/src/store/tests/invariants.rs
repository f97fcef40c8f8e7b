// SPDX-License-Identifier: AGPL-3.0-only
//! Random operations, after which everything that the crate promises must hold of rows and files.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::rows::kind;

/// Few contents, so that uploads meet; a pair says which byte and how many.
pub(super) type Content = (u8, usize);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Begin {
        repo: usize,
        sha512: bool,
    },
    Append {
        upload: usize,
        content: Content,
        start: Start,
        announce: Announce,
        breaks: bool,
    },
    Finish {
        upload: usize,
        content: Content,
        right: bool,
        sha512: bool,
    },
    Cancel {
        upload: usize,
    },
    Push {
        repo: usize,
        content: Content,
        right: bool,
        sha512: bool,
    },
    Mount {
        repo: usize,
        from: Option<usize>,
        content: Content,
        sha512: bool,
    },
    DeleteBlob {
        repo: usize,
        content: Content,
        sha512: bool,
    },
    Put {
        repo: usize,
        layers: Vec<(Content, bool)>,
        children: Vec<usize>,
        subject: Option<usize>,
        tag: Option<u8>,
    },
    DeleteManifest {
        repo: usize,
        manifest: usize,
    },
    DeleteTag {
        repo: usize,
        tag: u8,
    },
    Ask {
        repo: usize,
        content: Content,
    },
    Wait {
        hours: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Absent,
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Announce {
    Nothing,
    Right,
    More,
    Less,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (repo, nth) = (|| 0usize..2, || 0usize..6);
    let content = || (0u8..2, prop_oneof![Just(0usize), Just(1), Just(5), Just(3000)]);
    let start = prop_oneof![Just(Start::Absent), Just(Start::Right), Just(Start::Wrong)];
    let announce = prop_oneof![2 => Just(Announce::Nothing), 2 => Just(Announce::Right), 1 => Just(Announce::More), 1 => Just(Announce::Less)];
    let mostly = || proptest::bool::weighted(0.8);
    let step = prop_oneof![
        2 => (repo(), any::<bool>()).prop_map(|(repo, sha512)| Step::Begin { repo, sha512 }),
        3 => (nth(), content(), start, announce, proptest::bool::weighted(0.2)).prop_map(
            |(upload, content, start, announce, breaks)| Step::Append { upload, content, start, announce, breaks }),
        2 => (nth(), content(), mostly(), any::<bool>()).prop_map(
            |(upload, content, right, sha512)| Step::Finish { upload, content, right, sha512 }),
        1 => nth().prop_map(|upload| Step::Cancel { upload }),
        3 => (repo(), content(), mostly(), any::<bool>()).prop_map(
            |(repo, content, right, sha512)| Step::Push { repo, content, right, sha512 }),
        2 => (repo(), proptest::option::of(repo()), content(), any::<bool>()).prop_map(
            |(repo, from, content, sha512)| Step::Mount { repo, from, content, sha512 }),
        2 => (repo(), content(), any::<bool>()).prop_map(
            |(repo, content, sha512)| Step::DeleteBlob { repo, content, sha512 }),
        4 => (repo(), proptest::collection::vec((content(), any::<bool>()), 0..3), proptest::collection::vec(nth(), 0..2),
              proptest::option::of(nth()), proptest::option::of(0u8..3)).prop_map(
            |(repo, layers, children, subject, tag)| Step::Put { repo, layers, children, subject, tag }),
        2 => (repo(), nth()).prop_map(|(repo, manifest)| Step::DeleteManifest { repo, manifest }),
        1 => (repo(), 0u8..3).prop_map(|(repo, tag)| Step::DeleteTag { repo, tag }),
        1 => (repo(), content()).prop_map(|(repo, content)| Step::Ask { repo, content }),
        1 => (0u64..30).prop_map(|hours| Step::Wait { hours }),
    ];
    proptest::collection::vec(step, 1..40)
}

fn content_of((byte, count): Content) -> Vec<u8> {
    vec![byte; count]
}

fn digest_of(content: &[u8], long: bool) -> Digest {
    if long { sha512(content) } else { sha256(content) }
}

/// What the test knows of the sessions and manifests that it made.
#[derive(Default)]
pub(super) struct Known {
    uploads: Vec<(RepoName, Location, Vec<u8>)>,
    manifests: Vec<Digest>,
}

pub(super) async fn perform(lab: &Lab, known: &mut Known, step: &Step) -> Result<()> {
    let (store, who) = (&lab.store, actor("ci"));
    let name = |number: &usize| repo(&format!("r{number}"));
    match step {
        Step::Begin { repo, sha512 } => {
            let algorithm = if *sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let id = store.begin_upload(&name(repo), algorithm, &who).await?;
            known.uploads.push((name(repo), id, Vec::new()));
        }
        Step::Append { upload, content, start, announce, breaks } => {
            let count = known.uploads.len().max(1);
            let Some((repo, id, held)) = known.uploads.get_mut(upload % count) else { return Ok(()) };
            let (content, at) = (content_of(*content), held.len() as u64);
            let len = content.len() as u64;
            let chunk = Chunk {
                start: match start {
                    Start::Absent => None,
                    Start::Right => Some(at),
                    Start::Wrong => Some(at + 1),
                },
                len: match announce {
                    Announce::Nothing => None,
                    Announce::Right => Some(len),
                    Announce::More => Some(len + 1),
                    Announce::Less => len.checked_sub(1),
                },
            };
            let appended = if *breaks {
                store.append_upload(repo, *id, chunk, broken_body(&content)).await
            } else {
                store.append_upload(repo, *id, chunk, body(&content)).await
            };
            // A body that breaks keeps what came; one that was announced otherwise leaves nothing.
            if matches!(appended, Ok(_) | Err(Error::Body(_))) {
                held.extend(content);
            }
            let status = store.upload_status(repo, *id).await;
            assert!(!matches!(&status, Ok(status) if status.offset != held.len() as u64), "{status:?}");
            appended?;
        }
        Step::Finish { upload, content, right, sha512 } => {
            let count = known.uploads.len().max(1);
            let Some((repo, id, held)) = known.uploads.get(upload % count) else { return Ok(()) };
            let tail = content_of(*content);
            let whole = if *right { [held.as_slice(), &tail].concat() } else { b"wrong".to_vec() };
            let digest = digest_of(&whole, *sha512);
            store.finish_upload(repo, *id, Chunk::default(), body(&tail), &digest).await?;
            assert_eq!(lab.read(repo, &digest).await?, whole);
        }
        Step::Cancel { upload } => {
            let count = known.uploads.len().max(1);
            let Some((repo, id, _)) = known.uploads.get(upload % count) else { return Ok(()) };
            store.cancel_upload(repo, *id).await?;
        }
        Step::Push { repo, content, right, sha512 } => {
            let content = content_of(*content);
            let digest = if *right { digest_of(&content, *sha512) } else { sha256(b"wrong") };
            store.push_blob(&name(repo), &digest, None, body(&content), &who).await?;
        }
        Step::Mount { repo, from, content, sha512 } => {
            let digest = digest_of(&content_of(*content), *sha512);
            store.mount(&name(repo), from.as_ref().map(name).as_ref(), &digest, &who).await?;
        }
        Step::DeleteBlob { repo, content, sha512 } => {
            store.delete_blob(&name(repo), &digest_of(&content_of(*content), *sha512)).await?;
        }
        Step::Put { repo, layers, children, subject, tag } => {
            let nth = |number: &usize| {
                let some = known.manifests.get(number % known.manifests.len().max(1));
                descriptor(some.unwrap_or(&sha256(b"no manifest")), 1)
            };
            let blob = |(content, long): &(Content, bool)| {
                let content = content_of(*content);
                descriptor(&digest_of(&content, *long), content.len())
            };
            let mut document = match layers.split_first() {
                Some((config, layers)) => image(&blob(config), &layers.iter().map(blob).collect::<Vec<_>>()),
                None => index(&children.iter().map(nth).collect::<Vec<_>>()),
            };
            if let Some(subject) = subject {
                document["subject"] = nth(subject);
            }
            let tag = tag.map(|number| format!("t{number}"));
            let digest = lab.put(&name(repo), &document, tag.as_deref().as_slice()).await?;
            known.manifests.push(digest);
        }
        Step::DeleteManifest { repo, manifest } => {
            let count = known.manifests.len().max(1);
            let Some(digest) = known.manifests.get(manifest % count) else { return Ok(()) };
            store.delete_manifest(&name(repo), digest, &deleter("ci")).await?;
        }
        Step::DeleteTag { repo, tag } => {
            store.delete_tag(&name(repo), &super::tag(&format!("t{tag}")), &deleter("ci")).await?;
        }
        Step::Ask { repo, content } => {
            store.blob_for_push(&name(repo), &sha256(&content_of(*content))).await?;
        }
        Step::Wait { hours } => lab.clock.advance(Duration::from_hours(*hours)),
    }
    Ok(())
}

/// Splits a key of `table, repo, digest, …` into repository, digest and the rest.
fn parts(key: &[u8]) -> (u32, Digest, Vec<u8>) {
    let repo = u32::from_be_bytes(key[1..5].try_into().unwrap());
    let end = match key[5] {
        1 => 38,
        2 => 70,
        other => panic!("digest kind {other}"),
    };
    (repo, keys::read_digest(&key[5..end]).unwrap(), key[end..].to_vec())
}

pub(super) async fn check(lab: &Lab) {
    files_are_named_once(lab).await;
    links_imply_content(lab).await;
    manifests_are_whole(lab).await;
    the_unprotected_is_reviewed(lab).await;
}

async fn files_are_named_once(lab: &Lab) {
    let mut named = BTreeMap::new();
    let mut name = |location: Location, by: &str| {
        let other = named.insert(location.to_string().replace('-', ""), by.to_owned());
        assert_eq!(other, None, "{location} is named twice, by {by} and another row");
    };
    for (key, _) in lab.rows(b"p").await {
        name(Location::from_bytes(key[1..].try_into().unwrap()), "an upload");
    }
    for (_, location, _) in lab.garbage().await {
        name(location, "garbage");
    }
    for (_, row) in lab.rows(b"c").await {
        name(rows::decode::<rows::Content>(&row).unwrap().location, "content");
    }
    for (file, _) in lab.files() {
        assert!(named.contains_key(&file), "nothing names {file}");
    }
}

async fn links_imply_content(lab: &Lab) {
    let mut contents = BTreeMap::new();
    let mut aliases = BTreeMap::new();
    for (key, row) in lab.rows(b"c").await {
        let sha256: [u8; 32] = key[1..].try_into().unwrap();
        let row: rows::Content = rows::decode(&row).unwrap();
        let held = lab.store.blobs.holds(row.location, row.size);
        assert!(held, "the file of a content row is not there in its full size");
        let bytes = lab.file(row.location, row.size).await;
        assert_eq!(
            (raw256(&bytes), bytes.len() as u64),
            (sha256, row.size),
            "content is verified and complete"
        );
        if let Some(long) = row.sha512 {
            assert_eq!(sha512(&bytes), Digest::Sha512(long));
            aliases.insert([b"a", long.as_slice()].concat(), sha256.to_vec());
        }
        contents.insert(sha256, row);
    }
    assert_eq!(lab.rows(b"a").await, aliases.into_iter().collect::<Vec<_>>(), "an alias for each sha512");
    let (mut backward, mut linked) = (BTreeSet::new(), BTreeSet::new());
    for (key, row) in lab.rows(b"l").await {
        let (repo, digest, _) = parts(&key);
        let row: rows::Link = rows::decode(&row).unwrap();
        assert_eq!(contents.get(&row.sha256).expect("a link implies content").size, row.size);
        linked.insert(row.sha256);
        backward.insert(keys::link_of(&row.sha256, RepoId(repo), &digest));
    }
    assert_eq!(lab.rows(b"k").await.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(), backward);
    assert_eq!(
        contents.keys().copied().collect::<BTreeSet<_>>(),
        linked,
        "content without a link is garbage"
    );
}

async fn manifests_are_whole(lab: &Lab) {
    let (mut edges, mut referrers, mut bytes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (key, row) in lab.rows(b"x").await {
        let (repo, digest, _) = parts(&key);
        let repo = RepoId(repo);
        let row: rows::Manifest = rows::decode(&row).unwrap();
        let document = lab.raw(keys::manifest_bytes(repo, &digest)).await.expect("a manifest has bytes");
        assert_eq!((raw256(&document), document.len() as u64), (row.sha256, row.size));
        bytes.insert(keys::manifest_bytes(repo, &digest));
        let references: rows::References = lab.row(keys::references(repo, &digest)).await.unwrap();
        for reference in references.edges {
            edges.insert((keys::edge(repo, &reference.target, &digest), vec![reference.kinds]));
        }
        if let Some(subject) = &row.subject {
            let artifact_type = row.artifact_type.as_deref().unwrap_or_default();
            referrers.insert(keys::referrer(repo, subject, artifact_type, &digest));
        }
    }
    assert_eq!(lab.rows(b"e").await.into_iter().collect::<BTreeSet<_>>(), edges);
    assert_eq!(lab.rows(b"f").await.len(), bytes.len());
    assert_eq!(lab.rows(b"b").await.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(), bytes);
    assert_eq!(lab.rows(b"s").await.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(), referrers);
    let mut backward = BTreeSet::new();
    for (key, row) in lab.rows(b"t").await {
        let repo = RepoId(u32::from_be_bytes(key[1..5].try_into().unwrap()));
        let name: Tag = std::str::from_utf8(&key[5..]).unwrap().parse().unwrap();
        let row: rows::Tag = rows::decode(&row).unwrap();
        assert_eq!(row.released, row.candidate);
        let digest = row.released.unwrap();
        assert!(lab.raw(keys::manifest(repo, &digest)).await.is_some(), "a tag points at a manifest");
        let newest = lab.rows(&keys::moves(repo, &name)).await[0].0.clone();
        assert_eq!(keys::read_tag_move(&newest, &keys::moves(repo, &name)).unwrap(), row.moves);
        assert!(row.moves <= row.generation);
        backward.insert(keys::tag_of(repo, &digest, &name));
    }
    assert_eq!(lab.rows(b"u").await.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(), backward);
}

async fn the_unprotected_is_reviewed(lab: &Lab) {
    let reviewed: Vec<Review> = lab.reviews().await.into_iter().map(|(_, review)| review).collect();
    for table in [b"l", b"x"] {
        for (key, _) in lab.rows(table).await {
            let (repo, digest, _) = parts(&key);
            let repo = RepoId(repo);
            let edges = lab.rows(&keys::edges_to(repo, &digest)).await;
            let protected = edges.iter().any(|(_, kinds)| kinds[0] & !kind::SUBJECT != 0)
                || !lab.rows(&keys::tags_of(repo, &digest)).await.is_empty();
            assert!(
                protected || reviewed.contains(&Review::Object(repo, digest.clone())),
                "{digest} is forgotten"
            );
        }
    }
    for (key, _) in lab.rows(b"p").await {
        let id = Location::from_bytes(key[1..].try_into().unwrap());
        assert!(reviewed.contains(&Review::Upload(id)));
    }
}

pub(super) fn random_steps_keep_the_invariants(kind: Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let lab = Lab::new(kind).await;
            let mut known = Known::default();
            for step in &steps {
                if let Err(error) = perform(&lab, &mut known, step).await {
                    prop_assert!(!error.is_internal(), "{:?}: {}", step, error);
                }
            }
            check(&lab).await;
            super::fsck::is_clean(&lab).await;
            Ok(())
        })
    });
    outcome.unwrap();
}

#[test]
fn random_steps_keep_the_invariants_in_memory() {
    random_steps_keep_the_invariants(Kind::Memory, 32);
}

#[test]
fn random_steps_keep_the_invariants_in_sqlite() {
    random_steps_keep_the_invariants(Kind::Sqlite, 8);
}
