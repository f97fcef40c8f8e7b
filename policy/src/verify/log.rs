// SPDX-License-Identifier: AGPL-3.0-only
//! That an entry is a log's: that the log is the one which the entry names, that it promised it, that the entry is in the
//! tree of a checkpoint which is the log's own and signed by it, that what is said twice is the same, and that the log's
//! key was valid when the signature was made. (Sigstore's crates leave some of it open: `signatures.md` §8, 1 to 3.) What
//! the entry says is compared in `bound`. Witnesses' signatures on a checkpoint count for nothing here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_types::bundle::InclusionProof;
use sigstore_types::{KindVersion, SignatureBytes, TransparencyLogEntry};

use super::roots::{Log, Root};
use crate::refusal::Refusal;
use crate::{LogEntry, ProvenTime, Time, TimeSource};

/// The log that an entry names, if the entry is its.
pub(super) fn named<'a>(
    root: &'a Root,
    entry: &TransparencyLogEntry,
    promises: bool,
) -> Result<&'a Log, Refusal> {
    let id = entry.log_id.key_id.as_bytes();
    let log = root.log(id).ok_or_else(|| {
        Refusal::log(format!("an entry of the log {}, which no trust root has", ::hex::encode(id)))
    })?;
    match &entry.inclusion_proof {
        Some(proof) => own_checkpoint(log, entry, proof)?,
        // A bundle without a proof would be the weaker form under the stronger one's name.
        None if !promises => {
            return Err(Refusal::log("an entry of a log comes without a proof of inclusion"));
        }
        None if entry.inclusion_promise.is_none() => {
            return Err(Refusal::log("an entry of a log comes without a promise and without a proof"));
        }
        None => {}
    }
    if is_v2(entry) && entry.inclusion_promise.is_some() {
        return Err(Refusal::log("an entry of Rekor v2 comes with a promise, which there are none of"));
    }
    if let Some(promise) = &entry.inclusion_promise {
        promised(log, entry, promise.signed_entry_timestamp.as_bytes())?;
    }
    if let Some(proof) = &entry.inclusion_proof {
        included(entry, proof)?;
    }
    Ok(log)
}

/// That the log's promise is of this entry, with this index and time. It signs JSON in canonical form (RFC 8785).
fn promised(log: &Log, entry: &TransparencyLogEntry, promise: &[u8]) -> Result<(), Refusal> {
    // An entry that names no time promised zero.
    let at = if let Some(time) = entry.integrated_time { time.as_second() } else { 0 };
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(entry.canonicalized_body.as_bytes()),
        at,
        ::hex::encode(&log.id),
        entry.log_index.get(),
    );
    log.key
        .verify(signed, &SignatureBytes::new(promise.to_vec()))
        .map_err(|_| Refusal::log(format!("a promise that {} did not sign", log.url)))
}

/// That the entry is in the tree of the checkpoint.
fn included(entry: &TransparencyLogEntry, proof: &InclusionProof) -> Result<(), Refusal> {
    let leaf = hash_leaf(entry.canonicalized_body.as_bytes());
    let index = if is_v2(entry) { entry.log_index } else { proof.log_index };
    verify_inclusion_proof(&leaf, index.get(), proof.tree_size, &proof.hashes, &proof.root_hash)
        .map_err(|error| Refusal::log(format!("a proof of inclusion that proves nothing: {error}")))
}

fn is_v2(entry: &TransparencyLogEntry) -> bool {
    entry.kind_version == KindVersion::HashedRekordV002
}

fn own_checkpoint(log: &Log, entry: &TransparencyLogEntry, proof: &InclusionProof) -> Result<(), Refusal> {
    let checkpoint =
        proof.checkpoint.checkpoint().ok_or_else(|| Refusal::log("a proof without a checkpoint"))?;
    if !log.is_origin(checkpoint.origin()) {
        return Err(Refusal::log(format!("a checkpoint of {:?}, not of {}", checkpoint.origin(), log.url)));
    }
    if checkpoint.tree_size() != proof.tree_size {
        return Err(Refusal::log("a proof for another size of the tree than its checkpoint's"));
    }
    if checkpoint.root_hash() != &proof.root_hash {
        return Err(Refusal::log("a proof for another root of the tree than its checkpoint's"));
    }
    if is_v2(entry) && proof.log_index.get() != 0 && proof.log_index != entry.log_index {
        return Err(Refusal::log("a proof for another place than its entry's"));
    }
    let hint = log.id.get(..4).unwrap_or_default();
    let message = checkpoint.signed_data();
    let signed = checkpoint.signatures().iter().any(|signature| {
        log.is_called(&signature.name)
            && signature.key_id.as_slice() == hint
            && log.key.verify(message, &signature.signature).is_ok()
    });
    if !signed {
        return Err(Refusal::log(format!("a checkpoint that {} did not sign", log.url)));
    }
    one_spelling(proof.checkpoint.envelope())
}

