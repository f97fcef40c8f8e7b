// SPDX-License-Identifier: AGPL-3.0-only
//! Whether one fact is what one authority asks for: its signer, its subject, its log and its times. Each step can only
//! refuse; which step refused says how near it was.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::authority::{Authority, Demand, LogRule, Roots, SIGN_V1, Who};
use crate::decision::told_of;
use crate::{Claim, Digest, Fact, Form, Identity, Log, Reason, Signer, Time, TimeSource, Window};

/// How often rules may run out of time before the rest is refused without being asked.
const MOST_STRIKES: u8 = 4;

/// How far a trusted clock may be ahead of the one here, in seconds.
pub(super) const LEEWAY: i64 = 60;

/// What is asked of every fact, whichever authority looks at it.
pub(super) struct Question<'a> {
    pub(super) artifact: &'a Digest,
    /// What must be named, if something must.
    pub(super) repository: Option<&'a str>,
    /// Whether it must be in a log, even if the authority does not ask for it.
    pub(super) logged: bool,
    pub(super) max_age: Option<i64>,
    pub(super) now: Time,
    /// When it is how old.
    pub(super) aged_at: Time,
    pub(super) strikes: Cell<u8>,
}

/// Why a fact is not taken.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) why: String,
}

pub(super) fn refuse<T>(reason: Reason, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason, why: why.into() })
}

impl Question<'_> {
    /// Nothing but the artifact.
    pub(super) fn plain(artifact: &Digest, now: Time) -> Question<'_> {
        let strikes = Question::no_strikes();
        Question { artifact, repository: None, logged: false, max_age: None, now, aged_at: now, strikes }
    }

    pub(super) fn no_strikes() -> Cell<u8> {
        Cell::new(MOST_STRIKES)
    }
}

/// All but the content of attestations. Says when it was signed, if that is proven.
pub(super) fn bind(
    authority: &Authority,
    question: &Question<'_>,
    fact: &Fact,
) -> Result<Option<Time>, Refusal> {
    if !authority.forms.contain(fact.form) {
        return refuse(Reason::Unsupported, "the policy's signatureFormat is another one");
    }
    let window = signer(&authority.who, &fact.signer)?;
    claim(authority, question, &fact.claim)?;
    log(authority, question, fact)?;
    time(authority, question, fact, window)
}

/// Whether the authority knows the signer, and within which window.
fn signer(who: &Who, signer: &Signer) -> Result<Window, Refusal> {
    match (who, signer) {
        (Who::Keys(keys), Signer::Key { fingerprint }) => {
            match keys.iter().find(|key| key.fingerprint() == fingerprint) {
                Some(key) => Ok(key.window),
                None => refuse(Reason::WrongIdentity, "signed with another key"),
            }
        }
        (
            Who::Certificates { identities, roots, unlogged, private },
            Signer::Certificate { root, issuer, subject, logged, .. },
        ) => {
            if !roots.contain(root) {
                return refuse(
                    Reason::WrongIdentity,
                    format!("the certificate is of the trust root {root:?}"),
                );
            }
            let is_meant = |identity: &Identity| match private {
                Some(_) => identity.matches_private(issuer, subject),
                None => identity.matches(issuer, subject),
            };
            if !identities.iter().any(is_meant) {
                return refuse(Reason::WrongIdentity, format!("signed by {}", told_of(signer)));
            }
            if !logged && !unlogged {
                return refuse(Reason::TlogMissing, "no certificate transparency log has the certificate");
            }
            Ok(Window::default())
        }
        (Who::Keys(_), _) => {
            refuse(Reason::WrongIdentity, "signed with a certificate; the policy asks for a key")
        }
        (Who::Certificates { .. }, _) => {
            refuse(Reason::WrongIdentity, "signed with a key; the policy asks for a certificate")
        }
        (Who::Pass | Who::Fail(_), _) => refuse(Reason::WrongIdentity, "the policy asks for no evidence"),
    }
}

/// Whether the right thing was signed: this artifact, by its whole digest, as what the authority asks for.
fn claim(authority: &Authority, question: &Question<'_>, claim: &Claim) -> Result<(), Refusal> {
    let wanted = &authority.annotations;
    match (claim, &authority.demand) {
        (Claim::Image { digest, repository, annotations, .. }, Demand::Signature) => {
            subject(*digest == *question.artifact)?;
            annotated(wanted, [annotations].into_iter())?;
            bound(question, is_name(repository, question.repository))
        }
        (Claim::Statement { subjects, predicate_type, .. }, demand) => {
            match demand {
                Demand::Signature if predicate_type != SIGN_V1 => {
                    return refuse(
                        Reason::WrongPredicate,
                        format!("an attestation ({predicate_type}), not a signature"),
                    );
                }
                Demand::Attestations(list)
                    if list.iter().all(|one| one.predicate_type != *predicate_type) =>
                {
                    return refuse(Reason::WrongPredicate, format!("of the type {predicate_type}"));
                }
                _ => {}
            }
            let ours =
                || subjects.iter().filter(|(digest, _)| digest == question.artifact).map(|(_, with)| with);
            subject(ours().next().is_some())?;
            annotated(wanted, ours())?;
            let names = |annotations: &BTreeMap<String, Value>| {
                let named = annotations.get(REPOSITORY).and_then(Value::as_str).unwrap_or_default();
                is_name(named, question.repository)
            };
            bound(question, ours().any(names))
        }
        (Claim::Blob { digest }, Demand::Artifact) => {
            subject(*digest == *question.artifact)?;
            annotated(wanted, std::iter::empty())?;
            bound(question, false)
        }
        (Claim::Image { .. }, _) => refuse(Reason::WrongPredicate, "a signature of an image"),
        (Claim::Blob { .. }, _) => refuse(Reason::WrongPredicate, "a signature of bytes"),
    }
}

