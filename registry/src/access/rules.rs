// SPDX-License-Identifier: AGPL-3.0-only
//! Access rules: an ordered list, of which the first that is about a client, an action and a repository decides. What
//! none is about is denied. Pure: who a client is was found out before.
//!
//! Without any rules everything is allowed to everyone, and the configuration sees to it that then only this machine
//! can connect (`config/listen.rs`).

use stella_storage::RepoName;

use super::{Action, Identity};
use crate::config::{AccessRule, Client, Likeness, Place};

/// The list, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Option<Vec<AccessRule>>);

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// The number of the rule that decided, from 1; none if no rule is about it, or there are none.
    pub(crate) rule: Option<usize>,
}

impl Rules {
    /// An empty list is none.
    pub(crate) fn new(rules: Vec<AccessRule>) -> Self {
        Rules(Some(rules).filter(|rules| !rules.is_empty()))
    }

    /// Whether a client may do something in a repository, or, without one, in the registry as a whole: then only rules
    /// count that are about all repositories.
    pub(crate) fn decide(&self, who: &Identity, action: Action, repo: Option<&RepoName>) -> Decision {
        let Some(rules) = &self.0 else { return Decision { allowed: true, rule: None } };
        for (index, rule) in rules.iter().enumerate() {
            if let Some(allowed) = says(rule, action)
                && rule.to.0.iter().any(|client| is_one(who, client))
                && is_about(rule, who, repo)
            {
                return Decision { allowed, rule: Some(index + 1) };
            }
        }
        Decision { allowed: false, rule: None }
    }

    /// Whether a client may do anything at all somewhere, as far as can be told without naming a repository.
    pub(crate) fn admit(&self, who: &Identity) -> bool {
        self.0.as_ref().is_none_or(|rules| {
            rules
                .iter()
                .any(|rule| rule.allow.is_some() && rule.to.0.iter().any(|client| is_one(who, client)))
        })
    }
}

/// What a rule says of an action, if it is about it.
fn says(rule: &AccessRule, action: Action) -> Option<bool> {
    let allows = |action| rule.allow.as_ref().is_some_and(|actions| actions.contains(action));
    // Who signs must see what it signs.
    if allows(action) || action == Action::Preview && allows(Action::Sign) {
        return Some(true);
    }
    rule.deny.as_ref().is_some_and(|actions| actions.contains(action)).then_some(false)
}

fn is_one(who: &Identity, client: &Client) -> bool {
    match client {
        Client::Everyone => true,
        Client::Anonymous => who.is_anonymous(),
        Client::Authenticated => !who.is_anonymous(),
        // Whatever is asked of a client, one that has proven nothing is nobody.
        Client::Like(likeness) => !who.is_anonymous() && is_like(who, likeness),
    }
}

fn is_like(who: &Identity, Likeness { subject, group, claims }: &Likeness) -> bool {
    subject.as_ref().is_none_or(|pattern| pattern.matches(&who.subject))
        && group.as_ref().is_none_or(|pattern| who.groups.iter().any(|group| pattern.matches(group)))
        && claims.iter().all(|(name, pattern)| {
            who.claims
                .get(name)
                .is_some_and(|claim| claim.values().iter().any(|value| pattern.matches(value)))
        })
}