/// A signed note has one blank line, and lines of signatures after it. What is anywhere else nobody signed.
fn one_spelling(note: &str) -> Result<(), Refusal> {
    let lines = note.split_once("\n\n").map(|(_, lines)| lines).unwrap_or_default();
    let in_order = lines.strip_suffix('\n').is_some_and(|lines| {
        lines.split('\n').all(|line| {
            let mut parts = line.split(' ');
            parts.next() == Some("\u{2014}")
                && parts.next().is_some_and(|name| !name.is_empty())
                && parts.next().is_some_and(|signature| crate::json::base64(signature).is_ok())
                && parts.next().is_none()
        })
    });
    if in_order { Ok(()) } else { Err(Refusal::log("a checkpoint that is not written as one")) }
}

/// That the log's key was valid at each of these times. Without any, only a key that never ended can be believed.
pub(super) fn in_window(log: &Log, times: &[i64]) -> Result<(), Refusal> {
    if times.is_empty() && log.window.end.is_some() {
        return Err(Refusal::log(format!(
            "the key of {} is no longer valid, and nothing trusted says that it was when this was signed",
            log.url
        )));
    }
    match times.iter().find(|time| !log.window.contains(**time)) {
        None => Ok(()),
        Some(time) => {
            Err(Refusal::log(format!("the key of {} was not valid at {time}, when this was signed", log.url)))
        }
    }
}

/// When a log says to have taken an entry in, if it promised that under its signature.
pub(super) fn promised_time(entry: &TransparencyLogEntry) -> Option<i64> {
    let at = entry.integrated_time?.as_second();
    (!is_v2(entry) && entry.inclusion_promise.is_some()).then_some(at)
}

/// The time of a promise that was checked.
pub(super) fn proven_time(root: &Root, log: &Log, entry: &TransparencyLogEntry) -> Option<ProvenTime> {
    promised_time(entry).map(|at| ProvenTime {
        at: Time(at),
        source: TimeSource::Log,
        root: root.name.clone(),
        authority: ::hex::encode(&log.id),
    })
}

/// What is known of an entry that was checked. Without a promise, its index in the whole log is not authenticated, but
/// that in the tree of the proof is.
pub(super) fn proven(root: &Root, log: &Log, entry: &TransparencyLogEntry) -> LogEntry {
    let index = match (&entry.inclusion_proof, &entry.inclusion_promise) {
        (Some(proof), None) if !is_v2(entry) => proof.log_index.get(),
        _ => entry.log_index.get(),
    };
    LogEntry {
        root: root.name.clone(),
        log: ::hex::encode(&log.id),
        url: log.url.clone(),
        index,
        included: entry.inclusion_proof.is_some(),
    }
}

/// One entry for each log, one time for each authority: the first of them.
pub(super) fn distinct(mut entries: Vec<LogEntry>) -> Vec<LogEntry> {
    entries.sort_by(|a, b| (&a.root, &a.log, a.index).cmp(&(&b.root, &b.log, b.index)));
    entries.dedup_by(|later, first| (&later.root, &later.log) == (&first.root, &first.log));
    entries
}

/// One time for each authority, the earliest; all in ascending order.
pub(super) fn distinct_times(mut times: Vec<ProvenTime>) -> Vec<ProvenTime> {
    times.sort();
    let mut distinct: Vec<ProvenTime> = Vec::new();
    for time in times {
        let same =
            |earlier: &ProvenTime| earlier.source == time.source && earlier.authority == time.authority;
        if !distinct.iter().any(same) {
            distinct.push(time);
        }
    }
    distinct
}
