// SPDX-License-Identifier: AGPL-3.0-only
//! What a registry answers to who shows no credentials, or not enough: `WWW-Authenticate` (RFC 9110 §11.6.1),
//! which may come in several lines and name several schemes in one.

use http::{HeaderMap, header};

/// A way to authenticate that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        /// Scopes that the request needs, separated by spaces.
        scope: Option<String>,
    },
}

/// The challenges of an answer that we know; the order is that of the registry.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(parse).collect()
}

fn parse(line: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let name: &str = rest.split(|c: char| !is_token(c)).next().unwrap_or_default();
        if name.is_empty() {
            break;
        }
        rest = &rest[name.len()..];
        let after = rest.trim_start_matches([' ', '\t']);
        // A parameter. `name=` without a scheme before it belongs to nobody.
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, next)) = parameter(value.trim_start_matches([' ', '\t'])) else { break };
            rest = next;
            if let Some((_, parameters)) = &mut current {
                parameters.push((name.to_ascii_lowercase(), value));
            }
        } else {
            found.extend(current.take().and_then(made));
            current = Some((name.to_ascii_lowercase(), Vec::new()));
        }
    }
    found.extend(current.and_then(made));
    found
}

/// A token or a quoted string, and what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn made((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        }
        _ => None,
    }
}

// RFC 9110 §5.6.2
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn a_bearer_challenge_tells_realm_service_and_scope() {
        let line = r#"Bearer realm="https://auth.test/token",service="reg",scope="repository:a:pull,push repository:b:pull",error="insufficient_scope""#;
        let wanted =
            bearer("https://auth.test/token", Some("reg"), Some("repository:a:pull,push repository:b:pull"));
        assert_eq!(parse(line), [wanted]);
        assert_eq!(parse(r#"bearer  Realm = "x" , service = y"#), [bearer("x", Some("y"), None)]);
        assert_eq!(parse(r#"Bearer realm="a\"b""#), [bearer("a\"b", None, None)]);
    }

    #[test]
    fn several_challenges_may_share_a_line_or_not() {
        let line = r#"Negotiate abc, Basic realm="x, y", Bearer realm="https://t/""#;
        assert_eq!(parse(line), [Challenge::Basic, bearer("https://t/", None, None)]);
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(header::WWW_AUTHENTICATE, "Bearer realm=\"https://t/\"".parse().unwrap());
        assert_eq!(challenges(&headers), [Challenge::Basic, bearer("https://t/", None, None)]);
    }

    #[test]
    fn what_is_no_challenge_of_ours_is_left_out() {
        for line in ["", ",,,", "Digest realm=x", "Bearer", "Bearer service=\"x\"", "=x", "Bearer realm=\"x"]
        {
            assert_eq!(parse(line), [], "{line}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_ends(line in "\\PC{0,60}|([Bb]earer |Basic |realm=|\"|,|=|\\\\| |a){0,20}") {
            parse(&line);
        }
    }
}
