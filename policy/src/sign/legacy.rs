// SPDX-License-Identifier: AGPL-3.0-only
//! The manifests below `.sig` and `.att` tags: images whose layers are signatures or envelopes. Whoever signs adds a
//! layer to what is there; nothing of the others is lost, whatever it is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::envelope::Envelope;
use super::go_json;
use super::referrer::MANIFEST;
use crate::{Digest, Error, PrivateKey, Result};

/// The media type of a simple-signing payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of an envelope.
pub const ATTESTATION: &str = "application/vnd.dsse.envelope.v1+json";
/// The media type of the config beside them.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// As many as cosign reads.
const MOST_LAYERS: usize = 1000;
/// The time that Go has when it has none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The tag under which clients keep what is said of `digest`: `kind` is `sig` or `att`.
pub fn legacy_tag(digest: &Digest, kind: &str) -> String {
    format!("{}.{kind}", digest.as_str().replace(':', "-"))
}

/// One layer, with its bytes.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What stands in it.
    pub bytes: Vec<u8>,
    pub(super) media_type: &'static str,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Layer {
    /// Signs a simple-signing payload.
    pub fn signature(key: &PrivateKey, payload: Vec<u8>) -> Result<Self> {
        let signature = STANDARD.encode(key.sign(&payload)?);
        let annotations = BTreeMap::from([(SIGNATURE.to_owned(), signature)]);
        Ok(Layer { bytes: payload, media_type: SIMPLE_SIGNING, annotations })
    }

    /// Signs a statement.
    pub fn attestation(key: &PrivateKey, statement: &[u8], predicate_type: &str) -> Result<Self> {
        let bytes = Envelope::sign(key, statement)?.to_json()?;
        // The signature is in the envelope.
        let annotations = [(SIGNATURE, ""), ("predicateType", predicate_type)];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Layer { bytes, media_type: ATTESTATION, annotations: annotations.into() })
    }
}

/// What is under such a tag. Fields that are not known here stay as they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyManifest {
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    config: Entry,
    #[serde(default)]
    layers: Vec<Entry>,
    #[serde(flatten)]
    rest: Map<String, Value>,
    #[serde(skip)]
    config_bytes: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    size: u64,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for LegacyManifest {
    fn default() -> Self {
        let config = json!({"architecture": "", "created": NEVER, "history": [], "os": "",
            "rootfs": {"type": "layers", "diff_ids": []}, "config": {}});
        let config_bytes = config.to_string().into_bytes();
        let config = Entry {
            media_type: CONFIG.to_owned(),
            size: 0,
            digest: Digest::of(&config_bytes),
            annotations: None,
            rest: Map::new(),
        };
        let (media_type, layers, rest) = (MANIFEST.to_owned(), Vec::new(), Map::new());
        LegacyManifest { schema_version: 2, media_type, config, layers, rest, config_bytes }
    }
}

impl LegacyManifest {
    /// The digest of the config of a manifest that is there: who adds to it needs its bytes.
    pub fn config_of(manifest: &[u8]) -> Result<Digest> {
        Ok(Self::parse(manifest)?.config.digest)
    }

    /// What is there already: the manifest, and its config.
    pub fn read(manifest: &[u8], config: &[u8]) -> Result<Self> {
        let mut manifest = Self::parse(manifest)?;
        config.clone_into(&mut manifest.config_bytes);
        Ok(manifest)
    }

    /// Whether this key has signed this payload there.
    pub fn has_signature(&self, key: &PrivateKey, payload: &[u8]) -> bool {
        let digest = Digest::of(payload);
        let of = |layer: &Entry| layer.annotations.as_ref()?.get(SIGNATURE).cloned();
        let mut layers = self.layers.iter().filter(|layer| layer.digest == digest);
        layers.any(|layer| {
            let signature = of(layer).and_then(|text| STANDARD.decode(text).ok());
            signature.is_some_and(|signature| key.signed(payload, &signature))
        })
    }

    /// Adds a layer.
    pub fn add(&mut self, layer: &Layer) -> Result<()> {
        if self.layers.len() >= MOST_LAYERS {
            return Err(Error::OverLimit(format!(
                "{MOST_LAYERS} signatures are there, and clients read no more"
            )));
        }
        let digest = Digest::of(&layer.bytes);
        self.config_bytes = with_layer(&self.config_bytes, &digest)?;
        self.config.digest = Digest::of(&self.config_bytes);
        self.config.size = self.config_bytes.len() as u64;
        self.layers.push(Entry {
            media_type: layer.media_type.to_owned(),
            size: layer.bytes.len() as u64,
            digest,
            annotations: Some(layer.annotations.clone()),
            rest: Map::new(),
        });
        Ok(())
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The bytes of its config.
    pub fn config(&self) -> &[u8] {
        &self.config_bytes
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        if self.media_type.is_empty() { MANIFEST } else { &self.media_type }
    }

    /// Its bytes.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        go_json(self)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::Malformed(format!(
                "what is under the tag for signatures is no manifest of an image: {error}"
            ))
        })
    }
}

/// The config with one more layer, in the order in which go-containerregistry writes its fields.
fn with_layer(config: &[u8], digest: &Digest) -> Result<Vec<u8>> {
    #[derive(Serialize, Deserialize)]
    struct Image {
        #[serde(default)]
        architecture: String,
        #[serde(default = "never")]
        created: String,
        #[serde(default)]
        history: Vec<Value>,
        #[serde(default)]
        os: String,
        rootfs: RootFs,
        #[serde(default = "nothing")]
        config: Value,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }
    #[derive(Serialize, Deserialize)]
    struct RootFs {
        r#type: String,
        diff_ids: Vec<String>,
    }
    fn never() -> String {
        NEVER.to_owned()
    }
    fn nothing() -> Value {
        json!({})
    }
    let mut image: Image = serde_json::from_slice(config)
        .map_err(|error| Error::Malformed(format!("the config beside the signatures is none: {error}")))?;
    image.history.push(json!({"created": NEVER}));
    image.rootfs.diff_ids.push(digest.to_string());
    go_json(&image)
}
