// SPDX-License-Identifier: AGPL-3.0-only
//! From the tree of keys to typed values: a serde deserializer that knows, for every fault, which key
//! it is about and where that key stands. Text from the environment has no type of its own, so text
//! that spells a number or a boolean is taken for one where one is wanted.

use std::fmt::{self, Display};

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{self, Entry, Node, Schema, Value};
use super::origin::variable;
use super::{ConfigError, Origin};

/// What is wrong with one key. The key and the place are filled in from the inside outward.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) origin: Option<Origin>,
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) enum Reason {
    /// The keys that would be known in its place.
    UnknownKey(&'static [&'static str]),
    BadValue(String),
}

impl Fault {
    /// The error for the user, who wrote `tree` and may use the keys of `schema`.
    pub(super) fn explain(self, tree: &Node, schema: &Schema) -> ConfigError {
        let Self { key, origin, reason } = self;
        let found = || tree.get(&key).map_or(Origin::Default, |node| node.origin.clone());
        let origin = origin.unwrap_or_else(found);
        match reason {
            Reason::UnknownKey(known) => {
                let section = key.rsplit_once('.').map_or("", |(section, _)| section);
                let hint = match origin {
                    // The entries of a list are not in the schema.
                    _ if schema.is_key(section) => format!("known keys: `{}`", known.join("`, `")),
                    Origin::Environment { .. } => schema.hint(&key, variable),
                    _ => schema.hint(&key, str::to_owned),
                };
                ConfigError::UnknownKey { origin, key, hint }
            }
            Reason::BadValue(reason) if key.is_empty() => {
                ConfigError::BadFile { origin: tree.origin.clone(), reason }
            }
            Reason::BadValue(reason) => ConfigError::BadValue { origin, key, reason },
        }
    }

    pub(super) fn bad_value(key: &str, reason: String) -> Self {
        Self { key: key.to_owned(), origin: None, reason: Reason::BadValue(reason) }
    }

    fn within(mut self, section: &str, origin: &Origin) -> Self {
        self.key = if self.key.is_empty() { section.to_owned() } else { node::join(section, &self.key) };
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::UnknownKey(_) => write!(f, "unknown key `{}`", self.key),
            Reason::BadValue(reason) => write!(f, "`{}`: {reason}", self.key),
        }
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::bad_value("", message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("expected one of {}, found {variant:?}", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { key: field.to_owned(), origin: None, reason: Reason::UnknownKey(expected) }
    }
}

/// Where a key without a value would be left out in silence, and with it what somebody must be, or may not do.
const WHO_IS_WHO: [&str; 3] = ["access", "auth.issuers", "auth.token_servers"];

/// Fails if a key that tells who may do what is there without a value.
pub(super) fn check_who_is_who(tree: &Node) -> Result<(), Fault> {
    WHO_IS_WHO.iter().try_for_each(|key| {
        let Some(node) = tree.get(key) else { return Ok(()) };
        node.has_values().map_err(|fault| fault.within(key, &node.origin))
    })
}

impl Node {
    /// Fails if it is nothing, or something in it is.
    fn has_values(&self) -> Result<(), Fault> {
        let nothing = || {
            let fault = self.expected("a value (without one, leave the key out)");
            Fault { origin: Some(self.origin.clone()), ..fault }
        };
        match &self.value {
            Value::Null => Err(nothing()),
            Value::List(items) => items.iter().try_for_each(Node::has_values),
            Value::Section(entries) => entries.iter().try_for_each(|entry| {
                entry.node.has_values().map_err(|fault| fault.within(&entry.key, &entry.key_origin))
            }),
            _ => Ok(()),
        }
    }

    fn expected(&self, what: &str) -> Fault {
        let found = match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Unsigned(value) => value.to_string(),
            Value::Signed(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Section(_) => "a section".to_owned(),
        };
        Fault::custom(format!("expected {what}, found {found}"))
    }
}

/// Whole numbers; the visitor checks the width, and its "expected usize" is no answer to a person.
macro_rules! whole_numbers {
    ($what:literal: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let read = match &self.value {
                Value::Unsigned(value) => visitor.visit_u64(*value),
                Value::Signed(value) => visitor.visit_i64(*value),
                Value::Text(text) => match (text.parse(), text.parse()) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => return Err(self.expected($what)),
                },
                _ => return Err(self.expected($what)),
            };
            read.map_err(|_: Fault| self.expected($what))
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            Value::Section(entries) => visitor.visit_map(Entries::new(entries)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Text(text) if text == "true" => visitor.visit_bool(true),
            Value::Text(text) if text == "false" => visitor.visit_bool(false),
            _ => Err(self.expected("true or false")),
        }
    }

    whole_numbers! {
        "a whole number": deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }

    whole_numbers! {
        "a whole number, 0 or more": deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    // A number or a boolean is not taken for text: its spelling is lost (`0x10`, `1e3`, `007`).
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Null | Value::List(_) | Value::Section(_) => Err(self.expected("text")),
            _ => Err(self.expected("text (put it in quotes)")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            // A section whose keys are all commented out.
            Value::Null => visitor.visit_map(Entries::new(&[])),
            Value::Section(entries) => visitor.visit_map(Entries::new(entries)),
            _ => {
                Err(self
                    .expected(&format!("a section with keys such as `{}: …`", fields.first().unwrap_or(&""))))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(self.expected(&format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The entries of a section, handed to a visitor one by one.
struct Entries<'de> {
    rest: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> Entries<'de> {
    fn new(entries: &'de [Entry]) -> Self {
        Self { rest: entries.iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        let key = seed
            .deserialize(key)
            .map_err(|fault| Fault { origin: Some(entry.key_origin.clone()), ..fault })?;
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.current else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        seed.deserialize(&entry.node).map_err(|fault| fault.within(&entry.key, &entry.node.origin))
    }
}
