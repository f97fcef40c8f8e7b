// SPDX-License-Identifier: AGPL-3.0-only
//! Images, indexes and artifacts as values: made by code, or gathered from wherever a client or the
//! registry keeps them, and then compared byte for byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::noise::{digest, noise};
use crate::tar::{gzip, tar, zstd};

/// The media types that tests name.
pub mod media_type {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image's configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI image's layer, packed by gzip.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// An OCI image's layer, packed by zstd.
    pub const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// The empty JSON object.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker image's layer, packed by gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// A manifest or index with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub(crate) root: String,
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

/// An image to be made, each layer a tar archive packed by gzip.
#[derive(Clone, Debug)]
pub struct Image {
    architecture: String,
    archives: Vec<Vec<u8>>,
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Oci,
    OciZstd,
    Docker,
}

/// An artifact to be made.
#[derive(Clone, Debug)]
pub struct Artifact {
    kind: String,
    subject: Option<Value>,
    files: Vec<Vec<u8>>,
}

impl Image {
    /// An image for amd64 without layers.
    pub fn new() -> Self {
        Self { architecture: "amd64".into(), archives: Vec::new(), format: Format::Oci }
    }

    /// An image for amd64 with a layer of noise and a tiny one; another `seed` makes another image.
    pub fn sample(seed: u64) -> Self {
        Self::new().file("noise", &noise(seed, 300_000)).file("tiny", format!("{seed}").as_bytes())
    }

    /// Makes it an image for another architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Adds a layer that holds one file.
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.archives.push(tar(&[(name, content)]));
        self
    }

    /// Makes it a Docker schema 2 image.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.format = Format::Docker;
        self
    }

    /// Packs its layers by zstd.
    #[must_use]
    pub fn zstd(mut self) -> Self {
        self.format = Format::OciZstd;
        self
    }

    /// The finished image.
    pub fn build(self) -> Content {
        use media_type::{CONFIG, DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, LAYER, MANIFEST, ZSTD_LAYER};
        let (manifest_type, config_type, layer_type) = match self.format {
            Format::Oci => (MANIFEST, CONFIG, LAYER),
            Format::OciZstd => (MANIFEST, CONFIG, ZSTD_LAYER),
            Format::Docker => (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER),
        };
        let pack = if layer_type == ZSTD_LAYER { zstd } else { gzip };
        let diff_ids: Vec<_> = self.archives.iter().map(|archive| digest(archive)).collect();
        let blobs: Vec<_> = self.archives.iter().map(|archive| pack(archive)).collect();
        let history: Vec<_> = diff_ids.iter().map(|_| json!({"created_by": "stella's tests"})).collect();
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": "2000-01-01T00:00:00Z",
            "config": {"Cmd": ["/x"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<_> = blobs.iter().map(|layer| descriptor(layer_type, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": descriptor(config_type, &config), "layers": layers,
        });
        Content::of(manifest_type, &manifest, blobs.into_iter().chain([config]))
    }
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Artifact {
    /// An artifact without files.
    pub fn new(artifact_type: &str) -> Self {
        Self { kind: artifact_type.to_owned(), subject: None, files: Vec::new() }
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, content: &[u8]) -> Self {
        self.files.push(content.to_vec());
        self
    }

    /// Makes it refer to `subject`, which need not exist.
    #[must_use]
    pub fn subject(mut self, subject: &Content) -> Self {
        self.subject = Some(subject.descriptor());
        self
    }

    /// The finished artifact.
    pub fn build(self) -> Content {
        let config = b"{}".to_vec();
        let files: Vec<_> =
            self.files.iter().map(|file| descriptor("application/octet-stream", file)).collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": self.kind,
            "config": descriptor(media_type::EMPTY, &config), "layers": files,
        });
        if let Some(subject) = self.subject {
            manifest["subject"] = subject;
        }
        Content::of(media_type::MANIFEST, &manifest, self.files.into_iter().chain([config]))
    }
}

impl Content {
    /// An OCI index of images.
    pub fn index(images: &[Self]) -> Self {
        Self::list(media_type::INDEX, images)
    }

    /// A Docker manifest list of images.
    pub fn docker_list(images: &[Self]) -> Self {
        Self::list(media_type::DOCKER_LIST, images)
    }

