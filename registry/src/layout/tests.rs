// SPDX-License-Identifier: AGPL-3.0-only
//! Layouts: what is whole has its name, what is not has none, and an index holds what several wrote.

use futures_util::stream;
use stella_storage::Algorithm;
use tempfile::TempDir;

use super::*;

fn manifest(seed: usize, subject: Option<&Manifest>) -> Manifest {
    let config = Algorithm::Sha256.digest(b"{}");
    let mut document = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/x.test", "digest": config, "size": 2},
        "layers": [], "annotations": {"seed": seed.to_string()},
    });
    if let Some(subject) = subject {
        document["subject"] = serde_json::to_value(subject.descriptor()).unwrap();
    }
    Manifest::checked(None, None, document.to_string().into()).unwrap()
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().unwrap())
}

fn content(digest: &Digest, bytes: &'static [u8]) -> Content {
    Content::verified(digest, 5, stream::iter([Ok(Bytes::from_static(bytes))])).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn a_tag_moves_and_what_has_none_stays_listed_once() {
    let folder = TempDir::new().unwrap();
    let layout = Layout::open_or_create(&folder.path().join("new/layout")).unwrap();
    let (one, two, three) = (manifest(1, None), manifest(2, None), manifest(3, None));
    let name: Tag = "a".parse().unwrap();
    layout.put_manifest(&one, Listed::As(&name)).unwrap();
    assert_eq!(layout.find(None).unwrap().digest, one.digest);
    layout.put_manifest(&two, Listed::As(&name)).unwrap();
    for _ in 0..2 {
        layout.put_manifest(&three, Listed::Unnamed).unwrap();
    }
    layout.put_manifest(&one, Listed::Below).unwrap();
    assert_eq!(layout.entries().unwrap().len(), 2);
    assert_eq!(layout.find(Some(&tag("a"))).unwrap().digest, two.digest);
    assert_eq!(layout.find(None).unwrap().digest, two.digest, "the only one with a name");
    assert_eq!(layout.find(Some(&Reference::Digest(one.digest.clone()))).unwrap().bytes, one.bytes);
    let error = layout.find(Some(&tag("b"))).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)) && error.to_string().contains("it has a"), "{error}");
    layout.put_manifest(&one, Listed::As(&"b".parse().unwrap())).unwrap();
    assert!(matches!(layout.find(None), Err(Error::Usage(_))));
    Layout::open(&folder.path().join("new/layout")).unwrap();
}

#[test]
fn referrers_are_found_by_their_subject() {
    let folder = TempDir::new().unwrap();
    let layout = Layout::open_or_create(folder.path()).unwrap();
    let image = manifest(1, None);
    let signature = manifest(2, Some(&image));
    layout.put_manifest(&image, Listed::As(&"a".parse().unwrap())).unwrap();
    layout.put_manifest(&signature, Listed::Unnamed).unwrap();
    let found = layout.referrers(&image.digest).unwrap();
    assert_eq!(found.iter().map(|found| &found.digest).collect::<Vec<_>>(), [&signature.digest]);
    assert_eq!(found[0].artifact_type.as_deref(), Some("application/x.test"));
    assert_eq!(layout.referrers(&signature.digest).unwrap(), []);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let layout = Layout::open_or_create(folder).unwrap();
                for turn in 0..10 {
                    let seed = writer * 100 + turn;
                    let name: Tag = format!("t{seed}").parse().unwrap();
                    layout.put_manifest(&manifest(seed, None), Listed::As(&name)).unwrap();
                }
            });
        }
    });
    assert_eq!(Layout::open(folder.path()).unwrap().entries().unwrap().len(), 40);
}

#[test]
fn a_blob_has_its_name_only_when_it_is_whole() {
    let folder = TempDir::new().unwrap();
    let layout = Layout::open_or_create(folder.path()).unwrap();
    let digest = Algorithm::Sha256.digest(b"hello");
    runtime().block_on(async {
        for wrong in [b"hallo".as_slice(), b"hell"] {
            layout.write_blob(&digest, content(&digest, wrong)).await.unwrap_err();
            assert!(!layout.has_blob(&digest, 5).await.unwrap());
        }
        layout.write_blob(&digest, content(&digest, b"hello")).await.unwrap();
        assert!(layout.has_blob(&digest, 5).await.unwrap());
        // Damage is not taken for what it was.
        let path = folder.path().join(blob_name(&digest).unwrap());
        fs::write(&path, b"hallo").unwrap();
        assert!(!layout.has_blob(&digest, 5).await.unwrap());
        layout.write_blob(&digest, content(&digest, b"hello")).await.unwrap();
        assert!(layout.has_blob(&digest, 5).await.unwrap());
    });
    let left = fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 1, "drafts are gone");
}

#[test]
fn what_is_no_layout_is_told_apart_from_what_is_damaged() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(Layout::open(folder.path()), Err(Error::NotFound(_))));
    fs::write(folder.path().join("oci-layout"), "{}").unwrap();
    assert!(matches!(Layout::open(folder.path()), Err(Error::Integrity(_))));
    fs::write(folder.path().join("oci-layout"), LAYOUT).unwrap();
    fs::write(folder.path().join("index.json"), "[").unwrap();
    assert!(matches!(Layout::open(folder.path()).unwrap().find(None), Err(Error::Integrity(_))));
    let absent = json!({"manifests": [{"digest": Algorithm::Sha256.digest(b"x"), "size": 1}]});
    fs::write(folder.path().join("index.json"), absent.to_string()).unwrap();
    assert!(matches!(Layout::open(folder.path()).unwrap().find(None), Err(Error::NotFound(_))));
}
