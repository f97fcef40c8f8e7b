// SPDX-License-Identifier: AGPL-3.0-only
//! Why a piece of evidence is refused, while it is read and checked. At the edge it becomes a `Rejected`, or the text of
//! `Log::Wrong`. Texts quote what others wrote, so they are cut and cleaned here, once.

use crate::Reason;

/// The most characters of a text that quotes evidence.
const TEXT: usize = 400;

/// A reason as a word and as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) why: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, why: impl AsRef<str>) -> Self {
        let clean = why.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c });
        Refusal { reason, why: clean.take(TEXT).collect() }
    }

    pub(crate) fn malformed(why: impl AsRef<str>) -> Self {
        Refusal::new(Reason::Malformed, why)
    }

    pub(crate) fn over(why: impl AsRef<str>) -> Self {
        Refusal::new(Reason::OverLimit, why)
    }

    pub(crate) fn unsupported(why: impl AsRef<str>) -> Self {
        Refusal::new(Reason::Unsupported, why)
    }

    pub(crate) fn log(why: impl AsRef<str>) -> Self {
        Refusal::new(Reason::TlogInvalid, why)
    }

    /// The same with the place that it is about before it.
    pub(crate) fn at(self, place: &str) -> Self {
        Refusal::new(self.reason, format!("{place}: {}", self.why))
    }
}
