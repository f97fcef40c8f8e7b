// SPDX-License-Identifier: AGPL-3.0-only
//! What a client asks a token for (the Docker token specification, "Resource scope grammar"):
//! `repository:NAME:ACTION,…` and `registry:catalog:*`, several of them, repeated and separated by spaces.
//!
//! Clients write much that is odd, and asking for too much is no error: what cannot be read is asked for in vain. A name
//! is a repository's name to the letter: nothing in it is decoded, and no pattern means more than one repository.

use std::collections::BTreeMap;

use stella_storage::RepoName;

use super::claims::Marks;
use super::{Access, Action, Identity, Scope};

/// Repositories in one token.
const MOST: usize = 100;

/// The actions that tokens know, by the repositories they were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    repositories: BTreeMap<RepoName, Vec<Action>>,
    catalog: bool,
}

impl Asked {
    /// Reads what each `scope` of a request says.
    pub(super) fn of<'s>(scopes: impl IntoIterator<Item = &'s str>) -> Self {
        let mut asked = Asked::default();
        for scope in scopes.into_iter().flat_map(|scopes| scopes.split(' ')) {
            // A name may have a colon, of a port: then it is none of ours.
            let Some(((kind, name), actions)) =
                scope.rsplit_once(':').and_then(|(head, actions)| Some((head.split_once(':')?, actions)))
            else {
                continue;
            };
            match kind {
                // The class is from an older time.
                "repository" | "repository(plugin)" => asked.add(name, actions),
                "registry" => {
                    asked.catalog |= name == "catalog" && actions.split(',').any(|action| action == "*");
                }
                _ => {}
            }
        }
        asked
    }

    fn add(&mut self, name: &str, actions: &str) {
        let Ok(repo) = name.parse::<RepoName>() else { return };
        if self.repositories.len() >= MOST && !self.repositories.contains_key(&repo) {
            return;
        }
        let known = self.repositories.entry(repo).or_default();
        for action in actions.split(',') {
            let meant: &[Action] = match action {
                "pull" => &[Action::Pull],
                "push" => &[Action::Push],
                "delete" => &[Action::Delete],
                "*" => &[Action::Pull, Action::Push, Action::Delete],
                _ => &[],
            };
            for action in meant {
                if !known.contains(action) {
                    known.push(*action);
                }
            }
        }
    }

    /// What of it a client may have, and how that is marked.
    pub(super) fn grant(&self, access: &Access, who: &Identity) -> (Scope, Marks<'_>) {
        let (mut scope, mut marks) = (Scope { catalog: self.catalog, ..Scope::default() }, Marks::default());
        for (repo, asked) in &self.repositories {
            let may = |action| access.decide(who, action, Some(repo)).allowed;
            let previews = may(Action::Preview);
            let mut signs = false;
            let mut granted = asked.clone();
            granted.retain(|action| match action {
                Action::Pull => previews || may(Action::Pull),
                // Tools that sign ask for a token to push; what they push is looked at.
                Action::Push => {
                    let pushes = may(Action::Push);
                    signs = !pushes && may(Action::Sign);
                    pushes || signs
                }
                action => may(*action),
            });
            if granted.is_empty() {
                continue;
            }
            if previews {
                marks.preview.push(repo.as_str());
            }
            if signs {
                marks.sign.push(repo.as_str());
            }
            scope.repositories.insert(repo.as_str().to_owned(), granted);
        }
        (scope, marks)
    }
}

impl Scope {
    /// As it is asked for.
    pub(crate) fn text(&self) -> String {
        let repositories = self.repositories.iter().map(|(name, actions)| {
            let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
            format!("repository:{name}:{}", actions.join(","))
        });
        let catalog = self.catalog.then(|| "registry:catalog:*".to_owned());
        repositories.chain(catalog).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(scopes: &[&str]) -> Vec<String> {
        let Asked { repositories, catalog } = Asked::of(scopes.iter().copied());
        let mut texts: Vec<_> = repositories
            .iter()
            .map(|(repo, actions)| {
                let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
                format!("{repo}:{}", actions.join(","))
            })
            .collect();
        texts.extend(catalog.then(|| "catalog".to_owned()));
        texts
    }

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        for (scopes, expected) in [
            (["repository:a/b:pull,push"].as_slice(), ["a/b:pull,push"].as_slice()),
            (&["repository:a:push,pull repository:b:pull"], &["a:push,pull", "b:pull"]),
            (&["repository:a:pull", "repository:a:pull,push,pull"], &["a:pull,push"]),
            (&["repository:a:pull,push,*"], &["a:pull,push,delete"]),
            (&["repository(plugin):a:pull", "registry:catalog:*"], &["a:pull", "catalog"]),
            (
                &["", " ", "repository", "repository:a", "repository::pull", "repository:a:", "a:pull"],
                &["a:"],
            ),
            // Names with ports, encoded slashes, patterns and other tricks are no names.
            (
                &[
                    "repository:host:5000/a:pull",
                    "repository:a%2fb:pull",
                    "repository:*:pull",
                    "repository:a/**:pull",
                    "repository:../a:pull",
                    "repository:A:pull",
                    "repository:a:b:pull",
                    "repository:a\u{0}:pull",
                    "Repository:a:pull",
                ],
                &[],
            ),
            (&["registry:catalog:pull", "registry:x:*", "other:catalog:*"], &[]),
            (&["repository:a:admin,sign,preview,PULL"], &["a:"]),
        ] {
            assert_eq!(asked(scopes), expected, "{scopes:?}");
        }
    }

    #[test]
    fn a_token_is_for_so_many_repositories_and_no_more() {
        let scopes: Vec<_> = (0..500).map(|number| format!("repository:r{number}:pull")).collect();
        assert_eq!(asked(&[scopes.join(" ").as_str()]).len(), MOST);
    }

    proptest! {
        #[test]
        fn no_scope_makes_the_parser_panic(scope in "(repository|registry)?[:a-z*,%/ 0-9]{0,40}") {
            for text in asked(&[&scope]) {
                prop_assert!(text == "catalog" || text.split(':').next().unwrap().parse::<RepoName>().is_ok());
            }
        }
    }
}
