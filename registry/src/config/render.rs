// SPDX-License-Identifier: AGPL-3.0-only
//! The effective configuration as a person reads it: YAML with the origin of each key behind it. All
//! text is in double quotes, so that no value can be read back as another type or end its comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Origin;
use super::node::{Node, Value, join};

/// Writes `tree` as YAML, each key followed by its origin; keys that `origins` lacks have the default.
pub(super) fn with_origins(tree: &Node, origins: &BTreeMap<String, Origin>) -> String {
    let mut out = String::new();
    section(&mut out, tree, "", 0, origins);
    out
}

fn section(out: &mut String, node: &Node, key: &str, depth: usize, origins: &BTreeMap<String, Origin>) {
    let Value::Section(entries) = &node.value else { return };
    for entry in entries {
        let full = join(key, &entry.key);
        let indent = "  ".repeat(depth);
        if let Value::Section(inner) = &entry.node.value
            && !inner.is_empty()
        {
            let _ = writeln!(out, "{indent}{}:", entry.key);
            section(out, &entry.node, &full, depth + 1, origins);
            continue;
        }
        let origin = match origins.get(&full) {
            None | Some(Origin::Default) => "default".to_owned(),
            Some(origin) => format!("from {origin}"),
        };
        let _ = writeln!(out, "{indent}{}: {} # {origin}", entry.key, flow(&entry.node));
    }
}

/// A value on one line.
pub(super) fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => quote(text),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Section(entries) => {
            let pairs: Vec<_> =
                entries.iter().map(|e| format!("{}: {}", quote(&e.key), flow(&e.node))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A YAML 1.2 double-quoted scalar (§7.3.1); what a terminal or a parser might take amiss is escaped.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}
