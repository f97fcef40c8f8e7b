// SPDX-License-Identifier: AGPL-3.0-only
//! The configuration file: YAML, small, and read into a tree in which every value knows its line and
//! column. Types come later (`decode.rs`); here only the grammar can be wrong.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::{DuplicateKeyPolicy, Location, MessageFormatter as _, Spanned, UserMessageFormatter};

use super::node::{self, Entry, Node, Value};
use super::{ByteSize, ConfigError, Origin};

/// Larger than any file that a person wrote; read no further.
const LIMIT: ByteSize = ByteSize::mib(1);

/// Reads the configuration file `path`.
pub(super) fn read(path: &Path) -> Result<Node, ConfigError> {
    let name: Arc<str> = path.to_string_lossy().into();
    let text = read_text(path, "the configuration file")?;
    parse(&text, |at| Origin::File { path: Arc::clone(&name), line: at.line(), column: at.column() })
}

/// Reads the small text file `path`; `what` names it in a message.
pub(super) fn read_text(path: &Path, what: &str) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { what: what.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LIMIT.bytes() + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT.bytes() {
        return Err(ConfigError::TooLarge { what: what.to_owned(), path: path.to_owned(), limit: LIMIT });
    }
    String::from_utf8(bytes).map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e.utf8_error())))
}

/// The tree of a value. It goes through YAML text: that is the one form `config show` prints and
/// the file has, and it keeps the order of the fields.
pub(super) fn tree_of(value: &impl Serialize) -> Result<Node, ConfigError> {
    let text = serde_saphyr::to_string(value).map_err(|e| ConfigError::Render { message: e.to_string() })?;
    parse(&text, |_| Origin::Default)
}

/// Parses `text`; `origin` turns a place in it into an origin.
pub(super) fn parse(text: &str, origin: impl Fn(Location) -> Origin) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! {
        // Repeated keys are found below, where the section they stand in is known.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // YAML 1.2: `yes` and `on` are text.
        strict_booleans: true,
        with_snippet: false,
    };
    // The parser's rule for an empty document depends on the type that is asked for; ours does not.
    if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
        return Ok(Node::empty());
    }
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let message = UserMessageFormatter.format_message(e.without_snippet()).escape_debug().to_string();
        ConfigError::Syntax { origin: origin(e.location().unwrap_or(Location::UNKNOWN)), message }
    })?;
    place(raw, "", &origin)
}

/// Gives the values of `raw`, which stands under `key`, their origins.
fn place(raw: Spanned<Raw>, key: &str, origin: &impl Fn(Location) -> Origin) -> Result<Node, ConfigError> {
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| place(item, key, origin)).collect::<Result<_, _>>()?)
        }
        Raw::Section(pairs) => {
            let mut entries: Vec<Entry> = Vec::new();
            for (name, value) in pairs {
                let full = node::join(key, &name.value);
                let key_origin = origin(name.referenced);
                if let Some(first) = entries.iter().find(|e| e.key == name.value) {
                    let first = first.key_origin.clone();
                    return Err(ConfigError::Duplicate { origin: key_origin, key: full, first });
                }
                entries.push(Entry { node: place(value, &full, origin)?, key: name.value, key_origin });
            }
            Value::Section(entries)
        }
    };
    Ok(Node { origin: origin(raw.referenced), value })
}

/// What the parser found, with places as it counts them. Its depth is limited by the parser's budget.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Section(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, a list or a section")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Bool(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Unsigned(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Signed(value)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Float(value)))
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

        deserializer.deserialize_any(RawVisitor)
    }
}
