// SPDX-License-Identifier: AGPL-3.0-only
//! The configuration before it has types: a tree of keys in which every value remembers its origin,
//! so that layers can be merged and any later fault can name its place. Invariant: a section holds a
//! key once.

use super::Origin;

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// What YAML can say, less what a configuration has no use for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Quoted or plain text; every value of the environment and of a flag.
    Text(String),
    List(Vec<Node>),
    Section(Vec<Entry>),
}

/// A key with its value, in the order of the source.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_origin: Origin,
    pub(super) node: Node,
}

/// The keys that exist, read off the default configuration.
pub(super) struct Schema {
    tree: Node,
}

impl Node {
    pub(super) fn empty() -> Self {
        Self { origin: Origin::Default, value: Value::Section(Vec::new()) }
    }

    pub(super) fn text(text: String, origin: Origin) -> Self {
        Self { origin, value: Value::Text(text) }
    }

    /// Sets the value under `path`, making sections where there are none.
    pub(super) fn insert(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Section(_)) {
            self.value = Value::Section(Vec::new());
        }
        let Value::Section(entries) = &mut self.value else { return };
        if let Some(entry) = entries.iter_mut().find(|e| e.key == *first) {
            return entry.node.insert(rest, node);
        }
        let mut child = Self { origin: node.origin.clone(), value: Value::Null };
        let key_origin = node.origin.clone();
        child.insert(rest, node);
        entries.push(Entry { key: (*first).to_owned(), key_origin, node: child });
    }

    /// The value under `key`, such as `push.allow_missing`.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        key.split('.').try_fold(self, |node, part| {
            let Value::Section(entries) = &node.value else { return None };
            entries.iter().find(|e| e.key == part).map(|e| &e.node)
        })
    }

    /// Every key that is not itself a section, with its full name.
    pub(super) fn leaves(&self) -> Vec<(String, &Self)> {
        let mut found = Vec::new();
        self.collect_leaves("", &mut found);
        found
    }

    fn collect_names(&self, key: &str, names: &mut Vec<String>) {
        let Value::Section(entries) = &self.value else { return };
        for entry in entries {
            let name = join(key, &entry.key);
            entry.node.collect_names(&name, names);
            names.push(name);
        }
    }

    fn collect_leaves<'a>(&'a self, key: &str, found: &mut Vec<(String, &'a Self)>) {
        match &self.value {
            Value::Section(entries) if !entries.is_empty() || key.is_empty() => {
                for entry in entries {
                    entry.node.collect_leaves(&join(key, &entry.key), found);
                }
            }
            _ => found.push((key.to_owned(), self)),
        }
    }
}

impl Schema {
    /// The schema whose keys are those of `tree`.
    pub(super) fn of(tree: Node) -> Self {
        Self { tree }
    }

    /// Every key that takes a value.
    pub(super) fn keys(&self) -> Vec<String> {
        self.tree.leaves().into_iter().map(|(key, _)| key).collect()
    }

    pub(super) fn is_key(&self, key: &str) -> bool {
        self.tree.get(key).is_some_and(|node| match &node.value {
            // What is empty by default has names of an operator's own: a map, not a section.
            Value::Section(entries) => entries.is_empty(),
            _ => true,
        })
    }

    /// Whether its value is written as in the file, wherever it stands: a list or a map.
    pub(super) fn is_written(&self, key: &str) -> bool {
        let node = self.tree.get(key);
        node.is_some_and(|node| matches!(node.value, Value::List(_) | Value::Section(_)))
    }

    /// Whether `key` exists, as a value or as a section.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.tree.get(key).is_some()
    }

    /// Tells how to mend the unknown `key`. `spell` writes a key the way its source does.
    pub(super) fn hint(&self, key: &str, spell: impl Fn(&str) -> String) -> String {
        let mut names = Vec::new();
        self.tree.collect_names("", &mut names);
        let distance = |known: &String| strsim::damerau_levenshtein(known, key);
        names.sort_by_key(distance);
        let (section, name) = split(key);
        let near = |known: &&String| distance(known) <= name.len().max(3) / 3;
        // The right key in the wrong section is as common a slip as a wrong letter.
        let moved = || names.iter().find(|known| split(known).1 == name);
        if let Some(known) = names.iter().find(near).or_else(moved) {
            return format!("did you mean `{}`?", spell(known));
        }
        let here = names.iter().filter(|known| split(known).0 == section);
        let here: Vec<_> = here.map(|known| format!("`{}`", spell(known))).collect();
        format!("known keys, the nearest first: {}", here.join(", "))
    }
}

/// `section` and `key` as one name.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The section of `key`, and its name there.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}
