// SPDX-License-Identifier: AGPL-3.0-only
//! The manifest that carries a bundle and refers to what is signed (OCI image-spec 1.1, and cosign's
//! `pkg/oci/remote/write.go` for the rest; that it repeats the artifact type in `config` is cosign's habit).

use serde::Serialize;

use super::bundle::BUNDLE;
use super::go_json;
use crate::{Descriptor, Digest, Result, Time};

/// The media type of a config that says nothing (OCI image-spec, "Guidance for an Empty Descriptor").
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of such a config.
pub const EMPTY_CONFIG: &[u8] = b"{}";

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: Content,
    layers: [Content; 1],
    annotations: Annotations<'a>,
    subject: Subject<'a>,
    artifact_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    media_type: &'static str,
    size: usize,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subject<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "dev.sigstore.bundle.content")]
    content: &'static str,
    #[serde(rename = "dev.sigstore.bundle.predicateType")]
    predicate_type: &'a str,
    #[serde(rename = "org.opencontainers.image.created")]
    created: String,
}

/// The manifest that attaches a bundle with a statement of this type to `subject`.
pub fn referrer(subject: &Descriptor, bundle: &[u8], predicate_type: &str, now: Time) -> Result<Vec<u8>> {
    go_json(&Referrer {
        schema_version: 2,
        media_type: MANIFEST,
        config: Content {
            media_type: EMPTY,
            size: EMPTY_CONFIG.len(),
            digest: Digest::of(EMPTY_CONFIG),
            artifact_type: Some(BUNDLE),
        },
        layers: [Content {
            media_type: BUNDLE,
            size: bundle.len(),
            digest: Digest::of(bundle),
            artifact_type: None,
        }],
        annotations: Annotations { content: "dsse-envelope", predicate_type, created: rfc3339(now) },
        subject: Subject { media_type: &subject.media_type, size: subject.size, digest: &subject.digest },
        artifact_type: BUNDLE,
    })
}

/// A time as RFC 3339 has it, in UTC. The years 1 to 9999 are all that is asked for.
pub(super) fn rfc3339(time: Time) -> String {
    let (days, second) = (time.0.div_euclid(86_400), time.0.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}
