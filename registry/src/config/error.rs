// SPDX-License-Identifier: AGPL-3.0-only
//! Why a configuration was refused: where, what, and how to mend it. The text of a source error is
//! never repeated; who prints an error prints the chain.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use super::{ByteSize, Listen, Origin};

/// Why a configuration was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file, or one that a variable names, cannot be read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// What the file is.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not one that a person wrote.
    #[error("{what} {} is larger than {limit}", path.display())]
    TooLarge {
        /// What the file is.
        what: String,
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit: ByteSize,
    },
    /// The file is not YAML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{}`; {hint}", key.escape_debug())]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key with its sections.
        key: String,
        /// The nearest known key, or those that exist here.
        hint: String,
    },
    /// A key that stands twice in one section.
    #[error("{origin}: `{}` is set twice, first at {first}; keep one of them", key.escape_debug())]
    Duplicate {
        /// Where the second stands.
        origin: Origin,
        /// The key with its sections.
        key: String,
        /// Where the first stands.
        first: Origin,
    },
    /// A value of the wrong type, without meaning, or out of range.
    #[error("{origin}: `{key}`: {reason}")]
    BadValue {
        /// Where.
        origin: Origin,
        /// The key with its sections.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The file is not a list of keys and values at all.
    #[error("{origin}: {reason}")]
    BadFile {
        /// Where.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// Both a variable and its `…_FILE` twin are set.
    #[error("environment: {name} and {name}_FILE are both set; keep one of them")]
    SetTwice {
        /// The variable without `_FILE`.
        name: String,
    },
    /// A variable whose value is not text.
    #[error("environment {name}: the value is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// The host of `listen` has no address.
    #[error("listen: cannot resolve the host of {listen}")]
    Resolve {
        /// The value of `listen`.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
    /// `listen` would serve more than this machine.
    #[error(
        "listen: {listen}{} is not a loopback address, and without access rules only this machine is served, also \
         with TLS: use 127.0.0.1:{}, or write into the configuration who may do what. That everyone may pull and \
         nobody may push is\naccess:\n  - {{allow: [pull], to: everyone}}",
        if listen.is_literal() { String::new() } else { format!(" resolves to {address}, which") },
        listen.port()
    )]
    NotLoopback {
        /// The value of `listen`.
        listen: Listen,
        /// The address that is refused.
        address: SocketAddr,
    },
    /// The effective configuration could not be written down: a fault in this program.
    #[error("internal: the configuration cannot be written as YAML: {message}")]
    Render {
        /// What the serializer says.
        message: String,
    },
}
