// SPDX-License-Identifier: AGPL-3.0-only
//! `authorities[]` of a `ClusterImagePolicy`: keys, identities, or a fixed answer, and what else must be.

use std::collections::BTreeSet;

use super::private;
use super::section::{Field, Section, Told};
use super::{RootNames, image_policy};
use crate::authority::{
    Attestation, Authority, Demand, Forms, LogRule, PrivateAuthority, Roots, Who, predicate_uri,
};
use crate::{Identity, KeyHash, Pattern, Time, TrustedKey, Window, rfc3339};

/// What `keyless` means that says no address: the public Fulcio.
pub(super) const DEFAULT_CA: &str = "https://fulcio.sigstore.dev";

pub(super) fn read(item: &Field<'_>, index: usize, roots: &[RootNames]) -> Option<Authority> {
    let mut section = item.section()?;
    let name = match section.get("name") {
        Some(field) => name(&field),
        None => Some(format!("authority-{index}")),
    };
    let who = who(&mut section, roots);
    section.refuse("source", "evidence is read beside the image, in its own repository, and nowhere else");
    let log = match section.get("ctlog") {
        Some(field) => log(&field, roots).map(Some),
        None => Some(None),
    };
    let timestamp = match section.get("rfc3161timestamp") {
        Some(field) => timestamp(&field, roots).map(Some),
        None => Some(None),
    };
    let attestations = match section.get("attestations") {
        Some(field) => attestations(&field).map(Some),
        None => Some(None),
    };
    let forms = match section.get("signatureFormat") {
        Some(field) => match field.text() {
            Some("legacy") => Some(Forms::Legacy),
            Some("bundle") => Some(Forms::Bundle),
            Some(_) => field.fault("it is legacy or bundle; without it each form is taken"),
            None => None,
        },
        None => Some(Forms::All),
    };
    if section.has("static") {
        for key in ["attestations", "ctlog", "rfc3161timestamp", "signatureFormat"] {
            if section.has(key) {
                section.fault::<()>(&format!(
                    "a fixed answer (`static`) looks at no evidence: leave out `{key}`"
                ));
            }
        }
    }
    let (log, timestamp) = match who.as_ref().and_then(private_of) {
        Some(private) => {
            (log.map(|log| private::log(log, private)), timestamp.map(|roots| private::roots(roots, private)))
        }
        None => (log, timestamp),
    };
    let who = checked(&section, who, log.as_ref(), timestamp.as_ref());
    section.done();
    let (who, log, timestamp) = (who?, log?, timestamp?);
    let log = log.unwrap_or_else(|| default_log(&who, timestamp.is_some()));
    let demand = attestations?.map_or(Demand::Signature, Demand::Attestations);
    Some(Authority { demand, log, timestamp, forms: forms?, ..Authority::new(&name?, who) })
}

fn private_of(who: &Who) -> Option<&PrivateAuthority> {
    match who {
        Who::Certificates { private, .. } => private.as_ref(),
        _ => None,
    }
}

/// Without `ctlog` a key asks for no log; a certificate does, unless a timestamp says when it was used.
fn default_log(who: &Who, has_timestamp: bool) -> LogRule {
    match who {
        Who::Certificates { roots, .. } if !has_timestamp => {
            LogRule::Required { roots: roots.clone(), url: None }
        }
        _ => LogRule::Ignored,
    }
}

/// The clocks and logs that a certificate is checked against are those of its own root.
fn checked(
    section: &Section<'_>,
    who: Option<Who>,
    log: Option<&Option<LogRule>>,
    timestamp: Option<&Option<Roots>>,
) -> Option<Who> {
    let who = who?;
    if let Who::Certificates { roots: own, .. } = &who {
        let is_own = |other: &Roots| match (own, other) {
            (Roots::Named(own), Roots::Named(other)) => !own.is_disjoint(other),
            _ => true,
        };
        let of_log = log.and_then(Option::as_ref).is_none_or(|log| match log {
            LogRule::Required { roots, .. } => is_own(roots),
            LogRule::Ignored => true,
        });
        if !of_log || !timestamp.and_then(Option::as_ref).is_none_or(is_own) {
            return section.fault(
                "a certificate is checked with logs and clocks of its own trust root: name the same one in keyless, \
                 ctlog and rfc3161timestamp (one trusted_root.json can hold all of them)",
            );
        }
    }
    Some(who)
}

fn name(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    if name.is_empty() || name.len() > 253 {
        return field.fault("a name has 1 to 253 bytes");
    }
    Some(name.to_owned())
}

fn who(section: &mut Section<'_>, roots: &[RootNames]) -> Option<Who> {
    let (key, keyless, fixed) = (section.get("key"), section.get("keyless"), section.get("static"));
    match (key, keyless, fixed) {
        (Some(key), None, None) => keys(&key).map(Who::Keys),
        (None, Some(keyless), None) => certificates(&keyless, roots),
        (None, None, Some(fixed)) => answer(&fixed),
        (None, None, None) => section.fault("one of key, keyless and static is missing"),
        _ => section.fault("only one of key, keyless and static can stand here"),
    }
}

