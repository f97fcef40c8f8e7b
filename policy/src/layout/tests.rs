// SPDX-License-Identifier: AGPL-3.0-only
//! Layouts that this test writes, one of them as `cosign save` does.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

struct Written {
    folder: TempDir,
    entries: Vec<Value>,
}

impl Written {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Written { folder, entries: Vec::new() }
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.folder.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    }

    fn manifest(&self, number: u8, subject: Option<&Digest>) -> Digest {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "number": number,
            "config": {"mediaType": "application/x.config", "digest": Digest::of(b"{}").as_str(), "size": 2}});
        if let Some(subject) = subject {
            manifest["subject"] = json!({"mediaType": MANIFEST, "digest": subject.as_str(), "size": 1});
        }
        self.blob(manifest.to_string().as_bytes())
    }

    fn list(&mut self, digest: &Digest, annotation: (&str, &str)) {
        let annotations = json!({annotation.0: annotation.1});
        self.entries.push(
            json!({"mediaType": MANIFEST, "digest": digest.as_str(), "size": 1, "annotations": annotations}),
        );
    }

    fn open(&self) -> Result<LayoutSource> {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
        LayoutSource::open(self.folder.path())
    }
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.to_owned())
}

#[test]
fn tags_digests_and_blobs_are_found() {
    let mut written = Written::new();
    let image = written.manifest(1, None);
    written.list(&image, (REF_NAME, "1.0"));
    let below = written.manifest(2, None);
    let layout = written.open().unwrap();
    for reference in [tag("1.0"), Reference::Digest(image.clone())] {
        let found = now(layout.manifest(&reference)).unwrap().unwrap();
        assert_eq!((&found.digest, found.media_type.as_str()), (&image, MANIFEST));
        assert!(image.is_of(&found.bytes));
    }
    let found = now(layout.manifest(&Reference::Digest(below.clone()))).unwrap().unwrap();
    assert_eq!((found.digest, found.media_type.as_str()), (below, MANIFEST));
    for reference in [tag("2.0"), tag("../../oci-layout"), Reference::Digest(Digest::of(b"x"))] {
        assert_eq!(now(layout.manifest(&reference)).unwrap(), None);
    }
    assert_eq!(layout.only().unwrap(), image);
    let blob = written.blob(b"12345");
    assert_eq!(now(layout.blob(&blob, 5)).unwrap().unwrap(), b"12345");
    assert!(matches!(now(layout.blob(&blob, 4)), Err(Error::OverLimit(_))));
    assert_eq!(now(layout.blob(&Digest::of(b"x"), 4)).unwrap(), None);
}

#[test]
fn what_refers_to_an_image_is_found_listed_or_not() {
    let mut written = Written::new();
    let image = written.manifest(1, None);
    written.list(&image, (REF_NAME, "1"));
    let listed = written.manifest(2, Some(&image));
    written.list(&listed, ("x", "y"));
    let unlisted = written.manifest(3, Some(&image));
    written.manifest(4, Some(&Digest::of(b"another")));
    written.blob(b"{ not JSON");
    written.blob(b"[1]");
    let layout = written.open().unwrap();
    let mut wanted = vec![listed, unlisted];
    wanted.sort();
    let found = now(layout.referrers(&image, 10)).unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest.clone()).collect::<Vec<_>>(), wanted);
    assert_eq!(found[0].artifact_type.as_deref(), Some("application/x.config"));
    assert_eq!(now(layout.referrers(&image, 1)).unwrap().len(), 1);
    assert_eq!(now(layout.referrers(&wanted[0], 9)).unwrap(), []);
}

#[test]
fn a_layout_of_cosign_save_has_its_signatures_under_their_tags() {
    let mut written = Written::new();
    let [image, sigs, atts] = [1, 2, 3].map(|number| written.manifest(number, None));
    for (digest, kind) in [(&image, "image"), (&sigs, "sigs"), (&atts, "atts")] {
        written.list(digest, (KIND, &format!("{KINDS}{kind}")));
    }
    let layout = written.open().unwrap();
    assert_eq!(layout.only().unwrap(), image);
    let digest = |name: &str| now(layout.manifest(&tag(name))).unwrap().map(|found| found.digest);
    assert_eq!(digest(&crate::sign::legacy_tag(&image, "sig")), Some(sigs));
    assert_eq!(digest(&crate::sign::legacy_tag(&image, "att")), Some(atts));
    // They are said of the one image that was saved, and of nothing else.
    assert_eq!(digest(&crate::sign::legacy_tag(&Digest::of(b"x"), "sig")), None);
    written.list(&image, (KIND, &format!("{KINDS}imageIndex")));
    assert!(matches!(written.open().unwrap().only(), Err(Error::Load(_))));
}

#[test]
fn damage_and_doubt_are_errors() {
    let mut written = Written::new();
    assert!(matches!(written.open().unwrap().only(), Err(Error::NotFound(_))));
    let image = written.manifest(1, None);
    written.list(&image, (REF_NAME, "1"));
    let other = written.manifest(2, None);
    written.list(&other, (REF_NAME, "1"));
    let layout = written.open().unwrap();
    assert!(matches!(now(layout.manifest(&tag("1"))), Err(Error::Malformed(_))), "one tag, two images");
    assert!(matches!(layout.only(), Err(Error::Load(_))));
    fs::write(written.folder.path().join("blobs/sha256").join(image.hex()), "other").unwrap();
    assert!(matches!(now(layout.manifest(&Reference::Digest(image))), Err(Error::Malformed(_))));

    written.entries.push(json!({"mediaType": MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 1}));
    assert!(matches!(written.open(), Err(Error::Malformed(_))), "a digest that is a path");
    written.entries = vec![json!({"mediaType": MANIFEST, "digest": other.as_str(), "size": 1}); 10_001];
    assert!(matches!(written.open(), Err(Error::OverLimit(_))));
    fs::write(written.folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(written.open(), Err(Error::Malformed(_))));
    fs::remove_file(written.folder.path().join("oci-layout")).unwrap();
    assert!(matches!(written.open(), Err(Error::NotFound(_))));
}
