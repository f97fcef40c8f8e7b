// SPDX-License-Identifier: AGPL-3.0-only
//! In-toto statements: that something is signed (in-toto/attestation, spec v1), and what somebody says of it. For the
//! latter cosign writes version 0.1, in bundles too.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::go_json;
use super::predicate::PredicateType;
use crate::{Algorithm, Digest, Result, Time};

/// The predicate type of a statement that only says: signed.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a, P> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [Subject<'a>; 1],
    predicate_type: &'a str,
    predicate: P,
}

#[derive(Serialize)]
struct Subject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    digest: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

/// The statement that an artifact is signed.
pub fn sign_statement(digest: &Digest, annotations: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    go_json(&Statement {
        kind: "https://in-toto.io/Statement/v1",
        subject: [Subject { name: None, digest: named(digest), annotations: Some(annotations) }],
        predicate_type: SIGN_PREDICATE,
        predicate: BTreeMap::<String, Value>::new(),
    })
}

/// The statement with a predicate about `repository`'s artifact `digest`.
pub fn attest_statement(
    repository: &str,
    digest: &Digest,
    kind: &PredicateType,
    predicate: &[u8],
    now: Time,
) -> Result<Vec<u8>> {
    go_json(&Statement {
        kind: "https://in-toto.io/Statement/v0.1",
        subject: [Subject { name: Some(repository), digest: named(digest), annotations: None }],
        predicate_type: kind.uri(),
        predicate: kind.predicate(predicate, now)?,
    })
}

fn named(digest: &Digest) -> BTreeMap<&'static str, &str> {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    BTreeMap::from([(algorithm, digest.hex())])
}
