// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence that is signed with a certificate. `sigstore-verify` checks the path, the certificate's log, the entries, the
//! timestamps and the signature; around it: all times, all certificates of the authority's chain at each of them, the
//! logs' keys at each of them, one name.

use sigstore_types::{DerCertificate, TransparencyLogEntry};
use sigstore_verify::{VerificationPolicy, VerificationResult};

use super::roots::{Issuer, Link, Log, Root};
use super::subject::Subject;
use super::{identity, log, map, timestamp};
use crate::evidence::parsed::Parsed;
use crate::refusal::Refusal;
use crate::x509::Certificate;
use crate::{Evidence, Fact, Reason, Signer};

/// Whether an authority of this root could have issued the certificate, by name.
pub(super) fn is_of(root: &Root, chain: &[DerCertificate]) -> bool {
    candidates(root, chain).next().is_some()
}

fn candidates<'a>(root: &'a Root, chain: &'a [DerCertificate]) -> impl Iterator<Item = &'a Issuer> {
    root.issuers.iter().filter(|issuer| {
        chain.iter().any(|certificate| {
            Certificate::read(certificate.as_bytes())
                .is_ok_and(|read| issuer.chain.iter().any(|link| link.subject == read.issuer))
        })
    })
}

/// Checks evidence under one root.
pub(super) fn verify(
    root: &Root,
    evidence: &Evidence,
    parsed: &Parsed,
    chain: &[DerCertificate],
    subject: &Subject<'_>,
) -> Result<Fact, Refusal> {
    let leaf = chain.first().ok_or_else(|| Refusal::malformed("no certificate"))?;
    let leaf = Certificate::read(leaf.as_bytes())?;
    let whom = identity::read(&leaf)?;
    if !is_of(root, chain) {
        return Err(Refusal::new(
            Reason::BadSignature,
            format!("the certificate was issued by no authority of the trust root {:?}", root.name),
        ));
    }
    let mut entries: Vec<(&Log, TransparencyLogEntry)> = Vec::new();
    for entry in &parsed.entries {
        let entry = entry.as_ref().map_err(Clone::clone)?;
        entries.push((log::named(root, entry, parsed.promises)?, entry.clone()));
    }
    let mut times = Vec::new();
    for stamp in &parsed.timestamps {
        times.push(stamped(root, parsed, stamp)?);
    }
    times.extend(entries.iter().filter_map(|(log, entry)| log::proven_time(root, log, entry)));
    if times.is_empty() {
        return Err(Refusal::new(
            Reason::NoTrustedTime,
            "signed with a certificate, and nothing trusted says when: no timestamp, no promise of a log",
        ));
    }
    let mut seconds: Vec<i64> = times.iter().map(|time| time.at.0).collect();
    seconds.sort_unstable();
    for (log, _) in &entries {
        log::in_window(log, &seconds)?;
    }
    let logged = leaf.says_logged() && root.logs_certificates;
    let result = by_crate(root, parsed, chain, &entries, subject, logged, &seconds)?;
    // The crate must have seen the same times, or one of the two read the evidence in another way.
    let mut seen: Vec<i64> = result.verified_timestamps().iter().map(|time| time.as_second()).collect();
    seen.sort_unstable();
    let same_name = result.identity().is_none_or(|name| name.as_str() == whom.subject);
    let proven = result.certificate_verified()
        && result.sct_verified() == logged
        && result.tlog_verified() != entries.is_empty();
    if seen != seconds || !same_name || !proven {
        return Err(Refusal::malformed("it can be read in two ways"));
    }
    let proven = entries.iter().map(|(log, entry)| log::proven(root, log, entry)).collect();
    Ok(Fact {
        evidence: evidence.digest.clone(),
        form: evidence.form,
        signer: Signer::Certificate {
            root: root.name.clone(),
            issuer: whom.issuer,
            subject: whom.subject,
            extensions: whom.extensions,
            logged,
        },
        claim: subject.claim.clone().into_owned(),
        log: if entries.is_empty() { crate::Log::Absent } else { crate::Log::Proven(log::distinct(proven)) },
        times: log::distinct_times(times),
        bad_time: None,
    })
}

fn stamped(
    root: &Root,
    parsed: &Parsed,
    stamp: &sigstore_types::TimestampToken,
) -> Result<crate::ProvenTime, Refusal> {
    timestamp::check(&[root], stamp, &[parsed.signature()]).map_err(|refusal| match &parsed.stamped {
        Some(whole) if timestamp::check(&[root], stamp, &[whole]).is_ok() => Refusal::unsupported(
            "a timestamp of the whole envelope (cosign 2) beside a certificate is not verified here, \
             only one of the signature",
        ),
        _ => refusal,
    })
}

/// Asks the crate under each authority that could have issued the certificate.
fn by_crate(
    root: &Root,
    parsed: &Parsed,
    chain: &[DerCertificate],
    entries: &[(&Log, TransparencyLogEntry)],
    subject: &Subject<'_>,
    logged: bool,
    times: &[i64],
) -> Result<VerificationResult, Refusal> {
    let mut policy = VerificationPolicy::any_identity();
    if !logged {
        policy = policy.skip_sct();
    }
    if entries.is_empty() {
        policy = policy.skip_tlog_unsafe();
    }
    let entries = entries.iter().map(|(_, entry)| entry.clone()).collect();
    let bundle = parsed.bundle(entries, parsed.timestamps.clone());
    let mut last = None;
    for issuer in candidates(root, chain) {
        let checked = issuer
            .verifier
            .verify(subject.input(), &bundle, &policy)
            .map_err(|error| map::refusal(&error))
            .and_then(|result| in_time(issuer, times).map(|()| result))
            .and_then(|result| not_too_long(issuer, chain).map(|()| result));
        match checked {
            Ok(result) => return Ok(result),
            // What failed last, or what failed after the path was found, which says more.
            Err(refusal) if refusal.reason != Reason::BadSignature || last.is_none() => last = Some(refusal),
            Err(_) => {}
        }
    }
    Err(last.unwrap_or_else(|| Refusal::new(Reason::BadSignature, "no authority could have issued it")))
}

/// CVE-2026-24122: certificates of the authority's chain are anchors to the crate, which have no dates for it. All of
/// them must hold at all times, and the authority be trusted at all times.
pub(super) fn in_time(issuer: &Issuer, times: &[i64]) -> Result<(), Refusal> {
    for time in times {
        let all =
            issuer.window.contains(*time) && issuer.chain.iter().all(|link| link.window.contains(*time));
        if !all {
            return Err(Refusal::new(
                Reason::Expired,
                format!(
                    "a certificate of the authority's chain was not valid at {time}, when this was signed"
                ),
            ));
        }
    }
    Ok(())
}

/// Anchors have no constraint of their path's length for the crate either (RFC 5280, 4.2.1.9): as many authorities as come
/// with the evidence may stand below each certificate of the chain, and those of the chain itself.
fn not_too_long(issuer: &Issuer, chain: &[DerCertificate]) -> Result<(), Refusal> {
    let is_new =
        |certificate: &&DerCertificate| issuer.chain.iter().all(|link| link.bytes != certificate.as_bytes());
    let carried = chain.iter().skip(1).filter(is_new).count();
    let is_short = |(at, link): (usize, &Link)| link.most_below.is_none_or(|most| carried + at <= most);
    if issuer.chain.iter().enumerate().all(is_short) {
        return Ok(());
    }
    Err(Refusal::new(Reason::BadSignature, "more authorities stand in the path than one of them allows"))
}
