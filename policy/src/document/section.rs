// SPDX-License-Identifier: AGPL-3.0-only
//! Sections and their fields. Whoever reads a section takes its fields by name and then says that it is done: what was
//! not taken is a fault. So a field cannot be forgotten without a document that has it failing to load.

use std::cell::RefCell;

use super::yaml::{Entry, Node, Place, Value};

/// More faults than anybody reads at once.
const MOST: usize = 50;

/// What is wrong with a file: `FILE:LINE:COLUMN: field: why`.
pub(super) struct Faults {
    file: String,
    found: RefCell<Vec<(Place, String)>>,
}

impl Faults {
    pub(super) fn new(file: &str) -> Self {
        Faults { file: file.to_owned(), found: RefCell::new(Vec::new()) }
    }

    pub(super) fn add(&self, at: Place, field: &str, why: &str) {
        let mut found = self.found.borrow_mut();
        if found.len() < MOST {
            let field = if field.is_empty() { String::new() } else { format!(" {}:", field.escape_debug()) };
            found.push((at, format!("{}:{}:{}:{field} {why}", self.file, at.line, at.column)));
        }
    }

    /// One line each, in the order of the file.
    pub(super) fn into_lines(self) -> Vec<String> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| (at.line, at.column));
        found.into_iter().map(|(_, line)| line).collect()
    }
}

/// That a fault was told of: there is no value, and the document does not load.
pub(super) struct Told;

/// A section that is being read.
pub(super) struct Section<'a> {
    path: String,
    at: Place,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    faults: &'a Faults,
}

/// A field that has a value.
#[derive(Clone)]
pub(super) struct Field<'a> {
    path: String,
    node: &'a Node,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// A whole document.
    pub(super) fn top(node: &'a Node, faults: &'a Faults) -> Option<Self> {
        Field { path: String::new(), node, faults }.section()
    }

    /// A field that may be absent. If it stands there it must have a value: `attestations:` without one is more likely a
    /// mistake than a wish.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        let field = self.get_or_null(key)?;
        if matches!(field.node.value, Value::Null) {
            return field.fault("it has no value; leave it out or give it one");
        }
        Some(field)
    }

    /// A field that may be absent, or `null`.
    pub(super) fn get_or_null(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field { path: self.path_of(key), node: &entry.node, faults: self.faults })
    }

    /// A field that must be there.
    pub(super) fn need(&mut self, key: &'static str) -> Option<Field<'a>> {
        if !self.has(key) {
            self.known.push(key);
            self.faults.add(self.at, &self.path_of(key), "it is missing");
            return None;
        }
        self.get(key)
    }

    /// A field that says what is not done here.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        self.known.push(key);
        if let Some(entry) = self.entries.iter().find(|entry| entry.key == key) {
            self.faults.add(entry.at, &self.path_of(key), why);
        }
    }

    /// Whether it stands there, with or without a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// A fault of the section itself.
    pub(super) fn fault<T>(&self, why: &str) -> Option<T> {
        self.faults.add(self.at, &self.path, why);
        None
    }

    /// Nothing more is taken: what is left is not known.
    pub(super) fn done(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let known = self.known.join(", ");
            self.faults.add(
                entry.at,
                &self.path_of(&entry.key),
                &format!("not a field here; the fields are {known}"),
            );
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Field<'a> {
    /// Tells of a fault.
    pub(super) fn fault<T>(&self, why: &str) -> Option<T> {
        self.faults.add(self.node.at, &self.path, why);
        None
    }

    /// The value, or a fault with its sentence.
    pub(super) fn or_fault<T>(&self, value: Result<T, String>) -> Option<T> {
        value.map_or_else(|why| self.fault(&why), Some)
    }

    /// `FILE:LINE:COLUMN`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}:{}", self.faults.file, self.node.at.line, self.node.at.column)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Text. What YAML takes for a number or a boolean is none: `1.10` would come out as `1.1`.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            other => self.fault(&format!("it must be text, not {}; put it in quotes", kind(other))),
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            other => self.fault(&format!("it must be true or false, not {}", kind(other))),
        }
    }

    pub(super) fn whole(&self) -> Option<i64> {
        match &self.node.value {
            Value::Whole(value) => Some(*value),
            other => self.fault(&format!("it must be a whole number, not {}", kind(other))),
        }
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        match &self.node.value {
            Value::Section(entries) => Some(Section {
                path: self.path.clone(),
                at: self.node.at,
                entries,
                known: Vec::new(),
                faults: self.faults,
            }),
            other => self.fault(&format!("it must be a section of fields, not {}", kind(other))),
        }
    }

    /// A list, which may be empty.
    pub(super) fn list(&self) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Value::List(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, node)| Field {
                        path: format!("{}[{index}]", self.path),
                        node,
                        faults: self.faults,
                    })
                    .collect(),
            ),
            other => self.fault(&format!("it must be a list, not {}", kind(other))),
        }
    }

    /// A list that is not empty.
    pub(super) fn some(&self) -> Option<Vec<Field<'a>>> {
        let items = self.list()?;
        if items.is_empty() {
            self.fault("the list is empty; leave it out or name something")
        } else {
            Some(items)
        }
    }

    /// A section of any names, all of whose values are text.
    pub(super) fn texts(&self) {
        let Value::Section(entries) = &self.node.value else {
            self.fault::<()>(&format!("it must be a section of fields, not {}", kind(&self.node.value)));
            return;
        };
        for entry in entries {
            let path = format!("{}.{}", self.path, entry.key);
            Field { path, node: &entry.node, faults: self.faults }.text();
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Whole(_) | Value::Number => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Section(_) => "a section",
    }
}
