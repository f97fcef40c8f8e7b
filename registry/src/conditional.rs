// SPDX-License-Identifier: AGPL-3.0-only
//! Conditional requests (RFC 9110, section 13): an object's `ETag` is its digest in quotes.

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use stella_storage::{Digest, TagCondition};

use crate::error::ApiError;

/// Entity tags in one header.
const MAX_TAGS: usize = 64;

/// Whether a GET or HEAD is answered with 304: the client has what `digest` names.
pub(crate) fn not_modified(request: &HeaderMap, digest: &Digest) -> bool {
    match tags(request, &IF_NONE_MATCH) {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::These(tags)) => tags.contains(digest),
    }
}

/// What must hold for a manifest to be stored.
pub(crate) fn tag_condition(request: &HeaderMap) -> Result<Option<TagCondition>, ApiError> {
    let condition = match (tags(request, &IF_MATCH), tags(request, &IF_NONE_MATCH)) {
        (None, None) => return Ok(None),
        (Some(Tags::Any), None) => TagCondition::Exists,
        (Some(Tags::These(tags)), None) => TagCondition::Is(tags),
        (None, Some(Tags::Any)) => TagCondition::Absent,
        (None, Some(Tags::These(tags))) => TagCondition::IsNot(tags),
        (Some(_), Some(_)) => {
            return Err(ApiError::unsupported("use If-Match or If-None-Match, not both".to_owned()));
        }
    };
    Ok(Some(condition))
}

enum Tags {
    Any,
    These(Vec<Digest>),
}

/// The entity tags of a header. One that is no digest names nothing that we have.
fn tags(request: &HeaderMap, name: &HeaderName) -> Option<Tags> {
    // A header that is there is a condition, also when it cannot be read.
    let mut found = request.contains_key(name).then(Vec::new);
    let values = request.get_all(name).iter().filter_map(|value| value.to_str().ok());
    for text in values.flat_map(|value| value.split(',')).take(MAX_TAGS) {
        let text = text.trim();
        if text == "*" {
            return Some(Tags::Any);
        }
        // A weak tag matches for reading, never for writing (RFC 9110, section 13.1.1).
        let text = if *name == IF_MATCH { text } else { text.strip_prefix("W/").unwrap_or(text) };
        // Some clients send the digest without quotes.
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if let Some(digests) = &mut found {
            digests.extend(text.parse::<Digest>());
        }
    }
    found.map(Tags::These)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn digest() -> Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
    }

    #[test]
    fn a_known_digest_is_not_sent_again() {
        let text = digest().to_string();
        for value in
            ["*", &text, &format!("\"{text}\""), &format!("W/\"{text}\""), &format!("\"x\", \"{text}\"")]
        {
            assert!(not_modified(&headers(IF_NONE_MATCH, value), &digest()), "{value}");
        }
        for value in ["", "\"x\"", "\"sha256:00\""] {
            assert!(!not_modified(&headers(IF_NONE_MATCH, value), &digest()), "{value}");
        }
        assert!(!not_modified(&HeaderMap::new(), &digest()));
    }

    #[test]
    fn conditions_of_a_put_are_read() {
        let text = format!("\"{}\"", digest());
        assert_eq!(tag_condition(&HeaderMap::new()).unwrap(), None);
        assert_eq!(tag_condition(&headers(IF_MATCH, "*")).unwrap(), Some(TagCondition::Exists));
        assert_eq!(tag_condition(&headers(IF_NONE_MATCH, "*")).unwrap(), Some(TagCondition::Absent));
        assert_eq!(tag_condition(&headers(IF_MATCH, &text)).unwrap(), Some(TagCondition::Is(vec![digest()])));
        // An unknown tag can never match; it must not read as "no condition".
        assert_eq!(tag_condition(&headers(IF_MATCH, "\"x\"")).unwrap(), Some(TagCondition::Is(vec![])));
        let weak = headers(IF_MATCH, &format!("W/{text}"));
        assert_eq!(tag_condition(&weak).unwrap(), Some(TagCondition::Is(vec![])));
        let mut both = headers(IF_MATCH, "*");
        both.insert(IF_NONE_MATCH, "*".parse().unwrap());
        assert!(tag_condition(&both).is_err());
    }
}
