// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence that is signed with a certificate: the signature, the entries of logs, the timestamps, one name, the
//! certificate's log; and at each time that any of them proves, the path, all certificates of the authority's chain and
//! the logs' keys. What `sigstore-verify` takes it looks at too.

use sigstore_types::{DerCertificate, TimestampToken};
use sigstore_verify::VerificationPolicy;

use super::bound::{self, Whose};
use super::roots::{Issuer, Link, Log, Root};
use super::subject::Subject;
use super::{identity, log, map, path, sct, timestamp};
use crate::evidence::parsed::{Logged, Parsed};
use crate::refusal::Refusal;
use crate::x509::Certificate;
use crate::{Evidence, Fact, ProvenTime, Reason, Signer};

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
    let first = chain.first().ok_or_else(|| Refusal::malformed("no certificate"))?;
    let leaf = Certificate::read(first.as_bytes())?;
    let whom = identity::read(&leaf)?;
    if !is_of(root, chain) {
        return Err(Refusal::new(
            Reason::BadSignature,
            format!("the certificate was issued by no authority of the trust root {:?}", root.name),
        ));
    }
    let mut entries: Vec<(&Log, &Logged)> = Vec::new();
    for logged in &parsed.entries {
        let logged = logged.as_ref().map_err(Clone::clone)?;
        entries.push((log::named(root, &logged.entry, parsed.promises)?, logged));
    }
    let mut stamps = Stamps::new(root, parsed)?;
    stamps
        .times
        .extend(entries.iter().filter_map(|(log, logged)| log::proven_time(root, log, &logged.entry)));
    if stamps.times.is_empty() && stamps.of_envelope.is_empty() {
        return Err(Refusal::new(
            Reason::NoTrustedTime,
            "signed with a certificate, and nothing trusted says when: no timestamp, no promise of a log",
        ));
    }
    let all = seconds(stamps.times.iter().chain(&stamps.of_envelope));
    for (log, _) in &entries {
        log::in_window(log, &all)?;
    }
    let logged = leaf.says_logged() && !root.certificate_logs.is_empty();
    let held = |issuer: &Issuer| {
        // The path first: what it lacks says more than a signature that is nobody's.
        let mut issued_with = None;
        for time in &all {
            issued_with = Some(path::holds(issuer, chain, *time)?);
        }
        in_time(issuer, &all)?;
        not_too_long(issuer, chain)?;
        if let (true, Some(key)) = (logged, &issued_with) {
            sct::check(root, first.as_bytes(), key)?;
        }
        let (key, scheme) = path::signed(chain, subject, parsed.signature(), &whom.subject)?;
        for (_, logged) in &entries {
            bound::check(logged, parsed, subject, Whose::Certificate(first.as_bytes()), scheme)?;
        }
        let is_usual = subject.is_usual(parsed, &key, scheme)
            && entries.iter().all(|(_, logged)| logged.is_usual())
            && !stamps.times.is_empty();
        if is_usual {
            by_crate(issuer, parsed, &stamps, &entries, subject, logged, &whom.subject)
        } else {
            Ok(())
        }
    };
    under_one(candidates(root, chain), held)?;
    let proven = entries.iter().map(|(log, logged)| log::proven(root, log, &logged.entry)).collect();
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
        times: log::distinct_times([stamps.times, stamps.of_envelope].concat()),
        bad_time: None,
    })
}

/// The timestamps that came, each of them right.
struct Stamps {
    /// When the signature existed: by these tokens, and later by logs.
    times: Vec<ProvenTime>,
    tokens: Vec<TimestampToken>,
    /// When the whole envelope existed, and the signature with it, as cosign 2 stamped attestations. The crate takes
    /// none of these.
    of_envelope: Vec<ProvenTime>,
}

impl Stamps {
    fn new(root: &Root, parsed: &Parsed) -> Result<Self, Refusal> {
        let mut stamps = Stamps { times: Vec::new(), tokens: Vec::new(), of_envelope: Vec::new() };
        for token in &parsed.timestamps {
            match (timestamp::check(&[root], token, &[parsed.signature()]), &parsed.envelope) {
                (Ok(time), _) => {
                    stamps.times.push(time);
                    stamps.tokens.push(token.clone());
                }
                (Err(_), Some(whole)) => {
                    stamps.of_envelope.push(timestamp::check(&[root], token, &[whole])?);
                }
                (Err(refusal), None) => return Err(refusal),
            }
        }
        Ok(stamps)
    }
}

fn seconds<'a>(times: impl Iterator<Item = &'a ProvenTime>) -> Vec<i64> {
    let mut seconds: Vec<i64> = times.map(|time| time.at.0).collect();
    seconds.sort_unstable();
    seconds
}

/// Whether all of it holds under one authority that could have issued the certificate.
fn under_one<'a>(
    issuers: impl Iterator<Item = &'a Issuer>,
    held: impl Fn(&Issuer) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut last = None;
    for issuer in issuers {
        match held(issuer) {
            Ok(()) => return Ok(()),
            // What failed last, or what failed after the path was found, which says more.
            Err(refusal) if refusal.reason != Reason::BadSignature || last.is_none() => last = Some(refusal),
            Err(_) => {}
        }
    }
    Err(last.unwrap_or_else(|| Refusal::new(Reason::BadSignature, "no authority could have issued it")))
}

/// The same again by the crate, under one authority: two pairs of eyes.
fn by_crate(
    issuer: &Issuer,
    parsed: &Parsed,
    stamps: &Stamps,
    entries: &[(&Log, &Logged)],
    subject: &Subject<'_>,
    logged: bool,
    name: &str,
) -> Result<(), Refusal> {
    let mut policy = VerificationPolicy::any_identity();
    if !logged {
        policy = policy.skip_sct();
    }
    if entries.is_empty() {
        policy = policy.skip_tlog_unsafe();
    }
    let with = entries.iter().map(|(_, logged)| logged.entry.clone()).collect();
    let bundle = parsed.bundle(with, stamps.tokens.clone());
    let result =
        issuer.verifier.verify(subject.input(), &bundle, &policy).map_err(|error| map::refusal(&error))?;
    // The crate must have seen the same times, or one of the two read the evidence in another way.
    let mut seen: Vec<i64> = result.verified_timestamps().iter().map(|time| time.as_second()).collect();
    seen.sort_unstable();
    let same_name = result.identity().is_none_or(|said| said.as_str() == name);
    let proven = result.certificate_verified()
        && result.sct_verified() == logged
        && result.tlog_verified() != entries.is_empty();
    if seen == seconds(stamps.times.iter()) && same_name && proven {
        Ok(())
    } else {
        Err(Refusal::malformed("it can be read in two ways"))
    }
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
