// SPDX-License-Identifier: AGPL-3.0-only
//! The rules that a manifest must follow to be stored (OCI image-spec: manifest.md,
//! image-index.md, descriptor.md; Docker's schema 2 and lists have the same shape).
//!
//! Unknown fields, unknown media types of configs and layers, and unknown digest algorithms are
//! accepted, as the specification demands. What makes one document two things to two readers
//! (CVE-2021-41190: an index that is an image too) is refused.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};

use super::{MAX_DESCRIPTORS, Manifest, Reference, json, kind, media_type};
use crate::digest::{Digest, DigestError, shorten};
use crate::error::{Error, Result};

/// Layers that a registry need not hold; clients fetch them elsewhere.
const NON_DISTRIBUTABLE: [&str; 5] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
const MAX_ARTIFACT_TYPE: usize = 255;

// `null` is what Go writes for an empty list or map; for a pointer it means absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<i64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<List>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<List>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<serde::de::IgnoredAny>,
    signatures: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: i64,
    urls: Option<Vec<String>>,
    data: Option<String>,
    #[serde(rename = "platform")]
    _platform: Option<Platform>,
    #[serde(rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(rename = "architecture")]
    _architecture: Option<String>,
    #[serde(rename = "os")]
    _os: Option<String>,
}

/// A list of descriptors, or the `null` that stands for it.
type List = Option<Vec<Descriptor>>;

/// A list that is there, be it `null`, is `Some`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<List>, D::Error> {
    List::deserialize(deserializer).map(Some)
}

fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::InvalidManifest(why.into()))
}

