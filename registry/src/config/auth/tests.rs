// SPDX-License-Identifier: AGPL-3.0-only
//! What is written about issuers of tokens, read and written again.

use proptest::prelude::*;

use super::*;

fn template(text: &str) -> Result<Template, String> {
    Template::try_from(text.to_owned())
}

fn source(text: &str) -> Result<KeySource, String> {
    KeySource::try_from(text.to_owned())
}

#[test]
fn a_template_has_claims_between_texts() {
    let (text, claim) =
        (|text: &str| Piece::Text(text.to_owned()), |claim: &str| Piece::Claim(claim.to_owned()));
    for (written, pieces) in [
        ("{project_path}/**", vec![claim("project_path"), text("/**")]),
        ("a", vec![text("a")]),
        ("{a}{b}", vec![claim("a"), claim("b")]),
        ("x-{kubernetes.io/pod}.{ }", vec![text("x-"), claim("kubernetes.io/pod"), text("."), claim(" ")]),
        ("ü{é}", vec![text("ü"), claim("é")]),
    ] {
        assert_eq!(template(written).unwrap().pieces(), pieces, "{written}");
    }
    assert_eq!(Template::default(), template("{sub}").unwrap());
    for bad in ["", "{", "}", "{}", "a{b", "a}b", "{a}}", "{{a}}", "{a{b}", "}{", "{a}}{b}", "a}{b}"] {
        assert!(template(bad).unwrap_err().contains("claims in braces"), "{bad}");
    }
}

#[test]
fn keys_are_in_a_file_or_where_nobody_else_can_write() {
    let url = |text: &str| Ok(KeySource::Url(text.to_owned()));
    for good in [
        "https://gitlab.example/oauth/discovery/keys",
        "HTTPS://gitlab.example",
        "http://localhost:8080/keys",
        "http://127.0.0.1/keys",
        "http://[::1]:80/keys",
    ] {
        assert_eq!(source(good), url(good));
    }
    for good in ["keys.json", "/etc/stella/keys.json", "a b"] {
        assert_eq!(source(good), Ok(KeySource::File(good.into())));
    }
    for (bad, said) in [
        ("", "nowhere"),
        ("http://gitlab.example/keys", "https://"),
        ("http://127.0.0.1@gitlab.example/keys", "https://"),
        ("http://127.0.0.1.gitlab.example/keys", "https://"),
        ("http://localhost.gitlab.example/keys", "https://"),
        ("file:///etc/keys", "no URL"),
        ("ftp://gitlab.example/keys", "https://"),
        ("://", "no URL"),
        ("https://", "no URL"),
        ("https://a b/", "no URL"),
    ] {
        assert!(source(bad).unwrap_err().contains(said), "{bad}: {:?}", source(bad));
    }
}

#[test]
fn an_issuer_is_read_with_its_defaults_and_written_again() {
    let short = "{name: gitlab, issuer: 'https://g', audience: r, jwks: keys.json}";
    let issuer: Issuer = serde_saphyr::from_str(short).unwrap();
    assert_eq!((&issuer.subject, &issuer.groups, &issuer.own), (&Template::default(), &vec![], &vec![]));
    let long = "{name: gitlab, issuer: 'https://g', audience: r, jwks: 'https://g/keys', ca: ca.pem,
        subject: '{project_path}:{ref}', groups: ['{groups_direct}'], own: ['{project_path}/**']}";
    for text in [short, long] {
        let issuer: Issuer = serde_saphyr::from_str(text).unwrap();
        let again = serde_saphyr::to_string(&issuer).unwrap();
        assert_eq!(serde_saphyr::from_str::<Issuer>(&again).unwrap(), issuer, "{again}");
    }
    let server: TokenServer =
        serde_saphyr::from_str("{name: t, issuer: 'https://t', audience: r, keys: t.pem}").unwrap();
    assert_eq!(server.keys, KeySource::File("t.pem".into()));
    for bad in [
        "{name: t, issuer: 'https://t', audience: r}",
        "{name: t, issuer: 'https://t', audience: r, keys: t.pem, subject: '{sub}'}",
        "{name: t, issuer: 'https://t', keys: t.pem}",
    ] {
        assert!(serde_saphyr::from_str::<TokenServer>(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_template_is_written_as_it_was_read(text in "[ab{}*/ é]{0,12}") {
        if let Ok(read) = template(&text) {
            prop_assert_eq!(String::from(read), text);
        }
    }

    #[test]
    fn every_list_of_texts_and_claims_is_a_template(parts in prop::collection::vec(("[^{}]{1,5}", "[^{}]{1,5}"), 1..5)) {
        let text = parts.iter().map(|(text, claim)| [text, "{", claim, "}"].concat()).collect::<String>();
        let pieces: Vec<_> = parts.into_iter().flat_map(|(text, claim)| [Piece::Text(text), Piece::Claim(claim)]).collect();
        let read = template(&text).unwrap();
        prop_assert_eq!(read.pieces(), pieces);
    }
}
