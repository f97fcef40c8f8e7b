// SPDX-License-Identifier: AGPL-3.0-only
//! Whether access rules and policies go together: a gate that everybody may look behind is none.
//!
//! Rules and policies name repositories by patterns. Whether two of them meet is found out by trying names that either
//! would match; at run time anonymous clients never preview, whatever rules say, so nothing hangs on a name that was not
//! thought of.

use std::collections::BTreeSet;

use stella_policy::{Enforcement, PolicySet};
use stella_storage::RepoName;

use crate::access::{Action, Identity, Rules};
use crate::config::{AccessRule, Client, Config, Place};

/// What stands for the stars of a pattern.
const FILLINGS: [(&str, &str); 3] = [("x", "x"), ("x/y", "x"), ("x/y/z", "x-1")];

/// Fails where enforcement would mean nothing; gives warnings where it means little.
pub(super) fn check(config: &Config, set: &PolicySet) -> Result<Vec<String>, String> {
    if !set.enforces_pull() {
        return Ok(Vec::new());
    }
    if config.access.is_empty() {
        return Err("a policy enforces pulls, and there are no access rules: everybody may push, sign and preview. Write \
                    rules (`access`), such as:\n  access:\n  - {allow: [pull], to: everyone}\n  - {allow: all, to: \
                    {subject: NAME}}"
            .to_owned());
    }
    let rules = Rules::new(config.access.clone());
    let names = enforced_names(config, set);
    for name in &names {
        for action in [Action::Preview, Action::Sign] {
            let decision = rules.decide(&Identity::anonymous(), action, Some(name));
            if let (true, Some(rule)) = (decision.allowed, decision.rule) {
                return Err(format!(
                    "a policy enforces pulls in {name}, and access rule {rule} gives everybody `{action}` there, so that \
                     everybody sees what is not released; take it out of the rule"
                ));
            }
        }
    }
    let both = |rule: &AccessRule| {
        let gives = |action| rule.allow.as_ref().is_some_and(|actions| actions.contains(action));
        gives(Action::Push) && gives(Action::Sign) && names.iter().any(|name| is_about(rule, name))
    };
    let numbered = config.access.iter().enumerate().filter(|(_, rule)| both(rule));
    Ok(numbered
        .map(|(index, rule)| {
            format!(
                "access rule {} lets {} both push and sign where a policy enforces pulls: with the key, who builds an image \
                 releases it too; give `push` and `sign` to different identities, if that is not meant",
                index + 1,
                whom(rule)
            )
        })
        .collect())
}

fn whom(rule: &AccessRule) -> String {
    let named: Vec<String> = rule
        .to
        .0
        .iter()
        .map(|client| match client {
            Client::Everyone => "everyone".to_owned(),
            Client::Anonymous => "anonymous".to_owned(),
            Client::Authenticated => "everyone who logs in".to_owned(),
            Client::Like(like) => match (&like.subject, &like.group) {
                (Some(subject), _) => subject.as_str().to_owned(),
                (None, Some(group)) => format!("the group {}", group.as_str()),
                (None, None) => "some".to_owned(),
            },
        })
        .collect();
    named.join(", ")
}

fn is_about(rule: &AccessRule, name: &RepoName) -> bool {
    rule.repositories.is_empty()
        || rule.repositories.iter().any(|place| match place {
            Place::Pattern(pattern) => pattern.matches(name),
            Place::Own => true,
        })
}

/// Names that a policy or a rule would match, of those in which pulls are enforced.
fn enforced_names(config: &Config, set: &PolicySet) -> Vec<RepoName> {
    let places = config.access.iter().flat_map(|rule| &rule.repositories);
    let patterns = places.filter_map(|place| match place {
        Place::Pattern(pattern) => Some(pattern.as_str()),
        Place::Own => None,
    });
    let texts: BTreeSet<&str> = set.repository_globs().chain(patterns).collect();
    let names: BTreeSet<String> = texts.into_iter().flat_map(filled).collect();
    let names = names.iter().filter_map(|name| name.parse::<RepoName>().ok());
    names.filter(|name| set.rules(name.as_str()).pull == Enforcement::Enforce).collect()
}

/// A repository in which `before` enforces pulls and `after` does not, if there is one.
pub(super) fn opened(before: &PolicySet, after: &PolicySet) -> Option<RepoName> {
    let names = before.repository_globs().flat_map(filled).filter_map(|name| name.parse::<RepoName>().ok());
    let is_enforced =
        |set: &PolicySet, name: &RepoName| set.rules(name.as_str()).pull == Enforcement::Enforce;
    names.into_iter().find(|name| is_enforced(before, name) && !is_enforced(after, name))
}

fn filled(pattern: &str) -> Vec<String> {
    // Of alternatives the first stands for all.
    let plain: String = match (pattern.split_once('{'), pattern.split_once('}')) {
        (Some((before, inside)), Some((_, after))) => {
            let first = inside.split([',', '}']).next().unwrap_or_default();
            format!("{before}{first}{after}")
        }
        _ => pattern.to_owned(),
    };
    let fill = |(across, within): &(&str, &str)| plain.replace("**", across).replace(['*', '?'], within);
    FILLINGS.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Overrides;

    fn checked(access: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        fs::write(
            &path,
            "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {name: prod}\nspec:\n  repositories: \
             [\"prod/**\"]\n",
        )
        .unwrap();
        let set = PolicySet::load("r.test", &[path], &[]).unwrap();
        let env = [("STELLA_ACCESS".to_owned(), access.to_owned())];
        check(&Config::load(None, env, Overrides::default()).unwrap(), &set)
    }

    #[test]
    fn who_is_nobody_must_not_look_behind_the_gate() {
        let why = checked("[]").unwrap_err();
        assert!(why.contains("no access rules"), "{why}");
        let why = checked("[{allow: [pull, preview], to: everyone}]").unwrap_err();
        assert!(why.contains("rule 1") && why.contains("`preview`"), "{why}");
        let why = checked(
            "[{allow: [pull], to: everyone}, {allow: [sign], to: anonymous, repositories: [prod/*]}]",
        );
        assert!(why.unwrap_err().contains("rule 2"));
        let nowhere_near =
            "[{allow: [pull], to: everyone}, {allow: [preview], to: everyone, repositories: [dev/**]}]";
        assert_eq!(checked(nowhere_near), Ok(Vec::new()));
    }

    #[test]
    fn who_pushes_and_signs_is_told_of() {
        let warnings = checked("[{allow: [pull, push, sign], to: {subject: ci}}]").unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("ci both push and sign"), "{warnings:?}");
        let apart = "[{allow: [push], to: {subject: ci}}, {allow: [sign], to: {subject: signer}}]";
        assert_eq!(checked(apart), Ok(Vec::new()));
        let elsewhere = "[{allow: all, to: {subject: ci}, repositories: [dev/**]}]";
        assert_eq!(checked(elsewhere), Ok(Vec::new()));
    }
}