pub(super) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest> {
    json::check(bytes).map_err(Error::InvalidManifest)?;
    let mut document: Document = serde_json::from_slice(bytes).map_err(|error| {
        Error::InvalidManifest(format!("the manifest breaks the image specification: {error}"))
    })?;
    let media_type = media_type(&document, content_type)?;
    let artifact_type = document.artifact_type.take().filter(|text| !text.is_empty());
    if let Some(text) = &artifact_type
        && (text.len() > MAX_ARTIFACT_TYPE || text.chars().any(char::is_control))
    {
        return invalid("artifactType needs the form of a media type, of at most 255 characters");
    }
    let artifact_type =
        artifact_type.or_else(|| document.config.as_ref().map(|config| config.media_type.clone()));
    let mut collected = Collected { late: document.subject.is_some(), ..Collected::default() };
    if let Some(config) = &document.config {
        collected.add("config", config, kind::CONFIG)?;
    }
    for (number, layer) in document.layers.iter().flatten().flatten().enumerate() {
        collected.add(&format!("layers[{number}]"), layer, kind::LAYER)?;
    }
    for (number, child) in document.manifests.iter().flatten().flatten().enumerate() {
        collected.add(&format!("manifests[{number}]"), child, kind::CHILD)?;
    }
    let subject = match &document.subject {
        None => None,
        Some(subject) => Some(collected.add("subject", subject, kind::SUBJECT)?),
    };
    Ok(Manifest {
        media_type,
        references: collected.references,
        subject,
        artifact_type,
        annotations: document.annotations.filter(|annotations| !annotations.is_empty()),
        warnings: collected.warnings,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Image,
    Index,
}

fn media_type(document: &Document, content_type: Option<&str>) -> Result<String> {
    let declared = document.media_type.as_deref().filter(|text| !text.is_empty());
    let schema_1 = |text: Option<&str>| text.is_some_and(|text| SCHEMA_1.contains(&text));
    if schema_1(content_type)
        || schema_1(declared)
        || document.schema_version == Some(1)
        || document.fs_layers.is_some()
        || document.signatures.is_some()
    {
        return invalid(
            "Docker schema 1 manifests are not supported; push with a client that writes schema 2 or OCI manifests",
        );
    }
    if document.schema_version != Some(2) {
        return invalid("schemaVersion must be 2");
    }
    // A `null` list is an empty one where the shape needs a list, and absent where it cannot have one.
    let listed = |list: &Option<List>| matches!(list, Some(Some(_)));
    let image = document.config.is_some() || listed(&document.layers);
    let index = listed(&document.manifests) || (!image && document.manifests.is_some());
    let shape = match (image, index) {
        (true, true) => {
            return invalid(
                "a manifest with `manifests` cannot also have `config` or `layers`: it would be two things at once",
            );
        }
        (true, false) => Shape::Image,
        (false, true) => Shape::Index,
        (false, false) => return invalid("a manifest needs `config` and `layers`, or `manifests`"),
    };
    if shape == Shape::Image {
        if document.config.is_none() {
            return invalid("an image manifest needs `config`");
        }
        if document.layers.is_none() {
            return invalid("an image manifest needs `layers`, be it an empty list");
        }
    }
    if let (Some(content_type), Some(declared)) = (content_type, declared)
        && content_type != declared
    {
        return invalid(format!(
            "the request's Content-Type is {:?}, the manifest's mediaType {:?}; they must be equal",
            shorten(content_type),
            shorten(declared)
        ));
    }
    let by_shape = match shape {
        Shape::Image => media_type::OCI_MANIFEST,
        Shape::Index => media_type::OCI_INDEX,
    };
    let chosen = content_type.or(declared).unwrap_or(by_shape);
    let demands = match chosen {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Shape::Image),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Some(Shape::Index),
        // Types of the future keep the vendor form.
        other
            if other.starts_with("application/vnd.") && other.ends_with("+json") && is_media_type(other) =>
        {
            None
        }
        other => {
            return invalid(format!(
                "{:?} is not a manifest's media type; send the manifest's mediaType as Content-Type",
                shorten(other)
            ));
        }
    };
    if demands.is_some_and(|demanded| demanded != shape) {
        return invalid(format!("the fields of this manifest do not fit its media type {chosen}"));
    }
    Ok(chosen.to_owned())
}

#[derive(Default)]
struct Collected {
    references: Vec<Reference>,
    by_digest: HashMap<Digest, usize>,
    count: usize,
    // Blobs of a manifest with a subject may follow it: `cosign load` and others write in that order.
    late: bool,
    warnings: Vec<String>,
}

impl Collected {
    fn add(&mut self, place: &str, descriptor: &Descriptor, kind: u8) -> Result<Digest> {
        self.count += 1;
        if self.count > MAX_DESCRIPTORS {
            return invalid(format!("a manifest may hold at most {MAX_DESCRIPTORS} descriptors"));
        }
        if !is_media_type(&descriptor.media_type) {
            return invalid(format!("{place}: {:?} is not a media type", shorten(&descriptor.media_type)));
        }
        let digest: Digest = descriptor
            .digest
            .parse()
            .map_err(|error: DigestError| Error::InvalidManifest(format!("{place}: {error}")))?;
        let size = u64::try_from(descriptor.size)
            .map_err(|_| Error::InvalidManifest(format!("{place}: size must not be negative")))?;
        for url in descriptor.urls.iter().flatten() {
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return invalid(format!("{place}: {:?} is not an http or https URL", shorten(url)));
            }
        }
        self.check_data(place, descriptor, &digest);
        let elsewhere = descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || NON_DISTRIBUTABLE.contains(&descriptor.media_type.as_str());
        let blob = kind == kind::CONFIG || kind == kind::LAYER;
        let required = blob && !elsewhere && !self.late && digest.algorithm().is_some();
        if let Some(&known) = self.by_digest.get(&digest) {
            let known = &mut self.references[known];
            known.kinds |= kind;
            known.required |= required;
        } else {
            self.by_digest.insert(digest.clone(), self.references.len());
            self.references.push(Reference { digest: digest.clone(), kinds: kind, size, required });
        }
        Ok(digest)
    }

    fn check_data(&mut self, place: &str, descriptor: &Descriptor, digest: &Digest) {
        let (Some(data), Some(algorithm)) = (&descriptor.data, digest.algorithm()) else { return };
        let honest = BASE64_STANDARD.decode(data).is_ok_and(|data| {
            i64::try_from(data.len()) == Ok(descriptor.size) && algorithm.digest(&data) == *digest
        });
        if !honest {
            self.warnings.push(format!("{place}: the embedded data is not the content of {digest}"));
        }
    }
}

