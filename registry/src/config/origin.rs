// SPDX-License-Identifier: AGPL-3.0-only
//! Where a value came from, as messages and `config show` name it.

use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file, as it was named.
        path: Arc<str>,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
    },
    /// An environment variable, or the file that it names.
    Environment {
        /// The variable.
        name: Arc<str>,
    },
    /// The command line.
    Flag {
        /// The flag with its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            // A file name may hold a line break, which would end a comment or forge a log line.
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.escape_debug()),
            Self::Environment { name } => write!(f, "environment {}", name.escape_debug()),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// How the names of our environment variables begin.
pub(super) const PREFIX: &str = "STELLA_";

/// The variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}
