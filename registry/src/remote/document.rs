// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests and indexes as a client reads them: what they name, and no more. Their bytes are passed on as
//! they are. Go clients write `null` for what is absent.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use stella_storage::Digest;
use stella_storage::manifest::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

use super::error::{Error, Result};
use super::text::printable;

/// An artifact manifest that never became part of the specification, but is around.
pub(super) const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// What a manifest says of something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) urls: Option<Vec<String>>,
}

impl Descriptor {
    /// Whether it is fetched from `manifests/`, and not from `blobs/`. `BuildKit`'s caches are indexes of blobs.
    pub(crate) fn is_manifest(&self) -> bool {
        [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, OCI_ARTIFACT].contains(&&*self.media_type)
    }

    /// Whether registries do without its bytes: layers that may not be distributed.
    pub(crate) fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

/// The machine that an image is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub(crate) os_version: Option<String>,
}

impl Platform {
    /// Whether an image for this platform is what was `wanted`. What was not asked for may be anything.
    pub(crate) fn is(&self, wanted: &Platform) -> bool {
        // arm64 has one variant, which most leave out.
        let variant = |platform: &Platform| match platform.variant.as_deref() {
            None | Some("") => (platform.architecture == "arm64").then(|| "v8".to_owned()),
            Some(variant) => Some(variant.to_owned()),
        };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (variant(wanted).is_none() || variant(self) == variant(wanted))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut parts = text.split('/').map(str::to_owned);
        let (Some(os), Some(architecture), variant, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("write OS/ARCHITECTURE[/VARIANT], such as linux/arm64".to_owned());
        };
        if os.is_empty() || architecture.is_empty() || variant.as_deref() == Some("") {
            return Err("write OS/ARCHITECTURE[/VARIANT], such as linux/arm64".to_owned());
        }
        Ok(Platform { os, architecture, variant, os_version: None })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .filter(|variant| !variant.is_empty())
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A manifest or an index.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Document {
    schema_version: u32,
    pub(crate) media_type: Option<String>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of an artifact manifest.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    pub(crate) subject: Option<Descriptor>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Reads a manifest; what two parsers would read differently is refused.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::Integrity(format!("not a manifest that is understood: {why}"));
        // A list would be read as the values of the fields.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(wrong("it is no JSON object".to_owned()));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| wrong(printable(&error.to_string(), 200)))?;
        if document.schema_version == 1 {
            return Err(wrong("it is of Docker's schema 1, which nobody supports any more".to_owned()));
        }
        // CVE-2021-41190: an image to one client, an index to another.
        if document.manifests.is_some() && (document.layers.is_some() || document.config.is_some()) {
            return Err(wrong("it is both an image and an index".to_owned()));
        }
        Ok(document)
    }

    /// Whether it is a list of manifests.
    pub(crate) fn is_index(&self) -> bool {
        self.manifests.is_some()
    }

    /// The manifests that an index lists.
    pub(crate) fn manifests(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// The layers of an image, or the blobs of an artifact.
    pub(crate) fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().or(self.blobs.as_deref()).unwrap_or_default()
    }

    /// Its media type: as it was sent, else as it says itself, else by its shape.
    pub(super) fn media_type_or(&self, sent: Option<&str>) -> String {
        let sent = sent.map(|sent| sent.split(';').next().unwrap_or_default().trim());
        let known = sent.filter(|sent| sent.starts_with("application/vnd."));
        let shape = if self.is_index() { OCI_INDEX } else { OCI_MANIFEST };
        known.or(self.media_type.as_deref()).unwrap_or(shape).to_owned()
    }

    /// The artifact type that a list of referrers gives it: its own, else an image's config's media type.
    pub(crate) fn effective_artifact_type(&self) -> Option<String> {
        let config = || self.config.as_ref().map(|config| config.media_type.clone());
        self.artifact_type.clone().filter(|own| !own.is_empty()).or_else(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_compared_by_what_was_asked_for() {
        assert!(platform("linux/arm/v7").is(&platform("linux/arm")));
        assert!(!platform("linux/arm/v6").is(&platform("linux/arm/v7")));
        assert!(platform("linux/arm64").is(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm64/v8").is(&platform("linux/arm64")));
        assert!(!platform("linux/amd64").is(&platform("linux/arm64")));
        for wrong in ["linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d", ""] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn absent_and_null_are_the_same_and_two_meanings_are_refused() {
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let text = format!(
            r#"{{"schemaVersion":2,"layers":null,"annotations":null,"subject":null,
            "config":{{"mediaType":"x/y","digest":"{digest}","size":2,"urls":null,"platform":null}}}}"#
        );
        let document = Document::parse(text.as_bytes()).unwrap();
        assert!(!document.is_index() && document.layers().is_empty());
        assert_eq!(document.effective_artifact_type().as_deref(), Some("x/y"));
        for wrong in [
            r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            r#"{"schemaVersion":2,"layers":[],"layers":[]}"#,
            r#"{"layers":[{"mediaType":"a/b","digest":"sha256:x","size":1}]}"#,
            "[]",
            "",
        ] {
            assert!(matches!(Document::parse(wrong.as_bytes()), Err(Error::Integrity(_))), "{wrong}");
        }
    }

    #[test]
    fn the_media_type_is_that_of_the_answer_else_its_own_else_its_shape() {
        let document =
            Document::parse(br#"{"schemaVersion":2,"mediaType":"application/vnd.a","manifests":[]}"#);
        let document = document.unwrap();
        assert_eq!(document.media_type_or(Some("application/vnd.b; charset=utf-8")), "application/vnd.b");
        assert_eq!(document.media_type_or(Some("text/plain")), "application/vnd.a");
        let bare = Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!(bare.media_type_or(None), OCI_INDEX);
    }
}