// RFC 6838, section 4.2: type "/" subtype, 1 to 127 characters each.
fn is_media_type(text: &str) -> bool {
    let restricted = |name: &str| {
        (1..=127).contains(&name.len())
            && name
                .bytes()
                .enumerate()
                .all(|(at, byte)| byte.is_ascii_alphanumeric() || (at > 0 && b"!#$&^_.+-".contains(&byte)))
    };
    text.split_once('/').is_some_and(|(kind, subkind)| restricted(kind) && restricted(subkind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use proptest::prelude::*;

    const SHA: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn descriptor(extra: &str) -> String {
        format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{SHA}","size":2{extra}}}"#)
    }

    fn image(extra: &str) -> String {
        format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]{extra}}}"#, descriptor(""), descriptor(""))
    }

    fn refused(text: &str) -> String {
        match parse(text.as_bytes(), None) {
            Err(Error::InvalidManifest(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_media_type_comes_from_the_request_then_the_document_then_the_shape() {
        let typed = image(r#","mediaType":"application/vnd.docker.distribution.manifest.v2+json""#);
        assert_eq!(parse(typed.as_bytes(), None).unwrap().media_type, media_type::DOCKER_MANIFEST);
        let plain = image("");
        assert_eq!(parse(plain.as_bytes(), None).unwrap().media_type, media_type::OCI_MANIFEST);
        let future = "application/vnd.example.manifest.v3+json";
        assert_eq!(parse(plain.as_bytes(), Some(future)).unwrap().media_type, future);
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(parse(index, None).unwrap().media_type, media_type::OCI_INDEX);
        for (text, content_type) in [
            (typed.as_str(), media_type::OCI_MANIFEST),
            (plain.as_str(), media_type::OCI_INDEX),
            (plain.as_str(), "application/json"),
            (plain.as_str(), "application/vnd.x/y+json"),
            (plain.as_str(), ""),
        ] {
            assert!(parse(text.as_bytes(), Some(content_type)).is_err(), "{content_type}");
        }
    }

    #[test]
    fn what_go_clients_write_as_null_is_read_as_nothing() {
        let nulls = format!(
            r#"{{"schemaVersion":2,"mediaType":null,"config":{},"layers":null,"subject":null,"annotations":null}}"#,
            descriptor(r#","urls":null,"data":null,"annotations":null,"platform":null"#)
        );
        let manifest = parse(nulls.as_bytes(), None).unwrap();
        assert_eq!(manifest.references.len(), 1);
        assert!(manifest.subject.is_none() && manifest.annotations.is_none());
        let index = parse(br#"{"schemaVersion":2,"manifests":null}"#, None).unwrap();
        assert_eq!(index.media_type, media_type::OCI_INDEX);
        let image = parse(image(r#","manifests":null"#).as_bytes(), None).unwrap();
        assert_eq!(image.media_type, media_type::OCI_MANIFEST);
        let index = br#"{"schemaVersion":2,"manifests":[],"layers":null,"config":null}"#;
        assert_eq!(parse(index, None).unwrap().media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn a_manifest_is_one_thing_only() {
        assert!(refused(&image(r#","manifests":[]"#)).contains("two things"));
        assert!(refused(&image(r#","fsLayers":[]"#)).contains("schema 1"));
        assert!(refused(r#"{"schemaVersion":1}"#).contains("schema 1"));
        assert!(refused(r#"{"schemaVersion":2}"#).contains("needs"));
        assert!(refused(r#"{"manifests":[]}"#).contains("schemaVersion"));
        assert!(refused(r#"{"schemaVersion":2,"layers":[]}"#).contains("config"));
        assert!(refused(&format!(r#"{{"schemaVersion":2,"config":{}}}"#, descriptor(""))).contains("layers"));
    }

    #[test]
    fn descriptors_are_checked() {
        for (from, to) in [
            (SHA, "sha256:abc"),
            (SHA, "no-digest"),
            ("\"size\":2", "\"size\":-1"),
            ("\"size\":2", "\"size\":2.5"),
            ("\"size\":2", "\"size\":\"2\""),
            ("\"size\":2", "\"size\":9223372036854775808"),
            ("application/vnd.oci.empty.v1+json", "no media type"),
            ("application/vnd.oci.empty.v1+json", ""),
            ("\"size\":2", "\"size\":2,\"urls\":[\"ftp://x\"]"),
            ("\"size\":2", "\"size\":2,\"annotations\":{\"a\":1}"),
            (",\"size\":2", ""),
            ("\"size\":2", "\"size\":2,\"platform\":5"),
            ("\"size\":2", "\"size\":2,\"platform\":{\"os\":5}"),
        ] {
            refused(&image("").replace(from, to));
        }
        refused(&image(r#","annotations":{"a":null}"#));
        refused(&image(r#","subject":{}"#));
        let many = vec![descriptor(""); MAX_DESCRIPTORS + 1].join(",");
        assert!(refused(&format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#)).contains("at most"));
    }

    #[test]
    fn references_are_collected_once_with_all_their_kinds() {
        let digest: Digest = SHA.parse().unwrap();
        let manifest = parse(image("").as_bytes(), None).unwrap();
        assert_eq!(
            manifest.references,
            [Reference {
                digest: digest.clone(),
                kinds: kind::CONFIG | kind::LAYER,
                size: 2,
                required: true
            }]
        );
        assert!(manifest.names(&digest));
        let subject = Algorithm::Sha512.digest(b"subject");
        let with = image(&format!(
            r#","subject":{{"mediaType":"{}","digest":"{subject}","size":7}}"#,
            media_type::OCI_MANIFEST
        ));
        let manifest = parse(with.as_bytes(), None).unwrap();
        assert_eq!(manifest.subject, Some(subject));
        assert!(manifest.references.iter().all(|reference| !reference.required), "late blobs are accepted");
    }

    #[test]
    fn blobs_that_lie_elsewhere_are_not_required() {
        for layer in [
            descriptor(r#","urls":["https://example.com/layer"]"#),
            descriptor("").replace("application/vnd.oci.empty.v1+json", NON_DISTRIBUTABLE[1]),
            descriptor("").replace(SHA, "unknown+alg:abc"),
        ] {
            let config = descriptor("").replace("4413", "4414");
            let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
            let manifest = parse(text.as_bytes(), None).unwrap();
            assert_eq!(manifest.references.iter().map(|r| r.required).collect::<Vec<_>>(), [true, false]);
        }
    }

    #[test]
    fn an_artifact_type_falls_back_to_the_config_but_not_for_an_index() {
        let plain = parse(image("").as_bytes(), None).unwrap();
        assert_eq!(plain.artifact_type.as_deref(), Some("application/vnd.oci.empty.v1+json"));
        let typed = parse(image(r#","artifactType":"a/b""#).as_bytes(), None).unwrap();
        assert_eq!(typed.artifact_type.as_deref(), Some("a/b"));
        let index = parse(br#"{"schemaVersion":2,"manifests":[],"artifactType":""}"#, None).unwrap();
        assert_eq!(index.artifact_type, None);
        refused(&image(&format!(r#","artifactType":"{}""#, "a".repeat(256))));
    }

    #[test]
    fn embedded_data_that_is_not_the_content_is_warned_about() {
        let honest = image("").replacen("\"size\":2", "\"size\":2,\"data\":\"e30=\"", 1);
        assert!(parse(honest.as_bytes(), None).unwrap().warnings.is_empty());
        for data in ["e31=", "!!", "e30=e30="] {
            let forged = honest.replace("e30=", data);
            assert_eq!(parse(forged.as_bytes(), None).unwrap().warnings.len(), 1, "{data}");
        }
    }

    proptest! {
        #[test]
        fn mangled_manifests_are_errors_not_panics(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = image(r#","annotations":{"a":"b"},"artifactType":"x/y""#).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&bytes, None);
            bytes.truncate(cut);
            prop_assert!(cut >= bytes.len() || parse(&bytes, None).is_err());
        }
    }
}
