// SPDX-License-Identifier: AGPL-3.0-only
//! What a client does with manifests and tags, and what it deletes.

use std::io;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::journal::{Document, Key, Kind, Value};
use super::worker::{SHARED, Worker};
use crate::content::media_type;
use crate::http::{Request, Response};
use crate::noise::digest;

/// Manifests of a client to which everybody's tags may point.
const PINNED: usize = 4;
/// Tags that all clients move.
const SHARED_TAGS: u64 = 4;

impl Document {
    pub(crate) fn key(&self) -> Key {
        Key::new(Kind::Manifest, &self.repo, &self.digest)
    }

    fn descriptor(&self) -> Json {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

impl Worker<'_> {
    /// Pushes an image as clients do: its blobs, then the manifest that names them.
    pub(crate) fn push_image(&mut self) -> io::Result<()> {
        let repo = self.some_repo();
        let mut blobs = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let (recipe, bytes) = match self.rng.below(100) {
                0..20 => match self.rng.pick(self.round.common) {
                    Some(common) => (common.clone(), common.bytes()),
                    None => self.new_content(),
                },
                20..35 => {
                    let known = self.rng.pick(&self.blobs).and_then(|blob| self.journal.recipe(&blob.1));
                    match known {
                        Some(recipe) => (recipe.clone(), recipe.bytes()),
                        None => self.new_content(),
                    }
                }
                _ => self.new_content(),
            };
            if !self.ensure_blob(&repo, &recipe, &bytes)? {
                return Ok(());
            }
            blobs.push((recipe.digest, bytes.len()));
        }
        let layers: Vec<_> = blobs[1..]
            .iter()
            .map(|(digest, size)| json!({"mediaType": media_type::LAYER, "digest": digest, "size": size}))
            .collect();
        let config = json!({"mediaType": media_type::CONFIG, "digest": blobs[0].0, "size": blobs[0].1});
        let nonce = self.rng.next().to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": {"nonce": nonce},
        });
        let blobs = blobs.into_iter().map(|(digest, _)| digest).collect();
        let document = self.document(&repo, media_type::MANIFEST, &manifest, blobs, None);
        let (reference, tags) = match self.rng.below(100) {
            0..55 => (None, vec![self.new_tag()]),
            55..70 => {
                let own = self.tags.iter().filter(|tag| tag.0 == repo).map(|tag| tag.1.clone());
                let own: Vec<_> = own.collect();
                (None, vec![self.rng.pick(&own).cloned().unwrap_or_else(|| self.new_tag())])
            }
            70..82 => (Some(document.digest.clone()), vec![]),
            _ => (Some(document.digest.clone()), vec![self.new_tag(), self.new_tag()]),
        };
        self.put(&document, reference.as_deref(), &tags)
    }

    fn document(
        &mut self,
        repo: &str,
        media_type: &'static str,
        manifest: &Json,
        blobs: Vec<String>,
        subject: Option<String>,
    ) -> Arc<Document> {
        let bytes = manifest.to_string().into_bytes();
        let pins = self.images.iter().filter(|image| image.pinned).count();
        let pinned = SHARED.contains(&repo) && subject.is_none() && pins < PINNED;
        self.journal.describe(Document {
            owner: self.number,
            repo: repo.to_owned(),
            digest: digest(&bytes),
            media_type,
            bytes,
            blobs,
            subject,
            pinned,
        })
    }

    /// Puts a manifest under its first tag, or under its digest with all the tags beside it.
    fn put(&mut self, document: &Arc<Document>, reference: Option<&str>, tags: &[String]) -> io::Result<()> {
        let reference = reference.unwrap_or_else(|| &tags[0]);
        let mut put = Request::new("PUT", &format!("/v2/{}/manifests/{reference}", document.repo))
            .header("Content-Type", document.media_type)
            .body(&document.bytes);
        if reference == document.digest {
            for tag in tags {
                put = put.query("tag", tag);
            }
        }
        let there = Some(document.digest.clone());
        let mut brings = vec![(document.key(), there.clone())];
        for tag in tags {
            brings.push((Key::new(Kind::Tag, &document.repo, tag), there.clone()));
        }
        let response = self.change(&put, brings, 201)?;
        let has_all = document.blobs.iter().all(|blob| self.must_stay(&document.repo, blob));
        if has_all {
            self.must_be(&response, &[201]);
        } else {
            self.must_be(&response, &[201, 400]);
        }
        if response.status == 201 {
            self.deleted.retain(|other| other.digest != document.digest || other.repo != document.repo);
            if !self.images.iter().any(|other| Arc::ptr_eq(other, document)) {
                self.images.push(Arc::clone(document));
            }
            for tag in tags.iter().filter(|tag| tag.starts_with('w')) {
                self.tags.retain(|other| other.0 != document.repo || other.1 != *tag);
                self.tags.push((document.repo.clone(), tag.clone(), document.digest.clone()));
            }
        }
        Ok(())
    }

    /// Points a tag, its own or everybody's, at a manifest that is there.
    pub(crate) fn move_tag(&mut self) -> io::Result<()> {
        if self.rng.chance(40) {
            let pinned: Vec<_> = self.images.iter().filter(|image| image.pinned).map(Arc::clone).collect();
            let Some(image) = self.rng.pick(&pinned) else { return Ok(()) };
            let tag = self.shared_tag();
            return self.put(image, None, &[tag]);
        }
        let Some((repo, tag, _)) = self.rng.pick(&self.tags).cloned() else { return Ok(()) };
        let images = self.images.iter().filter(|image| image.repo == repo && image.subject.is_none());
        let images: Vec<_> = images.map(Arc::clone).collect();
        let Some(image) = self.rng.pick(&images) else { return Ok(()) };
        self.put(image, None, &[tag])
    }

    fn shared_tag(&mut self) -> String {
        format!("shared-{}", self.rng.below(SHARED_TAGS))
    }

    /// Pushes a manifest again that is there, or that was deleted.
    pub(crate) fn push_again(&mut self) -> io::Result<()> {
        let again = if self.rng.chance(50) { &self.deleted } else { &self.images };
        let Some(image) = self.rng.pick(again).map(Arc::clone) else { return Ok(()) };
        if image.subject.is_some() {
            return Ok(());
        }
        for blob in &image.blobs {
            if let Some(recipe) = self.journal.recipe(blob) {
                self.ensure_blob(&image.repo, &recipe, &recipe.bytes())?;
            }
        }
        let tag = self.new_tag();
        self.put(&image, Some(&image.digest), &[tag])
    }

    /// Pushes something that refers to a manifest, which is mostly there.
    pub(crate) fn push_referrer(&mut self) -> io::Result<()> {
        let images = self.images.iter().filter(|image| image.subject.is_none());
        let images: Vec<_> = images.map(Arc::clone).collect();
        let subject = self.rng.pick(&images).map(|image| (image.repo.clone(), image.descriptor()));
        let (repo, subject) = match subject {
            Some(subject) if self.rng.chance(85) => subject,
            _ => {
                let never = digest(&self.rng.next().to_le_bytes());
                let never = json!({"mediaType": media_type::MANIFEST, "digest": never, "size": 7});
                (self.own_repo(), never)
            }
        };
        let (recipe, bytes) = self.new_content();
        if !self.ensure_blob(&repo, &recipe, &bytes)? {
            return Ok(());
        }
        let artifact = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "artifactType": "application/x.chaos",
            "config": {"mediaType": "application/x.chaos", "digest": recipe.digest, "size": bytes.len()},
            "layers": [],
            "subject": subject,
        });
        let named = subject["digest"].as_str().map(str::to_owned);
        let document = self.document(&repo, media_type::MANIFEST, &artifact, vec![recipe.digest], named);
        self.put(&document, Some(&document.digest), &[])
    }

    /// Pushes an index over two manifests.
    pub(crate) fn push_index(&mut self) -> io::Result<()> {
        // Not over evidence: an index would keep it when its subject goes.
        let images = self.images.iter().filter(|image| image.subject.is_none());
        let images: Vec<_> = images.map(Arc::clone).collect();
        let Some(first) = self.rng.pick(&images) else { return Ok(()) };
        let same: Vec<_> = images.iter().filter(|image| image.repo == first.repo).collect();
        let Some(second) = self.rng.pick(&same) else { return Ok(()) };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": [first.descriptor(), second.descriptor()],
            "annotations": {"nonce": self.rng.next().to_string()},
        });
        let document = self.document(&first.repo, media_type::INDEX, &index, vec![], None);
        let tag = self.new_tag();
        self.put(&document, None, &[tag])
    }

    pub(crate) fn delete_tag(&mut self) -> io::Result<()> {
        if self.rng.chance(20) {
            let repo = (*self.rng.pick(&SHARED).unwrap_or(&SHARED[0])).to_owned();
            let tag = self.shared_tag();
            let response = self.delete(&repo, "manifests", &tag, vec![Key::new(Kind::Tag, &repo, &tag)])?;
            self.must_be(&response, &[202, 404]);
            return Ok(());
        }
        let Some(index) = self.rng.index(self.tags.len()) else { return Ok(()) };
        let (repo, tag, _) = self.tags.swap_remove(index);
        let response = self.delete(&repo, "manifests", &tag, vec![Key::new(Kind::Tag, &repo, &tag)])?;
        self.must_be(&response, &[202]);
        Ok(())
    }

    /// Deletes a manifest, and with it every tag that points at it.
    pub(crate) fn delete_image(&mut self) -> io::Result<()> {
        let Some(index) = self.rng.index(self.images.len()) else { return Ok(()) };
        if self.images[index].pinned {
            return Ok(());
        }
        let stays = self.stays(&self.images[index]);
        let image = self.images.swap_remove(index);
        let mut goes = vec![image.key()];
        self.tags.retain(|(repo, tag, digest)| {
            let at_it = *repo == image.repo && *digest == image.digest;
            if at_it {
                goes.push(Key::new(Kind::Tag, repo, tag));
            }
            !at_it
        });
        let response = self.delete(&image.repo, "manifests", &image.digest, goes)?;
        if stays {
            self.must_be(&response, &[202]);
        } else {
            self.must_be(&response, &[202, 404]);
        }
        Ok(())
    }

    /// Deletes a blob, which is refused while a manifest names it.
    pub(crate) fn delete_blob(&mut self) -> io::Result<()> {
        if self.rng.chance(40) {
            let Some(common) = self.rng.pick(self.round.common).cloned() else { return Ok(()) };
            let (repo, digest) = (SHARED[0], &common.digest);
            let response = self.delete(repo, "blobs", digest, vec![Key::new(Kind::Blob, repo, digest)])?;
            self.must_be(&response, &[202, 404, 405]);
            return Ok(());
        }
        let Some(index) = self.rng.index(self.blobs.len()) else { return Ok(()) };
        let (repo, digest) = self.blobs[index].clone();
        let named = self.named(&repo, &digest);
        let response = self.delete(&repo, "blobs", &digest, vec![Key::new(Kind::Blob, &repo, &digest)])?;
        let stays = self.must_stay_until_deleted(&repo, &digest);
        match response.status {
            202 => {
                self.blobs.swap_remove(index);
                if named {
                    self.fault(&response, "a manifest names this blob");
                }
            }
            // Evidence whose subject went still names its blobs until it is collected.
            405 if named || self.mentioned(&repo, &digest) => {}
            404 if !named && !stays => {
                self.blobs.swap_remove(index);
            }
            _ => self.must_be(&response, &[202]),
        }
        Ok(())
    }

    fn must_stay_until_deleted(&self, repo: &str, digest: &str) -> bool {
        self.journal.holds(&Key::new(Kind::Blob, repo, digest))
    }

    fn mentioned(&self, repo: &str, digest: &str) -> bool {
        self.images.iter().any(|image| image.repo == repo && image.blobs.iter().any(|blob| blob == digest))
    }

    fn delete(&mut self, repo: &str, kind: &str, name: &str, goes: Vec<Key>) -> io::Result<Response> {
        let request = Request::new("DELETE", &format!("/v2/{repo}/{kind}/{name}"));
        let goes = goes.into_iter().map(|key| (key, Value::None)).collect();
        self.change(&request, goes, 202)
    }
}