fn is_about(rule: &AccessRule, who: &Identity, repo: Option<&RepoName>) -> bool {
    rule.repositories.is_empty()
        || rule.repositories.iter().any(|place| match (place, repo) {
            (Place::Pattern(pattern), Some(repo)) => pattern.matches(repo),
            (Place::Own, Some(repo)) => who.own.iter().any(|pattern| pattern.matches(repo)),
            (Place::Pattern(pattern), None) => pattern.as_str() == "**",
            (Place::Own, None) => false,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::access::{Claim, Proof};

    fn rules(yaml: &str) -> Rules {
        Rules::new(serde_saphyr::from_str(yaml).unwrap())
    }

    fn user(name: &str) -> Identity {
        Identity { subject: name.to_owned(), proof: Proof::Password, ..Identity::default() }
    }

    fn repo(name: &str) -> RepoName {
        name.parse().unwrap()
    }

    fn decide(rules: &Rules, who: &Identity, action: Action, name: &str) -> (bool, Option<usize>) {
        let Decision { allowed, rule } = rules.decide(who, action, Some(&repo(name)));
        (allowed, rule)
    }

    #[test]
    fn without_rules_everyone_may_do_everything() {
        let none = Rules::new(Vec::new());
        for action in Action::ALL {
            assert_eq!(decide(&none, &Identity::anonymous(), action, "a"), (true, None));
        }
        assert!(none.admit(&Identity::anonymous()));
    }

    #[test]
    fn the_first_rule_that_is_about_it_decides() {
        let rules = rules(
            "[{deny: [delete], to: everyone, repositories: [prod/**]},
              {allow: [pull], to: anonymous, repositories: [public/**]},
              {allow: all, to: {subject: alice}},
              {allow: [pull, push], to: [{subject: 'ci-*'}, {group: build}], repositories: ['{dev,test}/**']}]",
        );
        let (alice, ci, nobody) = (user("alice"), user("ci-1"), Identity::anonymous());
        assert_eq!(decide(&rules, &alice, Action::Delete, "prod/app"), (false, Some(1)));
        assert_eq!(decide(&rules, &alice, Action::Delete, "dev/app"), (true, Some(3)));
        assert_eq!(decide(&rules, &nobody, Action::Pull, "public/app"), (true, Some(2)));
        assert_eq!(decide(&rules, &nobody, Action::Pull, "dev/app"), (false, None));
        assert_eq!(decide(&rules, &nobody, Action::Push, "public/app"), (false, None));
        assert_eq!(decide(&rules, &ci, Action::Push, "test/app"), (true, Some(4)));
        assert_eq!(decide(&rules, &ci, Action::Push, "prod/app"), (false, None));
        // Anonymous is not everyone.
        assert_eq!(decide(&rules, &ci, Action::Pull, "public/app"), (false, None));
        let grouped = Identity { groups: vec!["build".to_owned()], ..user("x") };
        assert_eq!(decide(&rules, &grouped, Action::Pull, "dev/app"), (true, Some(4)));
    }

    #[test]
    fn claims_must_all_fit_and_a_list_fits_by_one_of_its_values() {
        let rules = rules(
            "[{allow: [push], to: {claims: {ref_protected: 'true', groups: ops/*}}, repositories: [own]}]",
        );
        let one = |value: &str| Claim::One(value.to_owned());
        let claims = BTreeMap::from([
            ("ref_protected".to_owned(), one("true")),
            ("groups".to_owned(), Claim::Many(vec!["dev".to_owned(), "ops/eu".to_owned()])),
        ]);
        let proof = Proof::Token { issuer: "https://gitlab.example".to_owned() };
        let job = Identity {
            claims,
            own: vec!["g/p/**".parse().unwrap(), "g/p".parse().unwrap()],
            proof,
            ..user("job")
        };
        assert!(
            decide(&rules, &job, Action::Push, "g/p/app").0 && decide(&rules, &job, Action::Push, "g/p").0
        );
        assert!(!decide(&rules, &job, Action::Push, "g/q").0);
        let mut unprotected = job.clone();
        unprotected.claims.insert("ref_protected".to_owned(), one("false"));
        assert!(!decide(&rules, &unprotected, Action::Push, "g/p").0);
        let mut other = job.clone();
        other.claims.remove("groups");
        assert!(!decide(&rules, &other, Action::Push, "g/p").0);
    }

    #[test]
    fn the_registry_as_a_whole_is_for_rules_about_all_of_it() {
        let rules = rules(
            "[{allow: [admin], to: {subject: a}, repositories: [x/**]}, {allow: [admin], to: {subject: b}},
              {allow: [pull], to: {subject: c}, repositories: ['**']}]",
        );
        let may = |name: &str, action| rules.decide(&user(name), action, None).allowed;
        assert!(!may("a", Action::Admin) && may("b", Action::Admin) && may("c", Action::Pull));
    }

    #[test]
    fn who_signs_may_preview_unless_an_earlier_rule_denies_it() {
        let sign = rules("[{allow: [sign], to: everyone}]");
        assert!(decide(&sign, &user("a"), Action::Preview, "x").0);
        assert!(!decide(&sign, &user("a"), Action::Push, "x").0);
        let denied = rules("[{deny: [preview], to: everyone}, {allow: [sign], to: everyone}]");
        assert!(!decide(&denied, &user("a"), Action::Preview, "x").0);
    }

    proptest! {
        #[test]
        fn nobody_fits_a_rule_that_asks_for_anything(subject in "[a-z]{0,2}[*]", action in prop::sample::select(&Action::ALL)) {
            let rules = rules(&format!("[{{allow: all, to: [{{subject: '{subject}'}}, authenticated]}}]"));
            prop_assert!(!rules.decide(&Identity::anonymous(), action, None).allowed);
            prop_assert!(!rules.admit(&Identity::anonymous()));
        }

        #[test]
        fn what_no_rule_is_about_is_denied(name in "[a-z]{1,8}", action in prop::sample::select(&Action::ALL)) {
            let rules = rules("[{allow: all, to: everyone, repositories: [none/such]}]");
            prop_assert_eq!(decide(&rules, &user("a"), action, &name), (false, None));
        }
    }
}
