// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of globs. The table's images, globs and answers are those of policy-controller (`pkg/apis/glob/glob_test.go` at
//! f925c0c, Apache-2.0); what we answer otherwise says why.

use super::*;
use proptest::prelude::*;

fn digest() -> Digest {
    Digest::of(b"")
}

/// What stands for a row's image here: always the whole name, never a tag.
fn full(image: &str) -> String {
    let is_host = image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
    match image {
        image if is_host => image.to_owned(),
        image if image.contains('/') => format!("index.docker.io/{image}"),
        image => format!("index.docker.io/library/{image}"),
    }
}

#[test]
fn the_table_of_policy_controller_holds() {
    for (image, glob, theirs) in [
        ("foo", "index.docker.io/library/foo:*", true),
        ("foo", "index.docker.io/library/*", true),
        ("foo", "index.docker.io/*/*", true),
        ("foo", "index.docker.io/**", true),
        ("foo", "index.docker.**", true),
        ("foo", "inde**", true),
        ("foo", "**", true),
        ("myuser/myapp", "index.docker.io/myuser/myapp:*", true),
        ("myuser/myapp", "index.docker.io/myuser/*", true),
        ("myuser/myapp", "index.docker.io/*/*", true),
        ("myuser/myapp", "index.docker.io/**", true),
        ("myuser/myapp", "index.docker.**", true),
        ("myuser/myapp", "inde**", true),
        ("myuser/myapp", "**", true),
        ("ghcr.io/foo/bar", "ghcr.io/*/*", true),
        ("ghcr.io/foo/bar", "ghcr.io/**", true),
        ("ghcr.io/foo", "ghcr.io/*/*", false),
        ("ghcr.io/foo", "ghcr.io/**", true),
        ("ghcr.io/foo", "ghc**", true),
        ("ghcr.io/foo", "**", true),
        ("ghcr.io/foo", "*/**", true),
        ("ghcr.io/foo", "ghcr.io/foo*", true),
        ("ghcr.io/foo", "ghcr.io/foo**", true),
        ("prefix-ghcr.io/foo", "ghcr.io/foo", false),
        ("ghcr.io/foo-suffix", "ghcr.io/foo", false),
        ("ghcrxio/foo", "ghcr.io/**", false),
        ("foo", "*", true),
        ("myuser/myapp", "*/*", true),
    ] {
        assert_eq!(
            ImageGlob::parse(glob).unwrap().matches(&full(image), &digest()),
            theirs,
            "{image} {glob}"
        );
    }
}

#[test]
fn where_the_table_asks_for_a_tag_it_is_refused_because_verdicts_are_per_digest() {
    for glob in [
        "index.docker.io/library/foo:latest",
        "index.docker.io/library/*:latest",
        "index.docker.io/myuser/myapp:latest",
        "index.docker.io/myuser/*:latest",
        "ghcr.io/sgtcodfish/ace:0.5",
        "ghcr.io/foo:v*",
        "ghcr.io/foo:",
        "ghcr.io/foo:v1@sha256:*",
    ] {
        let why = ImageGlob::parse(glob).unwrap_err();
        assert!(why.contains("tag"), "{glob}: {why}");
    }
}

/// policy-controller tries the image as somebody wrote it, too (deprecated); here it always has a host. What can then be
/// about nothing is refused, so that nobody relies on it.
#[test]
fn a_glob_without_a_host_is_refused_or_matches_by_its_stars_alone() {
    for glob in ["foo", "foo*", "image*", "images.*", "foo:*", "*:*"] {
        let why = ImageGlob::parse(glob).unwrap_err();
        assert!(why.contains("no host"), "{glob}: {why}");
    }
    for (image, glob) in [
        ("foo", "foo**"),
        ("myuser/myapp", "myuser/myapp"),
        ("myuser/myapp", "myuser/myapp*"),
        ("myuser/myapp", "myuser/myapp**"),
    ] {
        assert!(!ImageGlob::parse(glob).unwrap().matches(&full(image), &digest()), "{image} {glob}");
    }
}

#[test]
fn the_tables_invalid_globs_are_invalid_here() {
    for glob in [".+", "[a-z]*", "[", "", "a b", "a@", "a@b@c", "@sha256:*", "a{b}", "a?", &"a".repeat(1_001)]
    {
        assert!(ImageGlob::parse(glob).is_err(), "{glob}");
    }
}

