// SPDX-License-Identifier: AGPL-3.0-only
//! The environment: `STELLA_` and a key in upper case, its sections joined by `__`. A name with
//! `_FILE` behind it names a file that holds the value. Names outside the known sections are not ours:
//! other tools use `STELLA_HOME`, and Kubernetes sets `STELLA_PORT` for a service named `stella`.

use std::collections::BTreeMap;
use std::path::Path;

use super::decode::{Fault, Reason};
use super::node::{Node, Schema};
use super::origin::{PREFIX, variable};
use super::{ConfigError, Origin, file};

/// Sets in `tree` what `env` says about the keys of `schema`.
pub(super) fn overlay(
    tree: &mut Node,
    schema: &Schema,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    // In order of the names, so that of two faults it is always the same one that is told.
    let ours: BTreeMap<_, _> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    for (name, value) in &ours {
        let Some(key) = key_of(name) else { continue };
        let origin = Origin::Environment { name: name.as_str().into() };
        let (key, value) = match Target::of(&key, schema) {
            Target::NotOurs => match one_underscore(name, schema) {
                Some(meant) => {
                    let hint =
                        format!("did you mean {meant}? Between a section and its key stand two underscores");
                    return Err(ConfigError::UnknownKey { origin, key: name.clone(), hint });
                }
                None => continue,
            },
            Target::Unknown => {
                let key = key.strip_suffix("_file").unwrap_or(&key).to_owned();
                return Err(Fault { key, origin: Some(origin), reason: Reason::UnknownKey(&[]) }
                    .explain(tree, schema));
            }
            Target::Section => {
                let inside = schema.keys().into_iter().find(|known| known.starts_with(&format!("{key}.")));
                let example = inside.map(|known| variable(&known)).unwrap_or_default();
                let reason = format!("is a section; set one of its keys, such as {example}");
                return Err(ConfigError::BadValue { origin, key, reason });
            }
            Target::Value => (key.as_str(), value.clone()),
            Target::ValueInFile(key) => {
                let plain = variable(key);
                if ours.contains_key(&plain) {
                    return Err(ConfigError::SetTwice { name: plain });
                }
                (key, read_value(name, Path::new(value))?)
            }
        };
        let path: Vec<_> = key.split('.').collect();
        // A list or a map is written as in the file, on one line.
        let node = if schema.is_written(key) {
            file::parse(&value, |_| origin.clone())?
        } else {
            Node::text(value, origin)
        };
        tree.insert(&path, node);
    }
    Ok(())
}

/// What a variable is about.
enum Target<'a> {
    NotOurs,
    Unknown,
    Section,
    Value,
    ValueInFile(&'a str),
}

impl<'a> Target<'a> {
    fn of(key: &'a str, schema: &Schema) -> Self {
        // A key that itself ends in `_file` goes before the suffix.
        if schema.is_key(key) {
            return Self::Value;
        }
        if let Some(key) = key.strip_suffix("_file").filter(|key| schema.is_key(key)) {
            return Self::ValueInFile(key);
        }
        let (section, inner) = key.split_once('.').map_or((key, None), |(s, inner)| (s, Some(inner)));
        match inner {
            _ if !schema.knows(section) => Self::NotOurs,
            _ if schema.knows(key) => Self::Section,
            Some(_) => Self::Unknown,
            None => Self::NotOurs,
        }
    }
}

/// The variable that was meant by one with too few underscores. Others do not look like that by chance.
fn one_underscore(name: &str, schema: &Schema) -> Option<String> {
    let single = |name: &str| name.replace("__", "_");
    let known: Vec<_> = schema.keys().iter().map(|key| variable(key)).collect();
    let files = known.iter().map(|known| format!("{known}_FILE"));
    known.iter().cloned().chain(files).find(|known| single(known) == single(name))
}

/// The key that a variable spells; none for a name in lower case.
fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX).filter(|rest| !rest.contains(char::is_lowercase))?;
    Some(rest.split("__").map(str::to_lowercase).collect::<Vec<_>>().join("."))
}

/// The value in the file that the variable `name` names, less one trailing line break.
fn read_value(name: &str, path: &Path) -> Result<String, ConfigError> {
    let text = file::read_text(path, &format!("the file that {name} names:"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
