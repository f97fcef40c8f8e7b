// SPDX-License-Identifier: AGPL-3.0-only
//! What entries of Rekor say, by kind: of which bytes by their hash, which signature, whose key or certificate. Here it is
//! read; whether it is what lies in the evidence is compared in `verify::bound`, for all kinds in one place.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sigstore_types::HashAlgorithm;

use crate::json;
use crate::pem;
use crate::refusal::Refusal;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// `hashedrekord`: what was signed by its hash; of an envelope, its pre-authentication encoding.
    /// Rekor v2 says how the key signs too; that is found out otherwise.
    Hashed { hash: Hash, signature: Vec<u8>, signer: Named, details: Option<String> },
    /// `dsse` 0.0.1 and `intoto` 0.0.2: a payload by its hash, with its type where that is said, signed once.
    Payload { hash: Hash, kind: Option<String>, signature: Vec<u8>, signer: Named },
    /// `intoto` 0.0.1: a whole envelope, byte for byte, by its hash. The signature is in it.
    Envelope { hash: Hash, signer: Named },
}

/// A hash, of the length that its algorithm has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hash {
    pub(crate) algorithm: HashAlgorithm,
    pub(crate) value: Vec<u8>,
}

/// Who signed, by an entry, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Key(Vec<u8>),
    Certificate(Vec<u8>),
}

/// A hash as Rekor v1 writes it.
#[derive(Deserialize)]
struct HexHash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

#[derive(Deserialize)]
struct Hashedrekord1 {
    data: Data1,
    signature: Signature1,
}

#[derive(Deserialize)]
struct Data1 {
    hash: HexHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature1 {
    content: String,
    public_key: Content,
}

#[derive(Deserialize)]
struct Hashedrekord2 {
    #[serde(rename = "hashedRekordV002")]
    inner: Inner2,
}

#[derive(Deserialize)]
struct Inner2 {
    data: Data2,
    signature: Signature2,
}

/// A hash as Rekor v2 writes it.
#[derive(Deserialize)]
struct Data2 {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Signature2 {
    content: String,
    verifier: Verifier2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verifier2 {
    key_details: Option<String>,
    x509_certificate: Option<RawBytes>,
    public_key: Option<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse1 {
    payload_hash: HexHash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
struct Intoto2 {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoContent {
    envelope: IntotoEnvelope,
    payload_hash: HexHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoEnvelope {
    payload_type: String,
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoSignature {
    sig: String,
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto1 {
    content: Intoto1Content,
    public_key: String,
}

#[derive(Deserialize)]
struct Intoto1Content {
    hash: HexHash,
}

/// Reads what an entry of this kind says.
pub(super) fn read(kind: &str, version: &str, spec: Value) -> Result<Body, Refusal> {
    match (kind, version) {
        ("hashedrekord", "0.0.1") => {
            let Hashedrekord1 { data, signature } = parts(spec)?;
            let signer = named(&signature.public_key.content)?;
            let (hash, signature) = (data.hash.read()?, json::base64(&signature.content)?);
            Ok(Body::Hashed { hash, signature, signer, details: None })
        }
        ("hashedrekord", "0.0.2") => {
            let Hashedrekord2 { inner: Inner2 { data, signature } } = parts(spec)?;
            let signer = match (signature.verifier.public_key, signature.verifier.x509_certificate) {
                (Some(key), None) => Named::Key(json::base64(&key.raw_bytes)?),
                (None, Some(certificate)) => Named::Certificate(json::base64(&certificate.raw_bytes)?),
                _ => return Err(Refusal::malformed("one of publicKey and x509Certificate is expected")),
            };
            let (hash, details) = (data.read()?, signature.verifier.key_details);
            Ok(Body::Hashed { hash, signature: json::base64(&signature.content)?, signer, details })
        }
        ("dsse", "0.0.1") => {
            let Dsse1 { payload_hash, signatures } = parts(spec)?;
            let [one] = signatures.as_slice() else { return Err(not_once(signatures.len())) };
            let (signature, signer) = (json::base64(&one.signature)?, named(&one.verifier)?);
            Ok(Body::Payload { hash: payload_hash.read()?, kind: None, signature, signer })
        }
        ("intoto", "0.0.2") => {
            let Intoto2 { content: IntotoContent { envelope, payload_hash } } = parts(spec)?;
            let [one] = envelope.signatures.as_slice() else {
                return Err(not_once(envelope.signatures.len()));
            };
            // Base64 of base64: Rekor took the text in the envelope for bytes.
            let text = String::from_utf8(json::base64(&one.sig)?)
                .map_err(|_| Refusal::malformed("a signature that is not base64 of base64"))?;
            let (signature, signer) = (json::base64(&text)?, named(&one.public_key)?);
            let kind = Some(envelope.payload_type);
            Ok(Body::Payload { hash: payload_hash.read()?, kind, signature, signer })
        }
        ("intoto", "0.0.1") => {
            let Intoto1 { content, public_key } = parts(spec)?;
            Ok(Body::Envelope { hash: content.hash.read()?, signer: named(&public_key)? })
        }
        _ => Err(Refusal::unsupported(format!("log entries of kind {kind} {version} are not verified here"))),
    }
}

fn parts<T: DeserializeOwned>(spec: Value) -> Result<T, Refusal> {
    serde_json::from_value(spec).map_err(|error| Refusal::malformed(error.to_string()))
}

fn not_once(count: usize) -> Refusal {
    Refusal::malformed(format!("{count} signatures of one envelope"))
}

/// A key or a certificate: base64 of the only block of PEM.
fn named(text: &str) -> Result<Named, Refusal> {
    let text = String::from_utf8(json::base64(text)?)
        .map_err(|_| Refusal::malformed("neither a key nor a certificate in PEM"))?;
    match pem::blocks(&text, 1)?.as_slice() {
        [block] if block.label == "PUBLIC KEY" => Ok(Named::Key(block.bytes.to_vec())),
        [block] if block.label == "CERTIFICATE" => Ok(Named::Certificate(block.bytes.to_vec())),
        _ => Err(Refusal::malformed("neither a key nor a certificate in PEM")),
    }
}

impl HexHash {
    fn read(&self) -> Result<Hash, Refusal> {
        let algorithm = match self.algorithm.as_str() {
            "sha256" => HashAlgorithm::Sha2256,
            "sha384" => HashAlgorithm::Sha2384,
            "sha512" => HashAlgorithm::Sha2512,
            other => return Err(Refusal::malformed(format!("{other:?} is no known hash"))),
        };
        Hash { algorithm, value: json::hex(&self.value)? }.measured()
    }
}

impl Data2 {
    fn read(&self) -> Result<Hash, Refusal> {
        let algorithm = match self.algorithm.as_str() {
            "SHA2_256" => HashAlgorithm::Sha2256,
            "SHA2_384" => HashAlgorithm::Sha2384,
            "SHA2_512" => HashAlgorithm::Sha2512,
            other => return Err(Refusal::malformed(format!("{other:?} is no known hash"))),
        };
        Hash { algorithm, value: json::base64(&self.digest)? }.measured()
    }
}

impl Hash {
    fn measured(self) -> Result<Self, Refusal> {
        if self.value.len() == self.algorithm.digest_size() {
            Ok(self)
        } else {
            Err(Refusal::malformed(format!("{} bytes are no {}", self.value.len(), self.algorithm)))
        }
    }
}
