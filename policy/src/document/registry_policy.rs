// SPDX-License-Identifier: AGPL-3.0-only
//! `RegistryPolicy`, policy.stella-ops.org/v1.

use std::collections::BTreeSet;

use super::section::{Field, Section};
use super::{Name, name_of};
use crate::registry_policy::{
    Attachment, Enforcement, NoMatch, RegistryPolicy, Rules, Transparency, WhileWaiting,
};
use crate::{Digest, RepositoryGlob};

/// More signers than anybody asks for.
const MOST_SIGNERS: i64 = 100;
const DAY: i64 = 86_400;

pub(super) fn read(mut top: Section<'_>) -> Option<RegistryPolicy> {
    let name = name_of(&mut top);
    let spec = top.need("spec").and_then(|field| field.section());
    top.done();
    let mut spec = spec?;
    let repositories = spec.need("repositories").and_then(|field| repositories(&field));
    let default = Rules::of_an_empty_document();
    let enforcement =
        &[("off", Enforcement::Off), ("warn", Enforcement::Warn), ("enforce", Enforcement::Enforce)];
    let push = choice(&mut spec, "push", enforcement, default.push);
    let pull = choice(&mut spec, "pull", enforcement, default.pull);
    let waiting = &[("previous", WhileWaiting::Previous), ("deny", WhileWaiting::Deny)];
    let while_waiting = choice(&mut spec, "whileWaiting", waiting, default.while_waiting);
    let no_match = &[("deny", NoMatch::Deny), ("allow", NoMatch::Allow)];
    let no_match = choice(&mut spec, "noMatch", no_match, default.no_match);
    let count = spec.get("count").map_or(Some(default.count), |field| {
        let count = field.whole()?;
        if !(1..=MOST_SIGNERS).contains(&count) {
            return field.fault(&format!("it is 1 to {MOST_SIGNERS}"));
        }
        u32::try_from(count).ok()
    });
    let transparency = &[("required", Transparency::Required), ("ignored", Transparency::Ignored)];
    let transparency = choice(&mut spec, "transparency", transparency, default.transparency);
    let bind_repository =
        spec.get("bindRepository").map_or(Some(default.bind_repository), |field| field.bool());
    let no_rollback = spec.get("noRollback").map_or(Some(default.no_rollback), |field| field.bool());
    let max_age = match spec.get_or_null("maxAge").filter(|field| !field.is_null()) {
        Some(field) => field.or_fault(duration(field.text()?)).map(Some),
        None => Some(None),
    };
    let attachments = spec.get("attachments").map_or(Some(default.attachments), |field| attachments(&field));
    let deny_digests = spec.get("denyDigests").map_or(Some(default.deny_digests), |field| digests(&field));
    spec.done();
    let rules = Rules {
        push: push?,
        pull: pull?,
        while_waiting: while_waiting?,
        no_match: no_match?,
        count: count?,
        transparency: transparency?,
        bind_repository: bind_repository?,
        no_rollback: no_rollback?,
        max_age: max_age?,
        attachments: attachments?,
        deny_digests: deny_digests?,
    };
    let Name { name, at } = name?;
    Some(RegistryPolicy { name, at, repositories: repositories?, rules })
}

fn choice<T: Copy>(spec: &mut Section<'_>, key: &'static str, words: &[(&str, T)], default: T) -> Option<T> {
    let Some(field) = spec.get(key) else { return Some(default) };
    // `off` is text in YAML 1.2; who quotes it means the same.
    let text = field.text()?;
    let value = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    value.or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        field.fault(&format!("it is {}", words.join(" or ")))
    })
}

fn repositories(field: &Field<'_>) -> Option<Vec<RepositoryGlob>> {
    let globs: Vec<_> =
        field.some()?.iter().map(|item| item.or_fault(RepositoryGlob::parse(item.text()?))).collect();
    globs.into_iter().collect()
}

fn attachments(field: &Field<'_>) -> Option<BTreeSet<Attachment>> {
    let one = |item: &Field<'_>| match item.text()? {
        "spdx" => Some(Attachment::Spdx),
        "cyclonedx" => Some(Attachment::Cyclonedx),
        "in-toto" => Some(Attachment::InToto),
        "vex" => Some(Attachment::Vex),
        _ => item.fault("it is spdx, cyclonedx, in-toto or vex"),
    };
    let all: Vec<_> = field.list()?.iter().map(one).collect();
    all.into_iter().collect()
}

fn digests(field: &Field<'_>) -> Option<BTreeSet<Digest>> {
    let one = |item: &Field<'_>| {
        let digest: Digest =
            item.or_fault(item.text()?.parse().map_err(|e: crate::DigestError| e.to_string()))?;
        if digest.algorithm() != crate::Algorithm::Sha256 {
            return item.fault("it is compared with sha256 digests: write the sha256 of the same content");
        }
        Some(digest)
    };
    let all: Vec<_> = field.list()?.iter().map(one).collect();
    all.into_iter().collect()
}

/// `90d`, `12h`, `30m`, `45s`, in seconds.
fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a duration such as 90d or 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return Err(wrong()),
    };
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=36_500 * DAY).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is not within 1s and 36500d")),
    }
}
