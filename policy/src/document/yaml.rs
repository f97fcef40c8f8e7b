// SPDX-License-Identifier: AGPL-3.0-only
//! YAML of bounded size, as a tree in which each value knows its line and column. Nothing is guessed: a key that stands
//! twice, a tag, a merge key and a character that cannot be seen are refused, and aliases can repeat a little only.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    DuplicateKeyPolicy, Location, MergeKeyPolicy, MessageFormatter as _, Spanned, UserMessageFormatter,
};

use super::section::Faults;

/// The most bytes of a file.
pub(super) const MOST_FILE: u64 = 1 << 20;
const MOST_NODES: usize = 20_000;
const MOST_REPEATED: usize = 2_000;
const MOST_DOCUMENTS: usize = 500;
const DEEPEST: usize = 24;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// Where something stands in its file; lines and columns count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Whole(i64),
    /// A number that is not used here; as what it is told of.
    Number,
    Text(String),
    List(Vec<Node>),
    Section(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Place,
    pub(super) key: String,
    pub(super) node: Node,
}

/// The documents of a file.
pub(super) fn parse(text: &str, faults: &Faults) -> Vec<Node> {
    let begin = Place { line: 1, column: 1 };
    if let Some((line, column)) = hidden_at(text) {
        faults.add(Place { line, column }, "", "a control character cannot stand in a document");
        return Vec::new();
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MOST_NODES,
            max_events: 4 * MOST_NODES,
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_documents: MOST_DOCUMENTS,
            max_aliases: 100,
            max_anchors: 100,
            max_recorded_anchor_events: 4 * MOST_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_REPEATED,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        // Found below, where the place of each is known.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        // YAML 1.2: `yes` and `on` are text.
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options) {
        Ok(documents) => documents.into_iter().map(|document| place(document, "", faults)).collect(),
        Err(error) => {
            let at = error.location().map_or(begin, |location| place_of(&location));
            let message =
                UserMessageFormatter.format_message(error.without_snippet()).escape_debug().to_string();
            faults.add(at, "", &message);
            Vec::new()
        }
    }
}

/// The first character that an editor does not show.
fn hidden_at(text: &str) -> Option<(u64, u64)> {
    let is_hidden = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.lines().zip(1..).find_map(|(line, number)| {
        line.chars().zip(1..).find(|(c, _)| is_hidden(*c)).map(|(_, column)| (number, column))
    })
}

fn place_of(location: &Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

fn place(raw: Spanned<Raw>, path: &str, faults: &Faults) -> Node {
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => {
            let item =
                |(index, item): (usize, Spanned<Raw>)| place(item, &format!("{path}[{index}]"), faults);
            Value::List(items.into_iter().enumerate().map(item).collect())
        }
        Raw::Section(pairs) => {
            let mut entries: Vec<Entry> = Vec::new();
            for (name, value) in pairs {
                let at = place_of(&name.referenced);
                let path =
                    if path.is_empty() { name.value.clone() } else { format!("{path}.{}", name.value) };
                if let Some(first) = entries.iter().find(|entry| entry.key == name.value) {
                    faults.add(at, &path, &format!("it stands in line {} already", first.at.line));
                }
                entries.push(Entry { at, node: place(value, &path, faults), key: name.value });
            }
            Value::Section(entries)
        }
    };
    Node { at: place_of(&raw.referenced), value }
}

/// What the parser found. Its depth is limited by the budget.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Section(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a section")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(i64::try_from(value).map_or(Value::Number, Value::Whole)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Whole(value)))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Raw::Section(pairs))
    }
}
