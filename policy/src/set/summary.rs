// SPDX-License-Identifier: AGPL-3.0-only
//! What documents demand, in sentences for the person who wrote them: what was understood, not what was written.

use super::PolicySet;
use crate::authority::{Authority, Demand, Forms, LogRule, Roots, Who};
use crate::image_policy::{ImagePolicy, Mode};
use crate::registry_policy::{Enforcement, NoMatch, RegistryPolicy, Rules, Transparency, WhileWaiting};
use crate::{Identity, TrustedKey};
use std::fmt::Write as _;

/// What one document demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where it stands: `FILE:LINE:COLUMN` of its name.
    pub at: String,
    /// `ClusterImagePolicy` or `RegistryPolicy`, and its name.
    pub title: String,
    /// One thing a line.
    pub lines: Vec<String>,
}

impl PolicySet {
    /// What each document demands, first those about images.
    pub fn summary(&self) -> Vec<Summary> {
        self.images
            .iter()
            .map(|policy| of_images(policy))
            .chain(self.registry.iter().map(|policy| of_registry(policy)))
            .collect()
    }
}

fn of_images(policy: &ImagePolicy) -> Summary {
    let globs: Vec<&str> = policy.images.iter().map(crate::ImageGlob::as_str).collect();
    let mut lines = vec![format!("images {}", globs.join(", "))];
    if policy.mode == Mode::Warn {
        lines.push("only warns".to_owned());
    }
    let count = policy.authorities.len();
    lines.push(if count == 1 { "needs".to_owned() } else { format!("needs any of {count}") });
    for authority in &policy.authorities {
        lines.push(format!("  {}: {}", authority.name, of_authority(authority)));
    }
    if policy.rule.is_some() {
        lines.push("and its own rule (Rego) about those that passed".to_owned());
    }
    Summary { at: policy.at.clone(), title: format!("ClusterImagePolicy {:?}", policy.name), lines }
}

fn of_authority(authority: &Authority) -> String {
    let who = match &authority.who {
        Who::Pass => return "always passes".to_owned(),
        Who::Fail(message) => return format!("always fails: {message}"),
        Who::Keys(keys) => keys.iter().map(of_key).collect::<Vec<_>>().join(" or "),
        Who::Certificates { identities, private: Some(private), .. } => {
            let named: Vec<String> = identities.iter().map(of_identity).collect();
            format!(
                "{} by a certificate of its own ca-cert, with logs and clocks of the trust root {:?}",
                named.join(" or "),
                private.of
            )
        }
        Who::Certificates { identities, roots, unlogged, private: None } => {
            let named: Vec<String> = identities.iter().map(of_identity).collect();
            let sct = if *unlogged { ", certificates in no log too" } else { "" };
            format!("{} by a certificate of {}{sct}", named.join(" or "), of_roots(roots))
        }
    };
    let what = match &authority.demand {
        Demand::Signature => "a signature".to_owned(),
        Demand::Artifact => "a signature of the bytes, or any statement about them".to_owned(),
        Demand::Attestations(list) => {
            let each = list.iter().map(|one| {
                let ruled = if one.rule.is_some() { ", which its rule accepts" } else { "" };
                format!("the attestation {:?} ({}){ruled}", one.name, one.predicate_type)
            });
            each.collect::<Vec<_>>().join(" and ")
        }
    };
    let log = match &authority.log {
        LogRule::Ignored => "no log is asked for".to_owned(),
        LogRule::Required { url: Some(url), .. } => format!("in the log {url}"),
        LogRule::Required { roots, url: None } => format!("in a log of {}", of_roots(roots)),
    };
    let stamp = authority
        .timestamp
        .as_ref()
        .map(|roots| format!(", with a signed timestamp of {}", of_roots(roots)))
        .unwrap_or_default();
    let form = match authority.forms {
        Forms::All => "",
        Forms::Legacy => ", in a legacy form",
        Forms::Bundle => ", in a bundle",
    };
    format!("{what} by {who}; {log}{stamp}{form}")
}

fn of_key(key: &TrustedKey) -> String {
    let mut text = format!("the {} key {}", key.key.kind(), key.fingerprint());
    if let Some(hash) = key.key.hash() {
        let _ = write!(text, " with {hash:?}");
    }
    for (word, time) in [
        ("from", key.window.valid_from),
        ("until", key.window.valid_until),
        ("compromised at", key.window.compromised_at),
    ] {
        if let Some(time) = time {
            let _ = write!(text, ", {word} {time}");
        }
    }
    text
}

fn of_identity(identity: &Identity) -> String {
    format!("{} of {}", identity.subject.as_str(), identity.issuer.as_str())
}

fn of_roots(roots: &Roots) -> String {
    match roots {
        Roots::Any => "any trust root".to_owned(),
        Roots::Named(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("the trust root {}", names.join(" or "))
        }
    }
}

fn of_registry(policy: &RegistryPolicy) -> Summary {
    let globs: Vec<&str> = policy.repositories.iter().map(crate::RepositoryGlob::as_str).collect();
    let lines = std::iter::once(format!("repositories {}", globs.join(", "))).chain(of_rules(&policy.rules));
    let title = format!("RegistryPolicy {:?}", policy.name);
    Summary { at: policy.at.clone(), title, lines: lines.collect() }
}

/// What holds, by the names of the fields.
fn of_rules(rules: &Rules) -> Vec<String> {
    let enforcement = |level| match level {
        Enforcement::Off => "off",
        Enforcement::Warn => "warn",
        Enforcement::Enforce => "enforce",
    };
    let mut lines = vec![format!("push {}, pull {}", enforcement(rules.push), enforcement(rules.pull))];
    lines.push(match rules.while_waiting {
        WhileWaiting::Previous => "readers get the last release while a tag waits".to_owned(),
        WhileWaiting::Deny => "readers get nothing while a tag waits".to_owned(),
    });
    lines.push(match rules.no_match {
        NoMatch::Deny => "denied where no ClusterImagePolicy matches".to_owned(),
        NoMatch::Allow => "allowed where no ClusterImagePolicy matches".to_owned(),
    });
    lines.push(format!(
        "at least {} distinct signer{}",
        rules.count,
        if rules.count == 1 { "" } else { "s" }
    ));
    lines.push(match rules.transparency {
        Transparency::Required => "each signature in a transparency log".to_owned(),
        Transparency::Ignored => "in a log only where an authority asks for it".to_owned(),
    });
    if rules.bind_repository {
        lines.push("what is signed names the repository".to_owned());
    }
    if rules.no_rollback {
        lines.push("no release older than the one before".to_owned());
    }
    if let Some(seconds) = rules.max_age {
        lines.push(format!("no signature older than {seconds} seconds at release"));
    }
    let attachments: Vec<String> = rules
        .attachments
        .iter()
        .filter_map(|one| serde_json::to_value(one).ok()?.as_str().map(str::to_owned))
        .collect();
    let attachments = if attachments.is_empty() { "none".to_owned() } else { attachments.join(", ") };
    lines.push(format!("attachments: {attachments}"));
    if !rules.deny_digests.is_empty() {
        lines.push(format!("{} denied digests", rules.deny_digests.len()));
    }
    lines
}
