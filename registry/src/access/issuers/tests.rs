// SPDX-License-Identifier: AGPL-3.0-only
//! Tokens of several issuers, with keys in files and at URLs.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::access::forge::{AUDIENCE, Forge, ISSUER, NOW, P256, RSA, claims, jwks, now};
use crate::access::{Action, Grant};
use crate::config::Overrides;

const OTHER: &str = "https://other.example";
const SERVER: &str = "https://token.example";

struct Files(TempDir);

impl Files {
    /// Two issuers and a token server, each with its own key under the same name.
    fn new(other: &Forge, server: &Forge) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = |forge: &Forge| jwks([forge.jwk(json!({"kid": "1"}))]);
        fs::write(folder.path().join("gitlab"), set(&P256)).unwrap();
        fs::write(folder.path().join("other"), set(other)).unwrap();
        fs::write(folder.path().join("server"), server.pem()).unwrap();
        Files(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn load(&self, auth: &str) -> Result<Issuers, String> {
        let file = self.0.path().join("stella.yaml");
        fs::write(&file, format!("auth: {auth}")).unwrap();
        let config = Config::load(Some(&file), [], Overrides::default()).unwrap();
        Issuers::load(&config).map_err(|error| error.to_string())
    }

    fn issuers(&self) -> Issuers {
        let entry = |name: &str, issuer: &str, more: &str| {
            format!("{{name: {name}, issuer: '{issuer}', audience: {AUDIENCE}, {more}: '{}'", self.path(name))
        };
        let gitlab = entry("gitlab", ISSUER, "jwks") + ", own: ['{project_path}/**']}";
        let (other, server) = (entry("other", OTHER, "jwks") + "}", entry("server", SERVER, "keys") + "}");
        self.load(&format!("{{issuers: [{gitlab}, {other}], token_servers: [{server}]}}")).unwrap()
    }
}

async fn who(issuers: &Issuers, token: &str) -> Result<String, TokenError> {
    issuers.identify_id_token(token, now()).await.unwrap().map(|(who, _)| who.subject)
}

#[tokio::test]
async fn a_token_is_its_issuers_and_nobody_elses() {
    let (other, server) = (Forge::p256(), Forge::p256());
    let files = Files::new(&other, &server);
    let issuers = files.issuers();
    assert!(!issuers.is_empty() && issuers.watch().len() == 3);
    let good = P256.token(&claims(json!({"project_path": "G/p"})));
    let (identity, expires) = issuers.identify_id_token(&good, now()).await.unwrap().unwrap();
    assert_eq!((identity.subject.as_str(), expires), ("gitlab:job", Timestamp((NOW + 300) * 1000)));
    assert_eq!(identity.own, ["g/p/**".parse().unwrap()]);
    let of = |issuer: &str| claims(json!({"iss": issuer}));
    assert_eq!(who(&issuers, &other.token(&of(OTHER))).await.unwrap(), "other:job");
    // The key of one issuer, the name of another; all keys have the same name.
    for (forge, issuer) in [(&other, ISSUER), (&server, ISSUER), (&*P256, OTHER), (&server, OTHER)] {
        assert_eq!(who(&issuers, &forge.token(&of(issuer))).await, Err(TokenError::Signature));
    }
    // A token of one kind is none of the other.
    assert!(issuers.identify_id_token(&server.token(&of(SERVER)), now()).await.is_none());
    assert!(issuers.identify_server_token(&good, now()).await.is_none());
    for stranger in [
        P256.token(&of("https://stranger.example")),
        P256.token(&claims(json!({"iss": null}))),
        "x".to_owned(),
    ] {
        assert!(issuers.identify_id_token(&stranger, now()).await.is_none());
        assert!(issuers.identify_server_token(&stranger, now()).await.is_none());
    }
    assert_eq!(who(&issuers, &P256.token(&claims(json!({"aud": "x"})))).await, Err(TokenError::Audience));
    assert_eq!(who(&issuers, &P256.token(&claims(json!({"exp": 1})))).await, Err(TokenError::Expired));
    assert_eq!(
        who(&issuers, &P256.token(&claims(json!({"sub": null})))).await,
        Err(TokenError::NoClaim("sub".to_owned()))
    );
}

#[tokio::test]
async fn a_token_server_says_what_may_be_done() {
    let server = Forge::p256();
    let files = Files::new(&RSA, &server);
    let issuers = files.issuers();
    let access = json!([{"type": "repository", "name": "app", "actions": ["pull"]}]);
    let given = claims(json!({"iss": SERVER, "sub": "jane", "access": access}));
    // Token servers name keys in a way of their own, and PEM has no names.
    let token = server.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": "PYYO:TEWU:V7JH"}), &given);
    let (who, _) = issuers.identify_server_token(&token, now()).await.unwrap().unwrap();
    assert_eq!(who.subject, "server:jane");
    assert_eq!(
        who.grants,
        Some(vec![Grant { actions: vec![Action::Pull], repositories: vec!["app".parse().unwrap()] }])
    );
    let forged = P256.token(&given);
    assert_eq!(issuers.identify_server_token(&forged, now()).await, Some(Err(TokenError::Signature)));
}

#[tokio::test]
async fn an_issuer_that_is_away_hinders_no_start() {
    let files = Files::new(&RSA, &RSA);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let auth = format!(
        "{{issuers: [{{name: a, issuer: '{ISSUER}', audience: {AUDIENCE}, jwks: 'http://{address}/keys'}}]}}"
    );
    let issuers = files.load(&auth).unwrap();
    assert_eq!(who(&issuers, &P256.token(&claims(json!({})))).await, Err(TokenError::NoKeys));
    assert_eq!(issuers.generation(), 0);
}

#[test]
fn what_is_wrong_with_an_entry_is_said_at_the_start() {
    let files = Files::new(&RSA, &RSA);
    let keys = files.path("gitlab");
    let issuer = |name: &str, issuer: &str, audience: &str| {
        format!("{{name: '{name}', issuer: '{issuer}', audience: '{audience}', jwks: '{keys}'}}")
    };
    let server = |name: &str, issuer: &str| {
        format!("{{name: '{name}', issuer: '{issuer}', audience: a, keys: '{}'}}", files.path("server"))
    };
    let load = |issuers: &[String], servers: &[String]| {
        files.load(&format!("{{issuers: [{}], token_servers: [{}]}}", issuers.join(", "), servers.join(", ")))
    };
    assert!(
        load(&[issuer("a", "https://a", "x"), issuer("b", "https://b", "x")], &[server("c", "https://c")])
            .is_ok()
    );
    assert!(load(&[], &[]).unwrap().is_empty());
    let long = "x".repeat(65);
    for name in ["", "A", "a:b", "a b", "ä", &long] {
        let error = load(&[issuer(name, "https://a", "x")], &[]).err().unwrap();
        assert!(error.contains("`auth.issuers`: the name"), "{error}");
    }
    let a = || issuer("a", "https://a", "x");
    for (issuers, servers, said) in [
        (vec![a(), issuer("a", "https://b", "x")], vec![], "`auth.issuers`: two entries are called \"a\""),
        (vec![a()], vec![server("a", "https://b")], "`auth.token_servers`: two entries are called \"a\""),
        (
            vec![a(), issuer("b", "https://a", "x")],
            vec![],
            "`auth.issuers`: \"https://a\" is the issuer of two",
        ),
        (
            vec![a()],
            vec![server("b", "https://a")],
            "`auth.token_servers`: \"https://a\" is the issuer of two",
        ),
        (vec![issuer("a", "", "x")], vec![], "the issuer of \"a\" is empty"),
        (vec![issuer("a", "https://a", "")], vec![], "the audience of \"a\" is empty"),
        (vec![a().replace('}', ", own: ['A/{b}']}")], vec![], "`own` of \"a\""),
        (vec![a().replace("/gitlab", "/nowhere")], vec![], "`auth.issuers`: the keys of \"a\": cannot read"),
        (vec![a().replace("/gitlab", "/stella.yaml")], vec![], "`auth.issuers`: the keys of \"a\": "),
    ] {
        let error = load(&issuers, &servers).err().unwrap();
        assert!(error.contains(said), "{error}");
    }
    let mut many = String::new();
    for number in 0..101 {
        write!(many, "{}, ", issuer(&format!("n{number}"), &format!("https://{number}"), "x")).unwrap();
    }
    assert!(load(&[many], &[]).err().unwrap().contains("101 entries"));
}

#[tokio::test]
async fn new_keys_make_a_new_generation() {
    let files = Files::new(&RSA, &RSA);
    let issuers = files.issuers();
    let before = issuers.generation();
    let watches: Vec<_> = issuers.watch().into_iter().map(tokio::spawn).collect();
    let fresh = Forge::p256();
    let token = fresh.sign(&json!({"alg": "ES256", "kid": "2"}), &claims(json!({})));
    assert_eq!(who(&issuers, &token).await, Err(TokenError::UnknownKey));
    fs::write(files.path("new"), jwks([fresh.jwk(json!({"kid": "2"}))])).unwrap();
    fs::rename(files.path("new"), files.path("gitlab")).unwrap();
    issuers.issuers[0].keys.look_now().await;
    assert_eq!(who(&issuers, &token).await, Ok("gitlab:job".to_owned()));
    assert!(issuers.generation() > before);
    let old: Value = claims(json!({}));
    assert_eq!(who(&issuers, &P256.token(&old)).await, Err(TokenError::UnknownKey));
    watches.iter().for_each(tokio::task::JoinHandle::abort);
}