#[test]
fn a_digest_can_be_named_and_a_port_is_no_tag() {
    let other = Digest::of(b"other");
    let named = format!("ghcr.io/foo@{}", digest());
    let named = ImageGlob::parse(&named).unwrap();
    assert!(named.matches("ghcr.io/foo", &digest()) && !named.matches("ghcr.io/foo", &other));
    for any in ["ghcr.io/foo@sha256:*", "ghcr.io/foo@*", "ghcr.io/foo:*@*", "ghcr.io/foo:**"] {
        assert!(ImageGlob::parse(any).unwrap().matches("ghcr.io/foo", &other), "{any}");
    }
    assert!(!ImageGlob::parse("ghcr.io/foo@sha512:*").unwrap().matches("ghcr.io/foo", &other));
    let port = ImageGlob::parse("registry:5000/prod/*").unwrap();
    assert!(
        port.matches("registry:5000/prod/app", &other) && !port.matches("registry:5001/prod/app", &other)
    );
}

#[test]
fn a_pattern_of_repositories_means_what_it_means_elsewhere() {
    for (pattern, yes, no) in [
        ("app", "app", "app/x"),
        ("team/*", "team/app", "team/app/x"),
        ("team/**", "team/app/x", "teams/app"),
        ("team/**", "team/app", "team"),
        ("**", "a/b/c", ""),
        ("**/cache", "a/b/cache", "a/cache/b"),
        ("**/cache", "cache", "acache"),
        ("a/**/b", "a/b", "a/c"),
        ("a/**/b", "a/x/y/b", "a/x/y"),
        ("dev-?", "dev-1", "dev-12"),
        ("{dev,test}/**", "test/a", "prod/a"),
        ("{a,{b,c}}", "c", "d"),
        ("{team/x,other}/y", "team/x/y", "team/y"),
        ("p*d/**", "prod/app", "p/d"),
    ] {
        let parsed = RepositoryGlob::parse(pattern).unwrap();
        assert!(parsed.matches(yes), "{pattern} {yes}");
        assert!(no.is_empty() || !parsed.matches(no), "{pattern} {no}");
        assert_eq!(parsed.as_str(), pattern);
    }
}

#[test]
fn what_is_no_pattern_of_repositories_is_refused_with_a_sentence() {
    let many = "{a,b}".repeat(7);
    for bad in [
        "",
        "Team/*",
        "a b",
        "[a]",
        "{a,b",
        "a}",
        "}{",
        "a**",
        "a/**b",
        "/a",
        "a//b",
        "a/",
        "{a,}",
        "{}",
        &many,
        &"a".repeat(1_001),
    ] {
        let why = RepositoryGlob::parse(bad).unwrap_err();
        assert!(why.contains("pattern"), "{bad}: {why}");
    }
}

/// Another way to say what an image glob means: one star after another, all ways tried.
fn slow(glob: &[u8], text: &[u8]) -> bool {
    match glob {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|used| slow(rest, &text[used..])),
        [b'*', rest @ ..] => (0..=text.len())
            .take_while(|used| !text[..*used].contains(&b'/'))
            .any(|used| slow(rest, &text[used..])),
        [byte, rest @ ..] => text.first() == Some(byte) && slow(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn image_globs_agree_with_all_ways_tried(glob in r"[ab/*.]{1,10}", text in r"[ab/.]{0,10}") {
        prop_assume!(glob != "*/*" && (glob.contains('/') || glob.contains("**")));
        let parsed = ImageGlob::parse(&glob).unwrap();
        prop_assert_eq!(parsed.matches(&text, &digest()), slow(glob.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in r"[a-zA-Zé*?{},/.@:\[\]-]{0,40}", other in ".{0,40}") {
        if let Ok(glob) = ImageGlob::parse(&text) {
            let _ = glob.matches(&other, &digest());
        }
        if let Ok(glob) = RepositoryGlob::parse(&text) {
            let _ = glob.matches(&other);
        }
    }

    #[test]
    fn a_name_without_wildcards_means_itself_alone(name in "[a-z]{1,5}(/[a-z]{1,5}){0,2}", other in "[a-z]{1,5}(/[a-z]{1,5}){0,2}") {
        let pattern = RepositoryGlob::parse(&name).unwrap();
        prop_assert!(pattern.matches(&name));
        prop_assert_eq!(pattern.matches(&other), name == other);
    }
}

#[test]
fn many_stars_take_no_longer_than_few() {
    let began = std::time::Instant::now();
    let stars = ImageGlob::parse(&"*a**".repeat(200)).unwrap();
    assert!(!stars.matches(&"a/".repeat(2_000), &digest()) || began.elapsed().as_secs() < 5);
    let parts = RepositoryGlob::parse(&format!("{}x", "**/*a*a*a*a*/".repeat(50))).unwrap();
    assert!(!parts.matches(&vec!["aaaaaaaaaa"; 100].join("/")));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}