fn answer(field: &Field<'_>) -> Option<Who> {
    let mut section = field.section()?;
    let message = match section.get("message") {
        Some(field) => field.text().map(Some),
        None => Some(None),
    };
    let action = section.need("action").and_then(|field| match field.text()? {
        "pass" => Some(true),
        "fail" => Some(false),
        _ => field.fault("it is pass or fail"),
    });
    if action == Some(true) && section.has("message") {
        section.fault::<()>("only `action: fail` has a message");
    }
    section.done();
    let message = message?.unwrap_or("a policy says so").to_owned();
    Some(if action? { Who::Pass } else { Who::Fail(message) })
}

fn keys(field: &Field<'_>) -> Option<Vec<TrustedKey>> {
    let mut section = field.section()?;
    section.refuse("secretRef", "there is no cluster to read from; put the public key into `data`");
    section.refuse("kms", "no key service is asked; put the public key into `data`");
    let hash = match section.get("hashAlgorithm") {
        Some(field) => match field.text() {
            Some("sha256") => Some(Some(KeyHash::Sha256)),
            Some("sha384") => Some(Some(KeyHash::Sha384)),
            Some("sha512") => Some(Some(KeyHash::Sha512)),
            Some(_) => field.fault("it is sha256, sha384 or sha512"),
            None => None,
        },
        None => Some(None),
    };
    let valid_from = time(&mut section, "validFrom");
    let valid_until = time(&mut section, "validUntil");
    let compromised_at = time(&mut section, "compromisedAt");
    let data = if section.has("data") || !(section.has("kms") || section.has("secretRef")) {
        section.need("data")
    } else {
        section.get("data")
    };
    let window = (|| {
        Some(Window {
            valid_from: valid_from.ok()?,
            valid_until: valid_until.ok()?,
            compromised_at: compromised_at.ok()?,
        })
    })();
    if let Some(Window { valid_from: Some(from), valid_until: Some(until), .. }) = window
        && from > until
    {
        section.fault::<()>("validFrom is after validUntil");
    }
    section.done();
    let data = data?;
    data.or_fault(TrustedKey::all_of_pem(data.text()?, hash?, window?))
}

/// An instant that may be absent.
fn time(section: &mut Section<'_>, key: &'static str) -> Result<Option<Time>, Told> {
    let Some(field) = section.get(key) else { return Ok(None) };
    let time = rfc3339::parse(field.text().ok_or(Told)?);
    let time = time.or_else(|| field.fault("it is a time such as 2026-11-23T10:00:00Z (RFC 3339)"));
    time.map(Some).ok_or(Told)
}

fn certificates(field: &Field<'_>, all: &[RootNames]) -> Option<Who> {
    let mut section = field.section()?;
    let own = section.get("ca-cert");
    let is_own = section.has("ca-cert");
    let url = match section.get("url") {
        Some(field) => field.text().map(|url| Some((field.clone(), url.to_owned()))),
        None => Some(None),
    };
    let root = root_ref(&mut section, all).ok();
    let identities = section.need("identities").and_then(|field| identities(&field));
    let unlogged = match section.get("insecureIgnoreSCT") {
        Some(field) => field.bool().and_then(|unlogged| {
            if is_own && !unlogged {
                return field.fault(
                    "no log of certificates is asked about those of a ca-cert; put the authority and its log into a \
                     trusted_root.json",
                );
            }
            Some(unlogged)
        }),
        None => Some(is_own),
    };
    let mut private = None;
    let roots = (|| {
        let (url, root) = (url?, root?);
        if is_own {
            if let Some((field, _)) = url {
                return field.fault("a certificate authority is named by url or by ca-cert, not by both");
            }
            let of = private::root_of(&section, root, all);
            private = Some(private::read(&own?, of?)?);
            return private.as_ref().map(|private| Roots::one(&private.name));
        }
        match (root, url) {
            (Some(root), None) => Some(Roots::one(&root.name)),
            (Some(root), Some((field, url))) => named(&field, &url, std::iter::once(root)),
            (None, Some((field, url))) => named(&field, &url, all.iter()),
            (None, None) => {
                let public = with_ca(all.iter(), DEFAULT_CA);
                if public.is_empty() {
                    return section.fault(&format!(
                        "without trustRootRef or url it means {DEFAULT_CA}, which no configured trust root has; name one \
                         in trustRootRef"
                    ));
                }
                Some(Roots::Named(public))
            }
        }
    })();
    section.done();
    Some(Who::Certificates { identities: identities?, roots: roots?, unlogged: unlogged?, private })
}

/// The roots that have the certificate authority `url`, and no other.
fn named<'r>(
    field: &Field<'_>,
    url: &str,
    roots: impl Iterator<Item = &'r RootNames> + Clone,
) -> Option<Roots> {
    let having = with_ca(roots.clone(), url);
    if having.is_empty() {
        return field.fault("no certificate authority of the trust root has this address");
    }
    let mixed = roots
        .filter(|root| having.contains(&root.name))
        .find(|root| root.ca_urls.iter().any(|other| !same_url(other, url)));
    if let Some(root) = mixed {
        return field.fault(&format!(
            "the trust root {:?} has certificate authorities of other addresses too, and they are not told apart; make \
             a root of this one alone, or leave out the address",
            root.name
        ));
    }
    Some(Roots::Named(having))
}

