// SPDX-License-Identifier: AGPL-3.0-only
//! The forms of evidence, as JSON that is read without being kept: a document of a few MiB must not become a tree of
//! many times that.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use stella_storage::Digest;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// What a part of a manifest is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A config that makes no image of it.
    Config,
    /// A payload that a signature in the layer's annotations is about.
    SimpleSigning,
    /// An attestation.
    Dsse,
    /// A signature or an attestation with what proves it.
    Bundle,
}

impl Form {
    /// Of a layer of this media type.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            SIMPLE_SIGNING => Some(Form::SimpleSigning),
            DSSE => Some(Form::Dsse),
            other => other.starts_with(BUNDLE).then_some(Form::Bundle),
        }
    }

    /// Whether these bytes are of this form, and of no other that a client would unpack.
    pub(super) fn is_of(self, bytes: &[u8]) -> bool {
        let is = match self {
            Form::Config => serde_json::from_slice::<Config>(bytes).is_ok_and(|config| config.is_of_no_image),
            Form::SimpleSigning => serde_json::from_slice::<SimpleSigning>(bytes)
                .is_ok_and(|payload| payload.critical.image.digest.parse::<Digest>().is_ok()),
            Form::Dsse => {
                serde_json::from_slice::<Envelope>(bytes).is_ok_and(|envelope| envelope.is_signed())
            }
            Form::Bundle => serde_json::from_slice::<Bundle>(bytes).is_ok_and(|bundle| bundle.is_whole()),
        };
        // A list of the members' values would be read too.
        is && bytes.trim_ascii_start().starts_with(b"{") && !is_tar(bytes)
    }
}

/// The config of an artifact, or the one that cosign writes: of no system, and running nothing, however its members are
/// spelt, because Go's clients read them in any case.
struct Config {
    is_of_no_image: bool,
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConfigVisitor;

        impl<'de> Visitor<'de> for ConfigVisitor {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let (mut is_of_no_image, mut seen) = (true, Vec::new());
                while let Some(name) = map.next_key::<String>()? {
                    let name: String =
                        name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
                    let is_empty = match name.as_str() {
                        "os" | "architecture" => {
                            map.next_value::<Option<String>>()?.is_none_or(|text| text.is_empty())
                        }
                        "config" => map.next_value::<Option<Members>>()?.is_none_or(|members| members.0 == 0),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    is_of_no_image &= is_empty && !seen.contains(&name);
                    seen.push(name);
                }
                Ok(Config { is_of_no_image })
            }
        }

        deserializer.deserialize_map(ConfigVisitor)
    }
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    _kind: Text,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(rename = "payload")]
    _payload: Text,
    #[serde(rename = "payloadType")]
    _payload_type: Text,
    signatures: Vec<Signature>,
}

impl Envelope {
    fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }
}

#[derive(Deserialize)]
struct Signature {
    #[serde(rename = "sig")]
    _sig: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(rename = "verificationMaterial")]
    _material: Members,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
struct MessageSignature {
    #[serde(rename = "signature")]
    _signature: Text,
}

impl Bundle {
    fn is_whole(&self) -> bool {
        let signed = match (&self.dsse_envelope, &self.message_signature) {
            (Some(envelope), None) => envelope.is_signed(),
            (None, Some(_)) => true,
            _ => false,
        };
        signed && self.media_type.starts_with(BUNDLE)
    }
}

/// Some text.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// An object with so many members.
struct Members(usize);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Members(count))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Whether the bytes begin with the head of a file in a tar archive, whose checksum is right: JSON can be made so, and
/// would be unpacked by who takes it for a layer.
pub(crate) fn is_tar(bytes: &[u8]) -> bool {
    let (Some(head), Some(told)) = (bytes.get(..512), bytes.get(148..156)) else { return false };
    let told: String =
        told.iter().map(|&byte| char::from(byte)).filter(|c| !matches!(c, ' ' | '\0')).collect();
    // Some programs wrote, and all read, sums of bytes with a sign.
    let sum = |number: fn(u8) -> i64| {
        let of = |bytes: &[u8]| bytes.iter().map(|&byte| number(byte)).sum::<i64>();
        of(head) - of(head.get(148..156).unwrap_or_default()) + 8 * i64::from(b' ')
    };
    let sums = [sum(i64::from), sum(|byte| i64::from(byte.cast_signed()))];
    i64::from_str_radix(&told, 8).is_ok_and(|told| sums.contains(&told))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DSSE_TEXT: &str =
        r#"{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEU="}]}"#;

    #[test]
    fn a_layer_must_be_what_it_is_said_to_be() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let simple = format!(
            r#"{{"critical":{{"identity":{{}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}}}}"#
        );
        let bundle = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{}},"dsseEnvelope":{DSSE_TEXT}}}"#
        );
        let forms = [SIMPLE_SIGNING, DSSE, "application/vnd.dev.sigstore.bundle.v0.3+json"];
        let texts = [simple.as_str(), DSSE_TEXT, &bundle];
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
                r#"{"payload":"","payload":"","payloadType":"","signatures":[{"sig":""}]}"#,
            ] {
                assert!(!form.is_of(bad.as_bytes()), "{media_type} {bad}");
            }
        }
        for other in ["application/vnd.oci.image.layer.v1.tar+gzip", "", "application/json"] {
            assert!(Form::of(other).is_none());
        }
    }

    #[test]
    fn a_config_makes_no_image_of_it() {
        for (text, yes) in [
            ("{}", true),
            (
                r#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:aa"]}}"#,
                true,
            ),
            (r#"{"architecture":"amd64","os":"linux"}"#, false),
            (r#"{"os":"linux"}"#, false),
            (r#"{"OS":"linux"}"#, false),
            (r#"{"oſ":"linux"}"#, false),
            (r#"{"os":"","OS":""}"#, false),
            (r#"{"Config":{"Cmd":["sh"]}}"#, false),
            (r#"{"config":{"Cmd":["sh"]}}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(Form::Config.is_of(text.as_bytes()), yes, "{text}");
        }
    }

    #[test]
    fn what_can_be_unpacked_is_no_evidence() {
        // A name that is JSON, and a checksum that is right.
        let mut tar = format!(
            r#"{{"payload":"","payloadType":"","signatures":[{{"sig":""}}],"x":"{}"#,
            "y".repeat(2000)
        )
        .into_bytes();
        tar.extend_from_slice(b"\"}");
        assert!(Form::Dsse.is_of(&tar));
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().map(|&byte| u32::from(byte)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}  ").as_bytes());
        assert!(serde_json::from_slice::<Envelope>(&tar).is_ok());
        assert!(!Form::Dsse.is_of(&tar));
        // The same with a name that is not ASCII, and a sum of bytes with a sign.
        tar[200..202].copy_from_slice("é".as_bytes());
        tar[148..156].fill(b' ');
        let sum: i64 = tar[..512].iter().map(|&byte| i64::from(byte.cast_signed())).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}  ").as_bytes());
        assert!(serde_json::from_slice::<Envelope>(&tar).is_ok());
        assert!(!Form::Dsse.is_of(&tar));
    }
}
