// SPDX-License-Identifier: AGPL-3.0-only
//! Rules about content, in Rego: package `sigstore`, rule `isCompliant`, as policy-controller has them. A rule is read
//! once, when its document is loaded, and asked about each content. The language is in `rego/engine.rs`.
//!
//! A rule can ask for any amount of memory in a single step, and be nested deeper than a stack; no library stops that
//! from within. So a program that has called [`confine_rules`] reads and asks rules in a process of their own, whose
//! memory, processor time and stack are bounded by the system, and whose end is a refusal.

mod confined;
mod engine;
mod worker;

use std::sync::Mutex;

use engine::Ready;

pub use confined::confine_rules;
pub use worker::serve_rules;

/// The longest rule, in bytes.
const MOST_RULE: usize = 64 << 10;
/// The largest input, in bytes of JSON.
const MOST_INPUT: usize = 4 << 20;

/// A rule that was read.
pub(crate) struct Rego {
    text: String,
    /// Here, unless rules have a process of their own. Engines have inner state that is not to be shared.
    ready: Option<Mutex<Ready>>,
}

/// What a rule says of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Yes.
    Compliant,
    /// No, and why.
    Not(String),
    /// Nothing, because it needs more time or space than there is.
    OverLimit(String),
}

impl Rego {
    /// Reads a rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_RULE {
            return Err(format!("the rule has more than {MOST_RULE} bytes"));
        }
        if text.contains("rand.intn") {
            return Err("rand.intn is not offered: a verdict must be the same each time".to_owned());
        }
        let ready = match confined::keeper() {
            Some(keeper) => {
                keeper.read(text)?;
                None
            }
            None => Some(Mutex::new(Ready::new(text)?)),
        };
        Ok(Rego { text: text.to_owned(), ready })
    }

    /// Asks the rule about this JSON.
    pub(crate) fn ask(&self, input: &str) -> Answer {
        if input.len() > MOST_INPUT {
            return Answer::OverLimit(format!(
                "the content is larger than the {MOST_INPUT} bytes that a rule is given"
            ));
        }
        match (&self.ready, confined::keeper()) {
            (None, Some(keeper)) => keeper.ask(&self.text, input),
            (Some(ready), _) => {
                let ready = ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                ready.ask(input)
            }
            (None, None) => Answer::OverLimit("the process for rules is gone".to_owned()),
        }
    }
}

impl Clone for Rego {
    fn clone(&self) -> Self {
        let copy = |ready: &Mutex<Ready>| {
            Mutex::new(ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
        };
        Rego { text: self.text.clone(), ready: self.ready.as_ref().map(copy) }
    }
}

impl std::fmt::Debug for Rego {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rego").field(&self.text).finish()
    }
}

impl serde::Serialize for Rego {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