    fn list(list_type: &str, images: &[Self]) -> Self {
        let children: Vec<_> = images
            .iter()
            .map(|image| {
                let mut child = image.descriptor();
                child["platform"] = json!({"architecture": image.config()["architecture"], "os": "linux"});
                child
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": list_type, "manifests": children});
        let mut list = Self::of(list_type, &manifest, []);
        for image in images {
            list.manifests.extend(image.manifests.clone());
            list.blobs.extend(image.blobs.clone());
        }
        list
    }

    fn of(media_type: &str, manifest: &Value, blobs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let bytes = manifest.to_string().into_bytes();
        let root = digest(&bytes);
        let manifests = BTreeMap::from([(root.clone(), (media_type.to_owned(), bytes))]);
        Self { root, manifests, blobs: blobs.into_iter().map(|blob| (digest(&blob), blob)).collect() }
    }

    /// Gathers what is below the manifest `bytes`. `fetch` gives the bytes of a descriptor's digest; its
    /// second argument says whether that is a manifest.
    #[track_caller]
    pub(crate) fn gather(
        media_type: &str,
        bytes: Vec<u8>,
        fetch: &mut dyn FnMut(&str, bool) -> Vec<u8>,
    ) -> Self {
        let root = digest(&bytes);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let mut content = Self {
            root: root.clone(),
            manifests: BTreeMap::from([(root, (media_type.to_owned(), bytes))]),
            blobs: BTreeMap::new(),
        };
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            let bytes = fetched(child, true, fetch);
            let below = Self::gather(child["mediaType"].as_str().unwrap(), bytes, fetch);
            content.manifests.extend(below.manifests);
            content.blobs.extend(below.blobs);
        }
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(manifest.get("config")) {
            let bytes = fetched(blob, false, fetch);
            content.blobs.insert(digest(&bytes), bytes);
        }
        content
    }

    /// The digest of the manifest or index itself.
    pub fn digest(&self) -> &str {
        &self.root
    }

    /// The media type of the manifest or index itself.
    pub fn media_type(&self) -> &str {
        &self.manifests[&self.root].0
    }

    /// The bytes of the manifest or index itself.
    pub fn bytes(&self) -> &[u8] {
        &self.manifests[&self.root].1
    }

    /// The manifest or index itself.
    pub fn manifest(&self) -> Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }

    /// An image's configuration.
    pub fn config(&self) -> Value {
        let config = self.manifest()["config"]["digest"].as_str().unwrap().to_owned();
        serde_json::from_slice(&self.blobs[&config]).unwrap()
    }

    /// The digests of all manifests and blobs.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        self.manifests.keys().chain(self.blobs.keys()).map(String::as_str)
    }

    /// The bytes with this digest.
    pub fn get(&self, digest: &str) -> &[u8] {
        self.manifests.get(digest).map_or_else(|| &self.blobs[digest], |(_, bytes)| bytes)
    }

    /// The media types of the layers of all images, in no order that means anything.
    pub fn layer_types(&self) -> Vec<String> {
        let manifests =
            self.manifests.values().map(|(_, bytes)| serde_json::from_slice::<Value>(bytes).unwrap());
        let layers =
            manifests.flat_map(|manifest| manifest["layers"].as_array().cloned().unwrap_or_default());
        layers.map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
    }

    /// How a manifest refers to it.
    pub fn descriptor(&self) -> Value {
        descriptor(self.media_type(), self.bytes())
    }

    /// Panics, saying what differs, unless `other` is the same byte for byte.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        if self == other {
            return;
        }
        let lines = |content: &Self| {
            let manifests =
                content.manifests.iter().map(|(digest, (media_type, _))| format!("{digest} {media_type}"));
            let blobs =
                content.blobs.iter().map(|(digest, bytes)| format!("{digest} blob of {} bytes", bytes.len()));
            manifests.chain(blobs).collect::<Vec<_>>().join("\n")
        };
        panic!(
            "not the same content:\nleft {}\n{}\nright {}\n{}",
            self.root,
            lines(self),
            other.root,
            lines(other)
        );
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// The bytes that `descriptor` describes; panics if they are others.
#[track_caller]
fn fetched(descriptor: &Value, manifest: bool, fetch: &mut dyn FnMut(&str, bool) -> Vec<u8>) -> Vec<u8> {
    let wanted = descriptor["digest"].as_str().unwrap();
    let bytes = fetch(wanted, manifest);
    assert_eq!(digest(&bytes), wanted, "the content is not what its descriptor says");
    assert_eq!(descriptor["size"], bytes.len(), "the size of {wanted} is not what its descriptor says");
    bytes
}
