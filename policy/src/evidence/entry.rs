// SPDX-License-Identifier: AGPL-3.0-only
//! Entries of Rekor: hashedrekord 0.0.1 and 0.0.2, dsse 0.0.1, intoto 0.0.1 and 0.0.2. Whether an entry is genuine is for
//! `verify::log`, whether it is of this signature for `verify::bound`; here it must be well formed and agree with itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sigstore_types::TransparencyLogEntry;
use sigstore_types::bundle::CheckpointData;

use super::body;
use super::parsed::{Entry, Logged};
use crate::Reason;
use crate::json as strict;
use crate::limits::ATTESTATION_BYTES;
use crate::refusal::Refusal;

/// What kind of entry.
pub(super) struct Kind {
    pub(super) kind: String,
    pub(super) version: String,
}

/// An entry's parts.
pub(super) struct Raw {
    pub(super) index: u64,
    pub(super) log: Vec<u8>,
    pub(super) kind: Kind,
    /// Zero is none.
    pub(super) integrated: u64,
    pub(super) promise: Option<Vec<u8>>,
    pub(super) proof: Option<Proof>,
    pub(super) body: Vec<u8>,
}

/// A proof's parts. Those that a checkpoint has too may be left out.
pub(super) struct Proof {
    pub(super) index: Option<u64>,
    pub(super) root: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) checkpoint: String,
}

/// What is read of every body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    api_version: String,
    kind: String,
    spec: Value,
}

/// The kind that a body says that it is of.
pub(super) fn kind_of(body: &[u8]) -> Result<Kind, Refusal> {
    let body: Whole =
        strict::read(body, ATTESTATION_BYTES).map_err(|refusal| refusal.at("the log entry's body"))?;
    Ok(Kind { kind: body.kind, version: body.api_version })
}

/// Reads an entry.
pub(super) fn read(raw: Raw) -> Entry {
    let log = |why: String| Refusal::log(format!("a log entry: {why}"));
    let body: Whole = strict::read(&raw.body, ATTESTATION_BYTES).map_err(|refusal| log(refusal.why))?;
    let Kind { kind, version } = &raw.kind;
    if (&body.kind, &body.api_version) != (kind, version) {
        let inner = format!("{} {}", body.kind, body.api_version);
        return Err(log(format!("said to be {kind} {version}, its body is {inner}")));
    }
    // What is of no known kind is unsupported, the rest an entry that is wrong.
    let read = body::read(kind, version, body.spec).map_err(|refusal| match refusal.reason {
        Reason::Unsupported => refusal,
        _ => log(refusal.why),
    })?;
    // The crates have no name for this one and are never asked about it.
    let version = if kind == "intoto" { "0.0.2" } else { version };
    let mut entry = Map::new();
    entry.insert("logIndex".into(), raw.index.to_string().into());
    entry.insert("logId".into(), json!({"keyId": STANDARD.encode(&raw.log)}));
    entry.insert("kindVersion".into(), json!({"kind": kind, "version": version}));
    entry.insert("canonicalizedBody".into(), STANDARD.encode(&raw.body).into());
    if raw.integrated != 0 {
        entry.insert("integratedTime".into(), raw.integrated.to_string().into());
    }
    if let Some(promise) = raw.promise {
        entry.insert("inclusionPromise".into(), json!({"signedEntryTimestamp": STANDARD.encode(promise)}));
    }
    if let Some(proof) = raw.proof {
        entry.insert("inclusionProof".into(), proof_json(proof)?);
    }
    let entry =
        TransparencyLogEntry::deserialize(Value::Object(entry)).map_err(|error| log(error.to_string()))?;
    Ok(Logged { body: read, entry })
}

fn proof_json(proof: Proof) -> Result<Value, Refusal> {
    let unread = |why: &str| Refusal::log(format!("a log entry's proof: {why}"));
    if proof.checkpoint.is_empty() {
        return Err(Refusal::unsupported(
            "a log entry's proof has no checkpoint, so nothing says that its root is the log's; not verified here",
        ));
    }
    let data = CheckpointData::new(proof.checkpoint.as_str()).map_err(|error| unread(&error.to_string()))?;
    let checkpoint = data.checkpoint().ok_or_else(|| unread("an empty checkpoint"))?;
    // What is left out is the checkpoint's; what is there must be the same (checked in `verify::log`).
    let size = proof.size.unwrap_or(checkpoint.tree_size());
    let root = proof.root.unwrap_or_else(|| checkpoint.root_hash().as_bytes().to_vec());
    let hashes: Vec<Value> = proof.hashes.iter().map(|hash| STANDARD.encode(hash).into()).collect();
    let mut json = json!({
        "rootHash": STANDARD.encode(root),
        "treeSize": size.to_string(),
        "hashes": hashes,
        "checkpoint": {"envelope": proof.checkpoint},
    });
    if let (Some(index), Some(object)) = (proof.index, json.as_object_mut()) {
        object.insert("logIndex".into(), index.to_string().into());
    }
    Ok(json)
}