pub(super) fn with_ca<'r>(roots: impl Iterator<Item = &'r RootNames>, url: &str) -> BTreeSet<String> {
    let has = |root: &&RootNames| root.ca_urls.iter().any(|other| same_url(other, url));
    roots.filter(has).map(|root| root.name.clone()).collect()
}

fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// `trustRootRef`, which may be absent.
fn root_ref<'r>(section: &mut Section<'_>, all: &'r [RootNames]) -> Result<Option<&'r RootNames>, Told> {
    let Some(field) = section.get("trustRootRef") else { return Ok(None) };
    let name = field.text().ok_or(Told)?;
    let root = all.iter().find(|root| root.name == name).or_else(|| {
        let known: Vec<&str> = all.iter().map(|root| root.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        field.fault(&format!("no trust root of this name is configured; configured: {known}"))
    });
    root.map(Some).ok_or(Told)
}

fn identities(field: &Field<'_>) -> Option<Vec<Identity>> {
    let identity = |item: &Field<'_>| {
        let mut section = item.section()?;
        let issuer = half(&mut section, "issuer", "issuerRegExp");
        let subject = half(&mut section, "subject", "subjectRegExp");
        section.done();
        Some(Identity { issuer: issuer?, subject: subject? })
    };
    let identities: Vec<_> = field.some()?.iter().map(identity).collect();
    identities.into_iter().collect()
}

fn half(section: &mut Section<'_>, exact: &'static str, regexp: &'static str) -> Option<Pattern> {
    match (section.get(exact), section.get(regexp)) {
        (Some(field), None) => field.or_fault(Pattern::exact(field.text()?)),
        (None, Some(field)) => field.or_fault(Pattern::matching(field.text()?)),
        (None, None) => {
            section.fault(&format!("{exact} or {regexp} is missing; an identity has both halves"))
        }
        (Some(_), Some(_)) => section.fault(&format!("only one of {exact} and {regexp} can stand here")),
    }
}

fn log(field: &Field<'_>, all: &[RootNames]) -> Option<LogRule> {
    let mut section = field.section()?;
    let root = root_ref(&mut section, all).ok();
    let url = match section.get("url") {
        Some(field) => field.text().map(|url| Some((field.clone(), url.to_owned()))),
        None => Some(None),
    };
    section.done();
    let (root, url) = (root?, url?);
    let candidates: Vec<&RootNames> = root.map_or_else(|| all.iter().collect(), |root| vec![root]);
    let Some((field, url)) = url else {
        if candidates.iter().all(|root| root.log_urls.is_empty()) {
            return section_without_log(field);
        }
        let roots = root.map_or(Roots::Any, |root| Roots::one(&root.name));
        return Some(LogRule::Required { roots, url: None });
    };
    let having = candidates.iter().filter_map(|root| {
        let url = root.log_urls.iter().find(|other| same_url(other, &url))?;
        Some((root.name.clone(), url.clone()))
    });
    let having: Vec<(String, String)> = having.collect();
    let Some((_, url)) = having.first().cloned() else {
        return field.fault("no transparency log of the trust root has this address");
    };
    Some(LogRule::Required {
        roots: Roots::Named(having.into_iter().map(|(name, _)| name).collect()),
        url: Some(url),
    })
}

fn section_without_log<T>(field: &Field<'_>) -> Option<T> {
    field.fault("the trust root has no transparency log")
}

fn timestamp(field: &Field<'_>, all: &[RootNames]) -> Option<Roots> {
    let mut section = field.section()?;
    let root = root_ref(&mut section, all).ok();
    section.done();
    let root = root?;
    let can = |root: &RootNames| root.timestamp_authorities > 0;
    if !root.map_or_else(|| all.iter().any(can), can) {
        return field.fault("the trust root has no timestamp authority");
    }
    Some(root.map_or(Roots::Any, |root| Roots::one(&root.name)))
}

fn attestations(field: &Field<'_>) -> Option<Vec<Attestation>> {
    let mut names = BTreeSet::new();
    let read = |item: &Field<'_>| {
        let mut section = item.section()?;
        let name = section.need("name").and_then(|field| {
            let name = name(&field)?;
            if names.insert(name.clone()) {
                Some(name)
            } else {
                field.fault("another attestation has this name")
            }
        });
        let predicate_type =
            section.need("predicateType").and_then(|field| field.or_fault(predicate_uri(field.text()?)));
        let rule = match section.get("policy") {
            Some(field) => image_policy::rule(&field, false).map(Some),
            None => Some(None),
        };
        section.done();
        Some(Attestation { name: name?, predicate_type: predicate_type?, rule: rule? })
    };
    let attestations: Vec<_> = field.some()?.iter().map(read).collect();
    attestations.into_iter().collect()
}
