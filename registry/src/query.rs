// SPDX-License-Identifier: AGPL-3.0-only
//! Query parameters. Clients reorder and re-encode them, and add their own: unknown ones are ignored.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::ApiError;

/// Parameters in a request; more are refused.
const MAX_PARAMETERS: usize = 256;

/// What need not be encoded in a link that we write.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// The decoded parameters of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query. `+` is a plus: clients send media types as they are.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut parameters = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(ApiError::unsupported(format!(
                    "a request may have at most {MAX_PARAMETERS} parameters"
                )));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text| {
                percent_decode_str(text)
                    .decode_utf8()
                    .map(std::borrow::Cow::into_owned)
                    .map_err(|_| ApiError::unsupported("the query is not UTF-8".to_owned()))
            };
            parameters.push((decode(name)?, decode(value)?));
        }
        Ok(Query(parameters))
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parameter as a number, if present.
    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::unsupported(format!("?{name}= needs a number")));
        }
        // A number beyond any page is as good as the largest.
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    }
}

/// Encodes a value for a link.
pub(crate) fn encode(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, ENCODED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_found_in_any_order_and_encoding() {
        let query = Query::parse(Some("tag=a&x&digest=sha256%3Aab&tag=b%2Bc+d&&n=7")).unwrap();
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c+d"]);
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("y"), None);
        assert_eq!(query.number("n").unwrap(), Some(7));
        assert_eq!(query.number("y").unwrap(), None);
    }

    #[test]
    fn numbers_are_digits_only() {
        for bad in ["n=", "n=-1", "n=+1", "n=1.5", "n=x", "n=٣"] {
            assert!(Query::parse(Some(bad)).unwrap().number("n").is_err(), "{bad}");
        }
        let huge = Query::parse(Some("n=99999999999999999999999")).unwrap();
        assert_eq!(huge.number("n").unwrap(), Some(usize::MAX));
    }

    #[test]
    fn floods_and_broken_text_are_refused() {
        assert!(Query::parse(Some(&"a&".repeat(300))).is_err());
        assert!(Query::parse(Some("a=%ff")).is_err());
    }

    proptest! {
        #[test]
        fn what_we_encode_decodes_to_itself(value in "\\PC{0,40}") {
            let text = format!("v={}", encode(&value));
            prop_assert!(!text.contains(';'));
            let query = Query::parse(Some(&text)).unwrap();
            prop_assert_eq!(query.get("v"), Some(value.as_str()));
        }
    }
}
