// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence that is signed with a key. The signature is checked here, with the keys of the trust alone, because
//! `sigstore-verify` takes nothing without a log or a timestamp. What logs and clocks say of it is checked too and stands
//! beside it: a key vouches for itself, and whether a log must too is for a policy to say.

use sigstore_types::MediaType;
use sigstore_verify::PublicKeyVerificationPolicy;

use super::bound::{self, Whose};
use super::roots::{Log, Root};
use super::subject::{Signed, Subject};
use super::{log, map, timestamp};
use crate::evidence::parsed::{Logged, Parsed};
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::{Evidence, Fact, LogEntry, ProvenTime, PublicKey, Reason, Signer};

/// Checks evidence under the keys.
pub(super) fn verify(
    keys: &[PublicKey],
    roots: &[Root],
    evidence: &Evidence,
    parsed: &Parsed,
    hint: &str,
    subject: &Subject<'_>,
) -> Result<Fact, Refusal> {
    let (key, scheme) = signer(keys, parsed, hint, subject)?;
    let all: Vec<&Root> = roots.iter().collect();
    let mut times = Vec::new();
    let mut bad_time = None;
    let stamped: Vec<&[u8]> = [parsed.signature()].into_iter().chain(parsed.envelope.as_deref()).collect();
    for stamp in &parsed.timestamps {
        match timestamp::check(&all, stamp, &stamped) {
            Ok(time) => times.push(time),
            Err(refusal) => bad_time = Some(refusal.why),
        }
    }
    let log = match logged(roots, parsed, (key, scheme), subject, &times) {
        Ok(None) => crate::Log::Absent,
        Ok(Some((entries, promised))) => {
            times.extend(promised);
            crate::Log::Proven(log::distinct(entries))
        }
        Err(refusal) => crate::Log::Wrong(refusal.why),
    };
    Ok(Fact {
        evidence: evidence.digest.clone(),
        form: evidence.form,
        signer: Signer::Key { fingerprint: key.fingerprint().to_owned() },
        claim: subject.claim.clone().into_owned(),
        log,
        times: log::distinct_times(times),
        bad_time,
    })
}

/// The key that signed, and how. The hint only says which to try first.
fn signer<'a>(
    keys: &'a [PublicKey],
    parsed: &Parsed,
    hint: &str,
    subject: &Subject<'_>,
) -> Result<(&'a PublicKey, Scheme), Refusal> {
    let hinted = crate::json::base64(hint).map(::hex::encode).unwrap_or_default();
    let (first, rest): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.fingerprint() == hinted);
    let signature = parsed.signature();
    let signs = |key: &&'a PublicKey| Some((*key, subject.signed_by(key, signature)?));
    if let Some(found) = first.iter().chain(&rest).find_map(signs) {
        return Ok(found);
    }
    if matches!(subject.signed, Signed::Hash(_)) && keys.iter().any(|key| key.kind() == "Ed25519") {
        return Err(Refusal::unsupported(
            "of no configured key that signs hashes; Ed25519 signs bytes, and only a digest of them is given",
        ));
    }
    Err(Refusal::new(
        Reason::BadSignature,
        match keys.len() {
            0 => "signed with a key, and no key is configured".to_owned(),
            1 => "the signature is not of the configured key".to_owned(),
            count => format!("the signature is of none of the {count} configured keys"),
        },
    ))
}

type Proofs = Option<(Vec<LogEntry>, Vec<ProvenTime>)>;

/// What logs say: nothing, or all that came is right, or the first thing that is wrong.
fn logged(
    roots: &[Root],
    parsed: &Parsed,
    signer: (&PublicKey, Scheme),
    subject: &Subject<'_>,
    stamps: &[ProvenTime],
) -> Result<Proofs, Refusal> {
    if parsed.entries.is_empty() {
        return Ok(None);
    }
    let mut proven = Vec::new();
    let mut times = stamps.to_vec();
    let mut checked: Vec<&Log> = Vec::new();
    for entry in &parsed.entries {
        let entry = entry.as_ref().map_err(Clone::clone)?;
        let (root, log) = one(roots, parsed, signer, subject, entry)?;
        times.extend(log::proven_time(root, log, &entry.entry));
        proven.push(log::proven(root, log, &entry.entry));
        checked.push(log);
    }
    let seconds: Vec<i64> = times.iter().map(|time| time.at.0).collect();
    for log in checked {
        log::in_window(log, &seconds)?;
    }
    Ok(Some((proven, times.split_off(stamps.len()))))
}

/// Checks one entry alone, so that no other one can lend it a proof.
fn one<'a>(
    roots: &'a [Root],
    parsed: &Parsed,
    signer: (&PublicKey, Scheme),
    subject: &Subject<'_>,
    logged: &Logged,
) -> Result<(&'a Root, &'a Log), Refusal> {
    let (key, scheme) = signer;
    let mut last = Refusal::log("an entry of a log, and no trust root is configured");
    for root in roots {
        let checked = log::named(root, &logged.entry, parsed.promises).and_then(|log| {
            bound::check(logged, parsed, subject, Whose::Key(key.spki()), scheme)?;
            if logged.is_usual() && subject.is_usual(parsed, key, scheme) {
                by_crate(root, parsed, key, subject, logged)?;
            }
            Ok(log)
        });
        match checked {
            Ok(log) => return Ok((root, log)),
            // The root that has the log says more than one that has not.
            Err(refusal) => {
                if root.log(logged.entry.log_id.key_id.as_bytes()).is_some() || roots.len() == 1 {
                    return Err(refusal);
                }
                last = refusal;
            }
        }
    }
    Err(last)
}

/// The same again by the crate, where it can: two pairs of eyes.
fn by_crate(
    root: &Root,
    parsed: &Parsed,
    key: &PublicKey,
    subject: &Subject<'_>,
    logged: &Logged,
) -> Result<(), Refusal> {
    let mut bundle = parsed.bundle(vec![logged.entry.clone()], Vec::new());
    // v0.1 demands a promise, v0.3 a proof: the entry's form, checked before, decides.
    bundle.media_type =
        if logged.entry.inclusion_proof.is_some() { MediaType::Bundle0_3 } else { MediaType::Bundle0_1 };
    let policy = PublicKeyVerificationPolicy::new(key.der().clone());
    root.verifier.verify(subject.input(), &bundle, &policy).map_err(|error| map::refusal(&error))?;
    Ok(())
}
