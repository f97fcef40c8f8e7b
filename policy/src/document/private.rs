// SPDX-License-Identifier: AGPL-3.0-only
//! `keyless.ca-cert`: certificate authorities that stand in the document itself. Logs and clocks are those of a trust root.

use std::collections::BTreeSet;

use super::RootNames;
use super::authority::{DEFAULT_CA, with_ca};
use super::section::{Field, Section};
use crate::authority::{LogRule, PrivateAuthority, Roots};

/// Reads it; `of` is the root whose logs and clocks are asked.
pub(super) fn read(field: &Field<'_>, of: &RootNames) -> Option<PrivateAuthority> {
    let mut section = field.section()?;
    section.refuse("secretRef", "there is no cluster to read from; put the certificates into `data`");
    section.refuse("kms", "no key service is asked; put the certificates into `data`");
    section.refuse("hashAlgorithm", "certificates say themselves how they are signed; leave it out");
    let data = if section.has("data") || !(section.has("kms") || section.has("secretRef")) {
        section.need("data")
    } else {
        None
    };
    section.done();
    let data = data?;
    data.or_fault(PrivateAuthority::new(data.text()?, &of.name))
}

/// Whose logs and clocks: those of the root that is named; else of the only one; else of the public one.
pub(super) fn root_of<'r>(
    section: &Section<'_>,
    named: Option<&'r RootNames>,
    all: &'r [RootNames],
) -> Option<&'r RootNames> {
    if named.is_some() {
        return named;
    }
    if let [only] = all {
        return Some(only);
    }
    let public = with_ca(all.iter(), DEFAULT_CA);
    let mut having = all.iter().filter(|root| public.contains(&root.name));
    match (having.next(), having.next()) {
        (Some(one), None) => Some(one),
        _ => section.fault(
            "several trust roots are configured: name the one with the logs and clocks in trustRootRef",
        ),
    }
}

/// Who names the root means the private one, which has its logs and clocks.
pub(super) fn roots(roots: Option<Roots>, private: &PrivateAuthority) -> Option<Roots> {
    let own = |names: BTreeSet<String>| {
        let renamed = |name: String| if name == private.of { private.name.clone() } else { name };
        Roots::Named(names.into_iter().map(renamed).collect())
    };
    roots.map(|roots| match roots {
        Roots::Any => Roots::Any,
        Roots::Named(names) => own(names),
    })
}

/// The same for a log.
pub(super) fn log(rule: Option<LogRule>, private: &PrivateAuthority) -> Option<LogRule> {
    rule.map(|rule| match rule {
        LogRule::Required { roots: named, url } => {
            let roots = roots(Some(named), private).unwrap_or(Roots::Any);
            LogRule::Required { roots, url }
        }
        LogRule::Ignored => LogRule::Ignored,
    })
}
