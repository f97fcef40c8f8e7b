// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a manifest is evidence: signatures, attestations or Sigstore bundles, and nothing else.
//!
//! What a manifest declares proves nothing: anybody can put any bytes behind any media type. So each of its layers is
//! read, and must be what it is said to be. An index is evidence if all that it lists is there and is (the fallback tags
//! of referrers are such). Nothing is verified here: evidence may be wrong, and is then only of no use.

use serde::Deserialize;
use serde_json::Value;
use stella_storage::{Digest, Reference, RepoName, Store};

use crate::error::ApiError;

/// What a signature may weigh: a bundle with a long chain and a large attestation has hundreds of KiB.
pub(crate) const MAX_LAYER: u64 = 8 << 20;
const MAX_LAYERS: usize = 100;
const MAX_CONFIG: u64 = 64 << 10;
const MAX_CHILDREN: usize = 100;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    urls: Option<Value>,
    data: Option<Value>,
}

/// Whether a manifest that is pushed to a repository is evidence. What it names was pushed before.
pub(crate) async fn is_evidence(store: &Store, repo: &RepoName, manifest: &[u8]) -> Result<bool, ApiError> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else { return Ok(false) };
    let Some(children) = &manifest.manifests else { return is_signature(store, repo, &manifest).await };
    if children.is_empty()
        || children.len() > MAX_CHILDREN
        || manifest.layers.is_some()
        || manifest.config.is_some()
    {
        return Ok(false);
    }
    for child in children {
        let Some(digest) = child.plain() else { return Ok(false) };
        let child = match store.manifest(repo, &Reference::Digest(digest)).await {
            Ok(child) => child,
            Err(stella_storage::Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Ok(child) = serde_json::from_slice::<Manifest>(&child.bytes) else { return Ok(false) };
        // One level: an index of indexes lists images.
        if child.manifests.is_some() || !is_signature(store, repo, &child).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_signature(store: &Store, repo: &RepoName, manifest: &Manifest) -> Result<bool, ApiError> {
    let config = manifest.config.as_ref();
    let Some(layers) = &manifest.layers else { return Ok(false) };
    let small = config.is_none_or(|config| config.size <= MAX_CONFIG && config.plain().is_some());
    if layers.is_empty() || layers.len() > MAX_LAYERS || !small {
        return Ok(false);
    }
    for layer in layers {
        let Some(form) = layer.media_type.as_deref().and_then(Form::of) else { return Ok(false) };
        let Some(digest) = layer.plain().filter(|_| layer.size <= MAX_LAYER) else { return Ok(false) };
        let blob = match store.blob(repo, &digest).await {
            Ok(blob) if blob.size <= MAX_LAYER => blob,
            Ok(_) | Err(stella_storage::Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Some(bytes) = store.read_small(&blob, MAX_LAYER).await? else { return Ok(false) };
        if !form.is_of(&bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Descriptor {
    /// Its digest, if it names content here and nowhere else.
    fn plain(&self) -> Option<Digest> {
        let absent = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_null);
        (absent(&self.urls) && absent(&self.data)).then(|| self.digest.parse().ok()).flatten()
    }
}

/// The forms of evidence.
enum Form {
    /// A payload that a signature in the layer's annotations is about.
    SimpleSigning,
    /// An attestation.
    Dsse,
    /// A signature or an attestation with what proves it.
    Bundle,
}

impl Form {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            SIMPLE_SIGNING => Some(Form::SimpleSigning),
            DSSE => Some(Form::Dsse),
            other => other.starts_with(BUNDLE).then_some(Form::Bundle),
        }
    }

    fn is_of(&self, bytes: &[u8]) -> bool {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return false };
        match self {
            Form::SimpleSigning => {
                let digest = value.pointer("/critical/image/docker-manifest-digest").and_then(Value::as_str);
                digest.is_some_and(|digest| digest.parse::<Digest>().is_ok())
                    && value.pointer("/critical/type").is_some_and(Value::is_string)
            }
            Form::Dsse => is_envelope(&value),
            Form::Bundle => {
                let declared = value.get("mediaType").and_then(Value::as_str);
                let content = value.get("dsseEnvelope").is_some_and(is_envelope)
                    || value.pointer("/messageSignature/signature").is_some_and(Value::is_string);
                declared.is_some_and(|declared| declared.starts_with(BUNDLE))
                    && value.get("verificationMaterial").is_some_and(Value::is_object)
                    && content
            }
        }
    }
}

/// Whether this is a DSSE envelope.
fn is_envelope(value: &Value) -> bool {
    let text = |name: &str| value.get(name).is_some_and(Value::is_string);
    let signatures = value.get("signatures").and_then(Value::as_array);
    text("payload")
        && text("payloadType")
        && signatures.is_some_and(|signatures| {
            !signatures.is_empty()
                && signatures.iter().all(|signature| signature.get("sig").is_some_and(Value::is_string))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_must_be_what_it_is_said_to_be() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let simple = format!(
            r#"{{"critical":{{"identity":{{}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}}}}"#
        );
        let dsse = r#"{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEU="}]}"#;
        let bundle = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{}},"dsseEnvelope":{dsse}}}"#
        );
        let forms = [SIMPLE_SIGNING, DSSE, "application/vnd.dev.sigstore.bundle.v0.3+json"];
        let texts = [simple.as_str(), dsse, &bundle];
        for (at, media_type) in forms.iter().enumerate() {
            let form = Form::of(media_type).unwrap();
            for (other, text) in texts.iter().enumerate() {
                assert_eq!(form.is_of(text.as_bytes()), at == other, "{media_type} {text}");
            }
            for bad in [
                "",
                "{}",
                "[]",
                "\u{7f}ELF",
                r#"{"critical":{}}"#,
                r#"{"payload":"","payloadType":"","signatures":[]}"#,
            ] {
                assert!(!form.is_of(bad.as_bytes()), "{media_type} {bad}");
            }
        }
        for other in ["application/vnd.oci.image.layer.v1.tar+gzip", "", "application/json"] {
            assert!(Form::of(other).is_none());
        }
    }
}
