// SPDX-License-Identifier: AGPL-3.0-only
//! The simple-signing payload: what a legacy signature signs (cosign, `specs/SIGNATURE_SPEC.md`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::go_json;
use crate::{Digest, Result};

#[derive(Serialize)]
struct Payload<'a> {
    critical: Critical<'a>,
    /// `null` where there are none.
    optional: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct Critical<'a> {
    identity: Identity<'a>,
    image: Image<'a>,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Identity<'a> {
    docker_reference: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Image<'a> {
    docker_manifest_digest: &'a Digest,
}

/// The payload that says: this is `repository`'s image `digest`. A repository has its host before it.
pub fn payload(repository: &str, digest: &Digest, annotations: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    go_json(&Payload {
        critical: Critical {
            identity: Identity { docker_reference: repository },
            image: Image { docker_manifest_digest: digest },
            r#type: "cosign container image signature",
        },
        optional: Some(annotations).filter(|annotations| !annotations.is_empty()),
    })
}
