// SPDX-License-Identifier: AGPL-3.0-only
//! What those who push and pull do, in their words, and what the specification says of every refusal.

use serde_json::{Value, json};
use stella_storage::Algorithm;

use crate::client::{Answer, delete, get, head, patch, post, put};
use crate::server::Server;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The codes that the specification knows.
const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Algorithm::Sha256.digest(bytes.as_ref()).to_string()
}

pub(crate) fn sha512(bytes: impl AsRef<[u8]>) -> String {
    Algorithm::Sha512.digest(bytes.as_ref()).to_string()
}

/// Bytes that look like nothing and are the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Checks that an answer refuses as the specification wants it; gives the first error.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{answer}");
    assert_eq!(answer.must("content-type"), "application/json", "{answer}");
    let json = answer.json();
    let errors = json["errors"].as_array().unwrap_or_else(|| panic!("no list of errors: {answer}"));
    assert!(!errors.is_empty(), "{answer}");
    for error in errors {
        assert_eq!(error["code"], code, "{answer}");
        assert!(CODES.contains(&code), "{code} is not of the specification");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.len() > 10, "a message should help: {answer}");
    }
    errors[0].clone()
}

/// A repository as its users see it.
#[derive(Clone, Copy)]
pub(crate) struct Repo<'s> {
    pub(crate) server: &'s Server,
    name: &'s str,
}

/// A pushed image.
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) config: String,
    pub(crate) layer: String,
}

impl<'s> Repo<'s> {
    pub(crate) fn new(server: &'s Server, name: &str) -> Self {
        // A handful of short names, each for the life of a test process.
        Repo { server, name: name.to_owned().leak() }
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    pub(crate) fn blob(&self, digest: &str) -> String {
        self.url(&format!("blobs/{digest}"))
    }

    pub(crate) fn manifest(&self, reference: &str) -> String {
        self.url(&format!("manifests/{reference}"))
    }

    /// Starts an upload; gives its `Location`.
    pub(crate) fn begin(&self) -> String {
        self.begin_with("")
    }

    pub(crate) fn begin_with(&self, query: &str) -> String {
        let answer = post(self.url(&format!("blobs/uploads/{query}"))).to(self.server).is(202);
        answer.must("location").to_owned()
    }

    /// How many bytes an upload holds, by its status.
    #[track_caller]
    pub(crate) fn holds(&self, location: &str) -> u64 {
        let answer = get(location).to(self.server).is(204);
        let (first, last) = answer.must("range").split_once('-').unwrap();
        assert_eq!(first, "0");
        let last: u64 = last.parse().unwrap();
        // Docker needs `0-0` for nothing, which is also what one byte looks like.
        if last == 0 { 0 } else { last + 1 }
    }

    pub(crate) fn close(&self, location: &str, digest: &str) -> Answer {
        put(format!("{location}?digest={digest}")).to(self.server)
    }

    /// Pushes a blob in one request.
    #[track_caller]
    pub(crate) fn push_blob(&self, bytes: impl AsRef<[u8]>) -> String {
        let digest = sha256(&bytes);
        post(self.url(&format!("blobs/uploads/?digest={digest}"))).body(bytes).to(self.server).is(201);
        digest
    }

    pub(crate) fn has_blob(&self, digest: &str) -> bool {
        head(self.blob(digest)).to(self.server).status == 200
    }

    pub(crate) fn has_manifest(&self, reference: &str) -> bool {
        head(self.manifest(reference)).to(self.server).status == 200
    }

    /// A small image whose bytes depend on `salt`, blobs pushed, manifest not.
    pub(crate) fn draft_image(&self, salt: &str) -> Image {
        let config = self.push_blob(format!("{{\"salt\":\"{salt}\"}}"));
        let layer = self.push_blob(format!("layer {salt}"));
        let bytes = image((&config, salt.len() + 11), &[(&layer, salt.len() + 6)]).to_string().into_bytes();
        Image { digest: sha256(&bytes), bytes, config, layer }
    }

    #[track_caller]
    pub(crate) fn push_image(&self, tag: &str, salt: &str) -> Image {
        let image = self.draft_image(salt);
        self.put_manifest(tag, OCI_MANIFEST, &image.bytes).is(201);
        image
    }

    pub(crate) fn put_manifest(&self, reference: &str, media_type: &str, bytes: impl AsRef<[u8]>) -> Answer {
        put(self.manifest(reference)).header("Content-Type", media_type).body(bytes).to(self.server)
    }

    /// The digest that a tag stands for.
    pub(crate) fn resolve(&self, tag: &str) -> Option<String> {
        let answer = head(self.manifest(tag)).to(self.server);
        (answer.status == 200).then(|| answer.must("docker-content-digest").to_owned())
    }

    pub(crate) fn delete_manifest(&self, reference: &str) -> Answer {
        delete(self.manifest(reference)).to(self.server)
    }

    /// Every tag; nothing for a repository that is not there.
    pub(crate) fn tags(&self) -> Vec<String> {
        let answer = get(self.url("tags/list")).to(self.server);
        if answer.status == 404 {
            return Vec::new();
        }
        let json = answer.is(200).json();
        json["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }

    /// Sends a chunk to an upload, saying where it belongs.
    pub(crate) fn chunk(&self, location: &str, first: usize, bytes: &[u8]) -> Answer {
        let range = format!("{first}-{}", first + bytes.len() - 1);
        patch(location).header("Content-Range", range).body(bytes).to(self.server)
    }
}

/// A descriptor of a blob.
pub(crate) fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// An image manifest of a config and layers, each (digest, size).
pub(crate) fn image(config: (&str, usize), layers: &[(&str, usize)]) -> Value {
    let config = descriptor(OCI_CONFIG, config.0, config.1);
    let layers: Vec<_> = layers.iter().map(|(digest, size)| descriptor(OCI_LAYER, digest, *size)).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

/// An index of manifests, each (digest, size).
pub(crate) fn index(children: &[(&str, usize)]) -> Value {
    let children: Vec<_> =
        children.iter().map(|(digest, size)| descriptor(OCI_MANIFEST, digest, *size)).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
}