/// Statements have no place for a repository; cosign writes `-a name=value` into what is signed.
pub(super) const REPOSITORY: &str = "org.stella-ops.repository";

fn subject(is_ours: bool) -> Result<(), Refusal> {
    if is_ours { Ok(()) } else { refuse(Reason::WrongSubject, "signed is another artifact") }
}

fn annotated<'a>(
    wanted: &BTreeMap<String, String>,
    mut found: impl Iterator<Item = &'a BTreeMap<String, Value>>,
) -> Result<(), Refusal> {
    let has_all = |found: &BTreeMap<String, Value>| {
        wanted.iter().all(|(name, value)| found.get(name).and_then(Value::as_str) == Some(value))
    };
    if wanted.is_empty() || found.any(has_all) {
        return Ok(());
    }
    refuse(Reason::PredicateRejected, "the annotations that are asked for are not in what was signed")
}

/// `HOST/NAME`, perhaps with a tag.
fn is_name(named: &str, wanted: Option<&str>) -> bool {
    let Some(rest) = wanted.and_then(|wanted| named.strip_prefix(wanted)) else { return false };
    rest.is_empty()
        || rest.strip_prefix(':').is_some_and(|tag| !tag.is_empty() && !tag.contains(['/', ':', '@']))
}

fn bound(question: &Question<'_>, is_named: bool) -> Result<(), Refusal> {
    match question.repository {
        Some(name) if !is_named => {
            refuse(Reason::RepositoryMismatch, format!("what was signed does not name {name}"))
        }
        _ => Ok(()),
    }
}

fn log(authority: &Authority, question: &Question<'_>, fact: &Fact) -> Result<(), Refusal> {
    let any = LogRule::Required { roots: Roots::Any, url: None };
    let rule = match &authority.log {
        LogRule::Ignored if question.logged => &any,
        rule => rule,
    };
    let LogRule::Required { roots, url } = rule else { return Ok(()) };
    let own = match &fact.signer {
        Signer::Certificate { root, .. } => Some(root),
        Signer::Key { .. } => None,
    };
    match &fact.log {
        Log::Absent => refuse(Reason::TlogMissing, "nothing says that a transparency log has it"),
        Log::Wrong(why) => refuse(Reason::TlogInvalid, why.clone()),
        Log::Proven(entries) => {
            // A promise that a log will take an entry in is all that cosign 1 and 2 kept; a bundle has the proof.
            let promises = fact.form != Form::Bundle;
            let counts = entries.iter().any(|entry| {
                (entry.included || promises)
                    && roots.contain(&entry.root)
                    && own.is_none_or(|own| *own == entry.root)
                    && url.as_ref().is_none_or(|url| *url == entry.url)
            });
            if counts {
                Ok(())
            } else {
                refuse(Reason::TlogMissing, "no proof that it is in a log which the policy asks for")
            }
        }
    }
}

/// When it was signed. A certificate, a key with a window, a signed timestamp and an age need a time; each trusted time
/// must lie within the window, as each must within a certificate's.
fn time(
    authority: &Authority,
    question: &Question<'_>,
    fact: &Fact,
    window: Window,
) -> Result<Option<Time>, Refusal> {
    let certificate = matches!(fact.signer, Signer::Certificate { .. });
    let stamped = authority.timestamp.is_some();
    let is_needed = certificate || stamped || !window.is_open() || question.max_age.is_some();
    let times: Vec<_> = fact.times.iter().filter(|time| is_trusted(authority, &fact.signer, time)).collect();
    if times.iter().any(|time| is_ahead(time.at, question.now)) {
        return refuse(Reason::NoTrustedTime, "a trusted clock says that it was signed later than now");
    }
    let earliest = times.iter().map(|time| time.at).min();
    if !is_needed {
        // Whoever needs it after all (noRollback) shall not take it from beside a bad one.
        return Ok(earliest.filter(|_| fact.bad_time.is_none()));
    }
    if let Some(why) = &fact.bad_time {
        return refuse(Reason::NoTrustedTime, format!("a timestamp does not count: {why}"));
    }
    if stamped && !times.iter().any(|time| time.source == TimeSource::Timestamp) {
        return refuse(Reason::NoTrustedTime, "no signed timestamp of an authority that the policy trusts");
    }
    let Some(earliest) = earliest else {
        return refuse(Reason::NoTrustedTime, "nothing trusted says when it was signed");
    };
    if let Some(why) = times.iter().find_map(|time| window.refuses(time.at)) {
        return refuse(Reason::Expired, format!("signed {why}"));
    }
    if question.max_age.is_some_and(|age| question.aged_at.0.saturating_sub(earliest.0) > age) {
        return refuse(Reason::TooOld, "signed longer ago than maxAge");
    }
    Ok(Some(earliest))
}

/// Whether a time is later than now. Such a clock, or the one here, is wrong.
pub(super) fn is_ahead(time: Time, now: Time) -> bool {
    time.0 > now.0.saturating_add(LEEWAY)
}

/// A certificate's clocks are those of its root; a key's are those that the authority names, or any.
fn is_trusted(authority: &Authority, signer: &Signer, time: &crate::ProvenTime) -> bool {
    if let Signer::Certificate { root, .. } = signer
        && *root != time.root
    {
        return false;
    }
    match (time.source, &authority.log, &authority.timestamp) {
        (TimeSource::Log, LogRule::Required { roots, .. }, _) | (TimeSource::Timestamp, _, Some(roots)) => {
            roots.contain(&time.root)
        }
        _ => true,
    }
}
