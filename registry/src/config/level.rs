// SPDX-License-Identifier: AGPL-3.0-only
//! What is logged: the directive of `log.level`, checked when it is read and not when it is used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// A level, or a list such as `info,stella_registry=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogLevel {
    /// The directive as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint =
            "write one of off, error, warn, info, debug, trace, or a list such as info,stella_registry=debug";
        if text.trim().is_empty() {
            return Err(format!("the level is empty; {hint}"));
        }
        // A bare word that is no level would be taken for the name of a module: `inof` would log
        // nothing, and say nothing.
        let bare = text.split(',').map(str::trim).find(|part| {
            let word = part.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
            word && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part))
        });
        if let Some(word) = bare {
            return Err(format!("{word:?} is not a level; {hint}"));
        }
        EnvFilter::builder().parse(text).map_err(|e| format!("{text:?} is not a level ({e}); {hint}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_of_them_are_taken() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,hyper=warn",
            "warn,stella_registry::api=debug",
            "info,[request]=debug",
        ] {
            assert_eq!(text.parse::<LogLevel>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for text in
            ["", "inof", "info,hyper", "info,,warn", "info, hyper=warn", "hyper=loud", "stella_registry=7x"]
        {
            assert!(text.parse::<LogLevel>().unwrap_err().contains("write one of off, error"), "{text}");
        }
    }
}
